"""The statements with which a store writes and closes calls.

Parameters are called b_<column>, since a bare column name is SQLAlchemy's own.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Float,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
    text,
)

from ..calls.model import Kind
from .prepared import PLACE, Prepared, a_list, adding, among, given_rows, inserts
from .schema import CHANNEL, heard, holds_up, is_waiting, notices, open_calls

# One lock per call, always in the same order, so that two workers never wait for each other.
LOCK_CALLS = Prepared(
    text(
        "SELECT pg_advisory_xact_lock(number) FROM ("
        "SELECT DISTINCT hashtextextended(callid, 0) AS number "
        "FROM unnest(CAST(:callids AS text[])) AS callid ORDER BY 1"
        ") AS calls"
    )
)

# When a new notice is due, as SQL:
#
#   coalesce((SELECT max(earlier.due) FROM notices AS earlier
#             WHERE earlier.callid = :b_callid AND earlier.state = 'waiting'
#               AND earlier.due > :b_now
#               AND (earlier.ext = :b_ext
#                    OR earlier.barrier AND (earlier.kind != 'COMPLETED'
#                                            OR :b_kind != 'COMPLETED')
#                    OR :b_kind = 'record')),
#            :b_now)
_earlier = notices.alias("earlier")


def _due(callid: Any, ext: Any, kind: Any, now: Any) -> ColumnElement[float]:
    """Return when a new notice is due: now, but not before the notices it waits for (rule 3).

    So no claim scans what an outage has queued up.
    """
    latest = (
        select(func.max(_earlier.c.due))
        .where(
            _earlier.c.callid == callid,
            is_waiting(_earlier),
            _earlier.c.due > now,
            or_(
                _earlier.c.ext == ext,
                holds_up(_earlier, kind),
                kind == Kind.RECORD.value,
            ),
        )
        .scalar_subquery()
    )
    return func.coalesce(latest, now)


_end = notices.alias("ending")
_is_end = and_(
    _end.c.callid == notices.c.callid,
    _end.c.ext == notices.c.ext,
    _end.c.ordinal == notices.c.ordinal,
    _end.c.kind == Kind.COMPLETED.value,
)
BEGUN = Prepared(
    select(notices.c.callid, notices.c.ext, notices.c.ordinal).where(
        among(notices.c.callid, a_list("callids")),
        or_(notices.c.kind == Kind.INCOMING.value, notices.c.kind == Kind.OUTGOING.value),
        ~exists().where(_is_end),
    )
)
"""The parts of employees, in some calls, that have no COMPLETED yet."""

ARE_CLOSED = Prepared(
    select(open_calls.c.callid).where(
        among(open_calls.c.callid, a_list("callids")), open_calls.c.closed > 0
    )
)

_GIVEN = ("callid", "ext", "kind", "ordinal", "position", "barrier", "body", "account", "created")
_NEW = given_rows([*(notices.c[name] for name in _GIVEN), Column("b_now", Float)]).c
_ADD = inserts(notices)
ADD_NOTICES = Prepared(
    {
        "sqlite": _ADD["sqlite"]
        .values(due=_due(*map(bindparam, ("b_callid", "b_ext", "b_kind", "b_now"))))
        .on_conflict_do_nothing(),
        # By their ids they stand in the order they were given. None sees the others when it is said
        # when it is due: they are due at once, or wait for the same that is in the store.
        "postgresql": _ADD["postgresql"]
        .from_select(
            [*_GIVEN, "due"],
            select(
                *(_NEW[name] for name in _GIVEN),
                _due(_NEW.callid, _NEW.ext, _NEW.kind, _NEW.b_now),
            ).order_by(_NEW[PLACE]),
        )
        .on_conflict_do_nothing(),
    },
    _GIVEN,
)

_OF_A_CALL = ("callid", "state", "closed", "server", "core")
_PUT = inserts(open_calls)
_PUT["postgresql"] = _PUT["postgresql"].from_select(
    _OF_A_CALL, select(*given_rows(open_calls.c[name] for name in _OF_A_CALL).c[_OF_A_CALL])
)
PUT_CALLS = Prepared(
    {
        dialect: insert.on_conflict_do_update(
            index_elements=["callid"],
            set_={name: insert.excluded[name] for name in _OF_A_CALL if name != "callid"},
        )
        for dialect, insert in _PUT.items()
    },
    _OF_A_CALL,
)

ADD_HEARD = adding(heard)

WAKE_OTHERS = Prepared(text(f"NOTIFY {CHANNEL}"))
"""Wake the couriers of other workers, on PostgreSQL. SQLite is polled for that (wakeups.py)."""
