"""Which notices may be sent now, as SQL (docs/delivery-rules.md, rules 3 and 8)."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Float,
    Integer,
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    or_,
    select,
    true,
)
from sqlalchemy.dialects import postgresql

from ..calls.model import Kind
from .clock import JUMP, database_now
from .prepared import Prepared
from .records import Places
from .schema import holds_up, is_waiting, notices
from .store import Store

LEASE = 12.0
"""Seconds, by the database's clock, that a notice belongs to the courier that sends it.

Renewed while the request is under way (docs/delivery-rules.md, rule 8).
"""

CLOCK_JUMP = 60.0
"""Seconds of tolerance.

A time further ahead than the longest plan plus this was written before the clock jumped back.
"""

NOW: BindParameter[float] = bindparam("now", type_=Float)
"""Seconds since 1970."""

# docs/delivery-rules.md, rule 3, as SQL:
#
#   EXISTS (SELECT * FROM notices AS before
#           WHERE before.callid = notices.callid AND before.state = 'waiting'
#             AND before.id < notices.id
#             AND (before.ext = notices.ext
#                  OR before.barrier AND (before.kind != 'COMPLETED'
#                                         OR notices.kind != 'COMPLETED')
#                  OR notices.kind = 'record'))
#
# Compared by id and not by position: two workers may number a call's notices differently.
_before = notices.alias("before")
_waits = exists().where(
    and_(
        _before.c.callid == notices.c.callid,
        is_waiting(_before),
        _before.c.id < notices.c.id,
        or_(
            _before.c.ext == notices.c.ext,
            holds_up(_before, notices.c.kind),
            notices.c.kind == Kind.RECORD.value,
        ),
    )
)
EXPECTED: BindParameter[float] = bindparam("b_expected", type_=Float)
"""The database's time as far as a worker knows, seconds since 1970; see `expected_time`."""

is_free = or_(
    notices.c.leased_until == 0,
    and_(
        func.abs(database_now() - EXPECTED) < JUMP,
        or_(
            notices.c.leased_until <= database_now(),
            notices.c.leased_until > database_now() + (LEASE + CLOCK_JUMP),
        ),
    ),
)
"""No courier is sending the notice: it has no lease, or one that has ended.

By the database's clock. With the workers' own clocks 20 s apart, a lease of 12 s was over for one
while the other still sent, and every notice in flight was sent twice. So it was when the database's
clock jumped: a lease counts as ended only while that clock shows what is expected.
"""


def expected_time(store: Store) -> float:
    """Return the database's time as it should be, 0 while no lease may count as ended.

    After a jump of the database's clock, couriers that are alive renew their leases by the new time
    first. Raises StoreError.
    """
    now = store.now()
    return now if store.now.steady_for(LEASE) else 0.0


MOST: BindParameter[int] = bindparam("b_most", type_=Integer)
"""How many notices of one account may be claimed."""


def _next_of(account: ColumnElement[Any], most: ColumnElement[int]) -> Select[Any]:
    """Return the query for the notices of an account that may be sent, the next first."""
    # SKIP LOCKED: couriers that claim at the same time get different notices, and none waits.
    # SQLite has no such clause and SQLAlchemy leaves it out there; its transactions do not overlap.
    return (
        select(notices.c.id)
        .where(notices.c.account == account)
        .where(is_waiting(notices), notices.c.due <= NOW, is_free, ~_waits)
        .order_by(notices.c.due, notices.c.id)
        .limit(most)
        .with_for_update(skip_locked=True, of=notices)
    )


NEXT_OF_ONE = _next_of(bindparam("b_account"), MOST)
"""The next notices of one account."""

# The accounts with something to send, found one after the other in the index of accounts and times:
# however long the backlog of one is, it is passed over in one step.
_first = notices.alias("first")
_with_notices = select(func.min(_first.c.account).label("account")).where(is_waiting(_first))
_with_notices_cte = _with_notices.cte("with_notices", recursive=True)
_after = notices.alias("after")
_next_account = (
    select(func.min(_after.c.account))
    .where(is_waiting(_after), _after.c.account > _with_notices_cte.c.account)
    .scalar_subquery()
)
_accounts = _with_notices_cte.union_all(
    select(_next_account).where(_with_notices_cte.c.account.is_not(None))
)
WITH_NOTICES = select(_accounts.c.account).where(_accounts.c.account.is_not(None))
"""The accounts of which something waits."""

