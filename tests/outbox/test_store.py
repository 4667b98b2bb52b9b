"""The storage contract, on a real SQLite and a real PostgreSQL."""

import dataclasses
import itertools
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import gevent
import pytest
from gevent.event import Event
from sqlalchemy import create_engine, select, text

from fsplanfix.calls.model import Kind, Status
from fsplanfix.errors import StoreError
from fsplanfix.outbox.archive import Archive
from fsplanfix.outbox.cleanup import Cleanup
from fsplanfix.outbox.due import LEASE
from fsplanfix.outbox.leases import RENEW_EVERY
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.records import Places
from fsplanfix.outbox.schema import State, facts
from fsplanfix.outbox.store import Store
from fsplanfix.outbox.wakeups import changes

from ..support.database_clock import DatabaseClock
from ..support.outbox import (
    FIRST,
    GROUP,
    ME,
    claim,
    let_leases_end,
    notice,
    settle,
    waves,
)
from ..support.postgres import empty_database


def test_writing_a_notice_twice_does_nothing(store: Store) -> None:
    store.save(GROUP, {}, "s", now=1.0)
    store.save(GROUP, {}, "another server", now=2.0)
    assert Queue(store).counts() == {"waiting": len(GROUP)}


def test_a_notice_comes_back_as_it_was_written(store: Store) -> None:
    rich = dataclasses.replace(
        FIRST, diversion="74950000001", data={"utm": "Ω \x00"[:2]}, recording="/r/ü.wav", duration=7
    )
    store.save([rich], {}, "s", now=1.0)
    assert claim(store, 1, 2.0, ME)[0].notice == rich


def test_the_notices_of_a_commit_stand_in_the_order_they_were_given(store: Store) -> None:
    """PostgreSQL gets them in one statement; by their ids it is decided which waits for which."""
    given = [dataclasses.replace(FIRST, callid=f"c{n * 7 % 50}") for n in range(50)]
    store.save(given, {}, "s", now=1.0)
    listed = Queue(store).listed([State.WAITING], 100)
    assert [queued.notice.callid for queued in listed] == [notice.callid for notice in given]


def test_a_claimed_notice_belongs_to_one_sender_until_its_lease_ends(store: Store) -> None:
    store.save([FIRST], {}, "s", now=1.0)
    assert len(claim(store, 10, 2.0, ME)) == 1
    assert claim(store, 10, 2.0, ME) == []
    let_leases_end(store)
    assert len(claim(store, 10, 2.0, ME)) == 1


@pytest.mark.parametrize("seconds", [-600.0, -20.0, 20.0, 600.0, 86400.0])
def test_clocks_that_differ_give_no_notice_to_two(store: Store, seconds: float) -> None:
    """The lease is the database's: whatever another worker takes for the time, it holds."""
    now = store.now()
    store.save([FIRST], {}, "s", now=now - 86400)  # due by any of the clocks
    (mine,) = claim(store, 10, now, ME)
    assert claim(store, 10, now + seconds, "you") == []
    Queue(store).renew([mine.id], ME)
    Cleanup(store).skip_stale(now + seconds, popup_ttl=1.0)
    assert claim(store, 10, now + seconds, "you") == []
    assert Queue(store).counts() == {"waiting": 1}


@pytest.mark.parametrize("seconds", [-600.0, -15.0, 15.0, 600.0])
def test_a_jump_of_the_databases_clock_gives_no_notice_to_two(
    store_url: str, seconds: float
) -> None:
    clock = DatabaseClock(store_url)
    with closing(clock.worker()) as mine, closing(clock.worker()) as yours:

        def claimed_by_you() -> list[int]:
            Cleanup(yours).skip_stale(yours.now(), popup_ttl=1.0)
            return [queued.id for queued in claim(yours, 10, yours.now(), "you")]

        mine.save([FIRST], {}, "s", now=mine.now() - 86400)
        (under_way,) = claim(mine, 10, mine.now(), ME)
        assert claimed_by_you() == []
        clock.jump(seconds)
        assert claimed_by_you() == []
        assert yours.now.has_jumped()
        for _ in range(4):
            assert claimed_by_you() == []
            clock.pass_by(RENEW_EVERY)
            Queue(mine).renew([under_way.id], ME)
        assert claimed_by_you() == []
        assert Queue(yours).counts() == {"waiting": 1}

        clock.pass_by(LEASE + 1)
        assert [queued.id for queued in claim(yours, 10, yours.now(), "you")] == [under_way.id]


