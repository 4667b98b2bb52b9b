"""Stores of other releases, other programs, or none."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from fsplanfix.errors import StoreError
from fsplanfix.outbox.archive import Archive
from fsplanfix.outbox.call_list import CallList, Search
from fsplanfix.outbox.cleanup import Cleanup
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.reader import Reader
from fsplanfix.outbox.records import Entry, notice_json
from fsplanfix.outbox.schema import LONGEST_CALLID, UNLISTED, VERSION, State, calls, shares
from fsplanfix.outbox.store import Store
from fsplanfix.outbox.unlisted import CALLS_AT_ONCE, keep_listing, list_some

from ..support.outbox import FIRST, GROUP, claim, let_leases_end, settle

VERSION_1 = """
CREATE TABLE notices (
    id {serial} PRIMARY KEY, callid VARCHAR(128) NOT NULL, ext VARCHAR(64) NOT NULL, kind VARCHAR(16) NOT NULL,
    ordinal INTEGER NOT NULL, position INTEGER NOT NULL, barrier BOOLEAN NOT NULL, body TEXT NOT NULL,
    state VARCHAR(8) DEFAULT 'waiting' NOT NULL, attempts INTEGER DEFAULT '0' NOT NULL, created FLOAT NOT NULL,
    due FLOAT NOT NULL, leased_until FLOAT DEFAULT '0' NOT NULL, answer TEXT DEFAULT '' NOT NULL,
    CONSTRAINT notices_key UNIQUE (callid, ext, kind, ordinal));
