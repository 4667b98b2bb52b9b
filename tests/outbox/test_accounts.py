"""The rows of several companies in one store."""

import re
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, inspect, text

from fsplanfix.calls.model import ACCOUNT, Notice
from fsplanfix.outbox.archive import Archive
from fsplanfix.outbox.call_list import CallList, Search
from fsplanfix.outbox.due import NEXT_OF_MANY, values_of
from fsplanfix.outbox.exts_in_calls import ExtsInCalls
from fsplanfix.outbox.last_talk import LastTalk
from fsplanfix.outbox.prepared import Prepared
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.reader import Reader
from fsplanfix.outbox.records import Entry, Outcome, Places
from fsplanfix.outbox.schema import State, calls, journal, notices, shares
from fsplanfix.outbox.standing import DIFFERENCES, StandingReader
from fsplanfix.outbox.store import Store

from ..support.listed_calls import call, save
from ..support.outbox import GROUP, ME, OFFERS, settle
from ..support.service import PATIENCE

CLIENT = "79161234567"


def of(account: str, said: list[Notice]) -> list[Notice]:
    """The same call of another company, under a callid of its own."""
    return [
        replace(notice, account=account, callid=f"{notice.callid}-{account}") for notice in said
    ]


def test_each_row_says_whose_it_is(store: Store) -> None:
    save(store, of("a", call("c1", 1000, "101", taken_by="101")))
    Archive(store).write_down(Entry(1.0, "what", "c1-a", account="a"))
    with store.transaction() as connection:
        for table in (notices, calls, shares, journal):
            found = connection.execute(table.select()).mappings().all()
            assert {row["account"] for row in found} == {"a"}
    queued, lines = Archive(store).about("c1-a")
    assert {one.notice.account for one in queued} == {lines[0].account} == {"a"}


def test_what_was_stored_before_there_were_accounts_is_of_the_default_one(store_url: str) -> None:
    """Version 8 had no account in any table."""
    store = Store(store_url)
    save(store, call("c1", 1000, "101", taken_by="101"))
    Archive(store).write_down(Entry(1.0, "what", "c1"))
    fresh = {
        table.name: {str(it["name"]) for it in inspect(store.engine).get_indexes(table.name)}
        for table in (notices, calls, shares, journal)
    }
    with store.transaction() as connection:
        for table in (notices, calls, shares, journal):
            for index in table.indexes:
                if "account" in index.columns:
                    connection.execute(text(f"DROP INDEX {index.name}"))
            connection.execute(text(f"ALTER TABLE {table.name} DROP COLUMN account"))
        for name, columns in (
            ("calls_by_phone", "calls (phone, began, result, direction)"),
            ("calls_by_time", "calls (began, callid, direction, result, waited, talked)"),
            ("shares_by_time", "shares (began, ext, direction, status, talked)"),
        ):
            connection.execute(text(f"CREATE INDEX {name} ON {columns}"))
        connection.execute(text("UPDATE facts SET value = '8' WHERE name = 'schema'"))
    store.close()

    store = Store(store_url)
    for table in (notices, calls, shares, journal):
        indexes = inspect(store.engine).get_indexes(table.name)
        assert {str(index["name"]) for index in indexes} == fresh[table.name]
        with store.transaction() as connection:
            found = connection.execute(table.select()).mappings().all()
        assert {row["account"] for row in found} == {ACCOUNT}
    by_time = [it for it in inspect(store.engine).get_indexes("calls") if "time" in str(it["name"])]
    assert "account" in by_time[0]["column_names"]
    assert LastTalk(store, 1, lambda: 2000).find(CLIENT, PATIENCE) == "101"
    store.close()


def test_a_talk_with_another_company_is_no_talk_with_ours(store: Store) -> None:
    save(store, of("a", call("c1", 1000, "101", taken_by="101")))
    save(store, of("b", call("c2", 2000, "102", taken_by="102")))
    found = {
        account: LastTalk(store, 1, lambda: 3000, account).find(CLIENT, PATIENCE)
        for account in ("a", "b", ACCOUNT)
    }
    assert found == {"a": "101", "b": "102", ACCOUNT: ""}
    lines = {account: Archive(store).last_line(CLIENT, account) for account in ("a", ACCOUNT)}
    assert lines == {"a": "74950000001", ACCOUNT: ""}


