"""When the pipeline commits, and for what the disk is waited for (docs/delivery-rules.md, rule 1)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from fsplanfix.calls import snapshot
from fsplanfix.calls.model import Notice
from fsplanfix.outbox.store import Store

from ..support.outbox import GROUP
from ..support.service import PATIENCE
from ..support.worker import SERVER, Worker, upto

WAITS_FOR_THE_DISK, DOES_NOT = 2, 1
"""SQLite's numbers for `PRAGMA synchronous`: FULL and NORMAL."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/store.db")
    yield store
    store.close()


def test_states_wait_for_company_and_windows_for_nobody(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fsplanfix.service.pipeline.STATES_WAIT", PATIENCE)
    worker = Worker(store)
    saved: list[int] = []
    save = store.save

    def noted(new: list[Notice], *rest: Any) -> None:
        saved.append(len(new))
        save(new, *rest)

    monkeypatch.setattr(store, "save", noted)
    beginning, _ = upto("in_one_answered", "CHANNEL_PROGRESS")
    step = gevent.spawn(worker.pipeline.step, gathers=True)
    for event in beginning:
        worker.pipeline.inbox.on_event(event)
        gevent.sleep(0)
    assert step.get(timeout=PATIENCE)
    assert saved == [1]


def test_a_burst_shares_a_commit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsplanfix.service.pipeline.BURST", 3)
    monkeypatch.setattr("fsplanfix.service.pipeline.BURSTS_WAIT", PATIENCE)
    worker = Worker(store)
    beginning, rest = upto("in_one_answered", "CHANNEL_PROGRESS")
    step = gevent.spawn(worker.pipeline.step, gathers=True)
    for event in (*beginning, *rest):
        worker.pipeline.inbox.on_event(event)
        gevent.sleep(0)
    worker.pipeline.inbox.stop()
    assert not step.get(timeout=PATIENCE)
    assert worker.pipeline.inbox.is_empty()
    assert [notice.kind.value for notice in worker.said][-1] in ("COMPLETED", "record")


def test_a_call_is_heard_until_its_last_event_though_a_stop_comes_with_it(store: Store) -> None:
    """A bridge that was on its way to us counted as heard, and was not told from its record."""
    worker = Worker(store)
    ringing, _ = upto("in_one_answered", "CHANNEL_PROGRESS")
    for event in ringing:
        worker.pipeline.inbox.on_event(event)
    worker.stop(is_linked=True)
    (state,) = store.open_calls(SERVER)
    assert snapshot.read(state).last_at == ringing[-1].at


def test_the_disk_is_waited_for_only_where_notices_are_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels: list[int] = []
    commit = store.engine.dialect.do_commit

    def noted(connection: object) -> None:
        levels.append(connection.execute("PRAGMA synchronous").fetchone()[0])  # type: ignore[attr-defined]
        commit(connection)  # type: ignore[arg-type]

    monkeypatch.setattr(store.engine.dialect, "do_commit", noted)
    store.save(GROUP, {"c1": "state"}, SERVER, now=1.0)
    store.save([], {"c1": "another"}, SERVER, now=2.0)
    store.save(GROUP, {"c1": "state"}, SERVER, now=3.0)
    assert levels == [WAITS_FOR_THE_DISK, DOES_NOT, WAITS_FOR_THE_DISK]


def test_the_disk_gets_what_it_was_not_waited_for_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    flush = os.fdatasync

    def noted(descriptor: int) -> None:
        flushed.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        flush(descriptor)

    monkeypatch.setattr(os, "fdatasync", noted)
    store.flush()
    assert flushed == []
    store.save([], {"c1": "state"}, SERVER, now=1.0)
    store.flush()
    store.flush()
    assert flushed == ["store.db-wal"]
