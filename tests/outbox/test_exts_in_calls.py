"""Who is in a client's call, on a real SQLite and a real PostgreSQL."""

from dataclasses import replace

from sqlalchemy import text

from fsplanfix.calls.model import Direction, Kind
from fsplanfix.outbox.exts_in_calls import ExtsInCalls
from fsplanfix.outbox.store import Store

from ..support.listed_calls import call
from ..support.service import PATIENCE


def busy(store: Store) -> set[str]:
    return ExtsInCalls(store).find(PATIENCE)


def test_who_talks_or_calls_is_busy_until_his_part_is_over(store: Store) -> None:
    said = call("c1", 1000.0, "101", "102", taken_by="101")
    ringing = [notice for notice in said if notice.kind is Kind.INCOMING]
    store.save(ringing, {"c1": "{}"}, "s", now=1.0)
    assert busy(store) == set()

    answered = [notice for notice in said if notice.kind is Kind.ACCEPTED]
    store.save(answered, {"c1": "{}"}, "s", now=1.0)
    assert busy(store) == {"101"}

    # he takes another call, and a colleague calls a client
    again = [replace(notice, callid="c2") for notice in (*ringing[:1], *answered)]
    store.save(again, {"c2": "{}"}, "s", now=1.0)
    placed = call("c3", 1000.0, "103", way=Direction.OUT)[:1]
    store.save(placed, {"c3": "{}"}, "s", now=1.0)
    assert busy(store) == {"101", "103"}

    # his first part is over, and the call goes on with another employee
    over = [notice for notice in said if notice.kind is Kind.COMPLETED and notice.ext == "101"]
    store.save(over, {"c1": "{}"}, "s", now=1.0)
    store.save([], {"c2": None}, "s", now=1.0)
    assert busy(store) == {"103"}


def test_a_store_that_fails_leaves_nobody_out(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute(text("DROP TABLE notices"))
    assert busy(store) == set()
