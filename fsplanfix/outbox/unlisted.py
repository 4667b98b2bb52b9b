"""Makes the rows of the calls that an older release stored, after an upgrade."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gevent
import structlog
from sqlalchemy import BindParameter, bindparam, select

from ..calls.result import result_of
from ..errors import StoreError
from .call_rows import write_results
from .facts import get_fact, put_fact
from .records import notice_json
from .schema import UNLISTED, calls, facts, notices, open_calls
from .store import Store

log = structlog.get_logger(__name__)

CALLS_AT_ONCE = 20
"""Calls in one transaction, about 2 ms of work."""

PAUSE = 0.02
"""Seconds that everything else gets between two transactions."""

_callids: BindParameter[Any] = bindparam("callids", expanding=True)
# distinct callids in their order: read from the index of notices_key
_next = select(notices.c.callid).distinct().order_by(notices.c.callid).limit(CALLS_AT_ONCE)
_busy = select(open_calls.c.callid).where(
    open_calls.c.callid.in_(_callids), open_calls.c.closed == 0
)
_have_rows = select(calls.c.callid).where(calls.c.callid.in_(_callids))
_closed = select(open_calls.c.callid, open_calls.c.closed).where(open_calls.c.callid.in_(_callids))
_told = (
    select(notices.c.callid, notices.c.body, notices.c.created)
    .where(notices.c.callid.in_(_callids))
    .order_by(notices.c.id)
)


def keep_listing(store: Store) -> None:
    """Make the rows of all calls that have none, a few at a time, until all have theirs."""
    while True:
        try:
            if not list_some(store):
                return
        except StoreError as error:
            log.error("store_unavailable", problem=str(error))
            gevent.sleep(1)
        gevent.sleep(PAUSE)


def list_some(store: Store) -> bool:
    """Make the next rows; return whether there may be more to make. Raises StoreError."""
    with store.transaction() as connection:
        is_due = select(facts.c.name).where(facts.c.name == UNLISTED)
        if connection.execute(is_due).first() is None:
            return False

        last = get_fact(connection, UNLISTED)
        query = _next.where(notices.c.callid > last)
        callids: Sequence[str] = connection.execute(query).scalars().all()
        if not callids:
            connection.execute(facts.delete().where(facts.c.name == UNLISTED))
            log.info("older_calls_listed")
            return False

        _list(connection, callids)
        put_fact(connection, UNLISTED, callids[-1])
        return True


def _list(connection: Any, callids: Sequence[str]) -> None:
    named = {"callids": list(callids)}
    skipped = set(connection.execute(_busy, named).scalars())
    skipped.update(connection.execute(_have_rows, named).scalars())
    closed = {row.callid: row.closed for row in connection.execute(_closed, named)}

    told: dict[str, list[Any]] = {}
    for row in connection.execute(_told, named):
        told.setdefault(row.callid, []).append(row)

    for callid in sorted(set(told) - skipped):
        rows = told[callid]
        try:
            result = result_of([notice_json.validate_json(row.body) for row in rows])
        except ValueError as error:
            # whatever another release may have written: the others are listed all the same
            log.warning("call_not_listed", callid=callid, problem=type(error).__name__)
            continue
        if result is not None:
            ended = closed.get(callid) or max(row.created for row in rows)
            write_results(connection, [result], ended)
