"""Who talked with a client last, on a real SQLite and a real PostgreSQL."""

import sqlite3
from contextlib import closing

import gevent
import pytest
from sqlalchemy import text

from fsplanfix.calls.model import ACCOUNT, Direction
from fsplanfix.outbox import quick_read
from fsplanfix.outbox.last_talk import CALLS_LOOKED_AT, DAY, QUERY, LastTalk
from fsplanfix.outbox.store import Store

from ..support.listed_calls import call, save
from ..support.service import PATIENCE

CLIENT = "79161234567"
NOW = 100 * DAY


def last(store: Store, days: float = 30, phone: str = CLIENT) -> str:
    return LastTalk(store, days, lambda: NOW).find(phone, 30)


def test_the_last_talk_counts_whoever_called(store: Store) -> None:
    assert last(store) == ""
    save(store, call("c1", NOW - 5000, "101", "102", taken_by="101"))
    save(store, call("c2", NOW - 4000, "103", taken_by="103", way=Direction.OUT))
    save(store, call("c3", NOW - 3000, "101", "102"))
    save(store, call("c4", NOW - 2000, "104", taken_by="104", phone="79260000001"))
    assert last(store) == "103"
    assert last(store, phone="79260000001") == "104"
    assert last(store, phone="") == ""


def test_of_several_in_one_call_it_is_the_one_who_had_the_client_at_the_end(store: Store) -> None:
    first = call("c1", NOW - 5000, "101", taken_by="101")
    second = call("c1", NOW - 4900, "102", taken_by="102")
    save(store, first + second)
    assert last(store) == "102"


def test_a_talk_is_remembered_for_so_many_days(store: Store) -> None:
    save(store, call("c1", NOW - 10 * DAY, "101", taken_by="101"))
    assert [last(store, days) for days in (0, 9, 11)] == ["", "", "101"]


def test_of_a_client_who_was_never_answered_only_the_latest_calls_are_read(store: Store) -> None:
    save(store, call("old", NOW - 9000, "101", taken_by="101"))
    for n in range(CALLS_LOOKED_AT):
        save(store, call(f"c{n}", NOW - 8000 + n, "102"))
    assert last(store) == ""


def test_the_indexes_lead_to_the_answer(store: Store) -> None:
    query = QUERY.params(phone=CLIENT, since=NOW - DAY, account=ACCOUNT)
    statement = query.compile(store.engine, compile_kwargs={"literal_binds": True})
    sqlite = store.engine.dialect.name == "sqlite"
    with store.transaction() as connection:
        if not sqlite:
            # an empty table is read faster without an index
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        words = "EXPLAIN QUERY PLAN" if sqlite else "EXPLAIN"
        plan = "\n".join(
            str(row) for row in connection.exec_driver_sql(f"{words} {statement}").all()
        )
    assert "calls_by_phone" in plan
    assert ("sqlite_autoindex_shares_1" if sqlite else "shares_pkey") in plan
    assert "SCAN calls" not in plan
    assert "SCAN shares" not in plan


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_a_server_that_does_not_answer_keeps_no_call(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = LastTalk(store, 30)
    monkeypatch.setattr(quick_read, "MOST_AT_ONCE", 2)
    with store.transaction() as connection:
        connection.execute(text("LOCK TABLE calls IN ACCESS EXCLUSIVE MODE"))
        assert [ours.find(CLIENT, 0.01) for _ in range(3)] == ["", "", ""]
        assert ours._read.waiting == 2
        connection.rollback()
    with gevent.Timeout(PATIENCE):
        while ours._read.waiting:
            gevent.sleep(0.001)


def test_a_store_that_fails_keeps_no_call(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute(text("DROP TABLE shares"))
    assert last(store) == ""


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_file_that_another_process_writes_to_is_read(store: Store) -> None:
    save(store, call("c1", NOW - 5000, "101", taken_by="101"))
    with closing(sqlite3.connect(store.beside)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert last(store) == "101"
