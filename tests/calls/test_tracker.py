"""Rules that no recorded call shows, on events made by hand."""

from __future__ import annotations

import pytest

from fsplanfix.calls import snapshot
from fsplanfix.calls.model import Kind, Rules, Status
from fsplanfix.calls.tracker import Tracker

from ..support.cases import for_each
from ..support.scene import IN, OUT, Scene
from ..support.traces import NAMES, events, rules_of, told


def test_a_phone_that_never_rang_is_told_only_when_the_call_is_lost() -> None:
    scene = (
        Scene()
        .client()
        .phone("B", "101", "A")
        .gone("B", "USER_BUSY")
        .phone("C", "102", "A")
        .gone("C")
        .gone("A")
    )
    assert scene.told == [IN + "I101 M101 I102 M102"]


def test_a_phone_that_never_rang_is_not_told_when_somebody_else_did() -> None:
    scene = (
        Scene()
        .client()
        .phone("B", "101", "A")
        .gone("B", "USER_BUSY")
        .phone("C", "102", "A")
        .rings("C")
    )
    assert scene.gone("C").gone("A").told == [IN + "I102 M102"]


def test_answering_without_ringing_is_incoming_and_accepted_at_once() -> None:
    scene = Scene().client().phone("B", "101", "A").bridge("A", "B").gone("B").gone("A")
    assert scene.told == [IN + "I101 A101 S101"]


def test_early_media_after_ringing_says_nothing_new() -> None:
    scene = (
        Scene()
        .client()
        .phone("B", "101", "A")
        .rings("B")
        .event("CHANNEL_PROGRESS_MEDIA", "B")
        .gone("B")
        .gone("A")
    )
    assert scene.told == [IN + "I101 M101"]


def test_the_same_employee_rung_again_while_the_offer_is_open() -> None:
    scene = (
        Scene()
        .client()
        .phone("B", "101", "A")
        .rings("B")
        .gone("B")
        .phone("C", "101", "A")
        .rings("C")
    )
    assert scene.bridge("A", "C").gone("C").gone("A").told == [IN + "I101 A101 S101"]


def test_a_second_gateway_is_the_same_call() -> None:
    scene = (
        Scene().employee("A", "101").outside("B", "A").gone("B", "NORMAL_TEMPORARY_FAILURE", "503")
    )
    scene.outside("C", "A").bridge("A", "C").gone("C").gone("A")
    assert scene.told == [OUT + "O101 A101 S101"]


def test_the_last_gateway_says_why_a_call_failed() -> None:
    scene = Scene().employee("A", "101").outside("B", "A").gone("B", "USER_BUSY", "486")
    assert scene.outside("C", "A").gone("C", "CALL_REJECTED", "403").gone("A").told == [
        OUT + "O101 F101"
    ]


@pytest.mark.parametrize(
    ("cause", "sip", "letter"),
    [
        ("USER_BUSY", "", "B"),
        ("CALL_REJECTED", "603", "B"),
        ("NORMAL_CLEARING", "600", "B"),
        ("NORMAL_CLEARING", "486", "B"),
        ("CALL_REJECTED", "403", "F"),
        ("OUTGOING_CALL_BARRED", "", "F"),
        ("CALL_BARRED", "", "F"),
        ("BEARERCAPABILITY_NOTAUTH", "", "F"),
        ("NO_ANSWER", "", "N"),
        ("ALLOTTED_TIMEOUT", "", "N"),
        ("ORIGINATOR_CANCEL", "", "N"),
        ("RECOVERY_ON_TIMER_EXPIRE", "408", "V"),
        ("NO_USER_RESPONSE", "480", "V"),
        ("UNALLOCATED_NUMBER", "404", "V"),
        ("GATEWAY_DOWN", "", "V"),
        ("", "", "V"),
    ],
)
def test_why_an_outgoing_call_failed(cause: str, sip: str, letter: str) -> None:
    scene = Scene().employee("A", "101").outside("B", "A").gone("B", cause, sip).gone("A")
    assert scene.told == [OUT + f"O101 {letter}101"]


