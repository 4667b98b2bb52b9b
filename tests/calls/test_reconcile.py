"""Each recorded call, cut at every event, its end or its middle unheard, and resumed from FreeSWITCH's own account."""

from __future__ import annotations

from collections import Counter

import pytest

from fsplanfix.calls.model import Kind, Notice, Rules, Status
from fsplanfix.calls.reconcile import missed
from fsplanfix.calls.tracker import Tracker
from fsplanfix.freeswitch.events import SwitchEvent

from ..support.accounts import account, accounts, headers, positions, restarted
from ..support.cases import for_each
from ..support.traces import NAMES, assert_every_part_ends_once, bodies, events, rules_of, told


def keys(notices: list[Notice]) -> list[tuple[str, str, str, int]]:
    return [(n.callid, n.ext, n.kind.value, n.ordinal) for n in notices]


def assert_nothing_twice(notices: list[Notice]) -> None:
    assert [key for key, times in Counter(keys(notices)).items() if times > 1] == []


def talked(notices: list[Notice]) -> Counter[str]:
    """Seconds of talk by ext."""
    found: Counter[str] = Counter()
    for n in notices:
        found[n.ext] += n.duration
    return found


def assert_durations_agree(said: list[Notice], whole: list[Notice], silence: int) -> None:
    """Microseconds of silence may be missing from a talk, or be taken for part of it."""
    ours, theirs = talked(said), talked(whole)
    calls = len({n.callid for n in whole})
    for ext in {*ours, *theirs}:
        assert abs(ours[ext] - theirs[ext]) <= (silence / 1_000_000 + 1) * calls, ext


def assert_answered_ends_as_success(notices: list[Notice]) -> None:
    for n in notices:
        if n.kind is Kind.ACCEPTED:
            end = next(
                e
                for e in notices
                if e.status and (e.callid, e.ext, e.ordinal) == (n.callid, n.ext, n.ordinal)
            )
            assert end.status is Status.SUCCESS


@pytest.mark.no_cover
@pytest.mark.parametrize("restart", [False, True], ids=["reconnected", "restarted"])
@for_each(NAMES)
def test_a_call_of_which_a_part_was_not_heard_still_ends_for_everyone(
    name: str, restart: bool
) -> None:
    """For each cut, for no silence and a long one or one to the end: nothing twice, everything ended, every talk a
    Success, and no duration off by more than the silence."""
    stream, where, rules = events(name), positions(name), rules_of(name)
    whole = told(stream, rules)
    for cut in range(len(stream) + 1):
        later = (cut + len(stream)) // 2 if restart else len(stream)
        for resume in sorted({cut, later}):
            tracker = Tracker(rules)
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
            if cut:
                silence = stream[min(resume, len(stream) - 1)].at - stream[cut - 1].at
                assert_durations_agree(said, whole, silence)
            assert not tracker.calls
            assert not tracker.book.legs


@pytest.mark.no_cover
@for_each(NAMES)
def test_a_silence_in_which_nothing_happened_changes_nothing(name: str) -> None:
    stream, where, rules = events(name), positions(name), rules_of(name)
    whole = told(stream, rules)
    for cut in range(len(stream)):
        tracker = Tracker(rules)
        said = [n for event in stream[:cut] for n in tracker.feed(event)]
        for event in missed(tracker, account(name, where[cut])):
            said += tracker.feed(event)
        said += [n for event in stream[cut:] for n in tracker.feed(event)]
        assert Counter(keys(said)) == Counter(keys(whole))
        assert {key: n.status for key, n in zip(keys(said), said, strict=True)} == {
            key: n.status for key, n in zip(keys(whole), whole, strict=True)
        }


@pytest.mark.no_cover
@for_each(NAMES)
def test_after_a_restart_of_freeswitch_every_call_is_over(name: str) -> None:
    stream = events(name)
    for cut in range(len(stream) + 1):
        tracker = Tracker(rules_of(name))
        said = [n for event in stream[:cut] for n in tracker.feed(event)]
        for event in missed(tracker, []):
            said += tracker.feed(event)
        assert_every_part_ends_once(said)
        assert_answered_ends_as_success(said)
        assert not tracker.calls


@pytest.mark.no_cover
@for_each(NAMES)
def test_who_has_heard_everything_has_missed_nothing(name: str) -> None:
    """Else the comparison of every minute would find lost events in each call."""
    tracker, where = Tracker(rules_of(name)), positions(name)
    for at, event in enumerate(events(name)):
        lost = [e.name for e in missed(tracker, account(name, where[at])) if is_made_up(e)]
        assert lost == []
        tracker.feed(event)


def is_made_up(event: SwitchEvent) -> bool:
    """Bridges and answers are in a dump a moment before their event."""
    return event.name in ("CHANNEL_CREATE", "CHANNEL_PROGRESS", "CHANNEL_HANGUP_COMPLETE")


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
    """intercepted: while 104 talks, the client's leg shows other numbers than at first."""
    talk = next(
        found
        for found in reversed(accounts("intercepted"))
        if len(found) == 2 and all("Call-Direction" in dump for dump in found)
    )
    assert "104" in {dump["Caller-Caller-ID-Number"] for dump in talk}
    tracker = Tracker(Rules())
    said = [n for event in missed(tracker, talk) for n in tracker.feed(event)]
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


def test_the_number_shown_to_the_client_survives_a_transfer() -> None:
    """attended_transfer_outgoing: a transfer turns the two numbers of the client's leg round."""
    name = "attended_transfer_outgoing"
    stream, where = events(name), positions(name)
    handed_over = max(at for at, event in enumerate(stream) if event.name == "CHANNEL_BRIDGE")
    tracker = Tracker(Rules())
    said = [
        notice
        for event in missed(tracker, account(name, where[handed_over] + 1))
        for notice in tracker.feed(event)
    ]
    assert {n.diversion for n in said} == {"74950000000"}
