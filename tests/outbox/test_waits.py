"""Databases that keep us waiting: every wait has an end, and stops nobody else."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import pytest

from fsplanfix.errors import StoreError
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.store import Store
from fsplanfix.outbox.waits import Limits

from .test_store import FIRST

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
