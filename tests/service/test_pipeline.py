"""The way from events to the store: signs of life, and comparisons with FreeSWITCH's own account."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fsplanfix.admin.explain import story
from fsplanfix.admin.traces import read_trace
from fsplanfix.calls import reconcile, snapshot
from fsplanfix.calls.event_log import unpacked
from fsplanfix.calls.model import Leg, Notice, Rules, Status
from fsplanfix.calls.tracker import Tracker
from fsplanfix.calls.whose import AccountRules
from fsplanfix.errors import LinkDown
from fsplanfix.freeswitch.events import SwitchEvent, hanging_up
from fsplanfix.freeswitch.link import Gap
from fsplanfix.outbox.archive import Archive
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.records import notice_json
from fsplanfix.outbox.store import Store
from fsplanfix.service.spool import Spool, servers

from ..support.accounts import accounts, positions
from ..support.traces import by_ext, events, rules_of, shorthand, wanted
from ..support.worker import SERVER, Worker, by_ext_of, heartbeat, success, unanswered, upto


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/store.db")
    yield store
    store.close()


# a talk that ends while nobody listens (rule 15)


def test_a_crash_in_a_quiet_talk_counts_to_the_last_heartbeat(store: Store) -> None:
    talk, _ = upto("in_one_answered", "CHANNEL_BRIDGE")
    first = Worker(store)
    first.hear(*talk, heartbeat(talk[-1].at + 600_000_000))
    second = Worker(store)
    second.relink([])
    assert success(second.said).duration == 600


def test_an_orderly_stop_is_a_sign_of_life(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    talk, _ = upto("in_one_answered", "CHANNEL_BRIDGE")
    first = Worker(store)
    first.hear(*talk)
    begun = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: begun + 900)
    first.stop(is_linked=True)
    second = Worker(store)
    second.relink([])
    assert success(second.said).duration >= 899


def test_an_orderly_stop_goes_by_the_clock_of_freeswitch(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose clock was ahead made the talk longer by as much."""
    talk, _ = upto("in_one_answered", "CHANNEL_BRIDGE")
    shift = int(time.time() * 1_000_000) - talk[-1].at
    first = Worker(store)
    first.hear(*(moved(event, shift) for event in talk))
    begun = time.time()
    monkeypatch.setattr(time, "time", lambda: begun + 100_000)
    first.stop(is_linked=True)
    second = Worker(store)
    second.relink([])
    assert success(second.said).duration < 100_000


def test_a_stop_without_a_link_says_nothing_of_freeswitch(store: Store) -> None:
    talk, _ = upto("in_one_answered", "CHANNEL_BRIDGE")
    first = Worker(store)
    first.hear(*talk)
    first.stop(is_linked=False)
    second = Worker(store)
    second.relink([])
    assert success(second.said).duration == 0


def moved(event: SwitchEvent, shift: int) -> SwitchEvent:
    body = event.raw.replace(str(event.at).encode(), str(event.at + shift).encode())
    return SwitchEvent(body)


def test_a_talk_that_outlives_a_restart_has_its_whole_length(store: Store) -> None:
    name = "in_one_answered"
    talk, rest = upto(name, "CHANNEL_BRIDGE")
    first = Worker(store)
    first.hear(*talk)
    first.stop(is_linked=True)
    second = Worker(store)
    second.relink(accounts(name)[positions(name)[len(talk)]])
    second.hear(*rest)
    assert {**by_ext_of(first, second)} == by_ext(wanted(name))
    assert success(second.said).duration == 2


# what nobody heard (rule 15)


def explained(store: Store, *workers: Worker) -> str:
    callid = next(n.callid for worker in workers for n in worker.said)
    return " ".join(" ".join(story(Archive(store), Rules(), callid)).split())


def clock(at: int) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(at / 1_000_000))


