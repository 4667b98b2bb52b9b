"""Who talked with a client last, from our own history. A call waits for the answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Select, bindparam, select

from ..calls.model import ACCOUNT, Status
from .quick_read import QuickRead
from .schema import LONGEST_PHONE, calls, shares
from .store import Store

CALLS_LOOKED_AT = 20
"""The client's latest calls, however many nobody took: so the time it takes has a bound."""

DAY = 86400.0


def _last_talk() -> Select[Any]:
    latest = (
        select(calls.c.callid, calls.c.began)
        .where(calls.c.phone == bindparam("phone"), calls.c.began >= bindparam("since"))
        .where(calls.c.account == bindparam("account"))
        .order_by(calls.c.began.desc())
        .limit(CALLS_LOOKED_AT)
        .subquery("latest")
    )
    talked = (shares.c.callid == latest.c.callid, shares.c.status == Status.SUCCESS.value)
    # of several who talked in one call, the one who had the client at its end
    order = (latest.c.began.desc(), shares.c.place.desc())
    return select(shares.c.ext).where(*talked, shares.c.ext != "").order_by(*order).limit(1)


QUERY = _last_talk()
"""Finds the ext of `account` that talked with `phone` last, `since` then (seconds since 1970)."""


class LastTalk:
    """Finds who talked with a client last.

    days: how long a talk counts, 0 for not at all. now: seconds since 1970. account: with whose
    employees.
    """

    def __init__(
        self,
        store: Store,
        days: float,
        now: Callable[[], float] = time.time,
        account: str = ACCOUNT,
    ) -> None:
        self._read = QuickRead(store, QUERY, "last talk")
        self._days = days
        self._account = account
        self._now = now

    def find(self, phone: str, seconds: float) -> str:
        """Return the ext, "" if there is none or the store does not say within `seconds`.

        phone: E.164 digits. Never raises.
        """
        if not self._days or not phone:
            return ""

        since = self._now() - self._days * DAY
        wanted = {"phone": phone[:LONGEST_PHONE], "since": since, "account": self._account}
        rows = self._read.rows(wanted, seconds)
        if not rows:
            return ""
        return str(rows[0][0])
