"""Writes the row of each call that is over into `calls`, and those of its employees (`shares`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, delete, select

from ..calls.model import MICROSECONDS, Notice
from ..calls.result import CallResult, result_of
from .records import notice_json
from .schema import LONGEST_PHONE, calls, notices, shares
from .texts import clean

Insert = Callable[[Any], Any]
"""Returns an INSERT that knows ON CONFLICT; see Store.insert."""

_callids: BindParameter[Any] = bindparam("callids", expanding=True)
_told = (
    select(notices.c.callid, notices.c.body)
    .where(notices.c.callid.in_(_callids))
    .order_by(notices.c.id)
)
_forget_shares = delete(shares).where(shares.c.callid.in_(_callids))
_forget_calls = delete(calls).where(calls.c.callid.in_(_callids))


def forget_calls(connection: Connection, callids: Collection[str]) -> int:
    """Delete the rows of calls; return how many rows there were."""
    named = {"callids": list(callids)}
    return sum(connection.execute(it, named).rowcount for it in (_forget_shares, _forget_calls))


def list_calls(
    connection: Connection,
    insert: Insert,
    callids: Collection[str],
    again: Collection[str],
    now: float,
) -> None:
    """Write the rows of calls that are over.

    callids: cleaned. again: those among them that were over before. now: seconds since 1970.
    """
    if not callids:
        return
    if again:
        forget_calls(connection, again)

    # by what the store holds and not by what is being written: another worker may have told a part
    told: dict[str, list[Notice]] = {}
    for callid, body in connection.execute(_told, {"callids": list(callids)}):
        told.setdefault(callid, []).append(notice_json.validate_json(body))

    found = [result_of(notices) for notices in told.values()]
    write_results(connection, insert, [result for result in found if result is not None], now)


def write_results(
    connection: Connection, insert: Insert, results: Collection[CallResult], now: float
) -> None:
    """Write results of calls that have no rows."""
    if not results:
        return

    rows_of_calls = [_row(result, now) for result in results]
    connection.execute(insert(calls).on_conflict_do_nothing(), rows_of_calls)
    rows = [row for result in results for row in _shares(result)]
    if rows:
        connection.execute(insert(shares).on_conflict_do_nothing(), rows)


def _row(result: CallResult, now: float) -> dict[str, Any]:
    return {
        "callid": result.callid,
        "began": result.began / MICROSECONDS,
        "direction": result.direction.value,
        "phone": result.phone[:LONGEST_PHONE],
        "line": result.line[:LONGEST_PHONE],
        "name": result.name,
        "name_folded": folded(result.name),
        "result": result.result.value,
        "answered_by": result.answered_by,
        "waited": result.waited,
        "talked": result.talked,
        "recordings": result.recordings,
        "closed": now,
        "account": result.account,
    }


def _shares(result: CallResult) -> Iterable[dict[str, Any]]:
    for place, share in enumerate(result.shares):
        yield {
            "callid": result.callid,
            "ext": share.ext,
            "place": place,
            "began": result.began / MICROSECONDS,
            "direction": result.direction.value,
            "status": share.status.value,
            "talked": share.talked,
            "account": result.account,
        }


def folded(text: str) -> str:
    """Return a text as it is searched for: without capitals, as the database holds it."""
    return clean(text).casefold().replace("ё", "е")