def test_what_nobody_heard_of_a_call_is_said_to_be_unknown(store: Store) -> None:
    """Answered and ended while the link was down: FreeSWITCH no longer knows."""
    before, _ = upto("in_one_answered", "CHANNEL_PROGRESS")
    worker = Worker(store)
    worker.hear(*before)
    worker.relink([])
    said = explained(store, worker)
    since = clock(before[-1].at)
    gap = rf"unknown: the service was not listening from {since} to \d\d:\d\d:\d\d "
    assert len(re.findall(gap, said)) == 1
    assert "is gone: nobody heard its end" in said
    assert "M101" in worker.tokens["101"]


def test_a_restart_says_so_as_well(store: Store) -> None:
    before, _ = upto("in_one_answered", "CHANNEL_PROGRESS")
    first = Worker(store)
    first.hear(*before)
    second = Worker(store)
    second.relink([])
    assert "the service was not listening from" in explained(store, second)


def test_a_call_found_after_a_silence_has_one_in_its_story(store: Store) -> None:
    name = "in_one_answered"
    talk, rest = upto(name, "CHANNEL_BRIDGE")
    worker = Worker(store)
    worker.hear(heartbeat(talk[0].at - 1_000_000))
    worker.relink(accounts(name)[positions(name)[len(talk)]])
    worker.hear(*rest)
    assert "the service was not listening from" in explained(store, worker)


def test_a_call_that_was_heard_from_beginning_to_end_has_no_gap(store: Store) -> None:
    worker = Worker(store)
    worker.relink([])
    worker.hear(*events("in_one_answered"))
    assert "unknown" not in explained(store, worker)


def test_a_short_silence_in_which_nothing_was_missed_is_none(store: Store) -> None:
    """Another worker may have listened meanwhile."""
    talk, rest = upto("in_one_answered", "CHANNEL_BRIDGE")
    shift = int(time.time() * 1_000_000) - talk[-1].at
    worker = Worker(store)
    worker.hear(*(moved(event, shift) for event in talk))
    worker.relink(None)
    worker.hear(*(moved(event, shift) for event in rest))
    assert "unknown" not in explained(store, worker)


def test_a_gap_does_not_change_what_a_call_says_when_it_is_played_again(store: Store) -> None:
    before, _ = upto("ivr_to_ext", "CHANNEL_PROGRESS")
    worker = Worker(store)
    worker.hear(*before)
    worker.relink([])
    callid = worker.said[0].callid
    tracker = Tracker(Rules())
    again = [n for e in unpacked(Archive(store).heard(callid)) for n in tracker.feed(e)]
    assert [(n.what, n.ext, n.rule) for n in again] == [
        (n.what, n.ext, n.rule) for n in worker.said
    ]
    assert "COMPLETED Canceled" in [n.what for n in again]


# once a minute (rule 16)


def test_what_two_comparisons_miss_has_happened(store: Store) -> None:
    name = "in_one_answered"
    before, _ = upto(name, "CHANNEL_PROGRESS")
    worker = Worker(store)
    worker.hear(*before)
    talking = accounts(name)[positions(name)[len(upto(name, "CHANNEL_BRIDGE")[0])]]
    worker.compare(talking)
    assert worker.tokens == {"101": ["I101"]}
    worker.compare(talking)
    assert worker.tokens == {"101": ["I101", "A101"]}
    worker.compare([])
    assert worker.tokens == {"101": ["I101", "A101"]}
    worker.compare([])
    assert worker.tokens["101"] == ["I101", "A101", "S101"]


def test_what_is_heard_meanwhile_is_not_made_up(store: Store) -> None:
    """The end of the call is on its way while FreeSWITCH says that there are no channels."""
    name = "in_one_answered"
    before, rest = upto(name, "CHANNEL_HANGUP")
    worker = Worker(store)
    worker.hear(*before)
    worker.compare([], rest[0])
    worker.compare([], *rest[1:])
    assert worker.tokens == by_ext(wanted(name))


def test_a_comparison_that_agrees_says_nothing(store: Store) -> None:
    name = "group_answered"
    stream, where = events(name), positions(name)
    worker = Worker(store)
    for at, event in enumerate(stream):
        worker.compare(accounts(name)[where[at]])
        worker.compare(accounts(name)[where[at]])
        worker.hear(event)
    assert worker.tokens == by_ext(wanted(name))


