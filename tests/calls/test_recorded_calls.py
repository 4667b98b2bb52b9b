"""Every recorded call, whole, mixed, repeated and cut off."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsplanfix.calls.model import Direction, Kind, Notice, Rules, Status
from fsplanfix.calls.tracker import Tracker
from fsplanfix.freeswitch.events import SwitchEvent

from ..support.cases import for_each
from ..support.commands import call_cli
from ..support.traces import (
    NAMES,
    assert_every_part_ends_once,
    bodies,
    events,
    expected,
    is_one_of,
    path_of,
    rules_of,
    shorthand,
    told,
)

SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("name", NAMES)
def test_planfix_is_told_exactly_what_the_rules_say(name: str) -> None:
    notices = told((SwitchEvent(body) for body in bodies(name)), rules_of(name))
    wanted = expected()[name]
    assert is_one_of(shorthand(notices).values(), wanted.calls), shorthand(notices)
    for n in notices:
        if n.status is Status.SUCCESS and (span := wanted.talk.get(n.ext)):
            assert span[0] <= n.duration <= span[1]


@pytest.mark.no_cover
@for_each(NAMES)
def test_windows_close_and_links_go_out_at_the_right_moment(name: str) -> None:
    for tokens in shorthand(told(events(name), rules_of(name))).values():
        kinds = [token[0] for token in tokens[1:]]
        for at, kind in enumerate(kinds):
            if kind == "X":
                assert "A" in kinds[:at] or "I" in kinds[at:]
        if "R" in kinds:
            assert not set(kinds[kinds.index("R") :]) - {"R"}


DURATIONS = {
    "attended_transfer": [("101", 3), ("102", 2)],
    "attended_transfer_outgoing": [("101", 3), ("102", 1)],
    "blind_transfer_answered": [("101", 1), ("102", 1)],
    "blind_transfer_no_answer": [("101", 1)],
    "group_answered": [("102", 2)],
    "group_loopback": [("102", 2)],
    "in_held_and_resumed": [("101", 3)],
    "intercepted": [("104", 1)],
    "makecall_answered": [("101", 2)],
    "out_answered": [("101", 2)],
    "out_answered_client_hangs_up": [("101", 1)],
    "parked_and_retrieved": [("101", 1), ("104", 1)],
    "queue_answered": [("102", 1)],
    "same_client_twice": [("101", 1)],
}
"""Read by hand from the traces: CHANNEL_BRIDGE, both legs answered, to the CHANNEL_HANGUP that
ends the talk."""


@pytest.mark.parametrize("name", DURATIONS)
def test_a_talk_lasts_whole_seconds_from_bridge_to_hangup(name: str) -> None:
    notices = told(events(name))
    assert [(n.ext, n.duration) for n in notices if n.status is Status.SUCCESS] == DURATIONS[name]
    assert not any(n.duration for n in notices if n.status is not Status.SUCCESS)


def test_hold_is_part_of_the_talk_and_a_short_second_is_cut() -> None:
    """queue_answered lasts 1.98 s by its timestamps: one whole second."""
    success = next(n for n in told(events("queue_answered")) if n.status is Status.SUCCESS)
    assert success.duration == 1


def test_marketing_variables_reach_every_completed() -> None:
    notices = told(events("utm_variables"))
    assert [n.data for n in notices if n.kind is Kind.COMPLETED] == [
        {"utm_source": "site.io", "utm_medium": "banner"}
    ]
    assert all(not n.data for n in notices if n.kind is not Kind.COMPLETED)


def test_the_recording_is_the_file_freeswitch_wrote() -> None:
    record = told(events("in_one_answered"))[-1]
    assert record.kind is Kind.RECORD
    assert record.recording == f"/var/lib/freeswitch/recordings/{record.callid}.wav"


def test_an_unrouted_call_can_be_kept_quiet() -> None:
    assert told(events("ivr_abandoned"), Rules(report_unrouted=False)) == []


def test_an_unrouted_call_can_be_given_to_somebody() -> None:
    assert [n.ext for n in told(events("ivr_abandoned"), Rules(default_ext={"*": "100"}))] == [
        "100",
        "100",
    ]


def test_a_mobile_with_an_alias_and_the_desk_phone_are_one_employee() -> None:
    """mobile_twin_mobile_answers: 101's desk phone and mobile ring together."""
    calls = shorthand(
        told(events("mobile_twin_mobile_answers"), Rules(aliases={"79260000007": "101"}))
    )
    assert list(calls.values()) == [["in 79161234567 74950000007", "I101", "A101", "S101"]]


def test_planfix_short_codes_may_differ_from_exts() -> None:
    notices = told(events("in_one_answered"), Rules(aliases={"101": "501"}))
    assert {n.ext for n in notices if n.ext} == {"501"}


@pytest.mark.parametrize("name", ["internal_answered", "internal_no_answer"])
def test_an_unauthenticated_caller_is_never_an_employee(name: str) -> None:
    """Take the login out of the events: the same call from a stranger who calls himself 101."""
    stripped = [
        b"\n".join(
            line
            for line in body.split(b"\n")
            if not line.startswith((b"variable_user_name:", b"variable_sip_auth_username:"))
        )
        for body in bodies(name)
    ]
    notices = told(SwitchEvent(body) for body in stripped)
    assert {n.phone for n in notices} == {"101"}
    assert {n.type for n in notices} == {Direction.IN}
    trusting = Rules(trusted_contexts=frozenset({"default"}))
    assert told((SwitchEvent(body) for body in stripped), trusting) == []