def test_an_ext_that_talks_is_busy_in_its_own_company_only(store: Store) -> None:
    talk = of("a", call("c1", 1000, "101", taken_by="101")[:2])
    store.save(talk, {talk[0].callid: "open"}, "s", now=1.0)
    assert ExtsInCalls(store).find(PATIENCE, "a") == {"101"}
    assert ExtsInCalls(store).find(PATIENCE, "b") == set()


def test_a_company_lists_and_counts_its_own_calls(store: Store) -> None:
    save(store, of("a", call("c1", 1000, "101", taken_by="101")))
    save(store, of("b", call("c2", 2000, "101", "102")))
    # b was missed, and a's talk with the same client afterwards does not settle that
    save(store, of("a", call("c3", 3000, "101", taken_by="101")))
    of_a, of_b, of_all = (CallList(Reader(store), account) for account in ("a", "b", ""))
    listed = [[row.callid for row in found.page(Search(), 10)] for found in (of_a, of_b, of_all)]
    assert listed == [["c3-a", "c1-a"], ["c2-b"], ["c3-a", "c2-b", "c1-a"]]
    assert [row.account for row in of_all.page(Search(ext="101"), 10)] == ["a", "b", "a"]
    assert [row.callid for row in of_b.page(Search(ext="101"), 10)] == ["c2-b"]
    assert (of_a.one("c2-b"), of_b.one("c2-b") is None) == (None, False)
    assert [sum(row.incoming for row in found.hours(0, 9e4, 0)) for found in (of_a, of_b)] == [2, 1]
    assert {(row.account, row.ext) for row in of_all.exts(0, 9e4)} == {
        *(("a", "101"), ("b", "101"), ("b", "102")),
    }
    assert {row.ext for row in of_a.exts(0, 9e4)} == {"101"}
    assert [found.unanswered(0, 9e4, "anonymous", 10)[0] for found in (of_a, of_b, of_all)] == [
        *(0, 1, 1)
    ]


def test_a_company_sees_how_its_own_notices_stand(store: Store) -> None:
    for account in ("a", "b"):
        store.save(of(account, GROUP[:2]), {}, "s", now=1.0)
    (queued,) = Queue(store).settle_and_claim([], Places(1, only="a"), 2.0, ME).claimed
    settle(store, queued, State.REJECTED, 2.0, "400")
    store.facts.set("unauthorized b", "5.0")
    store.facts.set(f"{DIFFERENCES} b", '["key"]')
    of_a, of_b, of_all = (StandingReader(Reader(store), account) for account in ("a", "b", ""))
    found = [reader.standing(lambda: True) for reader in (of_a, of_b, of_all)]
    assert [(it.waiting, it.rejected) for it in found] == [(1, 1), (2, 0), (3, 1)]
    assert [it.unauthorized for it in found] == [False, True, True]
    assert [it.differs for it in found] == [(), ("key",), ("key",)]
    assert [len(it.rejected(5, lambda: True)) for it in (of_a, of_b, of_all)] == [1, 0, 1]
    assert Queue(store).counts() == {"waiting": 3, "rejected": 1}


def claim(store: Store, places: Places, now: float = 2.0) -> list[str]:
    """Claim, and tell whose notices were claimed."""
    claimed = Queue(store).settle_and_claim([], places, now, ME).claimed
    return sorted(one.notice.account for one in claimed)


def test_no_company_gets_more_than_its_places(store: Store) -> None:
    for account in ("a", "b", "c"):
        for n in range(5):
            store.save(of(account, call(f"c{n}", n, "101")[:1]), {}, "s", now=1.0)
    many = Places(3, {"b": 1, "c": 0}, only="", in_all=100)
    assert claim(store, many) == ["a", "a", "a", "b"]
    assert claim(store, many) == ["a", "a", "b"]
    assert claim(store, Places(2, only="c")) == ["c", "c"]
    # the rest is shared, one to each before anybody gets another
    assert claim(store, Places(3, only="", in_all=2)) == ["b", "c"]
    assert claim(store, Places(3, only="", in_all=100)) == ["b", "b", "c", "c"]
    assert claim(store, Places(3, only="", in_all=100)) == []