def test_the_client_of_an_outgoing_call_handed_on_blindly() -> None:
    scene = Scene().employee("A", "101").outside("B", "A").bridge("A", "B").gone("A")
    scene.phone("C", "102", "B").rings("C").bridge("B", "C").gone("B").gone("C")
    assert scene.told == [OUT + "O101 A101 S101 I102 A102 S102"]
    assert {n.type.value for n in scene.notices if n.ext == "102"} == {"in"}


def test_a_shown_ext_is_no_line() -> None:
    scene = Scene().employee("A", "101").outside("B", "A", shown="101").gone("B").gone("A")
    assert scene.notices[0].diversion == ""


def test_emergency_numbers_are_no_exts() -> None:
    scene = (
        Scene()
        .employee("A", "101")
        .outside("B", "A", number="112")
        .gone("B", "NO_ANSWER")
        .gone("A")
    )
    assert scene.told == ["out 112 74950000000 O101 N101"]


def test_an_attended_transfer_to_a_number_outside() -> None:
    """101 talks with a client, calls a mobile on a second line and joins the two: two client calls, each told once."""
    scene = Scene().client().phone("B", "101", "A").rings("B").bridge("A", "B")
    scene.employee("C", "101").outside("D", "C", number="79260000014").bridge("C", "D")
    scene.gone("C").gone("B").bridge("A", "D").gone("A").gone("D")
    assert scene.told == [
        IN + "I101 A101 S101 I79260000014 A79260000014 S79260000014",
        "out 79260000014 74950000000 O101 A101 S101",
    ]


def test_a_colleague_outside_fetches_a_waiting_client() -> None:
    """A mobile calls in and picks the client up: the later call is not a lost client of its own."""
    scene = Scene().client().client("X", number="79260000014").bridge("X", "A").gone("A").gone("X")
    assert scene.told == [IN + "I79260000014 A79260000014 S79260000014"]


def test_a_consultation_is_told_only_once_the_client_is_handed_over() -> None:
    """att_xfer: 101's own leg calls 102 while the client waits."""
    scene = (
        Scene()
        .client()
        .phone("B", "101", "A")
        .rings("B")
        .bridge("A", "B")
        .phone("C", "102", "B")
        .rings("C")
    )
    assert [n.ext for n in scene.notices] == ["101", "101"]
    scene.bridge("B", "C").gone("B").bridge("A", "C").gone("A").gone("C")
    assert scene.told == [IN + "I101 A101 S101 I102 A102 S102"]


def test_a_dialled_campaign_call_nobody_answered_is_no_missed_call() -> None:
    scene = Scene().event(
        "CHANNEL_CREATE",
        "A",
        Call__Direction="outbound",
        variable_sip_gateway_name="trunk",
        Caller__Destination__Number="79161234567",
    )
    assert scene.gone("A", "NO_ANSWER").told == []


def test_a_call_back_that_reaches_an_employee_is_told() -> None:
    scene = Scene().event(
        "CHANNEL_CREATE",
        "A",
        Call__Direction="outbound",
        variable_sip_gateway_name="trunk",
        Caller__Destination__Number="79161234567",
        Caller__Caller__ID__Number="74950000001",
    )
    assert scene.phone("B", "101", "A").rings("B").bridge("A", "B").gone("A").gone("B").told == [
        IN + "I101 A101 S101"
    ]


def test_a_leg_that_is_renamed_keeps_its_call() -> None:
    scene = (
        Scene()
        .client()
        .event("RECORD_START", "A", Record__File__Path="/r/a.wav")
        .phone("B", "101", "A")
        .rings("B")
    )
    scene.event("CHANNEL_UUID", "B2", Old__Unique__ID="B").bridge("A", "B2")
    scene.event("CHANNEL_UUID", "A2", Old__Unique__ID="A")
    scene.event("RECORD_STOP", "A2", Record__File__Path="/r/a.wav").gone("A2").gone("B2")
    assert scene.told == [IN + "I101 A101 S101! R"]
    assert {n.callid for n in scene.notices} == {"A"}


