"""Finds the contact of a number in Planfix.

A call is held meanwhile, so answers are remembered and nobody waits longer than the deadline.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import gevent
import structlog
from cachetools import TLRUCache, TTLCache
from circuitbreaker import CircuitBreaker, CircuitBreakerError
from gevent.event import AsyncResult
from gevent.lock import BoundedSemaphore

from ..errors import TransportError
from ..outbox.texts import clean

log = structlog.get_logger(__name__)

REMEMBERED = 600.0
"""Seconds a contact is remembered."""

NOBODY_REMEMBERED = 30.0
"""Seconds a number that Planfix does not know is not asked about again.

A new client who calls again a minute later has a contact and a manager by then.
"""

FAILURE_REMEMBERED = 30.0
"""Seconds a number is not asked about again after a failure."""

MOST_REMEMBERED = 10_000
"""Numbers; beyond them, the least recently used are forgotten."""

REQUESTS_AT_ONCE = 100
"""Requests under way; one beyond them waits for a place within its deadline."""

FAILURES_IN_A_ROW = 5
PAUSE = 10.0
"""Seconds Planfix is not asked anything after FAILURES_IN_A_ROW."""

MOST_MANAGERS = 10
"""Employees of one contact; those named after them are left out."""

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}", re.ASCII)

_LONGEST_CODES = MOST_MANAGERS * 20
"""Characters of several short codes with commas between them."""

Ask = Callable[[Mapping[str, str], float], Mapping[str, object]]
"""Sends the fields of a request, returns Planfix's JSON; see PlanfixApi.ask."""

OnLookup = Callable[[str, float], None]
"""Called after a lookup: how it went (asked, cached, failed, paused, late), and its seconds."""


@dataclass(frozen=True, slots=True)
class Contact:
    """A client.

    name: any text a database can hold. managers: the short codes of the employees who look after
    him, in Planfix's order.
    """

    name: str = ""
    managers: tuple[str, ...] = ()

    @property
    def is_known(self) -> bool:
        """Tell whether Planfix knows the client."""
        return bool(self.name.strip() or self.managers)


NOBODY = Contact()


def _is_outage(_: type[Exception], error: Exception) -> bool:
    """Tell whether an error means that Planfix is down, and not that it rejects this number."""
    return isinstance(error, TransportError) and not error.permanent


def read(answer: Mapping[str, object]) -> Contact:
    """Return the contact in an answer of Planfix."""
    # the English page calls the employee `manager`, the Russian one of 2025 `responsible`
    # (docs/facts/planfix.md, "Where the editions differ")
    name = answer.get("contact_name")
    managers = _codes(answer.get("manager")) or _codes(answer.get("responsible"))
    if not isinstance(name, str):
        return Contact("", managers)

    # JSON's escapes can spell what no text may hold: a NUL, half a surrogate pair
    return Contact(clean(name), managers)


def _codes(value: object) -> tuple[str, ...]:
    """Return the short codes in a value: one, several with commas between them, or a list.

    What is not a code is left out of a list. A text that holds anything else has no codes at all.
    """
    if isinstance(value, list):
        # whoever sends thousands is not read to the end
        codes = [_code(item) for item in value[: MOST_MANAGERS * 2]]
    elif isinstance(value, str) and len(value) <= _LONGEST_CODES and "," in value:
        items = [item for item in value.split(",") if item.strip()]
        codes = [_code(item) for item in items]
        if not all(codes):
            return ()
    else:
        codes = [_code(value)]

    return tuple(dict.fromkeys(filter(None, codes)))[:MOST_MANAGERS]


def _code(value: object) -> str:
    """Return a short code that came as text or as a number."""
    if type(value) is int and 0 <= value < 10**15:
        return str(value)
    if not isinstance(value, str):
        return ""

    text = value.strip()
    if not _CODE.fullmatch(text):
        return ""
    return text


def _forgotten_at(_: str, contact: Contact, now: float) -> float:
    """Return when an answer about a number is asked for again."""
    return now + (REMEMBERED if contact.is_known else NOBODY_REMEMBERED)


class Contacts:
    """Finds and remembers contacts. deadline: seconds a request may take."""

    def __init__(
        self,
        ask: Ask,
        deadline: float,
        on_lookup: OnLookup,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._deadline = deadline
        self._on_lookup = on_lookup
        self._known: TLRUCache[str, Contact] = TLRUCache(MOST_REMEMBERED, _forgotten_at, timer=now)
        self._failed: TTLCache[str, bool] = TTLCache(MOST_REMEMBERED, FAILURE_REMEMBERED, timer=now)
        self._asking: dict[str, AsyncResult[Contact | None]] = {}
        self._slots = BoundedSemaphore(REQUESTS_AT_ONCE)
        self._breaker = CircuitBreaker(
            failure_threshold=FAILURES_IN_A_ROW,
            recovery_timeout=PAUSE,
            expected_exception=_is_outage,
            name="planfix contact",
        )

    def find(self, number: str, callid: str, seconds: float) -> Contact:
        """Return the contact of a number (E.164 digits), NOBODY if unknown within `seconds`.

        callid: the call it is for, which Planfix is told.
        """
        return self.look_up(number, callid, seconds)[0]

    def look_up(self, number: str, callid: str, seconds: float) -> tuple[Contact, str, float]:
        """Do as `find`; also return how it went and how long it took (see OnLookup)."""
        begun = time.monotonic()
        contact, how = self._find(number, callid, seconds)
        took = time.monotonic() - begun
        self._on_lookup(how, took)
        return contact, how, took

    def name_of(self, number: str) -> str:
        """Return the name behind a number if it is remembered, else "": nobody is asked."""
        known = self._known.get(number)
        if known is None:
            return ""
        return known.name

    def _find(self, number: str, callid: str, seconds: float) -> tuple[Contact, str]:
        """Return the contact of a number, and how it was found; see OnLookup."""
        known = self._known.get(number)
        if known is not None:
            return known, "cached"
        if number in self._failed:
            return NOBODY, "cached"

        # several calls of one number share a request
        if number not in self._asking:
            if self._breaker.opened:
                return NOBODY, "paused"
            self._asking[number] = AsyncResult()
            gevent.spawn(self._fetch, number, callid)

        try:
            found = self._asking[number].get(timeout=max(seconds, 0))
        except gevent.Timeout:
            return NOBODY, "late"

        if found is None:
            return NOBODY, "failed"
        return found, "asked"

    def _fetch(self, number: str, callid: str) -> None:
        """Ask Planfix, and give the answer to every lookup that waits for this number."""
        contact: Contact | None = None
        try:
            contact = self._known[number] = self._request(number, callid)
        except (TransportError, CircuitBreakerError) as error:
            self._failed[number] = True
            log.warning("contact_unknown", callid=callid, phone=number, problem=str(error)[:200])
            if self._breaker.opened:
                log.error("contacts_paused", seconds=PAUSE, reason="Planfix does not answer")
        finally:
            # also after a crash: calls are held until they get it
            self._asking.pop(number).set(contact)

    def _request(self, number: str, callid: str) -> Contact:
        """Ask Planfix. Raises TransportError or CircuitBreakerError."""
        fields = {"cmd": "contact", "phone": number, "callid": callid}
        late = TransportError(f"Planfix did not answer within {self._deadline:g} s")

        # the wait for a slot counts, too
        with gevent.Timeout(self._deadline, late), self._slots:
            return read(self._breaker.call(self._ask, fields, self._deadline))
