"""When a call is offered, when people talk, and when they stop (docs/call-rules.md, rules 1 to 10)."""

import pytest

from fsplanfix.calls.model import Kind, Missed, Rules, Status

from ..support.scene import IN, OUT, Scene

ANSWERED = {"Caller__Channel__Answered__Time": "1", "Other__Leg__Channel__Answered__Time": "1"}


def ringing(rules: Rules | None = None) -> Scene:
    return Scene(rules).client().phone("B", "101", "A").rings("B")


def talking() -> Scene:
    return ringing().bridge("A", "B")


# a bridge is not an answer


def test_a_bridge_in_early_media_is_a_ringing_phone() -> None:
    scene = Scene().client().phone("B", "101", "A").early_bridge("A", "B")
    assert scene.so_far == [IN + "I101"]
    assert scene.gone("B", "NO_ANSWER").gone("A").told == [IN + "I101 M101"]


def test_an_answer_makes_up_for_a_bridge_in_early_media() -> None:
    scene = ringing().early_bridge("A", "B").answers("B")
    assert scene.so_far == [IN + "I101"]
    scene.answers("A")
    began = scene.now
    assert scene.so_far == [IN + "I101 A101"]
    scene.hangs_up("A")
    assert scene.gone("B").torn_down("A").talked == [("101", scene.now - 3 - began)]


def test_others_ring_on_during_early_media() -> None:
    scene = ringing().outside("C", "A", "79260000007").early_bridge("A", "C").answers("A")
    assert scene.so_far == [IN + "I101 I79260000007"]
    scene.answers("C")
    assert scene.so_far == [IN + "I101 I79260000007 A79260000007 X101"]


def test_an_outgoing_call_in_early_media_ended_as_the_network_says() -> None:
    scene = Scene().employee("A", "101").outside("B", "A").early_bridge("A", "B")
    assert scene.gone("B", "USER_BUSY", "486").gone("A").told == [OUT + "O101 B101"]


def test_loopback_legs_answer_for_nobody() -> None:
    """The client hears a loopback that has answered; the phone behind it still rings."""
    glue = {"Channel__Name": "loopback/101-a", "variable_other_loopback_leg_uuid": "M"}
    scene = Scene().client().phone("L", "", "A", **glue)
    scene.phone("M", "", **glue | {"variable_other_loopback_leg_uuid": "L"})
    scene.phone("B", "101", "M").rings("B").answers("A").answers("L").answers("M")
    scene.event("CHANNEL_BRIDGE", "A", Other__Leg__Unique__ID="L", **ANSWERED)
    scene.early_bridge("M", "B", one_answered=True)
    assert scene.so_far == [IN + "I101"]
    assert scene.answers("B").so_far == [IN + "I101 A101"]


# several phones of one ext


def test_two_devices_of_one_ext_are_one_offer_and_lose_to_nobody() -> None:
    scene = ringing().phone("C", "101", "A").rings("C").bridge("A", "C").gone("B", "LOSE_RACE")
    assert scene.gone("C").gone("A").told == [IN + "I101 A101 S101"]


def test_one_device_declines_and_the_other_rings_on() -> None:
    scene = ringing().phone("C", "101", "A").rings("C").gone("B", "CALL_REJECTED")
    scene.phone("D", "102", "A").rings("D")
    assert scene.so_far == [IN + "I101 I102"]


# the end of a talk


def test_a_talk_ends_with_the_hang_up_however_long_the_leg_is_torn_down() -> None:
    scene = talking()
    began = scene.now
    scene.hangs_up("A")
    ended = scene.now
    scene.now += 1800
    scene.torn_down("A").gone("B")
    assert scene.talked == [("101", ended - began)]


def test_an_end_is_said_when_recordings_are_final() -> None:
    scene = talking().event("RECORD_START", "A", Record__File__Path="/a").hangs_up("A").gone("B")
    assert scene.so_far == [IN + "I101 A101"]
    scene.event("RECORD_STOP", "A", Record__File__Path="/a").torn_down("A")
    assert scene.told == [IN + "I101 A101 S101! R"]