def test_a_rename_of_an_unknown_leg_is_nothing() -> None:
    assert Scene().event("CHANNEL_UUID", "B", Old__Unique__ID="A").told == []


def test_a_hidden_number_stays_hidden_even_if_the_trunk_tells_it() -> None:
    scene = Scene().client(Caller__Privacy__Hide__Number="true").gone("A")
    assert scene.notices[0].phone == "anonymous"


def test_ignored_from_the_first_event_on() -> None:
    scene = (
        Scene()
        .client()
        .phone("B", "101", "A", variable_planfix_ignore="true")
        .rings("B")
        .bridge("A", "B")
    )
    assert scene.gone("A").gone("B").told == []


def test_ignoring_comes_too_late_once_a_window_is_open() -> None:
    scene = (
        Scene()
        .client()
        .phone("B", "101", "A")
        .rings("B")
        .event("CHANNEL_ANSWER", "A", variable_planfix_ignore="1")
    )
    assert scene.gone("B").gone("A").told == [IN + "I101 M101"]


@pytest.mark.parametrize(
    "name", ["variable_sip_h_planfix_ignore", "variable_sip_h_X-planfix_ignore"]
)
def test_a_stranger_cannot_hide_a_call(name: str) -> None:
    scene = (
        Scene()
        .client(**{name: "true"})
        .phone("B", "101", "A", **{name: "true"})
        .rings("B")
        .gone("B")
        .gone("A")
    )
    assert scene.told == [IN + "I101 M101"]


def test_data_fields_are_bounded() -> None:
    more = {f"variable_planfix_data_f{n}": "x" * 2000 for n in range(80)} | {
        "variable_planfix_data_b-d": "no"
    }
    scene = Scene().client(**more).gone("A")
    data = scene.notices[-1].data
    assert len(data) == 50
    assert {len(value) for value in data.values()} == {1000}


def test_a_recording_that_ended_before_the_talk_does_not_make_it_recorded() -> None:
    scene = Scene().client().event("RECORD_START", "A", Record__File__Path="/r/greeting.wav")
    scene.event("RECORD_STOP", "A", Record__File__Path="/r/greeting.wav")
    assert scene.phone("B", "101", "A").bridge("A", "B").gone("A").gone("B").told == [
        IN + "I101 A101 S101"
    ]


def test_a_recording_on_the_employees_leg() -> None:
    scene = Scene().client().phone("B", "101", "A").rings("B").bridge("A", "B")
    scene.event("RECORD_START", "B", Record__File__Path="/r/b.wav").gone("A")
    assert [n.kind for n in scene.notices][-1] is Kind.COMPLETED
    scene.event("RECORD_STOP", "B", Record__File__Path="/r/b.wav").gone("B")
    assert scene.told == [IN + "I101 A101 S101! R"]


def test_a_recording_of_one_employee_does_not_count_for_the_next() -> None:
    scene = Scene().client().phone("B", "101", "A").bridge("A", "B")
    scene.event("RECORD_START", "B", Record__File__Path="/r/b.wav").phone("C", "102", "A").bridge(
        "A", "C"
    )
    assert scene.gone("A").gone("C").gone("B").told == [IN + "I101 A101 S101! I102 A102 S102 R"]


def test_an_empty_recording_was_deleted() -> None:
    scene = (
        Scene()
        .client()
        .phone("B", "101", "A")
        .bridge("A", "B")
        .event("RECORD_START", "A", Record__File__Path="/a")
    )
    scene.event("RECORD_STOP", "A", Record__File__Path="/a", Record__Completion__Cause="empty-file")
    assert scene.gone("A").gone("B").told == [IN + "I101 A101 S101"]


def test_one_file_is_one_record_however_often_it_is_resumed() -> None:
    scene = Scene().client().phone("B", "101", "A").bridge("A", "B")
    for _ in range(3):
        scene.event("RECORD_START", "A", Record__File__Path="/a").event(
            "RECORD_STOP", "A", Record__File__Path="/a"
        )
    assert scene.gone("A").gone("B").told == [IN + "I101 A101 S101! R"]


