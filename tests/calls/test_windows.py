"""When the call window opens (docs/call-rules.md, rule 18), in each mode over every recorded call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from fsplanfix.calls import snapshot
from fsplanfix.calls.model import Direction, Kind, Missed, Notice, Rules, Status, Windows
from fsplanfix.calls.result import result_of
from fsplanfix.calls.tracker import Tracker
from fsplanfix.freeswitch.events import SwitchEvent

from ..support.cases import for_each
from ..support.scene import IN, Scene
from ..support.traces import NAMES, assert_every_part_ends_once, events, rules_of, told

ANSWER, KNOWN = Rules(windows=Windows.ANSWER), Rules(windows=Windows.KNOWN)


def known(event: SwitchEvent) -> SwitchEvent:
    """The same event of a call whose client Planfix knows."""
    return SwitchEvent(unknown(event).raw.rstrip(b"\n") + b"\nvariable_planfix_known: true\n\n")


def unknown(event: SwitchEvent) -> SwitchEvent:
    """The same event of a call whose client is new."""
    lines = (line for line in event.raw.split(b"\n") if b"planfix_known:" not in line)
    return SwitchEvent(b"\n".join(lines) + b"\n\n")


def rules_for(name: str, windows: Windows) -> Rules:
    return replace(rules_of(name), windows=windows)


def talks(notices: Iterable[Notice]) -> list[tuple[str, str, int, bool]]:
    return [(n.callid, n.ext, n.duration, n.is_recorded) for n in notices if n.duration]


@pytest.mark.no_cover
@for_each(NAMES)
def test_with_ring_nothing_changes_whoever_is_known(name: str) -> None:
    whole = told(events(name), rules_of(name))
    assert rules_of(name).windows is Windows.RING
    assert told(map(known, events(name)), rules_of(name)) == whole
    assert told(map(known, events(name)), rules_for(name, Windows.KNOWN)) == whole


@pytest.mark.no_cover
@for_each(NAMES)
def test_with_answer_nobody_is_shown_a_call_that_he_did_not_take(name: str) -> None:
    ring, answer = (
        told(events(name), rules_for(name, windows)) for windows in (Windows.RING, Windows.ANSWER)
    )
    assert_every_part_ends_once(answer)
    assert talks(answer) == talks(ring)
    assert {n.callid for n in answer} == {n.callid for n in ring}
    assert told(map(unknown, events(name)), rules_for(name, Windows.KNOWN)) == answer

    for callid in {n.callid for n in answer}:
        said = [n for n in answer if n.callid == callid]
        assert [n.position for n in said] == list(range(1, len(said) + 1))
        for window in [n for n in said if n.rule in ("1", "18")]:
            assert window.rule == "18"
            after = said[said.index(window) + 1]
            assert (after.ext, after.ordinal) == (window.ext, window.ordinal)
            assert after.kind is Kind.ACCEPTED or after.status is Status.MISSED


@pytest.mark.no_cover
@for_each(NAMES)
def test_how_long_the_client_waited_is_still_known(name: str) -> None:
    ring, answer = (
        told(events(name), rules_for(name, windows)) for windows in (Windows.RING, Windows.ANSWER)
    )
    for callid in {n.callid for n in ring}:
        one, other = (result_of([n for n in said if n.callid == callid]) for said in (ring, answer))
        assert one is not None
        assert other is not None
        assert (one.result, one.talked, one.recordings) == (
            other.result,
            other.talked,
            other.recordings,
        )
        if one.waited is not None and other.waited is not None:
            assert other.waited <= one.waited


@pytest.mark.no_cover
@pytest.mark.parametrize("windows", [Windows.ANSWER, Windows.KNOWN])
@for_each(NAMES)
def test_a_restart_at_any_event_changes_nothing(name: str, windows: Windows) -> None:
    stream, rules = events(name), rules_for(name, windows)
    whole = told(stream, rules)
    for cut in range(len(stream) + 1):
        tracker = Tracker(rules)
        said = [n for event in stream[:cut] for n in tracker.feed(event)]
        again = Tracker(rules)
        again.callids.remember(n.callid for n in said)
        for callid in list(tracker.calls):
            snapshot.restore(again, snapshot.dump(tracker, callid) or "")
        # legs without a call are found again by the comparison, which is not played here
        for uuid, leg in tracker.book.legs.items():
            again.book.legs.setdefault(uuid, leg)
        said += [n for event in stream[cut:] for n in again.feed(event)]
        assert {(n.callid, n.ext, n.what) for n in said} == {
            (n.callid, n.ext, n.what) for n in whole
        }


def group(rules: Rules, **more: str) -> Scene:
    scene = Scene(rules).client(**more).phone("B", "101", "A", **more).phone("C", "102", "A")
    return scene.rings("B").rings("C")


def test_the_first_window_is_that_of_the_one_who_picks_up() -> None:
    scene = group(ANSWER)
    assert scene.so_far == []
    scene.answers("C").answers("A").bridge("A", "C")
    assert scene.so_far == [IN + "I102 A102"]
    assert scene.gone("B").gone("C").gone("A").told == [IN + "I102 A102 S102"]


def test_a_call_that_nobody_takes_is_missed_by_those_who_rang_at_its_end() -> None:
    scene = group(ANSWER)
    rang = scene.now
    assert scene.gone("B").gone("C").so_far == []
    assert scene.gone("A").told == [IN + "I101 M101 I102 M102"]
    incoming = scene.notices[0]
    assert (incoming.kind, incoming.at) == (Kind.INCOMING, (rang - 1) * 1_000_000)


def test_a_phone_that_the_call_has_left_is_not_told_of() -> None:
    scene = Scene(ANSWER).client().phone("B", "101", "A").rings("B").gone("B")
    scene.phone("C", "102", "A").rings("C")
    assert scene.gone("C").gone("A").told == [IN + "I102 M102"]


@pytest.mark.parametrize(
    ("missed", "line"),
    [(Missed.FIRST, "I101 M101"), (Missed.LAST, "I102 M102"), (Missed.NONE, "I101 X101 I102 X102")],
)
def test_missed_decides_who_is_told_of_a_call_that_nobody_took(missed: Missed, line: str) -> None:
    scene = group(Rules(windows=Windows.ANSWER, missed=missed))
    assert scene.gone("B").gone("C").gone("A").told == [IN + line]


def test_a_known_client_opens_windows_at_once_and_a_stranger_does_not() -> None:
    assert group(KNOWN, variable_planfix_known="true").so_far == [IN + "I101 I102"]
    assert group(KNOWN).so_far == []
    assert group(KNOWN, variable_planfix_known="false").so_far == []


def test_what_the_phones_own_leg_carries_is_enough() -> None:
    scene = Scene(KNOWN).client().phone("B", "101", "A", variable_planfix_known="true").rings("B")
    assert scene.so_far == [IN + "I101"]


def test_a_stranger_who_is_transferred_shows_up_when_the_colleague_takes_him() -> None:
    scene = Scene(ANSWER).client().phone("B", "101", "A").rings("B").answers("B").answers("A")
    scene.bridge("A", "B").phone("C", "102", "A").rings("C")
    assert scene.so_far == [IN + "I101 A101"]
    scene.gone("B").answers("C").bridge("A", "C")
    assert scene.gone("A").gone("C").told == [IN + "I101 A101 S101 I102 A102 S102"]


def test_an_outgoing_call_that_is_handed_over_opens_its_window_at_once() -> None:
    scene = Scene(ANSWER).employee("E", "101", "79161234567").outside("A", "E").answers("A")
    scene.answers("E").bridge("E", "A").phone("C", "102", "A").rings("C")
    assert scene.notices[-1].kind is Kind.INCOMING
    assert scene.notices[-1].type is Direction.IN
