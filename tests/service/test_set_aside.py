"""An event that cannot be taken costs no other call."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fsplanfix.admin.traces import read_trace
from fsplanfix.calls import reconcile, snapshot
from fsplanfix.calls.model import Leg, Notice, Status
from fsplanfix.calls.tracker import Tracker
from fsplanfix.freeswitch.events import SwitchEvent
from fsplanfix.freeswitch.link import Gap
from fsplanfix.outbox.archive import Archive
from fsplanfix.outbox.records import notice_json
from fsplanfix.outbox.store import Store

from ..support.accounts import accounts, positions
from ..support.traces import by_ext, events, shorthand, wanted
from ..support.worker import Worker, upto


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/store.db")
    yield store
    store.close()


def stumbles(
    monkeypatch: pytest.MonkeyPatch, worker: Worker, name: str, times: int, leg: str = ""
) -> None:
    """Let the rules raise at events of a name: nothing known makes them."""
    handler = worker.pipeline.tracker._handlers[name]
    left = times

    def raising(about: Leg, event: SwitchEvent) -> None:
        nonlocal left
        if left and leg in ("", about.uuid):
            left -= 1
            raise ValueError("made up for this test")
        handler(about, event)

    monkeypatch.setitem(worker.pipeline.tracker._handlers, name, raising)


def test_an_event_that_cannot_be_taken_costs_no_other_call(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(store)
    good, bad = events("group_answered"), events("in_one_answered")
    bad_legs = {event.leg for event in bad}
    for leg in bad_legs:
        stumbles(monkeypatch, worker, "CHANNEL_BRIDGE", 1, leg)
    for event in sorted([*good, *bad], key=lambda event: event.at):
        worker.pipeline.inbox.on_event(event)
    worker.pipeline.step()
    calls = shorthand(worker.said)
    (group,) = [by_ext(tokens[1:]) for tokens in calls.values() if "I103" in tokens]
    assert group == by_ext(wanted("group_answered"))
    assert worker.pipeline.set_aside.count == 1


def test_what_was_set_aside_is_asked_of_freeswitch_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "in_one_answered"
    talk, rest = upto(name, "CHANNEL_BRIDGE")
    worker = Worker(store)
    stumbles(monkeypatch, worker, "CHANNEL_BRIDGE", 1)
    worker.hear(*talk)
    assert worker.tokens == {"101": ["I101"]}
    assert worker.pipeline.in_doubt.is_set()
    worker.compare(accounts(name)[positions(name)[len(talk)]])
    assert worker.tokens == {"101": ["I101", "A101"]}
    worker.hear(*rest)
    assert worker.tokens == by_ext(wanted(name))


def test_a_call_that_goes_wrong_again_and_again_still_ends(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(store)
    stumbles(monkeypatch, worker, "CHANNEL_HANGUP", 9)
    stumbles(monkeypatch, worker, "CHANNEL_HANGUP_COMPLETE", 9)
    worker.hear(*events("in_one_answered"))
    assert worker.pipeline.tracker.calls == {}
    said = [notice_json.validate_json(written.body) for written in Archive(store).after(0, 99)]
    assert [n.what for n in said] == ["INCOMING", "ACCEPTED", "COMPLETED Success"]
    assert '"last": "CHANNEL_HANGUP' in store.facts.get("set_aside")
    (aside,) = store.beside.parent.glob("*.set-aside-127.0.0.1_8021.jsonl.gz")
    kept = [SwitchEvent(body.encode()) for _, body in read_trace(aside)]
    assert {event.name for event in kept} == {"CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE"}


def test_a_made_up_event_that_cannot_be_taken_is_no_reason_to_ask_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer would make it up again, and FreeSWITCH would be asked without a pause."""
    talk, _ = upto("in_one_answered", "CHANNEL_BRIDGE")
    worker = Worker(store)
    worker.hear(*talk)
    stumbles(monkeypatch, worker, "CHANNEL_HANGUP_COMPLETE", 9)
    worker.compare([])
    worker.compare([])
    assert worker.pipeline.set_aside.count > 0
    assert not worker.pipeline.in_doubt.is_set()


def raises(*_: object, **__: object) -> None:
    raise RuntimeError("made up for this test")


