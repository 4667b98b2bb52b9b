"""What could not be stored at the end of a worker is told later, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fsplanfix.freeswitch.link import Gap
from fsplanfix.outbox.archive import Archive
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.records import notice_json
from fsplanfix.outbox.store import Store
from fsplanfix.service.spool import Spool, servers

from ..support.accounts import accounts, positions
from ..support.traces import by_ext, events, rules_of, shorthand, wanted
from ..support.worker import SERVER, Worker, unanswered


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/store.db")
    yield store
    store.close()


# an end while the store does not answer


def test_what_another_worker_told_meanwhile_is_told_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker is cut off from the store and stopped; the other tells the whole call."""
    name = "group_answered"
    cut_off, other = Worker(store), Worker(store)
    cut_off.pipeline.give_up()
    with monkeypatch.context() as outage:
        outage.setattr(Store, "save", unanswered)
        for event in events(name):
            cut_off.pipeline.inbox.on_event(event)
        cut_off.pipeline.run()
        assert cut_off.pipeline.keep_the_rest() is not None
    other.hear(*events(name))
    counts = Queue(store).counts()
    again = Worker(store)
    again.pipeline.inbox.stop()
    again.pipeline.run()
    assert Queue(store).counts() == counts
    assert again.pipeline.keep_the_rest() is None


def test_a_spool_that_cannot_be_read_stays(store: Store) -> None:
    file = store.beside.with_name(f"{store.beside.name}.spool-127.0.0.1_8021-1.jsonl.gz")
    file.write_bytes(b"nonsense")
    worker = Worker(store)
    worker.pipeline.inbox.stop()
    worker.pipeline.run()
    assert file.exists()


def test_a_spool_is_found_whatever_the_store_is_called(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/store[1].db")
    Spool(store.beside, SERVER).keep(events("in_one_answered"))
    worker = Worker(store)
    worker.pipeline.inbox.stop()
    worker.pipeline.run()
    assert worker.tokens == by_ext(wanted("in_one_answered"))
    assert servers(store.beside) == set()
    store.close()


@pytest.mark.parametrize("names", ["01", "10"])
def test_what_two_ends_kept_of_a_call_is_told_in_its_order(store: Store, names: str) -> None:
    stream = events("group_answered")
    middle = len(stream) // 2
    for name, kept in zip(names, (stream[:middle], stream[middle:]), strict=True):
        file = Spool(store.beside, SERVER).keep(kept)
        file.rename(file.with_name(f"{store.beside.name}.spool-127.0.0.1_8021-{name}.jsonl.gz"))
    worker = Worker(store)
    worker.pipeline.inbox.stop()
    worker.pipeline.run()
    assert worker.tokens == by_ext(wanted("group_answered"))


def test_events_that_come_after_the_end_are_stored(store: Store) -> None:
    worker = Worker(store)
    worker.stop(is_linked=False)
    for event in events("in_one_answered"):
        worker.pipeline.inbox.on_event(event)
    assert worker.pipeline.keep_the_rest() is None
    assert worker.tokens == by_ext(wanted("in_one_answered"))


# what could not be stored at the end, while another worker went on


KEPT = ("group_answered", "in_one_answered", "blind_transfer_answered", "queue_answered")


def told_in(store: Store) -> dict[str, list[str]]:
    """What Planfix is told of the one call in a store, by ext."""
    told = [notice_json.validate_json(w.body) for w in Archive(store).after(0, 1000)]
    (call,) = shorthand(told).values()
    return by_ext(call[1:])


@pytest.mark.no_cover
@pytest.mark.parametrize("name", KEPT)
def test_what_another_worker_has_heard_of_a_kept_call_is_told_once(
    name: str, tmp_path: Path
) -> None:
    """One worker's events were kept from the first on; another has stored the first `heard`."""
    stream = events(name)
    for heard in range(1, len(stream)):
        store = Store(f"sqlite:///{tmp_path}/{heard}.db")
        other = Worker(store, rules_of(name))
        other.hear(*stream[:heard])
        Spool(store.beside, SERVER).keep(stream)
        again = Worker(store, rules_of(name))
        again.pipeline._feed_spool()
        again.relink([])
        assert told_in(store) == by_ext(wanted(name)), heard
        store.close()


@pytest.mark.no_cover
@pytest.mark.parametrize("name", KEPT)
def test_what_another_worker_has_heard_of_what_a_link_held_back_is_told_once(
    name: str, tmp_path: Path
) -> None:
    """A link holds events back until the store has answered; another has stored them by then."""
    stream = events(name)
    for heard in range(1, len(stream)):
        store = Store(f"sqlite:///{tmp_path}/{heard}.db")
        other, late = Worker(store, rules_of(name)), Worker(store, rules_of(name))
        other.hear(*stream[:heard])
        channels = accounts(name)[positions(name)[heard]]
        late.pipeline.inbox.on_reconnect(Gap("", lambda: channels, lambda: list(stream[:heard])))  # noqa: B023
        late.pipeline.step()
        late.hear(*stream[heard:])
        other.hear(*stream[heard:])
        assert told_in(store) == by_ext(wanted(name)), heard
        store.close()