def test_a_zombie_ends_with_the_second_comparison(store: Store) -> None:
    """It has hung up, its end never comes: `show channels` lists it, `uuid_dump` does not."""
    before, _ = upto("in_one_no_answer", "CHANNEL_HANGUP", 2)
    legs = {event.leg for event in before}
    worker = Worker(store)
    worker.hear(*before)
    for _ in range(2):
        assert "M101" not in worker.tokens["101"]
        worker.compare([hanging_up(leg) for leg in legs])
    assert worker.tokens == {"101": ["I101", "M101"]}


def test_freeswitch_may_not_know(store: Store) -> None:
    worker = Worker(store)
    worker.hear(*upto("in_one_answered", "CHANNEL_BRIDGE")[0])
    worker.compare(None)
    worker.compare(None)
    assert worker.tokens == {"101": ["I101", "A101"]}


def test_a_link_lost_meanwhile_is_the_links_business(store: Store) -> None:
    worker = Worker(store)

    def ask() -> None:
        raise LinkDown("gone")

    with pytest.raises(LinkDown):
        worker.pipeline.inbox.compare(ask)
    worker.hear(*events("in_one_answered"))
    assert worker.tokens == by_ext(wanted("in_one_answered"))


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


# what goes on under a callid of before


def test_a_uuid_used_before_the_start_gets_a_number(store: Store) -> None:
    stream = events("in_one_no_answer")
    first = Worker(store)
    first.hear(*stream)
    second = Worker(store)
    second.relink([])
    second.hear(*stream)
    callids = {n.callid for n in first.said}
    assert {n.callid for n in second.said} == {f"{callid}-2" for callid in callids}


def test_a_call_recovered_before_the_link_was_back_is_its_next_part(store: Store) -> None:
    """FreeSWITCH died and `sofia recover` brought its channels back while nobody listened."""
    name = "reports/r31a_sofia_recover"
    talk, recovered = upto(name, "CHANNEL_BRIDGE")
    worker = Worker(store)
    worker.hear(*talk)
    worker.relink(accounts(name)[positions(name)[len(talk) + 3]])
    worker.hear(*recovered[3:])
    (call,) = shorthand(worker.said).values()
    assert call[1:] == ["I108", "A108", "S108!", "R", "I108", "A108", "S108"]


def test_who_may_be_a_gateway_is_kept_for_the_check(store: Store) -> None:
    worker = Worker(store)
    for number in range(3):
        headers = {
            "Event-Name": "CHANNEL_CREATE",
            "Unique-ID": f"leg{number}",
            "Event-Date-Timestamp": str(1_700_000_000_000_000 + number * 2_000_000),
            "Call-Direction": "inbound",
            "variable_user_name": "200",
            "Caller-Caller-ID-Number": f"7916123456{number}",
            "Caller-Destination-Number": "74950000001",
        }
        worker.hear(SwitchEvent.made_of(headers))
    assert store.facts.get("doubts") == '{"users": ["200"], "gateways": []}'


def test_calls_of_no_account_are_kept_for_the_check(store: Store) -> None:
    rules = AccountRules({"a": Rules(domains=frozenset({"a.example"}))}, Rules())
    worker = Worker(store, rules=rules)
    worker.hear(*events("fusionpbx/tenant_b_out"))
    assert worker.said == []
    assert store.facts.get("unclaimed") == '[["74950002000", "b.example", "", 1]]'


# an event that cannot be taken


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


# what could not be stored at the end, while another worker went on


def told_in(store: Store) -> dict[str, list[str]]:
    """What Planfix is told of the one call in a store, by ext."""
    told = [notice_json.validate_json(w.body) for w in Archive(store).after(0, 1000)]
    (call,) = shorthand(told).values()
    return by_ext(call[1:])


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "name", ["group_answered", "in_one_answered", "blind_transfer_answered", "queue_answered"]
)
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
@pytest.mark.parametrize(
    "name", ["group_answered", "in_one_answered", "blind_transfer_answered", "queue_answered"]
)
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