def test_who_has_hung_up_need_not_wait_while_the_client_goes_on() -> None:
    """att_xfer: the leg of 101 is torn down only when its application ends."""
    scene = talking().hangs_up("B").phone("C", "102", "A").rings("C").bridge("A", "C")
    assert scene.so_far == [IN + "I101 A101 I102 S101 A102"]
    assert scene.torn_down("B").gone("C").gone("A").told == [IN + "I101 A101 I102 S101 A102 S102"]


def test_a_client_moved_on_talks_with_the_first_no_more() -> None:
    """The leg of 101 stands on (fifo, uuid_dual_transfer): his talk ended at the UNBRIDGE."""
    scene = talking()
    began = scene.now
    scene.unbridge("A", Other__Leg__Unique__ID="")
    parted = scene.now
    scene.phone("C", "102", "A").rings("C").answers("C").bridge("A", "C")
    assert scene.so_far == [IN + "I101 A101 I102 S101 A102"]
    assert scene.talked == [("101", parted - began)]


def test_hold_and_a_second_bridge_with_the_same_employee_end_nothing() -> None:
    scene = talking().unbridge("A").bridge("B", "A").unbridge("A").bridge("A", "B").gone("B")
    assert scene.gone("A").told == [IN + "I101 A101 S101"]


def test_a_consultation_ends_nothing() -> None:
    scene = talking().phone("C", "102", "B").rings("C").bridge("B", "C")
    assert scene.so_far == [IN + "I101 A101"]
    scene.gone("C").unbridge("B").bridge("B", "A").gone("A").gone("B")
    assert scene.told == [IN + "I101 A101 S101"]


def test_the_next_phone_that_only_rings_ends_the_talk_of_who_was_left() -> None:
    scene = talking().unbridge("A").outside("C", "A", "79260000099").early_bridge("A", "C")
    assert scene.so_far == [IN + "I101 A101 S101 I79260000099"]


def test_an_employee_who_takes_the_client_back_has_a_second_part() -> None:
    scene = talking().hangs_up("B").torn_down("B").phone("C", "101", "A").rings("C")
    assert scene.gone("C").gone("A").told == [IN + "I101 A101 S101 I101 M101"]


# transfers while it rings


def test_a_transfer_while_it_rings_rings_for_the_client() -> None:
    scene = talking().employee("C", "101", "102").phone("D", "102", "C").rings("D")
    assert scene.so_far == [IN + "I101 A101"]
    scene.hangs_up("C").gone("B").unbridge("A", variable_att_xfer_kill_uuid="C")
    assert scene.so_far == [IN + "I101 A101 S101 I102"]
    assert scene.gone("A").gone("D").torn_down("C").told == [IN + "I101 A101 S101 I102 M102"]


def test_a_phone_placed_after_the_transfer_rings_for_the_client_as_well() -> None:
    scene = talking().employee("C", "101", "102").hangs_up("C").gone("B")
    scene.unbridge("A", variable_att_xfer_kill_uuid="C").phone("D", "102", "C").rings("D")
    assert scene.so_far == [IN + "I101 A101 S101 I102"]


def test_handing_over_to_a_number_that_still_rings_is_no_answer_of_his() -> None:
    scene = talking().employee("C", "101", "79260000007").outside("D", "C", "79260000007")
    scene.rings("D").hangs_up("C").gone("B").unbridge("A", variable_att_xfer_kill_uuid="C")
    scene.answers("D").torn_down("C").bridge("A", "D").gone("A").gone("D")
    assert scene.told == [
        IN + "I101 A101 S101 I79260000007 A79260000007 S79260000007",
        "out 79260000007 74950000000 O101 N101",
    ]


# clients who meet each other


def test_two_clients_joined_with_each_other_are_nobodys_employee() -> None:
    scene = talking().client("C", number="79039876543").phone("D", "101", "C").rings("D")
    scene.bridge("C", "D").bridge("A", "C").gone("B").gone("D").gone("A").gone("C")
    other = "in 79039876543 74950000001 I101 A101 S101"
    assert scene.told == [IN + "I101 A101 S101", other]


# who missed it


@pytest.mark.parametrize(
    ("missed", "ends"),
    [
        (Missed.ALL, "M101 M102 M103"),
        (Missed.FIRST, "M101 X102 X103"),
        (Missed.LAST, "X101 X102 M103"),
        (Missed.NONE, "X101 X102 X103"),
    ],
)
def test_missed_says_for_whom(missed: Missed, ends: str) -> None:
    scene = ringing(Rules(missed=missed)).phone("C", "102", "A").rings("C")
    scene.phone("D", "103", "A").rings("D").gone("B").gone("C").gone("D").gone("A")
    assert scene.told == [IN + "I101 I102 I103 " + ends]