CREATE TABLE open_calls (callid VARCHAR(128) PRIMARY KEY, server VARCHAR(255) NOT NULL, state TEXT NOT NULL);
CREATE TABLE facts (name VARCHAR(64) PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO facts (name, value) VALUES ('secret_key', 'kept');
"""


def run_sql(url: str, script: str, **values: object) -> None:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        for statement in filter(str.strip, script.split(";")):
            connection.execute(text(statement), values)
    engine.dispose()


def test_a_store_of_the_first_release_opens_and_is_delivered(store_url: str) -> None:
    serial = "INTEGER" if store_url.startswith("sqlite") else "BIGSERIAL"
    run_sql(store_url, VERSION_1.format(serial=serial))
    insert = (
        "INSERT INTO notices (callid, ext, kind, ordinal, position, barrier, body, created, due) "
        "VALUES ('c1', '101', 'INCOMING', 1, 1, :yes, :body, 1.0, 1.0)"
    )
    run_sql(store_url, insert, yes=True, body=notice_json.dump_json(FIRST).decode())
    store = Store(store_url)
    store.save(GROUP, {}, "s", now=1.0)
    assert Queue(store).counts() == {"waiting": len(GROUP)}
    (queued,) = claim(store, 10, 2.0, "me")
    settle(store, queued, State.DONE, 2.0)
    assert queued.notice == FIRST
    assert store.facts.set_if_absent("secret_key", "new") == "kept"
    assert store.facts.get("schema") == str(VERSION)
    store.close()


def test_an_old_store_gets_the_indexes_of_a_new_one(store_url: str, tmp_path: Path) -> None:
    def indexes(url: str) -> set[str | None]:
        engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
        found = {
            index["name"]
            for table in ("notices", "open_calls")
            for index in inspect(engine).get_indexes(table)
        }
        engine.dispose()
        return found

    serial = "INTEGER" if store_url.startswith("sqlite") else "BIGSERIAL"
    run_sql(store_url, VERSION_1.format(serial=serial))
    fresh = f"sqlite:///{tmp_path}/fresh.db"
    for url in (store_url, fresh):
        Store(url).close()
    assert indexes(store_url) - {"notices_key"} == indexes(fresh)
    assert "notices_settled" in indexes(fresh)


def test_an_old_store_takes_the_longest_callid(store_url: str) -> None:
    serial = "INTEGER" if store_url.startswith("sqlite") else "BIGSERIAL"
    run_sql(store_url, VERSION_1.format(serial=serial))
    store = Store(store_url)
    callid = "c" * LONGEST_CALLID
    long = replace(FIRST, callid=callid)
    store.save([long], {callid: None}, "s", now=1.0, events={callid: b"x"})
    Archive(store).write_down(Entry(1.0, "what", callid))
    assert Archive(store).about(callid)[0][0].notice == long
    store.close()


VERSION_5 = """
CREATE TABLE open_calls (callid VARCHAR(300) PRIMARY KEY, server VARCHAR(255) NOT NULL,
    state TEXT NOT NULL, closed FLOAT DEFAULT '0' NOT NULL);
INSERT INTO open_calls (callid, server, state) VALUES ('c1', 'localhost:8021', 'open');
INSERT INTO facts (name, value) VALUES ('alive localhost:8021', '1700000000000000');
INSERT INTO facts (name, value) VALUES ('alive nobody:8021', 'nonsense');
UPDATE facts SET value = '5' WHERE name = 'schema'
"""


def test_a_call_known_by_its_address_alone_is_taken_up(store_url: str) -> None:
    """Version 5 knew a FreeSWITCH only as FREESWITCH_ESL spells it."""
    Store(store_url).close()
    run_sql(store_url, "DROP TABLE open_calls; DROP TABLE cores;" + VERSION_5)
    store = Store(store_url)
    assert store.open_calls("localhost:8021", "core") == ["open"]
    assert store.alive("localhost:8021", "core") == 1_700_000_000_000_000
    assert store.alive("nobody:8021") == 0
    assert store.facts.get("alive localhost:8021") == ""
    store.save([], {"c1": "changed"}, "localhost:8021", now=1.0, alive=5, core="core")
    assert store.open_calls("127.0.0.1:8021", "core") == ["changed"]
    store.close()


def test_what_planfix_refused_was_dead_before_it_was_rejected(store_url: str) -> None:
    """Version 6 called it so."""
    store = Store(store_url)
    store.save(GROUP[:2], {}, "s", now=1.0)
    store.close()
    run_sql(
        store_url,
        "UPDATE notices SET state = 'dead' WHERE ordinal = 1 AND kind = 'INCOMING';"
        "DROP INDEX notices_rejected;"
        "CREATE INDEX notices_dead ON notices (id) WHERE state = 'dead';"
        "UPDATE facts SET value = '6' WHERE name = 'schema'",
    )
    store = Store(store_url)
    rejected = Queue(store).listed([State.REJECTED], 10)
    assert Queue(store).backlog().rejected == len(rejected) > 0
    indexes = {str(index["name"]) for index in inspect(store.engine).get_indexes("notices")}
    assert "notices_rejected" in indexes
    assert "notices_dead" not in indexes
    store.close()


@pytest.mark.parametrize("version", range(1, VERSION))
def test_a_store_of_every_older_version_opens(store_url: str, version: int) -> None:
    """As it is today, but for the number: each step since must be possible again or needless."""
    Store(store_url).close()
    if version == 1:
        serial = "INTEGER" if store_url.startswith("sqlite") else "BIGSERIAL"
        for table in ("notices", "open_calls", "facts", "journal", "heard", "calls", "shares"):
            run_sql(store_url, f"DROP TABLE {table}")
        run_sql(store_url, VERSION_1.format(serial=serial))
    if version == 2:
        run_sql(
            store_url, "DROP TABLE journal; DROP TABLE heard; DROP TABLE calls; DROP TABLE shares"
        )
    if version > 1:
        run_sql(
            store_url,
            "UPDATE facts SET value = :version WHERE name = 'schema'",
            version=str(version),
        )
    store = Store(store_url)
    store.save(GROUP, {}, "s", now=1.0)
    assert store.facts.get("schema") == str(VERSION)
    assert Queue(store).counts() == {"waiting": len(GROUP)}
    store.close()


@pytest.mark.parametrize("version", range(2, 8))
def test_calls_that_an_older_version_stored_get_their_rows(store_url: str, version: int) -> None:
    store = Store(store_url)
    open_call = [replace(notice, callid="c2") for notice in GROUP[:3]]
    store.save([*GROUP, *open_call], {"c1": None, "c2": "open"}, "s", now=5.0)
    store.save([replace(notice, callid="c3") for notice in GROUP], {"c3": None}, "s", now=6.0)
    rows = CallList(Reader(store)).page(Search(), 10)
    store.close()
    run_sql(
        store_url,
        "DROP TABLE calls; DROP TABLE shares; UPDATE facts SET value = :version"
        " WHERE name = 'schema'",
        version=str(version),
    )
    run_sql(store_url, "UPDATE notices SET body = 'nonsense' WHERE callid = 'c3'")

    store = Store(store_url)
    calls = CallList(Reader(store))
    assert calls.page(Search(), 10) == []
    keep_listing(store)
    assert calls.page(Search(), 10) == [row for row in rows if row.callid == "c1"]
    assert not list_some(store)
    # with the call's own time: it is deleted when the rest of it is
    assert Cleanup(store).clean(before=5.0) == 0
    store.save([], {"c2": None}, "s", now=9.0)
    assert [row.callid for row in calls.page(Search(), 10)] == ["c2", "c1"]
    store.close()


def test_an_upgrade_goes_on_listing_after_a_restart(store: Store) -> None:
    for n in range(50):
        callid = f"c{n:02}"
        store.save([replace(notice, callid=callid) for notice in GROUP], {callid: None}, "s", 5.0)
    with store.transaction() as connection:
        connection.execute(shares.delete())
        connection.execute(calls.delete())
    store.facts.swap(UNLISTED, "")
    assert list_some(store)
    assert len(CallList(Reader(store)).page(Search(), 100)) == CALLS_AT_ONCE
    keep_listing(store)
    assert len(CallList(Reader(store)).page(Search(), 100)) == 50


def test_opening_twice_changes_nothing(store_url: str) -> None:
    for _ in range(2):
        store = Store(store_url)
        assert store.facts.get("schema") == str(VERSION)
        store.close()


def test_a_store_of_a_newer_release_is_left_alone(store_url: str) -> None:
    store = Store(store_url)
    store.facts.swap("schema", str(VERSION + 1))
    store.close()
    with pytest.raises(StoreError, match="written by a newer fsplanfix: install that release"):
        Store(store_url)


def test_another_programs_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE customers (name TEXT)")
    other.close()
    with pytest.raises(StoreError, match="another program's database: choose another file name"):
        Store(f"sqlite:///{path}")


def test_another_programs_tables_are_left_alone(store_url: str) -> None:
    run_sql(store_url, "CREATE TABLE notices (name TEXT)")
    with pytest.raises(StoreError, match="another program's tables"):
        Store(store_url)


def test_a_store_cut_short_gets_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = Store(f"sqlite:///{path}")
    store.save(GROUP, {}, "s", now=1.0)
    store.close()
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(
        StoreError, match="cannot be opened: database disk image is malformed|is not a database"
    ):
        Store(f"sqlite:///{path}")


def test_rejected_notices_are_sent_again_or_deleted_by_hand(store_url: str) -> None:
    store = Store(store_url)
    store.save(GROUP[:2], {}, "s", now=1.0)
    for now in (2.0, 3.0):
        (queued,) = claim(store, 10, now, "me")
        settle(store, queued, State.REJECTED, now, "400 Invalid parameters")
    first, second = Queue(store).listed([State.REJECTED], 10)
    assert (first.answer, Queue(store).backlog().rejected, Queue(store).backlog().waiting) == (
        "400 Invalid parameters",
        2,
        0,
    )
    assert Queue(store).send_again([first.id, 999], now=5.0) == 1
    assert Queue(store).drop([second.id, first.id]) == 1
    assert Queue(store).counts() == {"waiting": 1}
    assert Queue(store).backlog().oldest == 5.0
    store.close()


def test_old_deliveries_are_deleted_and_nothing_else(store_url: str) -> None:
    store = Store(store_url)
    store.save(GROUP[:3], {}, "s", now=1.0)
    (queued,) = claim(store, 1, 2.0, "me")
    settle(store, queued, State.DONE, 10.0)
    assert Cleanup(store).clean(before=10.0) == 0
    assert Cleanup(store).clean(before=11.0) == 1
    assert Queue(store).counts() == {"waiting": 2}
    store.close()


def test_a_lease_that_went_to_another_is_left_to_that_one(store_url: str) -> None:
    store = Store(store_url)
    store.save([FIRST], {}, "s", now=1.0)
    (mine,) = claim(store, 1, 2.0, "me")
    let_leases_end(store)
    (theirs,) = claim(store, 1, 2.0, "you")
    Queue(store).try_again(mine, due=300.0, answer="late", owner="me")
    let_leases_end(store)
    Queue(store).renew([mine.id], "me")
    Queue(store).renew([theirs.id], "you")
    assert claim(store, 1, 2.0, "third") == []
    let_leases_end(store)
    Queue(store).renew([mine.id], "me")
    assert len(claim(store, 1, 2.0, "third")) == 1
    store.close()
