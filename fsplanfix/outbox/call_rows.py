"""Writes the row of each call that is over into `calls`, and those of its employees (`shares`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, delete, select

from ..calls.model import MICROSECONDS, Notice
from ..calls.result import CallResult, result_of
from .prepared import Prepared, a_list, adding, among, together
from .records import notice_json
from .schema import LONGEST_PHONE, calls, notices, shares
from .texts import clean

_told = Prepared(
    select(notices.c.callid, notices.c.body)
    .where(among(notices.c.callid, a_list("callids")))
    .order_by(notices.c.id)
)
_add_calls, _add_shares = adding(calls), adding(shares)

_callids: BindParameter[Any] = bindparam("callids", expanding=True)
_forget_shares = delete(shares).where(shares.c.callid.in_(_callids))
_forget_calls = delete(calls).where(calls.c.callid.in_(_callids))


def forget_calls(connection: Connection, callids: Collection[str]) -> int:
    """Delete the rows of calls; return how many rows there were."""
    named = {"callids": list(callids)}
    return sum(connection.execute(it, named).rowcount for it in (_forget_shares, _forget_calls))


def list_calls(
    connection: Connection,
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
    for callid, body in _told.run(connection, {"callids": list(callids)}).fetchall():
        told.setdefault(callid, []).append(notice_json.validate_json(body))

    found = [result_of(notices) for notices in told.values()]
    write_results(connection, [result for result in found if result is not None], now)


def write_results(connection: Connection, results: Collection[CallResult], now: float) -> None:
    """Write results of calls that have no rows."""
    if not results:
        return

    rows = [row for result in results for row in _shares(result)]
    with together(connection):
        _add_calls.run_each(connection, [_row(result, now) for result in results])
        if rows:
            _add_shares.run_each(connection, rows)


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