def test_a_phone_that_is_not_registered_is_named_by_the_clients_own_leg() -> None:
    scene = Scene().client().hangs_up("A")
    scene.torn_down(
        "A",
        variable_originate_disposition="USER_NOT_REGISTERED",
        variable_dialed_user="1015",
    )
    assert scene.told == [IN + "I1015 M1015"]


def test_who_was_tried_goes_before_who_was_not_there() -> None:
    scene = Scene().client().phone("B", "101", "A").gone("B", "USER_BUSY").hangs_up("A")
    scene.torn_down(
        "A",
        variable_originate_disposition="SUBSCRIBER_ABSENT",
        variable_dialed_user="1015",
    )
    assert scene.told == [IN + "I101 M101"]


def test_the_default_ext_may_differ_by_line() -> None:
    rules = Rules(default_ext={"74950000001": "101", "*": "100"})
    assert Scene(rules).client().gone("A").told == [IN + "I101 M101"]
    other = Scene(rules).client(Caller__Destination__Number="74950000002").gone("A")
    assert other.told == ["in 79161234567 74950000002 I100 M100"]


# answered by somebody without an ext


def test_a_client_who_talked_with_a_bot_was_not_missed() -> None:
    scene = Scene().client().phone("B", "", "A", Channel__Name="sofia/external/bot")
    scene.bridge("A", "B")
    began = scene.now
    assert scene.so_far == []
    scene.hangs_up("A").gone("B").torn_down("A")
    assert scene.told == [IN + "I- A- S-"]
    assert scene.talked == [("", 1)]
    accepted = next(n for n in scene.notices if n.kind is Kind.ACCEPTED)
    assert accepted.at == began * 1_000_000


def test_talks_without_an_ext_are_one_and_go_to_the_default_ext() -> None:
    scene = Scene(Rules(default_ext={"*": "100"})).client()
    for leg in ("B", "C"):
        scene.phone(leg, "door", "A").bridge("A", leg)
        scene.now += 9
        scene.gone(leg)
    assert scene.gone("A").told == [IN + "I100 A100 S100"]
    assert scene.talked == [("100", 20)]


def test_a_bot_that_hands_on_is_not_told() -> None:
    scene = Scene().client().phone("B", "", "A", Channel__Name="sofia/external/bot")
    scene.bridge("A", "B").gone("B").phone("C", "101", "A").rings("C").bridge("A", "C")
    assert scene.gone("C").gone("A").told == [IN + "I101 A101 S101"]


def test_a_bot_that_never_answers_leaves_a_missed_call() -> None:
    scene = Scene().client().phone("B", "", "A", Channel__Name="sofia/external/bot")
    assert scene.early_bridge("A", "B").gone("B").gone("A").told == [IN + "I- M-"]


# conferences


def test_a_client_in_a_conference_talked_with_the_employee_there() -> None:
    scene = Scene().client().member("add-member", "A").employee("B", "101", "3000")
    scene.member("add-member", "B")
    scene.now += 9
    scene.hangs_up("A").member("del-member", "A").torn_down("A").gone("B")
    assert scene.told == [IN + "I101 A101 S101"]
    assert scene.talked == [("101", 10)]


def test_a_conference_in_another_room_is_no_talk() -> None:
    scene = Scene().client().member("add-member", "A").employee("B", "101", "3001")
    scene.member("add-member", "B", "3001").gone("A").gone("B")
    assert scene.told == [IN + "I- M-"]


def test_who_left_the_conference_is_heard_no_more() -> None:
    scene = Scene().client().member("add-member", "A").employee("B", "101", "3000")
    scene.member("add-member", "B").member("del-member", "B").employee("C", "102", "3000")
    scene.now += 100
    scene.member("add-member", "C").gone("A").gone("B").gone("C")
    assert scene.told == [IN + "I101 A101 S101 I102 A102 S102"]
    assert scene.talked == [("101", 1), ("102", 1)]


