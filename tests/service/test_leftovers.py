"""Calls are bound to their FreeSWITCH by its Core-UUID, and end when nobody hears of it any more."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from fsplanfix.calls.model import Notice, Rules
from fsplanfix.freeswitch.events import SwitchEvent
from fsplanfix.outbox.archive import Archive
from fsplanfix.outbox.records import notice_json
from fsplanfix.outbox.store import Store
from fsplanfix.service.leftovers import LOOK_EVERY, Leftovers
from fsplanfix.service.pipeline import Pipeline

from ..support.accounts import accounts, positions
from ..support.traces import by_ext, events, shorthand, wanted
from ..support.worker import Worker, by_ext_of, heartbeat, success, unanswered, upto

NAME = "in_one_answered"
ONE, OTHER = "localhost:8021", "127.0.0.1:8021"
CORE, NEXT = events(NAME)[0].get("Core-UUID"), "00000000-0000-0000-0000-000000000002"
GONE_AFTER = 900.0


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the files of a worker stand whose store is no file itself."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))


def linked(store: Store, server: str, core: str = CORE) -> Worker:
    worker = Worker(store, server=server)
    worker.relink([], core)
    return worker


def talking(store: Store, server: str) -> tuple[Worker, list[SwitchEvent]]:
    """A worker that has heard a talk begin, and what is still to come."""
    talk, rest = upto(NAME, "CHANNEL_BRIDGE")
    worker = linked(store, server)
    worker.hear(*talk)
    return worker, rest


def said_in(store: Store) -> list[Notice]:
    return [notice_json.validate_json(row.body) for row in Archive(store).after(0, 999)]


def told(store: Store) -> dict[str, list[str]]:
    (call,) = shorthand(said_in(store)).values()
    return by_ext(call[1:])


class Watch:
    """Leftovers with a clock of its own."""

    def __init__(self, store: Store, *ours: str) -> None:
        self.now = 0.0
        self.leftovers = Leftovers(
            store, Rules(), lambda: None, lambda _: None, GONE_AFTER, ours, lambda: self.now
        )

    def look(self, seconds: float) -> None:
        for _ in range(int(seconds / LOOK_EVERY)):
            self.now += LOOK_EVERY
            self.leftovers.look()


# the same switch under another address


def test_a_switch_spelled_otherwise_after_a_restart_goes_on_with_its_calls(store: Store) -> None:
    first, rest = talking(store, ONE)
    first.stop(is_linked=False)
    second = Worker(store, server=OTHER)
    at = positions(NAME)[len(events(NAME)) - len(rest)]
    second.relink(accounts(NAME)[at], CORE)
    second.hear(*rest)
    assert by_ext_of(first, second) == by_ext(wanted(NAME))
    assert success(second.said).duration == 2


def test_a_worker_at_another_address_ends_what_the_first_one_wrote(store: Store) -> None:
    talking(store, ONE)
    second = linked(store, OTHER)
    assert success(second.said).ext == "101"
    assert Archive(store).open_calls() == []


def test_calls_of_another_switch_are_left_alone(store: Store) -> None:
    talking(store, ONE)
    linked(store, "192.0.2.7:8021", NEXT)
    assert len(Archive(store).open_calls()) == 1


# another switch under the same address


def test_a_new_core_at_the_same_address_has_none_of_the_calls(store: Store) -> None:
    first, _ = talking(store, ONE)
    first.relink(None, NEXT)
    assert success(first.said).duration == 0
    assert Archive(store).open_calls() == []


def test_calls_of_the_old_core_end_at_its_own_last_sign_of_life(store: Store) -> None:
    """Another worker follows the new core already, hours later."""
    first, _ = talking(store, ONE)
    began = events(NAME)[-1].at
    first.hear(heartbeat(began + 60_000_000))
    second = Worker(store, server=ONE)
    store.save([], {}, ONE, store.now(), alive=began + 7_200_000_000, core=NEXT)
    second.relink([], NEXT)
    assert 60 <= success(second.said).duration < 70


def test_a_call_goes_on_at_another_address_when_the_first_leads_elsewhere(store: Store) -> None:
    """A moved address: the other worker still hears the switch with the call."""
    first, rest = talking(store, ONE)
    second = Worker(store, server=OTHER)
    at = positions(NAME)[len(events(NAME)) - len(rest)]
    second.relink(accounts(NAME)[at], CORE)
    second.compare(accounts(NAME)[at])
    first.relink([], NEXT)
    assert first.pipeline.tracker.calls == {}
    second.hear(*rest)
    assert told(store) == by_ext(wanted(NAME))


# a switch that nobody hears


def test_calls_of_a_switch_that_stays_away_end(store: Store) -> None:
    talking(store, ONE)
    watch = Watch(store, ONE)
    watch.look(GONE_AFTER)
    assert len(Archive(store).open_calls()) == 1
    watch.look(LOOK_EVERY)
    assert Archive(store).open_calls() == []
    assert success(said_in(store)).duration == 0


def test_a_call_of_an_older_release_ends_as_well(store: Store) -> None:
    talk, _ = upto(NAME, "CHANNEL_BRIDGE")
    Worker(store, server=ONE).hear(*talk)
    Watch(store, OTHER).look(GONE_AFTER + LOOK_EVERY)
    assert told(store)["101"] == ["I101", "A101", "S101!"]


def test_a_switch_that_any_worker_hears_goes_on(store: Store) -> None:
    """In a quiet office nothing but the comparison of each minute says that it lives."""
    worker, _ = talking(store, ONE)
    watch = Watch(store, OTHER)
    for _ in range(10):
        watch.look(GONE_AFTER / 2)
        worker.compare([{"Unique-ID": uuid} for uuid in worker.pipeline.tracker.book.legs])
    assert len(Archive(store).open_calls()) == 1


def test_whoever_could_not_look_does_not_know(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither while the store was away nor while the program stood still could anybody be heard."""
    talking(store, ONE)
    watch = Watch(store, OTHER)
    watch.look(GONE_AFTER)
    with monkeypatch.context() as outage:
        outage.setattr(Store, "transaction", unanswered)
        watch.look(LOOK_EVERY)
    watch.look(LOOK_EVERY)
    watch.now += 10 * GONE_AFTER
    watch.look(LOOK_EVERY)
    assert len(Archive(store).open_calls()) == 1


