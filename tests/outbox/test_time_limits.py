"""Databases that keep us waiting: every wait has an end, and stops nobody else."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import gevent
import pytest
from gevent.event import Event
from sqlalchemy import select

from fsplanfix.errors import StoreError
from fsplanfix.outbox.facts import put_fact
from fsplanfix.outbox.leases import Leases
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.schema import notices
from fsplanfix.outbox.store import Store
from fsplanfix.outbox.time_limits import Limits, connection_settings
from fsplanfix.outbox.wakeups import changes

from ..support.outbox import FIRST, claim, let_leases_end
from ..support.postgres import empty_database
from ..support.way import Way

# SQLite: its lock is held by another process


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock on a store, as a backup or a shell does."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_a_lock_held_elsewhere_stops_nobody_and_is_waited_for(tmp_path: Path) -> None:
    """SQLite's own waiting stopped every greenlet, so that health and phones waited for seconds."""
    store = Store(f"sqlite:///{tmp_path}/store.db", limits=Limits(lock=3600.0))
    with locked(tmp_path / "store.db"):
        saving = gevent.spawn(store.save, [FIRST], {}, "s", 1.0)
        for _ in range(20):
            gevent.sleep(0)  # others have their turn
        assert not saving.dead
        driver = store.engine.raw_connection()
        assert driver.cursor().execute("PRAGMA busy_timeout").fetchone() == (0,)
        driver.close()
    saving.get(timeout=60)
    assert Queue(store).counts() == {"waiting": 1}
    store.close()


def test_a_lock_that_is_never_released_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/store.db", limits=Limits(lock=0.01))
    with locked(tmp_path / "store.db"), gevent.Timeout(60):
        with pytest.raises(StoreError, match="database is locked") as caught:
            store.save([FIRST], {}, "s", now=1.0)
        assert not caught.value.permanent
        with pytest.raises(StoreError, match="database is locked"):
            Store(f"sqlite:///{tmp_path}/store.db", limits=Limits(lock=0.01))
    store.save([FIRST], {}, "s", now=1.0)
    store.close()


def test_after_a_lock_that_many_waited_for_there_is_room_for_each(tmp_path: Path) -> None:
    """All places of the pool were kept: whoever waited for one did so for 30 s, and in vain."""
    store = Store(f"sqlite:///{tmp_path}/store.db", limits=Limits(lock=3600.0))
    with locked(tmp_path / "store.db"):
        waiting = [gevent.spawn(store.facts.set, f"{number}", "1") for number in range(40)]
        for _ in range(20):
            gevent.sleep(0)
    with gevent.Timeout(60):
        for one in waiting:
            one.get()
    # not all places of the pool are kept
    store.engine.raw_connection().close()
    store.close()


# PostgreSQL: the way to it freezes


@pytest.fixture
def way(postgres: str) -> Iterator[Way]:
    made = Way(empty_database(postgres))
    yield made
    made.stop()


QUICK = Limits(transaction=0.5, look=0.05)


def test_a_frozen_way_to_postgresql_is_noticed_and_left(way: Way) -> None:
    store = Store(way.url, limits=QUICK)
    store.save([FIRST], {}, "s", now=1.0)
    way.freeze()
    with gevent.Timeout(60):
        with pytest.raises(StoreError, match="does not answer in time") as caught:
            store.save([FIRST], {}, "s", now=1.0)
        assert not caught.value.permanent
        assert Queue(store).counts() == {"waiting": 1}
    store.close()


def test_leases_are_renewed_though_a_connection_is_frozen(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker would send what is under way again."""
    monkeypatch.setattr("fsplanfix.outbox.leases.RENEW_EVERY", 0.05)
    store = Store(way.url, limits=Limits(transaction=3600.0, renewal=0.5))
    store.save([FIRST], {}, "s", now=1.0)
    leases = Leases(Queue(store))
    for queued in claim(store, 1, 2.0, leases.owner):
        leases.hold(queued.id, time.monotonic())
    let_leases_end(store)
    way.freeze()
    renewing = gevent.spawn(leases.keep_renewing)
    other = Store(way.url)
    with gevent.Timeout(60):
        while not leased_until(other):
            gevent.sleep(0.01)
    renewing.kill()
    store.close()
    other.close()


def leased_until(store: Store) -> float:
    with store.transaction() as connection:
        found: float = connection.execute(select(notices.c.leased_until)).scalar_one()
        return found if found > time.time() else 0.0


def test_every_connection_to_a_frozen_way_is_left_at_once(way: Way) -> None:
    store = Store(way.url, limits=QUICK)
    with store.transaction(), store.transaction(), store.transaction():
        pass  # three in the pool
    way.freeze()
    with gevent.Timeout(60):
        with pytest.raises(StoreError):
            Queue(store).counts()
        assert Queue(store).counts() == {}
    store.close()


def test_listening_on_a_frozen_way_ends(way: Way) -> None:
    store = Store(way.url, limits=QUICK)
    heard = Event()

    def listen() -> None:
        for _ in changes(store):
            heard.set()

    listening = gevent.spawn(listen)
    with gevent.Timeout(60):
        while not heard.is_set():
            store.save([FIRST], {}, "s", now=1.0)
            store.save([replace(FIRST, callid="c2")], {}, "s", now=1.0)
            heard.wait(0.05)
        way.freeze()
        with pytest.raises(StoreError, match="in time"):
            listening.get()
    store.close()


def test_a_lock_within_postgresql_is_not_waited_for_for_ever(postgres: str) -> None:
    url = empty_database(postgres)
    one, other = Store(url), Store(url, limits=Limits(statement=0.05))
    with one.transaction() as connection, gevent.Timeout(60):
        put_fact(connection, "name", "value")
        with pytest.raises(StoreError, match="timeout"):
            other.facts.swap("name", "other")
    one.close()
    other.close()


def test_what_a_frozen_worker_has_locked_does_not_stop_the_others(postgres: str) -> None:
    """PostgreSQL cannot see that nobody is there any more: it ends what says nothing for long."""
    url = empty_database(postgres)
    patient = Limits(statement=3600.0, transaction=3600.0)
    frozen, other = Store(url, limits=Limits(statement=0.2)), Store(url, limits=patient)
    other.facts.swap("name", "before")
    has_locked, may_go_on = Event(), Event()

    def hold() -> None:
        with frozen.transaction() as connection:
            put_fact(connection, "name", "never")
            has_locked.set()
            may_go_on.wait()
            put_fact(connection, "name", "never")

    holding = gevent.spawn(hold)
    with gevent.Timeout(60):
        has_locked.wait()
        assert other.facts.swap("name", "other") == "before"
        may_go_on.set()
        with pytest.raises(StoreError):
            holding.get()
    assert other.facts.get("name") == "other"
    frozen.close()
    other.close()


def test_what_store_url_says_of_waits_counts() -> None:
    given = connection_settings(Limits(), {"connect_timeout": "2"})
    assert "connect_timeout" not in given
    assert given["tcp_user_timeout"] == 10_000