def test_a_conference_after_a_talk_says_nothing_new() -> None:
    scene = talking().member("add-member", "A").member("add-member", "B")
    scene.employee("C", "102", "3000").member("add-member", "C").gone("A").gone("B").gone("C")
    assert scene.told == [IN + "I101 A101 S101"]


def test_other_things_said_of_a_conference_are_nothing() -> None:
    scene = Scene().client().member("mute-member", "A").member("add-member", "A", "")
    scene.event("CUSTOM", "A", Event__Subclass="callcenter::info", Action="add-member")
    assert scene.gone("A").told == [IN + "I- M-"]


# outgoing calls


def test_a_caller_who_gives_up_in_ringback_got_no_answer() -> None:
    scene = Scene().employee("A", "101").outside("B", "A").early_bridge("A", "B").hangs_up("A")
    assert scene.gone("B").torn_down("A").told == [OUT + "O101 N101"]


@pytest.mark.parametrize(("rang", "letter"), [(True, "N"), (False, "V")])
def test_408_is_no_answer_only_if_it_rang(rang: bool, letter: str) -> None:
    scene = Scene().employee("A", "101").outside("B", "A")
    scene = scene.rings("B") if rang else scene
    scene.gone("B", "RECOVERY_ON_TIMER_EXPIRE", "408").gone("A")
    assert scene.told == [OUT + f"O101 {letter}101"]


def test_the_hang_up_says_why_even_if_its_end_is_not_heard() -> None:
    scene = Scene().employee("A", "101").outside("B", "A").hangs_up("B", "USER_BUSY", "486")
    scene.event("CHANNEL_HANGUP_COMPLETE", "B").gone("A")
    assert scene.told == [OUT + "O101 B101"]


def test_a_talk_of_an_outgoing_call_is_told_once_both_are_gone() -> None:
    scene = Scene().employee("A", "101").outside("B", "A").bridge("A", "B").gone("B")
    assert scene.so_far == [OUT + "O101 A101"]
    scene.now += 100
    assert scene.gone("A").told == [OUT + "O101 A101 S101"]
    assert scene.talked == [("101", 1)]


def test_a_client_handed_on_is_the_colleagues_of_type_in() -> None:
    scene = Scene().employee("A", "101").outside("B", "A").bridge("A", "B").unbridge("B")
    scene.phone("C", "102", "B").rings("C").bridge("B", "C")
    assert scene.so_far == [OUT + "O101 A101 I102 S101 A102"]
    assert [n.status for n in scene.notices if n.status] == [Status.SUCCESS]


# nobody is missed who talked


def test_a_bot_that_wins_over_a_ringing_phone_is_told() -> None:
    scene = ringing().phone("H", "bot", "A").gone("B", "LOSE_RACE").bridge("A", "H").gone("A")
    assert scene.gone("H").told == [IN + "I101 X101 I- A- S-"]


def test_the_reception_that_hands_over_in_vain_has_talked() -> None:
    scene = Scene(Rules(default_ext={"*": "101"})).client().phone("H", "door", "A").bridge("A", "H")
    scene.gone("H").phone("B", "101", "A").rings("B").gone("B").gone("A")
    assert scene.told == [IN + "I101 X101 I101 A101 S101"]


def test_a_standing_employee_has_talked_once_the_client_is_with_a_bot() -> None:
    scene = talking()
    began = scene.now
    scene.unbridge("A").phone("H", "bot", "A").bridge("A", "H")
    parted = scene.now - 2
    scene.now += 600
    assert scene.gone("A").gone("H").gone("B").told == [IN + "I101 A101 S101"]
    assert scene.talked == [("101", parted - began)]


def test_a_phone_rung_for_the_client_and_joined_in_a_conference_has_talked() -> None:
    scene = ringing().answers("A").answers("B").member("add-member", "A").member("add-member", "B")
    assert scene.so_far == [IN + "I101 A101"]
    assert scene.gone("A").gone("B").told == [IN + "I101 A101 S101"]


def test_who_meets_the_client_in_a_conference_after_ringing_in_vain_has_talked() -> None:
    scene = ringing().gone("B").answers("A").member("add-member", "A").employee("C", "102", "3000")
    scene.answers("C").member("add-member", "C").gone("A").gone("C")
    assert scene.told == [IN + "I101 X101 I102 A102 S102"]