def test_a_clock_that_jumps_back_gives_no_negative_talk() -> None:
    scene = Scene().client().phone("B", "101", "A").bridge("A", "B")
    scene.now -= 3600
    scene.gone("A").gone("B")
    assert [n.duration for n in scene.notices if n.status is Status.SUCCESS] == [0]


def test_events_of_a_call_whose_beginning_was_not_seen_are_nothing() -> None:
    scene = Scene().rings("B").bridge("A", "B").gone("B").gone("A").outside("D", "C").gone("D")
    assert scene.told == []


def test_a_bridge_between_two_employees_is_nobodys_business() -> None:
    assert (
        Scene()
        .employee("A", "101")
        .phone("B", "102", "A")
        .rings("B")
        .bridge("A", "B")
        .gone("A")
        .gone("B")
        .told
        == []
    )


def test_glue_that_leads_in_a_circle_is_survived() -> None:
    def glue(leg: str, pair: str) -> dict[str, str]:
        return {
            "Channel__Name": f"loopback/{leg}",
            "variable_other_loopback_leg_uuid": pair,
            "Call__Direction": "outbound",
        }

    scene = Scene().event("CHANNEL_CREATE", "L1", Other__Leg__Unique__ID="L2", **glue("L1", "L2"))
    scene.event("CHANNEL_CREATE", "L2", Other__Leg__Unique__ID="L1", **glue("L2", "L1"))
    scene.client().phone("B", "101", "L1").bridge("L1", "L2").bridge("A", "L1").gone("B").gone(
        "L1"
    ).gone("L2")
    assert scene.gone("A").told == [IN + "I- M-"]


@pytest.mark.parametrize("uuid", ["A" * 257, "a b", "a\nb", "a\x00b", "a\u2028b"])
def test_what_can_be_no_uuid_is_passed_over(uuid: str) -> None:
    assert Scene().client(uuid).told == []


@pytest.mark.parametrize("uuid", ["A" * 256, "1-2@192.0.2.1", "Иванов", "%00"])
def test_any_printable_text_may_be_a_uuid(uuid: str) -> None:
    scene = Scene().client(uuid).phone("B", "101", uuid).rings("B").gone("B").gone(uuid)
    assert scene.told == [IN + "I101 M101"]
    assert {n.callid for n in scene.notices} == {uuid}


def test_the_fuller_account_of_a_call_wins() -> None:
    stream = events("group_answered")
    behind, ahead = Tracker(Rules()), Tracker(Rules())
    for event in stream[:20]:
        ahead.feed(event)
    for event in stream[:12]:
        behind.feed(event)
    (callid,) = ahead.calls
    fuller, poorer = snapshot.dump(ahead, callid), snapshot.dump(behind, callid)
    assert fuller is not None
    assert poorer is not None
    position = ahead.calls[callid].position
    assert behind.calls[callid].position < position
    assert snapshot.restore(ahead, poorer) == snapshot.restore(behind, fuller) == callid
    assert ahead.calls[callid].position == behind.calls[callid].position == position


@pytest.mark.no_cover
@for_each(NAMES)
def test_an_open_call_survives_being_written_down_at_any_moment(name: str) -> None:
    """Legs outside client calls (a colleague who is being asked first) are not kept: reconciling will find them."""
    stream, rules = events(name), rules_of(name)
    whole = told(stream, rules)
    for cut in range(0, len(stream), 3):
        first = Tracker(rules)
        said = [n for event in stream[:cut] for n in first.feed(event)]
        second = Tracker(rules)
        for callid in list(first.calls):
            state = snapshot.dump(first, callid)
            assert state is not None
            snapshot.restore(second, state)
        orphans = set(first.book.legs) - set(second.book.legs)
        if orphans:
            continue
        said += [n for event in stream[cut:] for n in second.feed(event)]
        assert said == whole
        assert snapshot.dump(second, "no such call") is None
