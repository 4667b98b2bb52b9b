"""Each recorded call, cut at every event, its end or its middle unheard, and resumed from FreeSWITCH's own account."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from fsplanfix.calls import snapshot
from fsplanfix.calls.model import Kind, Notice, Rules, Status
from fsplanfix.calls.reconcile import missed
from fsplanfix.calls.tracker import Tracker
from fsplanfix.freeswitch.events import SwitchEvent

from ..recordings import NAMES, bodies, events, told
from .test_recorded_calls import assert_every_part_ends_once


def headers(event: SwitchEvent) -> dict[str, str]:
    names = [line.split(b":")[0].decode() for line in event.raw.split(b"\n") if b": " in line]
    return {name: event.get(name) for name in names}


class Account:
    """What `show channels` and `uuid_dump` say after some events: each live leg's newest full state."""

    def __init__(self) -> None:
        self.live: dict[str, dict[str, str]] = {}

    def follow(self, body: bytes) -> None:
        event = SwitchEvent(body)
        found, uuid = headers(event), event.leg
        if event.name in ("CHANNEL_HANGUP_COMPLETE", "CHANNEL_DESTROY"):
            self.live.pop(uuid, None)
        elif event.name == "CHANNEL_CREATE" or (uuid in self.live and "variable_uuid" in found):
            self.live = {**self.live, uuid: found}
        if event.name == "CHANNEL_BRIDGE":
            self._bind(uuid, event.get("Other-Leg-Unique-ID"))

    def _bind(self, one: str, other: str) -> None:
        """A dump would show both legs bridged; the recording has the event of one only."""
        time = self.live[one]["Caller-Channel-Bridged-Time"]
        for uuid, peer in ((one, other), (other, one)):
            if uuid in self.live:
                bound = {"variable_signal_bond": peer, "Caller-Channel-Bridged-Time": time}
                self.live[uuid] = {**self.live[uuid], **bound}


@cache
def accounts(name: str) -> list[list[dict[str, str]]]:
    """What FreeSWITCH would say before each event of a recording, and after the last."""
    following, found = Account(), [list[dict[str, str]]()]
    for body in bodies(name):
        following.follow(body)
        found.append(list(following.live.values()))
    return found


def account(name: str, position: int) -> list[dict[str, str]]:
    return accounts(name)[position]


def positions(name: str) -> list[int]:
    """Where the events that have a rule stand among all events of the recording."""
    wanted = set(Tracker(Rules()).event_names)
    return [at for at, body in enumerate(bodies(name)) if SwitchEvent(body).name in wanted]


def restarted(tracker: Tracker) -> Tracker:
    """A tracker that knows only what the store would have kept."""
    again = Tracker(Rules())
    for callid in list(tracker.calls):
        state = snapshot.dump(tracker, callid)
        assert state is not None
        snapshot.restore(again, state)
    return again


def keys(notices: list[Notice]) -> list[tuple[str, str, str, int]]:
    return [(n.callid, n.ext, n.kind.value, n.ordinal) for n in notices]


def assert_nothing_twice(notices: list[Notice]) -> None:
    assert [key for key, times in Counter(keys(notices)).items() if times > 1] == []


def assert_answered_ends_as_success(notices: list[Notice]) -> None:
    for n in notices:
        if n.kind is Kind.ACCEPTED:
            end = next(
                e
                for e in notices
                if e.status and (e.callid, e.ext, e.ordinal) == (n.callid, n.ext, n.ordinal)
            )
            assert end.status is Status.SUCCESS


@pytest.mark.parametrize("restart", [False, True], ids=["reconnected", "restarted"])
@pytest.mark.parametrize("name", NAMES)
def test_a_call_of_which_a_part_was_not_heard_still_ends_for_everyone(
    name: str, restart: bool
) -> None:
    """For each cut, for each length of silence: nothing twice, everything ended, every talk a Success."""
    stream, where = events(name), positions(name)
    for cut in range(len(stream) + 1):
        for resume in range(cut, len(stream) + 1, 1 if len(stream) - cut < 12 else 3):
            tracker = Tracker(Rules())
            said = [n for event in stream[:cut] for n in tracker.feed(event)]
            if restart:
                tracker = restarted(tracker)
            position = where[resume] if resume < len(where) else len(bodies(name))
            for event in missed(tracker, account(name, position)):
                said += tracker.feed(event)
            said += [n for event in stream[resume:] for n in tracker.feed(event)]
            assert_nothing_twice(said)
            assert_every_part_ends_once(said)
            assert_answered_ends_as_success(said)
            assert not tracker.calls
            assert not tracker.book.legs


@pytest.mark.parametrize("name", NAMES)
def test_a_silence_in_which_nothing_happened_changes_nothing(name: str) -> None:
    stream, where = events(name), positions(name)
    whole = told(stream)
    for cut in range(len(stream)):
        tracker = Tracker(Rules())
        said = [n for event in stream[:cut] for n in tracker.feed(event)]
        for event in missed(tracker, account(name, where[cut])):
            said += tracker.feed(event)
        said += [n for event in stream[cut:] for n in tracker.feed(event)]
        assert Counter(keys(said)) == Counter(keys(whole))
        assert {key: n.status for key, n in zip(keys(said), said, strict=True)} == {
            key: n.status for key, n in zip(keys(whole), whole, strict=True)
        }