def test_a_switch_that_comes_back_after_all_ends_no_call_twice(store: Store) -> None:
    """The link was down for longer than the time, and the talk has gone on meanwhile."""
    worker, rest = talking(store, ONE)
    Watch(store, ONE).look(GONE_AFTER + LOOK_EVERY)
    ended = told(store)
    at = positions(NAME)[len(events(NAME)) - len(rest)]
    worker.relink(accounts(NAME)[at], CORE)
    worker.hear(*rest)
    assert told(store) == ended
    assert worker.pipeline.set_aside.count == 0
    assert worker.pipeline.tracker.book.legs == {}


# files of events that the store could not take


def cut_off(store: Store, monkeypatch: pytest.MonkeyPatch, heard: list[SwitchEvent]) -> Path:
    """Stop a worker that cannot reach the store; return its file."""
    worker = linked(store, ONE)
    worker.pipeline.give_up()
    with monkeypatch.context() as outage:
        outage.setattr(Store, "save", unanswered)
        for event in heard:
            worker.pipeline.inbox.on_event(event)
        worker.pipeline.run()
        file = worker.pipeline.keep_the_rest()
    assert file is not None
    return file


def test_a_file_of_a_switch_spelled_otherwise_is_taken_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk, rest = upto(NAME, "CHANNEL_BRIDGE")
    file = cut_off(store, monkeypatch, talk)
    Watch(store, OTHER).leftovers.take_up()
    assert not file.exists()
    second = Worker(store, server=OTHER)
    second.relink(accounts(NAME)[positions(NAME)[len(talk)]], CORE)
    second.hear(*rest)
    assert told(store) == by_ext(wanted(NAME))


def test_a_file_of_a_switch_that_left_the_settings_is_told_and_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk, _ = upto(NAME, "CHANNEL_BRIDGE")
    cut_off(store, monkeypatch, talk)
    watch = Watch(store, "192.0.2.7:8021")
    watch.leftovers.take_up()
    assert told(store) == {"101": ["I101", "A101"]}
    watch.look(GONE_AFTER + LOOK_EVERY)
    assert told(store)["101"] == ["I101", "A101", "S101!"]


def test_a_file_is_left_to_the_pipeline_of_its_address(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = cut_off(store, monkeypatch, list(events(NAME)))
    watch = Watch(store, ONE)
    watch.leftovers.take_up()
    assert file.exists()
    assert watch.leftovers.taken_up.is_set()
    again = Pipeline(ONE, Rules(), store, lambda: None)
    again.inbox.stop()
    again.run()
    assert told(store) == by_ext(wanted(NAME))


def test_a_file_that_nobody_can_read_holds_up_nothing(store: Store) -> None:
    file = store.beside.with_name(f"{store.beside.name}.spool-x-1.jsonl.gz")
    file.write_bytes(b"nonsense")
    watch = Watch(store, ONE)
    watch.leftovers.take_up()
    assert watch.leftovers.taken_up.is_set()
    assert file.exists()


def test_a_file_that_can_be_neither_deleted_nor_renamed_holds_up_no_link(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = cut_off(store, monkeypatch, list(events(NAME)))
    watch = Watch(store, OTHER)

    def refused(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    with monkeypatch.context() as read_only:
        for name in ("unlink", "rename"):
            read_only.setattr(Path, name, refused)
        watch.leftovers.take_up()
    assert watch.leftovers.taken_up.is_set()
    assert told(store) == by_ext(wanted(NAME))
    assert file.exists()
    # the next start reads it again, and tells nothing twice
    Watch(store, OTHER).leftovers.take_up()
    assert told(store) == by_ext(wanted(NAME))
    assert not file.exists()


def test_a_link_does_not_wait_for_ever(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files cannot be stored now; this link's own FreeSWITCH is to be heard all the same."""
    monkeypatch.setattr("fsplanfix.service.leftovers.LONGEST_WAIT", 0.01)
    works: list[bool] = []
    Watch(store, ONE).leftovers.then(lambda: works.append(True))
    assert works == [True]