def test_a_worker_that_starts_after_a_jump_takes_nothing_over_at_once(store_url: str) -> None:
    clock = DatabaseClock(store_url)
    with closing(clock.worker()) as mine, closing(clock.worker()) as yours:
        mine.save([FIRST], {}, "s", now=mine.now() - 86400)
        (under_way,) = claim(mine, 10, mine.now(), ME)
        clock.jump(15.0)
        yours.now.begin()
        assert claim(yours, 10, yours.now(), "you") == []
        clock.pass_by(RENEW_EVERY)
        Queue(mine).renew([under_way.id], ME)
        clock.pass_by(LEASE - 1)
        assert claim(yours, 10, yours.now(), "you") == []
        clock.pass_by(2.0)
        assert len(claim(yours, 10, yours.now(), "you")) == 1


def test_a_refused_notice_is_set_aside_and_the_call_goes_on(store: Store) -> None:
    store.save(GROUP[:2], {}, "s", now=1.0)
    (first,) = claim(store, 10, 2.0, ME)
    settle(store, first, State.REJECTED, 2.0, "400 Invalid parameters")
    assert [q.notice.ext for q in claim(store, 10, 2.0, ME)] == ["102"]
    assert Queue(store).counts() == {"rejected": 1, "waiting": 1}


def test_a_failed_notice_is_due_again_later_and_counts_its_tries(store: Store) -> None:
    store.save([FIRST], {}, "s", now=1.0)
    Queue(store).try_again(claim(store, 1, 1.0, ME)[0], due=50.0, answer="x" * 10_000)
    assert Queue(store).settle_and_claim([], Places(0), 2.0, ME).upcoming == 50.0
    assert claim(store, 1, 49.0, ME) == []
    (again,) = claim(store, 1, 50.0, ME)
    assert (again.attempts, again.created) == (1, 1.0)


# keeping house


def test_windows_too_late_are_skipped_in_pieces_whatever_they_wait_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fsplanfix.outbox.cleanup.ROWS_AT_ONCE", 2)
    store.save(GROUP, {}, "s", now=1.0)
    assert Cleanup(store).skip_stale(60.0, popup_ttl=60.0) == 0
    assert Cleanup(store).skip_stale(62.0, popup_ttl=60.0) == 4
    assert Queue(store).counts() == {"skipped": 4, "waiting": 4}


