"""Which Planfix we belong to: the one in the settings, or the one whose `setup` came first.

Planfix sends `setup` with its address and its token when the integration is switched on
(docs/facts/planfix.md, "What is answered"). The store keeps them, for every worker.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import gevent
import structlog

from ..calls.model import ACCOUNT
from ..errors import StoreError
from ..outbox.facts import fact_of
from ..outbox.records import whose
from ..outbox.store import Store
from .keys import same

log = structlog.get_logger(__name__)

PAIRING = "planfix_pairing"
"""The name of the fact."""

LOOK_EVERY = 2.0
"""Seconds between two looks into the store: another worker may have answered `setup`."""

HINT = (
    "enter our address and PBX_TOKEN in Planfix and switch the integration on, or set PLANFIX_URL "
    "and PLANFIX_TOKEN; calls are kept meanwhile"
)
"""What to do while we wait."""


@dataclass(frozen=True, slots=True)
class Partner:
    """A Planfix account: the address for requests to it, and the token it wants in them."""

    url: str
    token: str = field(repr=False)

    def is_same_as(self, other: Partner) -> bool:
        """Tell whether it is the same account, in however many ways its address is written."""
        return same(plain(self.url), plain(other.url)) and same(self.token, other.token)


def plain(url: str) -> str:
    """Return an address in one spelling: a lower-case host, no slash at the end."""
    try:
        parts = urlsplit(url)
        return parts._replace(netloc=parts.netloc.lower()).geturl().rstrip("/")
    except ValueError:
        return url


def stored_partner(store: Store, account: str = ACCOUNT) -> Partner | None:
    """Return the Planfix that `setup` told the store, None if it has not. Raises StoreError."""
    return _read(store.facts.get(fact_of(PAIRING, account)))


def _read(fact: str) -> Partner | None:
    if not fact:
        return None
    found = json.loads(fact)
    return Partner(found["url"], found["token"])


class Pairing:
    """Knows the Planfix an account belongs to, or waits for it.

    url, token: of the settings, which win over the store; "" for both if `setup` is to tell them.
    in_words: writes the names of settings as they stand where the account's do.
    by_setup: whether the store, and not the settings, says who it is. Raises StoreError.
    """

    def __init__(
        self,
        store: Store,
        url: str,
        token: str,
        account: str = ACCOUNT,
        in_words: Callable[[str], str] = str,
    ) -> None:
        self.account = account
        self.in_words = in_words
        self._store = store
        self._waiting: list[Callable[[Partner], None]] = []
        self.by_setup = not url
        self.partner = Partner(url, token) if url else stored_partner(store, account)

    def then(self, tell: Callable[[Partner], None]) -> None:
        """Call with the partner, now or as soon as it is known."""
        if self.partner is not None:
            tell(self.partner)
        else:
            self._waiting.append(tell)

    def take(self, partner: Partner) -> Partner:
        """Store a partner unless there is one; return the one that counts. Raises StoreError."""
        if self.partner is None:
            # before the token is in it
            self._store.keep_private()
            # of two workers that are asked at the same time, one is first
            fact = json.dumps({"url": partner.url, "token": partner.token})
            name = fact_of(PAIRING, self.account)
            self._know(_read(self._store.facts.set_if_absent(name, fact)) or partner)
        return self.partner or partner

    def look(self, facts: Mapping[str, str]) -> None:
        """See whether `setup` came to another worker. facts: those that begin with PAIRING."""
        found = _read(facts.get(fact_of(PAIRING, self.account), ""))
        if found is not None and self.partner is None:
            self._know(found)

    def _know(self, partner: Partner) -> None:
        self.partner = partner
        waiting, self._waiting = self._waiting, []
        for tell in waiting:
            tell(partner)


def keep_looking(store: Store, pairings: Iterable[Pairing]) -> None:
    """Wait until the partner of each account is known."""
    waiting = [pairing for pairing in pairings if pairing.partner is None]
    for pairing in waiting:
        log.warning("waits_for_setup", hint=pairing.in_words(HINT), **whose(pairing.account))

    while waiting:
        gevent.sleep(LOOK_EVERY)
        try:
            facts = store.facts.beginning(PAIRING)
        except StoreError as error:
            log.error("store_unavailable", problem=str(error))
            continue
        for pairing in waiting:
            pairing.look(facts)
        waiting = [pairing for pairing in waiting if pairing.partner is None]


def drop(store: Store, account: str = ACCOUNT) -> Partner | None:
    """Forget what `setup` told; return it, None if there was nothing. Raises StoreError."""
    found = stored_partner(store, account)
    if found is not None:
        store.facts.drop(fact_of(PAIRING, account))
    return found
