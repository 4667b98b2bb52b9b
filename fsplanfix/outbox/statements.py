"""The statements with which a store writes and closes calls.

Parameters are called b_<column>, since a bare column name is SQLAlchemy's own.
"""

from __future__ import annotations

from sqlalchemy import and_, bindparam, exists, func, or_, select, text
from sqlalchemy.dialects import postgresql

from ..calls.model import Kind
from .schema import holds_up, is_waiting, notices, open_calls
from .texts import CleanText

# One lock per call, always in the same order, so that two workers never wait for each other.
LOCK_CALLS = text(
    "SELECT pg_advisory_xact_lock(number) FROM ("
    "SELECT DISTINCT hashtextextended(callid, 0) AS number "
    "FROM unnest(CAST(:callids AS text[])) AS callid ORDER BY 1"
    ") AS calls"
).bindparams(bindparam("callids", type_=postgresql.ARRAY(CleanText)))

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
BEGUN = select(notices.c.callid, notices.c.ext, notices.c.ordinal).where(
    notices.c.callid.in_(bindparam("callids", expanding=True)),
    notices.c.kind.in_((Kind.INCOMING.value, Kind.OUTGOING.value)),
    ~exists().where(_is_end),
)
"""The parts of employees, in some calls, that have no COMPLETED yet."""

ARE_CLOSED = select(open_calls.c.callid).where(
    open_calls.c.callid.in_(bindparam("callids", expanding=True)), open_calls.c.closed > 0
)
