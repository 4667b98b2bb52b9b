"""When the pipeline commits, and for what the disk is waited for (docs/delivery-rules.md, rule 1)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.monkey import get_original

from fsplanfix.calls import snapshot
from fsplanfix.calls.model import Notice
from fsplanfix.errors import StoreError
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.store import Store

from ..support.outbox import GROUP
from ..support.service import PATIENCE
from ..support.worker import SERVER, Worker, upto


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


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that the disk was asked to take."""
    names: list[str] = []
    flush = os.fdatasync

    def noted(descriptor: int) -> None:
        names.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        flush(descriptor)

    monkeypatch.setattr(os, "fdatasync", noted)
    return names


def test_the_disk_is_waited_for_only_where_notices_are_written(
    store: Store, flushed: list[str]
) -> None:
    store.save(GROUP, {"c1": "state"}, SERVER, now=1.0)
    assert flushed == ["store.db-wal"]
    store.save([], {"c1": "another"}, SERVER, now=2.0)
    assert len(flushed) == 1
    store.save(GROUP, {"c1": "state"}, SERVER, now=3.0)
    assert len(flushed) == 2


def test_the_disk_gets_what_it_was_not_waited_for_once(store: Store, flushed: list[str]) -> None:
    store.flush()
    assert flushed == []
    store.save([], {"c1": "state"}, SERVER, now=1.0)
    store.flush()
    store.flush()
    assert flushed == ["store.db-wal"]


def test_nobody_but_the_pipeline_waits_for_the_disk(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that took 100 ms stopped every call for so long."""
    event = get_original("threading", "Event")
    is_asked, takes_it = event(), event()

    def slow(_: int) -> None:
        is_asked.set()
        takes_it.wait(PATIENCE)

    monkeypatch.setattr(os, "fdatasync", slow)
    saving = gevent.spawn(store.save, GROUP, {"c1": "state"}, SERVER, now=1.0)
    with gevent.Timeout(PATIENCE):
        while not is_asked.is_set():
            gevent.sleep(0)

    assert Queue(store).backlog().waiting == len(GROUP)
    assert not saving.ready()
    takes_it.set()
    saving.get(timeout=PATIENCE)


def test_a_disk_that_refuses_is_a_store_that_refuses(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", refused)
        with pytest.raises(StoreError, match="disk of STORE_URL does not take it: Input/output"):
            store.save(GROUP, {"c1": "state"}, SERVER, now=1.0)

    # written once more, and there once
    store.save(GROUP, {"c1": "state"}, SERVER, now=2.0)
    assert Queue(store).backlog().waiting == len(GROUP)
