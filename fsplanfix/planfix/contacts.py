"""Who a number belongs to, as Planfix knows it.

Asked once, remembered, and never waited for longer than allowed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import gevent
import structlog
from cachetools import TTLCache
from circuitbreaker import CircuitBreaker, CircuitBreakerError
from gevent.event import AsyncResult
from gevent.lock import BoundedSemaphore

from ..errors import TransportError
from ..outbox.texts import clean

log = structlog.get_logger(__name__)

REMEMBERED = 600.0
FAILURE_REMEMBERED = 30.0
"""Seconds."""

MOST_REMEMBERED = 10_000
REQUESTS_AT_ONCE = 100
"""Requests under way; a number beyond them waits for its turn within its deadline."""

FAILURES_IN_A_ROW = 5
PAUSE = 10.0
"""Seconds Planfix is not asked after so many failures in a row."""

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}", re.ASCII)

Ask = Callable[[Mapping[str, str], float], Mapping[str, object]]
"""Sends a request's fields, returns Planfix's JSON within so many seconds. Raises TransportError.
"""

OnLookup = Callable[[str, float], None]
"""Is told how a lookup went (asked, cached, failed, paused, late) and how many seconds it took."""


@dataclass(frozen=True, slots=True)
class Contact:
    """A client. name: any text a database can hold. manager: whose client this is, a short code or
    ""."""

    name: str = ""
    manager: str = ""


NOBODY = Contact()


def _is_outage(_: type[Exception], error: Exception) -> bool:
    """Tell whether an error says that Planfix is down, and not that it minds this one number."""
    return isinstance(error, TransportError) and not error.permanent


def read(answer: Mapping[str, object]) -> Contact:
    """Return the contact in an answer; `manager` and, since 2025, `responsible` are the same.

    JSON's escapes can spell what no text may hold: a NUL, half a surrogate pair.
    """
    name = answer.get("contact_name")
    manager = _code(answer.get("manager")) or _code(answer.get("responsible"))
    return Contact(clean(name) if isinstance(name, str) else "", manager)


def _code(value: object) -> str:
    """Return a short code that came as text or as a number."""
    if type(value) is int and 0 <= value < 10**15:
        return str(value)
    text = value.strip() if isinstance(value, str) else ""
    return text if _CODE.fullmatch(text) else ""


class Contacts:
    """Asks Planfix. deadline: seconds a request may take."""

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
        self._known: TTLCache[str, Contact] = TTLCache(MOST_REMEMBERED, REMEMBERED, timer=now)
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
        """Return who a number (E.164 digits) belongs to; NOBODY if not known within `seconds`."""
        begun = time.monotonic()
        contact, how = self._find(number, callid, seconds)
        self._on_lookup(how, time.monotonic() - begun)
        return contact

    def _find(self, number: str, callid: str, seconds: float) -> tuple[Contact, str]:
        known = self._known.get(number)
        if known is not None:
            return known, "cached"
        if number in self._failed:
            return NOBODY, "cached"
        if number not in self._asking:
            if self._breaker.opened:
                return NOBODY, "paused"
            self._asking[number] = AsyncResult()
            gevent.spawn(self._fetch, number, callid)
        try:
            found = self._asking[number].get(timeout=max(seconds, 0))
        except gevent.Timeout:
            return NOBODY, "late"
        return (NOBODY, "failed") if found is None else (found, "asked")

    def _fetch(self, number: str, callid: str) -> None:
        """Ask once for all who wait for this number; whatever happens, they get an answer."""
        contact: Contact | None = None
        try:
            contact = self._known[number] = self._request(number, callid)
        except (TransportError, CircuitBreakerError) as error:
            self._failed[number] = True
            log.warning("contact_unknown", callid=callid, problem=str(error)[:200])
            if self._breaker.opened:
                log.error("contacts_paused", seconds=PAUSE, reason="Planfix does not answer")
        finally:
            self._asking.pop(number).set(contact)

    def _request(self, number: str, callid: str) -> Contact:
        fields = {"cmd": "contact", "phone": number, "callid": callid}
        late = TransportError(f"Planfix did not answer within {self._deadline:g} s")
        with gevent.Timeout(self._deadline, late), self._slots:
            return read(self._breaker.call(self._ask, fields, self._deadline))
