"""The way from events to the store: signs of life, and comparisons with FreeSWITCH's own account."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsplanfix.admin.explain import story
from fsplanfix.calls.event_log import unpacked
from fsplanfix.calls.model import Rules
from fsplanfix.calls.tracker import Tracker
from fsplanfix.errors import LinkDown
from fsplanfix.freeswitch.events import SwitchEvent, hanging_up
from fsplanfix.outbox.archive import Archive
from fsplanfix.outbox.store import Store

from ..support.accounts import accounts, positions
from ..support.traces import by_ext, events, shorthand, wanted
from ..support.worker import Worker, by_ext_of, heartbeat, success, upto


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