_planned = notices.alias("planned")


def _outlook(account: ColumnElement[Any]) -> tuple[ColumnElement[float], ColumnElement[bool]]:
    """Return when the next notice of an account is due that is not due yet, and if one waits."""
    of_account = and_(_planned.c.account == account, is_waiting(_planned))
    is_free_and_due = and_(of_account, _planned.c.due <= NOW, _planned.c.leased_until == 0)
    next_due = select(func.min(_planned.c.due)).where(of_account, _planned.c.due > NOW)
    return next_due.scalar_subquery(), exists().where(is_free_and_due)


OUTLOOK_OF_ONE = Prepared(select(*_outlook(bindparam("b_account"))))
"""When the next notice of an account is due that is not due yet.

And whether one that is due waits: for a place, or for what is under way.
"""

_next_due, _waits_now = _outlook(_accounts.c.account)
OUTLOOK_OF_MANY = Prepared(
    select(func.min(_next_due), func.max(case((_waits_now, 1), else_=0))).select_from(_accounts)
)
"""The same of all accounts."""


def later_than(moment: ColumnElement[float]) -> Select[Any]:
    """Return the query for the waiting notices of all accounts that are due after a moment."""
    late = notices.alias("late")
    of_account = and_(late.c.account == _accounts.c.account, is_waiting(late))
    return (
        select(late.c.id).select_from(_accounts.join(late, of_account)).where(late.c.due > moment)
    )


_OTHERS: BindParameter[str] = bindparam("b_others", type_=Text)
_IN_ALL: BindParameter[int] = bindparam("b_in_all", type_=Integer)


def _of_many_on_postgresql() -> Select[Any]:
    others = cast(_OTHERS, postgresql.JSONB)
    most = func.coalesce(cast(others.op("->>")(_accounts.c.account), Integer), MOST)
    mine = _next_of(_accounts.c.account, most).add_columns(notices.c.due).lateral("mine")
    place = func.row_number().over(
        partition_by=_accounts.c.account, order_by=(mine.c.due, mine.c.id)
    )
    return (
        select(mine.c.id)
        .select_from(_accounts.join(mine, true()))
        .order_by(place, mine.c.due)
        .limit(_IN_ALL)
    )


def _of_many_on_sqlite() -> Select[Any]:
    # SQLite has no LATERAL, and its LIMIT takes no column
    each = func.json_each(_OTHERS).table_valued("key", "value", name="each")
    others = select(each.c.key, each.c.value).cte("others")
    most = func.coalesce(others.c.value, MOST)
    chosen = notices.alias("chosen")
    place = func.row_number().over(
        partition_by=chosen.c.account, order_by=(chosen.c.due, chosen.c.id)
    )
    mine = _next_of(_accounts.c.account, MOST).correlate(_accounts)
    found = (
        select(chosen.c.id, chosen.c.due, place.label("place"), most.label("most"))
        .select_from(_accounts.outerjoin(others, others.c.key == _accounts.c.account))
        .join(chosen, chosen.c.id.in_(mine))
        .where(most > 0)
        .subquery("found")
    )
    return (
        select(found.c.id)
        .where(found.c.place <= found.c.most)
        .order_by(found.c.place, found.c.due)
        .limit(_IN_ALL)
    )


NEXT_OF_MANY = {"postgresql": _of_many_on_postgresql(), "sqlite": _of_many_on_sqlite()}
"""The next notices of several accounts, by the database's dialect: first the first of each account,
then the second of each, and so on."""


def values_of(places: Places, now: float) -> dict[str, Any]:
    """Return the parameters of NEXT_OF_ONE or NEXT_OF_MANY. now: seconds since 1970."""
    if places.only:
        return {"now": now, "b_account": places.only, "b_most": places.each}
    return {
        "now": now,
        "b_most": places.each,
        "b_others": json.dumps(places.others),
        "b_in_all": places.in_all,
    }