@SLOW
@given(st.data(), st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_two_calls_at_once_are_told_as_each_would_be_alone(
    data: st.DataObject, one: str, other: str
) -> None:
    if one == other:
        return
    streams = [list(events(one)), list(events(other))]
    mixed: list[SwitchEvent] = []
    for first in data.draw(st.lists(st.booleans(), min_size=150, max_size=150)):
        stream = streams[0] if (first and streams[0]) or not streams[1] else streams[1]
        if stream:
            mixed.append(stream.pop(0))
    mixed += streams[0] + streams[1]
    both = shorthand(told(mixed))
    assert both == {**shorthand(told(events(one))), **shorthand(told(events(other)))}


@SLOW
@given(st.data(), st.sampled_from(NAMES))
def test_an_event_that_arrives_again_changes_nothing(data: st.DataObject, name: str) -> None:
    stream = list(events(name))
    if not stream:
        return
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(stream) - 1))
        again = data.draw(st.integers(at, len(stream)))
        stream.insert(again, stream[at])
    assert told(stream) == told(events(name))


def hangup(uuid: str, at: int) -> SwitchEvent:
    return SwitchEvent(
        f"Event-Name: CHANNEL_HANGUP_COMPLETE\nUnique-ID: {uuid}\nEvent-Date-Timestamp: {at}\n"
        "Hangup-Cause: NORMAL_CLEARING\n\n".encode()
    )


@pytest.mark.no_cover
@pytest.mark.parametrize("backwards", [False, True])
@for_each(NAMES)
def test_a_call_cut_off_anywhere_still_ends_for_everyone(name: str, backwards: bool) -> None:
    stream = events(name)
    for length in range(len(stream) + 1):
        tracker = Tracker(rules_of(name))
        notices = [n for event in stream[:length] for n in tracker.feed(event)]
        for uuid in sorted(tracker.book.legs, reverse=backwards):
            notices += tracker.feed(hangup(uuid, stream[length - 1].at + 1))
        assert_every_part_ends_once(notices)
        assert not tracker.calls
        assert not tracker.book.legs


HEADERS = [
    "Event-Name",
    "Unique-ID",
    "Other-Leg-Unique-ID",
    "Call-Direction",
    "Channel-Name",
    "Caller-Caller-ID-Number",
    "Caller-Destination-Number",
    "variable_dialed_user",
    "variable_other_loopback_leg_uuid",
    "variable_planfix_data_x",
    "Record-File-Path",
    "Old-Unique-ID",
    "Event-Sequence",
    "Event-Date-Timestamp",
    "Hangup-Cause",
]


@pytest.mark.no_cover
@SLOW
@given(st.data())
def test_hostile_header_values_never_raise(data: st.DataObject) -> None:
    tracker = Tracker(Rules())
    names = st.sampled_from([*tracker.event_names, "", "X"])
    values = st.one_of(
        st.sampled_from(
            ["a", "b", "c", "loopback/1-a", "outbound", "101", "79161234567", "%0AUnique-ID: a"]
        ),
        st.text(max_size=30),
    )
    for _ in range(data.draw(st.integers(1, 40))):
        fields = data.draw(st.dictionaries(st.sampled_from(HEADERS), values, max_size=12))
        fields["Event-Name"] = data.draw(names)
        fields["Unique-ID"] = data.draw(st.sampled_from("abcd"))
        body = "".join(f"{name}: {value}\n" for name, value in fields.items())
        assert_well_formed(tracker.feed(SwitchEvent(body.encode("utf-8", "replace"))))


def assert_well_formed(notices: list[Notice]) -> None:
    for n in notices:
        assert n.callid
        assert n.phone
        assert n.duration >= 0


def test_replay_needs_no_settings_and_prints_form_fields(tmp_path: Path) -> None:
    done = call_cli(tmp_path, "replay", "--json", str(path_of("in_one_answered")))
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert [line.get("event", line["cmd"]) for line in lines] == [
        "INCOMING",
        "ACCEPTED",
        "COMPLETED",
    ]
    assert set(lines[0]) == {"cmd", "type", "event", "phone", "diversion", "ext", "callid"}
    assert set(lines[2]) == set(lines[0]) | {"duration", "is_recorded", "status", "record_link"}


def test_the_same_recording_may_be_unpacked(tmp_path: Path) -> None:
    plain = tmp_path / "call.jsonl"
    with gzip.open(path_of("in_one_answered")) as packed, plain.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked)
    assert "Success: talked 2 s, recorded" in call_cli(tmp_path, "replay", str(plain)).stdout


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"", "is empty"),
        (b"\x1f\x8bgarbage", "not a whole gzip file"),
        (b"\xff\xfe\xfa", "is not text"),
        (b"hello\n", "line 1 is not the first line of a recorded call"),
        (b'{"scenario": "x", "freeswitch": "1"}\n{"t": 0}\n', "line 2 is not an event"),
        (b'{"scenario": "x", "freeswitch": "1"}\n[[[[\n', "line 2 is not an event"),
        (b'{"scenario": "x", "freeswitch": "1"}\n{"t": 0, "event": 5}\n', "line 2 is not an event"),
    ],
)
def test_a_file_that_is_no_recording_gets_one_sentence(
    tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    path = tmp_path / "bad.jsonl.gz"
    if content is not None:
        path.write_bytes(content)
    done = call_cli(tmp_path, "replay", str(path))
    assert done.returncode == 1
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
