"""Asks Planfix once an hour which key and which address of ours it holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping

import gevent
import structlog

from ..calls.model import ACCOUNT
from ..errors import StoreError, TransportError
from ..outbox.facts import fact_of
from ..outbox.records import whose
from ..outbox.standing import DIFFERENCES
from ..outbox.store import Store
from ..planfix.agreement import differences, hint
from ..planfix.keys import PbxKeys

log = structlog.get_logger(__name__)

EVERY = 3600.0
"""Seconds between two questions, however many workers there are."""

FIRST_AFTER = 300.0
"""Seconds after a start."""

LOOK_EVERY = 60.0
"""Seconds between two looks at whether it is time."""

LONGEST_WAIT = 10.0
"""Seconds that Planfix may take."""

ASKED_AT = "planfix_pinged_at"
"""The name of the fact with the time of the last question, seconds since 1970."""

Ask = Callable[[Mapping[str, str], float], Mapping[str, object]]
"""Sends a request to Planfix; see PlanfixApi.ask."""


class Agreement:
    """Compares what Planfix holds with what is ours.

    has_aim: tells whether it is known which Planfix we belong to. public_url: PUBLIC_URL, "" if
    Planfix's address of us cannot be judged. account: whose Planfix it is. in_words: writes the
    names of settings as they stand where the account's do.
    """

    def __init__(
        self,
        store: Store,
        ask: Ask,
        has_aim: Callable[[], bool],
        keys: PbxKeys,
        public_url: str,
        account: str = ACCOUNT,
        in_words: Callable[[str], str] = str,
    ) -> None:
        self.asked_at = fact_of(ASKED_AT, account)
        self._account = account
        self._store = store
        self._ask = ask
        self._has_aim = has_aim
        self._keys = keys
        self._public_url = public_url
        self._in_words = in_words

    def step(self) -> bool:
        """Ask if it is time; return whether it was. Raises StoreError."""
        now = self._store.now()
        if not self._has_aim() or not _is_time(self._store.facts.get(self.asked_at), now):
            return False

        # written before the question: other workers do not ask as well
        self._store.facts.set(self.asked_at, str(now))
        try:
            answer = self._ask({"cmd": "ping"}, LONGEST_WAIT)
        except TransportError:
            # Planfix of before 2025 does not know it, and an outage shows elsewhere
            return True

        self._judge(answer)
        return True

    def _judge(self, answer: Mapping[str, object]) -> None:
        """Log and store what differs."""
        found = differences(answer, self._keys, self._public_url)
        for difference, what in found.items():
            log.error(
                "planfix_differs",
                what=difference.value,
                problem=self._in_words(f"Planfix {what}"),
                hint=self._in_words(hint(difference, self._public_url)),
                **whose(self._account),
            )

        fact = json.dumps([difference.value for difference in found]) if found else ""
        name = fact_of(DIFFERENCES, self._account)
        before = self._store.facts.get(name)
        if before and not fact:
            log.info("planfix_agrees_again", **whose(self._account))
        if fact != before:
            self._store.facts.set(name, fact)


def _is_time(asked_at: str, now: float) -> bool:
    # a clock that was set back must not keep us waiting for years
    return not 0 <= now - float(asked_at or 0) < EVERY


def keep_asking(store: Store, agreements: Callable[[], Iterable[Agreement]]) -> None:
    """Ask each account's Planfix again and again."""
    gevent.sleep(FIRST_AFTER)
    while True:
        try:
            asked_at, now = store.facts.beginning(ASKED_AT), store.now()
            for agreement in agreements():
                if _is_time(asked_at.get(agreement.asked_at, ""), now):
                    agreement.step()
        except StoreError as error:
            log.error("store_unavailable", problem=str(error))
        gevent.sleep(LOOK_EVERY)
