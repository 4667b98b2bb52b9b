"""Watches for troubles that a person must know of, and has alerts sent (alerts/).

Of the workers that share a store, one sends the alerts: what it has told is a fact in the store, so
that a start repeats nothing. While the store is away, it goes on by what it remembers.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import urlsplit
from uuid import uuid4

import gevent
import structlog

from ..alerts.book import Alert, Book, read
from ..alerts.sender import Sender
from ..calls.model import ACCOUNT
from ..errors import StoreError
from ..outbox.facts import fact_of
from ..outbox.reader import Reader
from ..outbox.store import Store
from ..outbox.trouble import Trouble, read_trouble
from ..planfix.agreement import Difference
from ..planfix.pairing import Partner
from ..settings import Settings
from .greenlets import keep_running

log = structlog.get_logger(__name__)

LOOK_EVERY = 5.0
"""Seconds between two looks."""

LEASE = 40.0
"""Seconds for which a worker sends the alerts: longer than the command and the address may take."""

BEGINS_AFTER = 60.0
"""Seconds without a link to FreeSWITCH before that is an alarm, and seconds after a start."""

STORE_BEGINS_AFTER = 30.0
"""Seconds for which the store does not work before that is an alarm: a backup may hold it up."""

AGAIN_AFTER = 60.0
"""Seconds after an alert that nobody took."""

BOOK = "alarms"
"""The name of the fact that holds the book."""

LINKS = "links_seen"
"""The name of the fact about links: by server, when it was watched and linked last, and since when
it is watched (seconds since 1970)."""

Partners = Callable[[], Mapping[str, Partner | None]]
"""Returns the Planfix of each account, None if none is known yet."""

Send = Callable[[Alert], Mapping[str, str]]
"""Sends an alert; see Sender.send."""


def start_alarms(
    settings: Settings,
    store: Store,
    links: Callable[[], Mapping[str, bool]],
    partners: Partners,
) -> list[gevent.Greenlet[..., None]]:
    """Start to watch for troubles; return the greenlets, none if nobody is to be told of them."""
    sender = Sender(settings.alert_command, settings.alert_url.get_secret_value())
    if not sender:
        return []
    alarms = Alarms(store, links, partners, sender.send, socket.gethostname())
    return [keep_running("alarms", alarms.run)]


class Alarms:
    """Looks for troubles and has a person told.

    links: tells whether each FreeSWITCH is linked. partners: the Planfix of each account. host: how
    this machine is called. now: seconds since 1970, by default the store's clock. steady: a clock
    that never jumps, in seconds.
    """

    def __init__(
        self,
        store: Store,
        links: Callable[[], Mapping[str, bool]],
        partners: Partners,
        send: Send,
        host: str,
        now: Callable[[], float] | None = None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._reader = Reader(store)
        self._links = links
        self._partners = partners
        self._send = send
        self._host = host
        self._now = now or store.now
        self._steady = steady

        self._owner = uuid4().hex
        self._has_begun = False
        self._begun = self._works_until = self._try_at = steady()
        # what we know as the one who sends; it counts more than the store once that was away
        self._book: Book | None = None
        self._is_ahead = False

    def run(self) -> None:
        """Look again and again."""
        while True:
            self.step()
            gevent.sleep(LOOK_EVERY)

    def step(self) -> None:
        """Look once, and send an alert if one is due."""
        try:
            now = self._now()
            trouble = read_trouble(self._reader, now)
            linked = self._note_links(now)
            self._judge_store(self._store.is_working)
            self._store.facts.change(BOOK, lambda text: self._take_turn(text, trouble, linked, now))
        except StoreError:
            self._judge_store(is_working=False)
            self._go_on_alone()

        book = self._book
        if book is None or self._steady() < self._try_at:
            return
        if book.due(self._now()):
            self._tell(book.alert(self._host))

    # what is wrong

    def _note_links(self, now: float) -> dict[str, dict[str, float]]:
        """Note which FreeSWITCHes we are linked to; return what all workers noted."""
        noted: dict[str, dict[str, float]] = {}

        def change(text: str) -> str:
            noted.update(json.loads(text or "{}"))
            for server, is_linked in self._links().items():
                one = noted.setdefault(server, {"linked": 0.0, "begun": now, "watched": now})
                one["watched"] = now
                if not self._has_begun:
                    one["begun"] = now
                if is_linked:
                    one["linked"] = now
            # nobody watches what was taken out of the settings
            for server in [*noted]:
                if not 0 <= now - noted[server]["watched"] <= BEGINS_AFTER:
                    del noted[server]
            return json.dumps(noted)

        self._store.facts.change(LINKS, change)
        self._has_begun = True
        return noted

    def _judge_store(self, is_working: bool) -> None:
        if is_working:
            self._works_until = self._steady()

    @property
    def _store_has_failed(self) -> bool:
        return self._steady() - self._works_until >= STORE_BEGINS_AFTER

    def _see(
        self, book: Book, trouble: Trouble, linked: Mapping[str, Mapping[str, float]], now: float
    ) -> None:
        """Write into the book what is on."""
        seen, unsure = _of_links(linked, now)
        seen |= _of_notices(trouble) | self._of_pairing(book, now)
        if self._store_has_failed:
            seen["store"] = STORE
        elif not self._store.is_working or self._steady() - self._begun < STORE_BEGINS_AFTER:
            # damage to an SQLite file is found only some seconds after a start
            unsure.add("store")
        book.see(seen, unsure, now)

    def _of_pairing(self, book: Book, now: float) -> dict[str, str]:
        """Return the alarms that no Planfix is paired any more; note that another one is."""
        seen: dict[str, str] = {}
        for account, partner in self._partners().items():
            before = book.partners.get(account, "")
            if partner is None and before:
                seen[fact_of("unpaired", account)] = UNPAIRED + _of(account)
            elif partner is not None and before not in ("", partner.url):
                what = f"another Planfix is paired{_of(account)}: {urlsplit(partner.url).hostname}"
                book.note(fact_of("paired", account), what, now)
            if partner is not None:
                book.partners[account] = partner.url
        return seen

    # whose turn it is, and what was told

    def _take_turn(
        self,
        text: str,
        trouble: Trouble,
        linked: Mapping[str, Mapping[str, float]],
        now: float,
    ) -> str:
        """Return the fact as it is after our turn, if we have it."""
        book = read(text)
        ours, self._book = self._book, None
        is_ours = book.owner in ("", self._owner)
        if not is_ours and 0 < book.until - now <= LEASE:
            if self._is_ahead and ours is not None:
                _hand_over(ours, book)
                self._is_ahead = False
            return book.dump()

        if is_ours and self._is_ahead and ours is not None:
            book = ours
        self._is_ahead = False
        book = replace(book, owner=self._owner, until=now + LEASE)
        self._see(book, trouble, linked, now)
        self._book = book
        return book.dump()

    def _go_on_alone(self) -> None:
        """Look at the store alone, if it was us who sent alerts when it worked last."""
        book = self._book
        if book is not None and self._store_has_failed:
            book.see({"store": STORE}, set(book.on), self._now())
            self._is_ahead = True

    def _tell(self, alert: Alert) -> None:
        problems = self._send(alert)
        for setting, problem in problems.items():
            if problem:
                log.error("alert_not_sent", setting=setting, problem=problem)
        if all(problems.values()):
            self._try_at = self._steady() + AGAIN_AFTER
            return

        log.warning("alert_sent", alarms=",".join(alert.changes))
        now = self._now()

        def note(text: str) -> str:
            book = read(text)
            book.told(alert, now)
            return book.dump()

        if self._book is not None:
            self._book.told(alert, now)
        try:
            self._store.facts.change(BOOK, note)
        except StoreError:
            self._is_ahead = True


STORE = "the database does not work: notices wait"
UNPAIRED = "no Planfix is paired any more: calls are kept"


def _of_links(
    linked: Mapping[str, Mapping[str, float]], now: float
) -> tuple[dict[str, str], set[str]]:
    """Return the alarms about links, and the names of those that are not sure yet."""
    seen: dict[str, str] = {}
    unsure: set[str] = set()
    for server, at in linked.items():
        if now - at["linked"] < BEGINS_AFTER:
            continue
        if now - at["begun"] < BEGINS_AFTER:
            unsure.add(f"link {server}")
        else:
            seen[f"link {server}"] = f"FreeSWITCH {server} is not linked: no call is reported"
    return seen, unsure


def _of_notices(trouble: Trouble) -> dict[str, str]:
    """Return the alarms about what Planfix does not get."""
    # the former key is right while the key is changed: somebody is at it
    differing = {
        account: [name for name in names if name != Difference.FORMER_KEY]
        for account, names in trouble.differs.items()
    }
    words = {
        "token": dict.fromkeys(trouble.unauthorized, "Planfix does not know our token"),
        "planfix": dict.fromkeys(
            trouble.failing - trouble.unauthorized, "Planfix accepts no notices"
        ),
        "rejected": _counted(trouble.rejected, "notices were rejected by Planfix"),
        "recordings": _counted(trouble.not_sent, "recordings of the last hour were not sent"),
        "bucket": {
            account: f"recordings wait for their upload: {problem}"
            for account, problem in trouble.bucket.items()
        },
        "pairing": {
            account: f"Planfix holds another {' and another '.join(names)} of ours"
            for account, names in differing.items()
            if names
        },
    }
    return {
        fact_of(name, account): what + _of(account)
        for name, by_account in words.items()
        for account, what in sorted(by_account.items())
    }


def _counted(counts: Mapping[str, int], what: str) -> dict[str, str]:
    return {account: f"{count} {what}" for account, count in counts.items()}


def _of(account: str) -> str:
    """Return whose trouble it is, for the end of a sentence."""
    return "" if account == ACCOUNT else f" [{account}]"


def _hand_over(ours: Book, theirs: Book) -> None:
    """Leave it to whoever sends now to tell the end of what we told alone."""
    for name, change in ours.on.items():
        if name == "store" and name not in ours.untold and name not in theirs.on:
            theirs.on[name] = change
