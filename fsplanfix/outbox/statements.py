"""The statements with which a store writes and closes calls.

Parameters are called b_<column>, since a bare column name is SQLAlchemy's own.
"""

from __future__ import annotations

from sqlalchemy import and_, bindparam, exists, func, or_, select, text

from ..calls.model import Kind
from .prepared import Prepared, a_list, adding, among, inserts
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
DUE = func.coalesce(
    select(func.max(_earlier.c.due))
    .where(
        _earlier.c.callid == bindparam("b_callid"),
        is_waiting(_earlier),
        _earlier.c.due > bindparam("b_now"),
        or_(
            _earlier.c.ext == bindparam("b_ext"),
            holds_up(_earlier, bindparam("b_kind")),
            bindparam("b_kind") == Kind.RECORD.value,
        ),
    )
    .scalar_subquery(),
    bindparam("b_now"),
)
"""When a new notice is due: now, but not before the notices it waits for (rule 3).

So no claim scans what an outage has queued up.
"""

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

ADD_NOTICES = Prepared(
    {
        dialect: insert.values(due=DUE).on_conflict_do_nothing()
        for dialect, insert in inserts(notices).items()
    },
    ("callid", "ext", "kind", "ordinal", "position", "barrier", "body", "account", "created"),
)

_OF_A_CALL = ("state", "closed", "server", "core")
PUT_CALLS = Prepared(
    {
        dialect: insert.on_conflict_do_update(
            index_elements=["callid"], set_={name: insert.excluded[name] for name in _OF_A_CALL}
        )
        for dialect, insert in inserts(open_calls).items()
    },
    ("callid", *_OF_A_CALL),
)

ADD_HEARD = adding(heard)

WAKE_OTHERS = Prepared(text(f"NOTIFY {CHANNEL}"))
"""Wake the couriers of other workers, on PostgreSQL. SQLite is polled for that (wakeups.py)."""
