"""Who talked with a client last, from our own history. A call waits for the answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent
import structlog
from sqlalchemy import Select, select

from ..calls.model import Status
from ..errors import StoreError
from .reader import Reader
from .schema import LONGEST_PHONE, calls, shares

log = structlog.get_logger(__name__)

CALLS_LOOKED_AT = 20
"""The client's latest calls, however many nobody took: so the time it takes has a bound."""

MOST_AT_ONCE = 50
"""Questions that wait for the store; one more is not asked."""

DAY = 86400.0


def last_talk_query(phone: str, since: float) -> Select[Any]:
    """Return the query for the ext that talked with a number last. since: seconds since 1970."""
    latest = (
        select(calls.c.callid, calls.c.began)
        .where(calls.c.phone == phone[:LONGEST_PHONE], calls.c.began >= since)
        .order_by(calls.c.began.desc())
        .limit(CALLS_LOOKED_AT)
        .subquery("latest")
    )
    talked = (shares.c.callid == latest.c.callid, shares.c.status == Status.SUCCESS.value)
    # of several who talked in one call, the one who had the client at its end
    order = (latest.c.began.desc(), shares.c.place.desc())
    return select(shares.c.ext).where(*talked, shares.c.ext != "").order_by(*order).limit(1)


class LastTalk:
    """Finds who talked with a client last.

    days: how long a talk counts, 0 for not at all. now: seconds since 1970.
    """

    def __init__(self, reader: Reader, days: float, now: Callable[[], float] = time.time) -> None:
        self._reader = reader
        self._days = days
        self._now = now
        self._waiting = 0

    def find(self, phone: str, seconds: float) -> str:
        """Return the ext, "" if there is none or the store does not say within `seconds`.

        phone: E.164 digits. Never raises.
        """
        if not self._days or not phone or self._waiting >= MOST_AT_ONCE:
            return ""

        asking = gevent.spawn(self._read, phone, self._now() - self._days * DAY)
        asking.join(max(seconds, 0))
        # a reading that is late ends by itself: one that is killed would break its connection
        return asking.value or ""

    def _read(self, phone: str, since: float) -> str:
        self._waiting += 1
        try:
            rows = self._reader.rows(last_talk_query(phone, since))
        except StoreError as error:
            log.warning("last_talk_unknown", problem=str(error))
            return ""
        finally:
            self._waiting -= 1

        return str(rows[0].ext) if rows else ""
