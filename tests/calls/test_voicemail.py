"""A message that a client leaves is the recording of his missed call (docs/call-rules.md, rule 13)."""

from collections.abc import Iterable

import pytest

from fsplanfix.calls.model import Kind, Notice, Rules
from fsplanfix.calls.snapshot import dump, restore
from fsplanfix.calls.tracker import Tracker
from fsplanfix.freeswitch.events import SwitchEvent

from ..support.scene import Scene
from ..support.traces import events

ON = Rules(voicemail=True)
TRACE = "vanilla/did_no_answer_voicemail"
FILE = "/var/lib/freeswitch/storage/voicemail/default/127.0.0.1/1001/msg_1.wav"


def told(stream: Iterable[SwitchEvent], rules: Rules) -> list[Notice]:
    tracker = Tracker(rules)
    return [notice for event in stream for notice in tracker.feed(event)]


def message(scene: Scene, leg: str, path: str = FILE, action: str = "leave-message") -> Scene:
    headers = {"VM__Action": action, "VM__File__Path": path}
    return scene.event("CUSTOM", leg, Event__Subclass="vm::maintenance", **headers)


def missed(rules: Rules = ON) -> Scene:
    """A client whom nobody answered, and who is in the mailbox now."""
    scene = Scene(rules).client().phone("B", "101", "A").event("CHANNEL_PROGRESS", "B")
    scene.event("CHANNEL_HANGUP", "B", Hangup__Cause="NO_ANSWER")
    return scene.event("CHANNEL_HANGUP_COMPLETE", "B").event("CHANNEL_ANSWER", "A")


def leave(scene: Scene) -> Scene:
    return scene.event("CHANNEL_HANGUP", "A").event("CHANNEL_HANGUP_COMPLETE", "A")


def records(scene: Scene) -> list[str]:
    return [notice.recording for notice in scene.notices if notice.kind is Kind.RECORD]


def test_the_message_comes_after_the_end_of_the_missed_call() -> None:
    stream = events(TRACE)
    before, after = told(stream, Rules()), told(stream, ON)
    assert after[:-1] == before
    record = after[-1]
    assert (record.kind, record.rule, record.callid) == (Kind.RECORD, "13", before[0].callid)
    assert record.recording.endswith("/1001/msg_01451a85-364e-4631-82f6-bbce1fd9e25a.wav")


def test_the_event_is_subscribed_to_only_if_it_is_wanted() -> None:
    assert Tracker(Rules()).event_names[-1] == "conference::maintenance"
    assert Tracker(ON).event_names[-2:] == ["conference::maintenance", "vm::maintenance"]


def test_the_mailbox_on_the_clients_own_leg() -> None:
    scene = message(missed(), "A")
    assert records(scene) == []
    assert records(leave(scene)) == [FILE]
    assert [notice.kind for notice in scene.notices][-2:] == [Kind.COMPLETED, Kind.RECORD]


def test_who_leaves_none_ends_his_call_as_before() -> None:
    assert leave(missed()).notices == leave(missed(Rules())).notices
    other = message(missed(), "A", action="mwi-update")
    assert records(leave(other)) == []
    assert records(leave(message(missed(), "A", path=""))) == []


def test_a_message_told_twice_is_one_and_two_are_two() -> None:
    scene = message(message(missed(), "A"), "A")
    message(scene, "A", path=FILE.replace("_1", "_2"))
    assert records(leave(scene)) == [FILE, FILE.replace("_1", "_2")]


def test_a_call_with_a_talk_has_the_recordings_of_its_talk_alone() -> None:
    scene = Scene(ON).client().phone("B", "101", "A").event("CHANNEL_PROGRESS", "B")
    scene.event("CHANNEL_ANSWER", "B").event("CHANNEL_ANSWER", "A")
    scene.event("CHANNEL_BRIDGE", "A", Other__Leg__Unique__ID="B")
    scene.event("CHANNEL_HANGUP", "B").event("CHANNEL_HANGUP_COMPLETE", "B")
    assert records(leave(message(scene, "A"))) == []


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_restart_forgets_no_message(cut: int) -> None:
    stream = events(TRACE)
    whole = told(stream, ON)
    (first, *_) = {notice.callid for notice in whole}
    before, after = Tracker(ON), Tracker(ON)
    said = [notice for event in stream[:-cut] for notice in before.feed(event)]
    state = dump(before, first)
    if state is not None:
        restore(after, state)
        said += [notice for event in stream[-cut:] for notice in after.feed(event)]
    assert said == whole