def test_a_channel_that_cannot_be_understood_costs_only_itself(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client of one call is not understood; another call has ended meanwhile."""
    talk, rest = upto("in_one_answered", "CHANNEL_BRIDGE")
    group, _ = upto("group_answered", "CHANNEL_BRIDGE")
    worker = Worker(store)
    worker.hear(*talk, *group)
    understood = reconcile._life

    def life(leg: Leg | None, dump: Mapping[str, str]) -> Iterator[SwitchEvent]:
        if dump["Unique-ID"] == talk[0].leg and dump.get("Channel-Name"):
            raise RuntimeError("made up for this test")
        yield from understood(leg, dump)

    monkeypatch.setattr(reconcile, "_life", life)
    worker.relink(accounts("in_one_answered")[positions("in_one_answered")[len(talk)]])
    assert len(worker.pipeline.tracker.calls) == 1
    worker.hear(*rest)
    calls = shorthand(worker.said)
    assert wanted("in_one_answered") in [tokens[1:] for tokens in calls.values()]
    assert worker.pipeline.set_aside.count == 0


def test_a_resync_that_fails_loses_nothing_and_is_made_good(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was decided before it in the batch is told; what the link held back is fed."""
    talk, _ = upto("in_one_answered", "CHANNEL_BRIDGE")
    group = events("group_answered")
    worker = Worker(store)
    worker.hear(*talk)
    for event in group:
        worker.pipeline.inbox.on_event(event)
    later = events("in_one_no_answer")
    worker.pipeline.inbox.on_reconnect(Gap("", lambda: [], lambda: list(later)))
    with monkeypatch.context() as broken:
        broken.setattr(worker.pipeline, "_reload", raises)
        worker.pipeline.step()
    calls = [tokens[1:] for tokens in shorthand(worker.said).values()]
    assert by_ext(wanted("group_answered")) in map(by_ext, calls)
    assert wanted("in_one_no_answer") in calls
    assert worker.pipeline.in_doubt.is_set()
    assert '"last": "resync"' in store.facts.get("set_aside")
    # FreeSWITCH knows no channel any more: the talk ends at once
    worker.compare([])
    assert worker.pipeline.tracker.calls == {}


def test_a_call_whose_state_cannot_be_written_costs_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk, _ = upto("in_one_answered", "CHANNEL_BRIDGE")
    dumped = snapshot.dump

    def dump(tracker: Tracker, callid: str) -> str | None:
        if callid == talk[0].leg:
            raise RuntimeError("made up for this test")
        return dumped(tracker, callid)

    monkeypatch.setattr(snapshot, "dump", dump)
    worker = Worker(store)
    for event in sorted([*talk, *events("group_answered")], key=lambda event: event.at):
        worker.pipeline.inbox.on_event(event)
    worker.pipeline.step()
    said = [notice_json.validate_json(written.body) for written in Archive(store).after(0, 99)]
    calls = shorthand(said)
    assert by_ext(wanted("group_answered")) in [by_ext(tokens[1:]) for tokens in calls.values()]
    # the other call is let go, and what was begun in it has its end
    assert [n.what for n in said if n.callid == talk[0].leg][-1].startswith("COMPLETED")


@pytest.mark.parametrize("what", ["EventLog.close", "EventLog.note_gap", "Pipeline._note_news"])
def test_what_is_kept_for_people_never_costs_a_notice(
    store: Store, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    name = "in_one_answered"
    talk, rest = upto(name, "CHANNEL_BRIDGE")
    worker = Worker(store)
    monkeypatch.setattr(f"fsplanfix.service.pipeline.{what}", raises)
    worker.hear(*talk)
    worker.relink(accounts(name)[positions(name)[len(talk)]])
    worker.hear(*rest)
    assert worker.tokens == by_ext(wanted(name))
    assert len(Archive(store).after(0, 99)) == len(worker.said)


def test_a_notice_that_the_driver_cannot_write_costs_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every error of a driver is one that SQLAlchemy knows."""
    save = Store.save

    def fails(self: Store, notices: Sequence[Notice], *rest: Any, **more: Any) -> None:
        if any(notice.status == Status.SUCCESS for notice in notices):
            raise OverflowError("made up for this test")
        save(self, notices, *rest, **more)

    monkeypatch.setattr(Store, "save", fails)
    worker = Worker(store)
    for event in events("in_one_answered"):
        worker.pipeline.inbox.on_event(event)
    worker.pipeline.step()
    told = [notice_json.validate_json(written.body) for written in Archive(store).after(0, 99)]
    assert [n.what for n in told][:2] == ["INCOMING", "ACCEPTED"]
    assert worker.pipeline.refused == 1


def test_what_was_set_aside_is_counted_through_starts_and_workers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for counted in (1, 2):
        worker = Worker(store)
        stumbles(monkeypatch, worker, "CHANNEL_BRIDGE", 1)
        worker.hear(*(event for event in events("in_one_answered") if event.leg))
        assert json.loads(store.facts.get("set_aside") or "")["count"] == counted


def test_uuids_that_change_places_cost_nothing(store: Store) -> None:
    """Two legs renamed to each other's UUIDs, as no FreeSWITCH would."""
    before, rest = upto("group_answered", "CHANNEL_PROGRESS", 2)
    legs = sorted({event.leg for event in before})[:2]
    worker = Worker(store)
    worker.hear(*before)
    for old, new in (legs, legs[::-1]):
        headers = {"Event-Name": "CHANNEL_UUID", "Unique-ID": new, "Old-Unique-ID": old}
        worker.hear(SwitchEvent.made_of(headers))
    worker.hear(*rest)
    assert worker.pipeline.set_aside.count == 0
    assert worker.tokens == by_ext(wanted("group_answered"))
