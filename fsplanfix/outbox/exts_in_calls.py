"""Who is in a client's call, as the store knows it: for a worker that hears no events itself."""

from __future__ import annotations

from sqlalchemy import bindparam, or_, select

from ..calls.model import ACCOUNT, Kind
from .quick_read import QuickRead
from .schema import notices, open_calls
from .store import Store

_began, _ended = notices.alias("began"), notices.alias("ended")

QUERY = (
    select(_began.c.ext)
    .distinct()
    .select_from(open_calls.join(_began, _began.c.callid == open_calls.c.callid))
    .where(
        open_calls.c.closed == 0,
        _began.c.account == bindparam("account"),
        # who takes a call or places one is busy; a phone that rings is not
        or_(_began.c.kind == Kind.ACCEPTED.value, _began.c.kind == Kind.OUTGOING.value),
        _began.c.ext != "",
        ~select(_ended.c.id)
        .where(
            _ended.c.callid == _began.c.callid,
            _ended.c.ext == _began.c.ext,
            _ended.c.ordinal == _began.c.ordinal,
            _ended.c.kind == Kind.COMPLETED.value,
        )
        .exists(),
    )
)
"""Finds the exts of `account` whose part in an open call has begun with an answer or a call, and is
not over."""


class ExtsInCalls:
    """Finds the exts that talk with clients, or call them."""

    def __init__(self, store: Store) -> None:
        self._read = QuickRead(store, QUERY, "exts in calls")

    def find(self, seconds: float, account: str = ACCOUNT) -> set[str]:
        """Return those of an account, none if the store does not say within `seconds`.

        Never raises.
        """
        return {str(row[0]) for row in self._read.rows({"account": account}, seconds)}