@pytest.mark.parametrize("name", NAMES)
def test_after_a_restart_of_freeswitch_every_call_is_over(name: str) -> None:
    stream = events(name)
    for cut in range(len(stream) + 1):
        tracker = Tracker(Rules())
        said = [n for event in stream[:cut] for n in tracker.feed(event)]
        for event in missed(tracker, []):
            said += tracker.feed(event)
        assert_every_part_ends_once(said)
        assert_answered_ends_as_success(said)
        assert not tracker.calls


def test_a_client_handed_on_meanwhile_is_with_the_next_employee() -> None:
    """blind_transfer_answered, unheard from the first talk to the second."""
    name = "blind_transfer_answered"
    stream, where = events(name), positions(name)
    bridges = [at for at, event in enumerate(stream) if event.name == "CHANNEL_BRIDGE"]
    tracker = Tracker(Rules())
    said = [n for event in stream[: bridges[0] + 1] for n in tracker.feed(event)]
    for event in missed(tracker, account(name, where[bridges[1]] + 1)):
        said += tracker.feed(event)
    said += [n for event in stream[bridges[1] + 1 :] for n in tracker.feed(event)]
    assert [(n.kind.value, n.ext, n.status) for n in said] == [
        ("INCOMING", "101", None),
        ("ACCEPTED", "101", None),
        ("COMPLETED", "101", Status.SUCCESS),
        ("INCOMING", "102", None),
        ("ACCEPTED", "102", None),
        ("COMPLETED", "102", Status.SUCCESS),
        ("record", "", None),
    ]


def test_a_talk_whose_end_was_not_heard_ends_at_the_last_moment_known() -> None:
    stream = events("in_one_answered")
    bridge = next(at for at, event in enumerate(stream) if event.name == "CHANNEL_BRIDGE")
    tracker = Tracker(Rules())
    said = [n for event in stream[: bridge + 1] for n in tracker.feed(event)]
    tracker.feed(
        SwitchEvent.made_of(
            {
                "Event-Name": "X",
                "Unique-ID": "y",
                "Event-Date-Timestamp": str(stream[bridge].at + 7_000_000),
            }
        )
    )
    said = [n for event in missed(tracker, []) for n in tracker.feed(event)]
    assert [n.duration for n in said if n.status is Status.SUCCESS] == [7]


def test_what_was_heard_meanwhile_tells_itself() -> None:
    """The hang-up that arrives while FreeSWITCH is asked knows its cause; a new leg's own creation comes first."""
    stream = events("out_busy")
    hangup = next(at for at, event in enumerate(stream) if event.name == "CHANNEL_HANGUP")
    tracker = Tracker(Rules())
    said = [n for event in stream[:hangup] for n in tracker.feed(event)]
    for event in [*missed(tracker, [], heard_since=stream[hangup:]), *stream[hangup:]]:
        said += tracker.feed(event)
    assert said[-1].status is Status.BUSY
    fresh = Tracker(Rules())
    creation = events("in_one_answered")[:1]
    dump = headers(creation[0])
    assert missed(fresh, [dump], heard_since=creation) == []


def test_the_clients_own_number_survives_what_freeswitch_rewrites() -> None:
    """intercepted: while 104 talks, the client's leg shows ext 104 as its caller and 102 as its destination."""
    name = "intercepted"
    where = (
        len(bodies(name))
        - sum(1 for body in bodies(name) if b"Event-Name: CHANNEL_HANGUP" in body)
        - 12
    )
    dumps = next(
        found for at in range(len(bodies(name)), where, -1) if len(found := account(name, at)) == 2
    )
    tracker = Tracker(Rules())
    said = [n for event in missed(tracker, dumps) for n in tracker.feed(event)]
    assert {(n.phone, n.diversion) for n in said} == {("79161234567", "74950000016")}


@pytest.mark.parametrize(
    "dump",
    [
        {},
        {"Unique-ID": ""},
        {"Unique-ID": "a"},
        {"Unique-ID": "a", "variable_signal_bond": "a", "Caller-Channel-Bridged-Time": "1"},
        {
            "Unique-ID": "a\nUnique-ID: b",
            "Caller-Channel-Created-Time": "x",
            "Call-Direction": "inbound",
        },
        {"Unique-ID": "a", "Caller-Channel-Bridged-Time": "9" * 50, "variable_signal_bond": "zzz"},
    ],
)
def test_a_strange_account_is_survived(dump: dict[str, str]) -> None:
    tracker = Tracker(Rules())
    for event in missed(tracker, [dump]):
        tracker.feed(event)
    for event in missed(tracker, []):
        tracker.feed(event)
    assert not tracker.calls