def test_the_order_within_a_call_is_kept_for_each_of_many(store: Store) -> None:
    for account in ("a", "b"):
        store.save(of(account, GROUP), {}, "s", now=1.0)
    many = Places(16, only="", in_all=100)
    assert claim(store, many) == ["a", "b"]
    assert claim(store, many) == []


def test_a_pause_keeps_its_own_company_alone(store: Store) -> None:
    for account in ("a", "b"):
        store.save(of(account, OFFERS), {}, "s", now=1.0)
    (queued,) = Queue(store).settle_and_claim([], Places(1, only="a"), 2.0, ME).claimed
    assert Queue(store).postpone_unauthorized(queued, 2.0, ME)
    many = Places(16, only="", in_all=100)
    turn = Queue(store).settle_and_claim([], many, 3.0, ME)
    assert [one.notice.account for one in turn.claimed] == ["b"]
    assert turn.upcoming == 62.0
    settled = [Outcome(one, State.DONE) for one in turn.claimed]
    turn = Queue(store).settle_and_claim(settled, many, 4.0, ME)
    assert [one.notice.account for one in turn.claimed] == ["b", "b"]
    assert turn.token_accepted == []
    # the probe, and nothing after it for a minute
    turn = Queue(store).settle_and_claim([], many, 63.0, ME)
    assert [one.notice.account for one in turn.claimed] == ["a"]
    assert Queue(store).settle_and_claim([], many, 64.0, ME).claimed == []
    accepted = [Outcome(one, State.DONE) for one in turn.claimed]
    turn = Queue(store).settle_and_claim(accepted, many, 65.0, ME)
    assert turn.token_accepted == ["a"]
    assert [one.notice.account for one in turn.claimed] == ["a", "a"]


def test_no_backlog_is_read_to_find_what_others_have(store: Store) -> None:
    """By the index of accounts and times, on both databases."""
    backlog = [replace(GROUP[6], account="a", callid=f"c{n}") for n in range(2000)]
    store.save(backlog, {}, "s", now=1.0)
    query = NEXT_OF_MANY[store.engine.dialect.name]
    values = values_of(Places(16, only="", in_all=100), 2.0) | {"b_expected": 2.0}
    sqlite = store.engine.dialect.name == "sqlite"
    compiled = query.params(**values).compile(store.engine, compile_kwargs={"literal_binds": True})
    with store.transaction() as connection:
        if not sqlite:
            connection.execute(text("ANALYZE notices"))
        words = "EXPLAIN QUERY PLAN" if sqlite else "EXPLAIN"
        rows = connection.exec_driver_sql(f"{words} {compiled}".replace("%", "%%")).all()
    plan = "\n".join(map(str, rows))
    used = (
        "notices_due (account=? AND due<?)" if sqlite else "account)::text = with_notices.account"
    )
    assert used in plan
    assert plan.count("notices_due") >= 2
    assert not re.search(r"SCAN (notices|chosen|first|after)\b|Seq Scan on notices", plan)


def test_a_turn_asks_the_database_the_same_however_many_companies_there_are(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for account in (ACCOUNT, *(f"c{n}" for n in range(20))):
        store.save(of(account, OFFERS), {}, "s", now=1.0)
    store.now()
    asked: list[str] = []
    event.listen(
        store.engine, "before_cursor_execute", lambda *given: asked.append(str(given[2]).split()[0])
    )
    run = Prepared.run

    def counted(statement: Prepared, *given: Any) -> Any:
        asked.append("prepared")
        return run(statement, *given)

    monkeypatch.setattr(Prepared, "run", counted)
    for places in (Places(2), Places(2, {"c3": 0}, only="", in_all=100)):
        asked.clear()
        assert claim(store, places)
        assert asked.count("prepared") == 3
        # PostgreSQL is told that it need not wait for the disk
        assert set(asked) <= {"prepared", "SET"}