def test_much_of_old_is_deleted_in_pieces(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsplanfix.outbox.cleanup.ROWS_AT_ONCE", 2)
    store.save(GROUP, {"c1": None}, "s", now=1.0, events={"c1": b"heard"})
    waves(store)
    # its state, its events, its row in the list of calls and those of 101, 102 and 103
    assert Cleanup(store).clean(before=100.0) == 6
    assert Cleanup(store).clean(before=101.0) == len(GROUP)
    assert Queue(store).counts() == {}


def test_open_calls_live_until_they_are_over(store: Store) -> None:
    store.save([], {"c1": "one", "c2": "two"}, "s", now=1.0)
    store.save([], {"c1": "changed", "c2": None}, "s", now=1.0)
    store.save([], {"c3": "three"}, "other", now=1.0)
    assert store.open_calls("s") == ["changed"]
    assert Queue(store).backlog().open_calls == 2


def test_a_call_that_one_worker_has_closed_is_closed_for_all(store: Store) -> None:
    """The other one heard less, or later: it must neither open a window again nor the call."""
    store.save(GROUP, {"c1": None}, "s", now=1.0)
    late = [notice(Kind.INCOMING, "104", 8), notice(Kind.ACCEPTED, "101", 9)]
    store.save(late, {"c1": "still open"}, "s", now=2.0)
    assert Queue(store).counts() == {"waiting": len(GROUP)}
    assert store.open_calls("s") == []
    Cleanup(store).clean(before=5.0)
    assert Queue(store).backlog().open_calls == 0


def test_a_fact_is_decided_once(store: Store) -> None:
    assert store.facts.set_if_absent("key", "first") == "first"
    assert store.facts.set_if_absent("key", "second") == "first"


def test_everything_survives_closing_and_opening(store_url: str) -> None:
    first = Store(store_url)
    first.save(GROUP, {"c1": "state"}, "s", now=1.0)
    first.close()
    second = Store(store_url)
    assert Queue(second).counts() == {"waiting": len(GROUP)}
    assert second.open_calls("s") == ["state"]
    second.close()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("nonsense", "STORE_URL is not a database address"),
        ("mysql://user:secret@127.0.0.1/x", "STORE_URL is not a database address"),
        ("sqlite:////no/such/folder/x.db", "is the folder there"),
        ("sqlite:////proc/x.db", "is the folder there, and may user"),
        ("postgresql://user:secret@127.0.0.1:1/x?connect_timeout=2", "cannot be opened"),
    ],
)
def test_a_wrong_address_gets_one_sentence_without_the_password(url: str, sentence: str) -> None:
    with pytest.raises(StoreError, match=sentence) as caught:
        Store(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(os.urandom(8192))
    with pytest.raises(StoreError, match="file is not a database"):
        Store(f"sqlite:///{tmp_path}/x.db")


def test_a_slow_database_holds_up_nobody_else(postgres: str) -> None:
    """psycopg gives way to gevent: else nobody could end what the others wait for."""
    engine = create_engine(postgres.replace("postgresql://", "postgresql+psycopg://"))
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")

    def wait() -> None:
        with engine.connect() as connection:
            connection.execute(text("SET statement_timeout = '30 s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(1)"))

    with engine.connect() as holder, gevent.Timeout(60):
        holder.execute(text("SELECT pg_advisory_xact_lock(1)"))
        jobs = [gevent.spawn(wait) for _ in range(4)]
        while holder.execute(waiting).scalar() != len(jobs):
            gevent.sleep(0.01)
        holder.rollback()
        gevent.joinall(jobs, raise_error=True)
    engine.dispose()


def test_what_another_process_writes_is_heard_of(store: Store, store_url: str) -> None:
    heard = Event()

    def listen() -> None:
        for _ in changes(store):
            heard.set()

    listening = gevent.spawn(listen)
    other = Store(store_url)
    with gevent.Timeout(60):
        for n in itertools.count():
            other.save([dataclasses.replace(FIRST, callid=f"c{n}")], {}, "s", now=1.0)
            if n and heard.wait(0.5):  # what it heard at first may have been the making of tables
                break
            heard.clear()
    listening.kill()
    other.close()


def test_what_is_written_here_wakes_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own pipelines call the courier: ten times a second it looked once more for nothing."""
    monkeypatch.setattr("fsplanfix.outbox.wakeups.POLL_EVERY", 0)
    store, other = (Store(f"sqlite:///{tmp_path}/store.db") for _ in range(2))
    heard: list[None] = []

    def listen() -> None:
        for _ in changes(store):
            heard.append(None)

    listening = gevent.spawn(listen)
    for n in range(9):
        store.save([dataclasses.replace(FIRST, callid=f"c{n}")], {}, "s", now=1.0)
        gevent.sleep(0)
    seen = len(heard)  # the first look finds what is there
    for n in range(9):
        store.save([dataclasses.replace(FIRST, callid=f"d{n}")], {}, "s", now=1.0)
        gevent.sleep(0)
    assert len(heard) == seen <= 1

    other.save([dataclasses.replace(FIRST, callid="e")], {}, "s", now=1.0)
    with gevent.Timeout(60):
        while len(heard) == seen:
            gevent.sleep(0)
    listening.kill()
    store.close()
    other.close()


def test_a_worker_that_closes_a_call_ends_what_another_began(store: Store) -> None:
    """One heard all three phones ring, the other only the one that was picked up."""
    heard_all = [notice for notice in GROUP if notice.kind is Kind.INCOMING]
    heard_one = [notice for notice in GROUP if notice.ext in ("102", "")]
    store.save(heard_all, {GROUP[0].callid: "{}"}, "s", now=1.0)
    store.save(heard_one, {GROUP[0].callid: None}, "s", now=2.0)
    listed = [item.notice for item in Queue(store).listed([State.WAITING], 100)]
    assert {(n.ext, n.status) for n in listed if n.kind is Kind.COMPLETED} == {
        ("101", Status.CANCELED),
        ("102", Status.SUCCESS),
        ("103", Status.CANCELED),
    }
    assert listed[-1].kind is Kind.RECORD


# signs of life, and calls that go on


def test_the_last_sign_of_life_is_kept_for_each_switch(store: Store) -> None:
    assert store.alive("one:8021") == 0
    store.save([], {}, "one:8021", now=1.0, alive=1_700_000_000_000_000)
    store.save([FIRST], {"c1": "{}"}, "two:8021", now=1.0, alive=1_700_000_000_000_001)
    store.save([], {}, "one:8021", now=2.0)
    assert store.alive("one:8021") == 1_700_000_000_000_000
    assert store.alive("two:8021") == 1_700_000_000_000_001


def test_a_call_that_is_over_goes_on_only_if_it_was_reopened(store: Store) -> None:
    """`sofia recover`: the next part of the same callid."""
    again = dataclasses.replace(FIRST, ordinal=2, position=3)
    store.save([FIRST], {FIRST.callid: None}, "s", now=1.0)
    store.save([again], {FIRST.callid: "{}"}, "s", now=2.0)
    assert store.open_calls("s") == []
    store.save([again], {FIRST.callid: "{}"}, "s", now=2.0, reopened={FIRST.callid})
    assert store.open_calls("s") == ["{}"]
    assert Archive(store).about(FIRST.callid)[0][-1].notice == again


def test_the_calls_that_were_over_last_are_known_by_their_callids(store: Store) -> None:
    for number in range(3):
        store.save([], {f"c{number}": None}, "s", now=float(number + 1))
    store.save([], {"open": "{}"}, "s", now=5.0)
    store.save([], {"theirs": None}, "other", now=6.0)
    assert store.past_calls("s", 2) == ["c1", "c2"]


@pytest.mark.parametrize("what", ["a 401", "a turn"])
def test_couriers_lock_the_facts_of_a_pause_in_one_order(postgres: str, what: str) -> None:
    """Else two of them wait for each other, and PostgreSQL ends one."""
    url = empty_database(postgres)
    first, last = "hold_since", "unauthorized"
    courier, other = Store(url), Store(url)
    courier.save([FIRST], {}, "s", now=1.0)
    (queued,) = claim(courier, 1, 2.0, ME)
    for name in (last, first):
        courier.facts.swap(name, "2")
    lock = select(facts).with_for_update(nowait=True)
    work: dict[str, Callable[[], object]] = {
        "a 401": lambda: Queue(courier).postpone_unauthorized(queued, 3.0, ME),
        "a turn": lambda: claim(courier, 1, 3.0, ME),
    }
    waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    with other.transaction() as mine:
        mine.execute(lock.where(facts.c.name == first))
        working = gevent.spawn(work[what])
        with gevent.Timeout(60):
            while not mine.execute(waits).scalar():
                gevent.sleep(0.01)
        mine.execute(lock.where(facts.c.name == last))  # nobody holds it
    working.get(timeout=60)
    courier.close()
    other.close()