def test_an_outgoing_call_joined_in_a_conference_is_a_talk() -> None:
    scene = Scene().employee("A", "101").answers("A").member("add-member", "A").outside("B", "A")
    scene.answers("B").member("add-member", "B")
    assert scene.gone("B").gone("A").told == [OUT + "O101 A101 S101"]


def test_a_phone_that_rings_late_lost_to_who_has_the_client() -> None:
    scene = talking().phone("C", "102", "A").rings("C").gone("C")
    assert scene.gone("A").gone("B").told == [IN + "I101 A101 I102 X102 S101"]


def test_a_call_lost_in_the_menu_is_missed_whatever_missed_says() -> None:
    assert Scene(Rules(missed=Missed.NONE)).client().gone("A").told == [IN + "I- M-"]


def test_a_gateway_that_lets_go_late_prolongs_no_talk() -> None:
    scene = Scene().employee("A", "101").outside("B", "A").outside("C", "A").answers("A")
    scene.answers("B").bridge("A", "B")
    began = scene.now
    scene.hangs_up("B")
    ended = scene.now
    scene.now += 300
    scene.torn_down("B").gone("C").gone("A")
    assert scene.talked == [("101", ended - began)]


@pytest.mark.parametrize(("cause", "sip", "letter"), [("USER_BUSY", "486", "B"), ("", "", "N")])
def test_the_network_knows_better_than_who_gave_up(cause: str, sip: str, letter: str) -> None:
    scene = Scene().employee("A", "101").outside("B", "A").hangs_up("A").gone("B", cause, sip)
    assert scene.torn_down("A").told == [OUT + f"O101 {letter}101"]


def test_who_gave_up_at_the_second_gateway_is_not_told_of_the_first() -> None:
    scene = Scene().employee("A", "101").outside("B", "A").gone("B", "CALL_REJECTED", "403")
    scene.outside("C", "A").rings("C").hangs_up("A").torn_down("A")
    assert scene.gone("C", "ORIGINATOR_CANCEL").told == [OUT + "O101 N101"]


# an end that nobody heard (rule 15)


def in_a_menu(rules: Rules | None = None) -> Scene:
    return Scene(rules).client().answers("A")


def test_a_client_who_was_through_is_not_missed_if_nobody_heard_how_it_went_on() -> None:
    scene = in_a_menu().phone("B", "101", "A").rings("B")
    scene.event("CHANNEL_HANGUP_COMPLETE", "B").event("CHANNEL_HANGUP_COMPLETE", "A")
    assert scene.told == [IN + "I101 X101"]
    assert scene.notices[-1].rule == "15"


def test_a_client_whom_nobody_had_answered_is_missed() -> None:
    scene = ringing().event("CHANNEL_HANGUP_COMPLETE", "B").event("CHANNEL_HANGUP_COMPLETE", "A")
    assert scene.told == [IN + "I101 M101"]


def test_an_end_that_was_heard_is_what_it_was() -> None:
    """Only its completion was not: what ran on the leg went on for long."""
    scene = in_a_menu().phone("B", "101", "A").rings("B").gone("B", "NO_ANSWER")
    scene.hangs_up("A").event("CHANNEL_HANGUP_COMPLETE", "A")
    assert scene.told == [IN + "I101 M101"]


def test_whoever_might_have_got_a_client_out_of_a_menu_did_not_miss_him() -> None:
    scene = in_a_menu().phone("B", "101", "A").event("CHANNEL_HANGUP_COMPLETE", "B")
    assert scene.event("CHANNEL_HANGUP_COMPLETE", "A").told == [IN + "I101 X101"]
    assert in_a_menu().event("CHANNEL_HANGUP_COMPLETE", "A").told == [IN + "I- X-"]
    assert in_a_menu().gone("A").told == [IN + "I- M-"]


def test_the_rules_of_who_missed_a_call_do_not_matter_then() -> None:
    scene = in_a_menu(Rules(missed=Missed.FIRST)).phone("B", "101", "A").rings("B")
    scene.phone("C", "102", "A").rings("C")
    for leg in "BCA":
        scene.event("CHANNEL_HANGUP_COMPLETE", leg)
    assert scene.told == [IN + "I101 I102 X101 X102"]
    assert {n.rule for n in scene.notices if n.status} == {"15"}
