"""Callids, numbers called, the next client, UUIDs that come again (docs/call-rules.md, "Call identity")."""

import pytest

from fsplanfix.calls.identity import Callids
from fsplanfix.calls.model import Direction, Leg, Role, Rules

from ..support.scene import IN, OUT, Scene


@pytest.mark.parametrize(
    ("on_the_leg", "dialled", "phone"),
    [
        ("998879161234567", "79161234567", "79161234567"),
        ("5555#79161234567", "89161234567", "79161234567"),
        ("79161234567", "0179161234567", "79161234567"),
        ("79161234567", "9102", "79161234567"),
        ("79161234567", "74950000009", "79161234567"),
        ("5555#79039876543", "79161234567", "5555#79039876543"),
    ],
)
def test_the_phone_is_the_number_behind_a_routing_prefix(
    on_the_leg: str, dialled: str, phone: str
) -> None:
    scene = Scene().employee("A", "101", dialled).outside("B", "A", number=on_the_leg)
    assert scene.gone("B", "USER_BUSY").gone("A").told == [f"out {phone} 74950000000 O101 B101"]


def test_an_address_without_a_number_is_whom_the_employee_dialled() -> None:
    scene = Scene().employee("A", "101", "79161234567").outside("B", "A", number="client")
    assert scene.gone("B", "USER_BUSY").gone("A").told == [OUT + "O101 B101"]


def test_a_call_to_nobody_we_can_name_is_not_reported() -> None:
    scene = Scene().employee("A", "101", "2001").outside("B", "A", number="k7f3x0").bridge("A", "B")
    assert scene.gone("A").gone("B").told == []


# the next client


def test_the_next_number_is_the_next_call() -> None:
    scene = Scene().employee("A", "101").outside("B", "A").gone("B", "USER_BUSY")
    scene.outside("C", "A", number="79039876543").bridge("A", "C").gone("A").gone("C")
    assert scene.told == [
        OUT + "O101 B101",
        "out 79039876543 74950000000 O101 A101 S101",
    ]
    assert {n.callid for n in scene.notices} == {"A", "C"}


def test_the_first_talk_is_told_when_the_next_client_is_called() -> None:
    scene = Scene().employee("A", "101").outside("B", "A").bridge("A", "B").hangs_up("B")
    scene.outside("C", "A", number="79039876543")
    assert scene.so_far == [
        OUT + "O101 A101 S101",
        "out 79039876543 74950000000 O101",
    ]
    assert scene.torn_down("B").gone("C", "USER_BUSY").gone("A").told[1].endswith("O101 B101")


def test_the_same_number_written_otherwise_is_the_next_gateway() -> None:
    scene = Scene().employee("A", "101").outside("B", "A").gone("B", "GATEWAY_DOWN")
    scene.outside("C", "A", number="999979161234567").bridge("A", "C").gone("A").gone("C")
    assert scene.told == [OUT + "O101 A101 S101"]


def test_two_numbers_rung_at_once_are_one_call() -> None:
    scene = Scene().employee("A", "101").outside("B", "A").outside("C", "A", number="79039876543")
    scene.bridge("A", "C").gone("B", "LOSE_RACE").gone("A").gone("C")
    assert scene.told == [OUT + "O101 A101 S101"]


def test_somebody_consulted_outside_is_a_call_of_its_own() -> None:
    """att_xfer to a number: the client waits, and is handed over."""
    scene = Scene().employee("A", "101").outside("B", "A").bridge("A", "B")
    scene.outside("C", "A", number="79260000007").bridge("A", "C").gone("A").bridge("B", "C")
    scene.gone("B").gone("C")
    first, second = scene.told
    assert first == OUT + "O101 A101 S101 I79260000007 A79260000007 S79260000007"
    assert second == "out 79260000007 74950000000 O101 A101 S101"


# UUIDs that come again


def test_a_leg_with_a_uuid_used_before_is_a_new_leg() -> None:
    scene = Scene().employee("A", "101")
    scene.outside("B", "A", Caller__Channel__Created__Time="1").gone("B", "GATEWAY_DOWN")
    scene.outside("B", "A", Caller__Channel__Created__Time="2").bridge("A", "B")
    assert scene.gone("A").gone("B").told == [OUT + "O101 A101 S101"]


def test_a_creation_that_arrives_twice_is_one_leg() -> None:
    scene = Scene().client(Caller__Channel__Created__Time="1").gone("A")
    scene.client(Caller__Channel__Created__Time="1")
    assert scene.told == [IN + "I- M-"]


def test_a_callid_used_before_gets_a_number() -> None:
    scene = Scene()
    for created in ("1", "2", "3"):
        scene.client(Caller__Channel__Created__Time=created).gone("A")
    assert scene.told == [IN + "I- M-"] * 3
    assert list(dict.fromkeys(n.callid for n in scene.notices)) == ["A", "A-2", "A-3"]


def test_a_new_leg_ends_the_one_whose_end_was_not_heard() -> None:
    scene = Scene().client(Caller__Channel__Created__Time="1").phone("B", "101", "A").rings("B")
    scene.client(Caller__Channel__Created__Time="2")
    assert scene.so_far == [IN + "I101 M101"]
    assert scene.gone("A").gone("B").told == [IN + "I101 M101", IN + "I- M-"]


def named(callids: Callids, uuid: str) -> str:
    leg = Leg(uuid, Role.OUTSIDE, inbound=True)
    call = callids.begin(leg, Direction.IN, "79161234567", "", 1, client=leg)
    callids.end(call)
    return call.callid


def test_callids_of_before_the_start_are_not_used_again() -> None:
    callids = Callids({})
    callids.remember(["A", "B", "A-2", "0000-000000000001"])
    assert named(callids, "A") == "A-3"
    assert named(callids, "B") == "B-2"
    assert named(callids, "C") == "C"
    assert named(callids, "0000-000000000001") == "0000-000000000001-2"


def test_ten_thousand_callids_are_remembered() -> None:
    callids = Callids({})
    for number in range(10_001):
        named(callids, f"u{number}")
    assert named(callids, "u10000") == "u10000-2"
    assert named(callids, "u0") == "u0"


# sofia recover


def test_a_recovered_call_goes_on_as_its_next_part() -> None:
    """The link came back after the crash, so the first part has ended (rule 15)."""
    scene = Scene().client().phone("B", "101", "A").rings("B").bridge("A", "B").gone("B").gone("A")
    scene.phone("B", "101", variable_recovered="true", Caller__Channel__Created__Time="9")
    scene.client(variable_recovered="true", Caller__Channel__Created__Time="9").bridge("A", "B")
    scene.gone("A").gone("B")
    assert scene.told == [IN + "I101 A101 S101 I101 A101 S101"]
    assert {n.callid for n in scene.notices} == {"A"}
    assert [n.position for n in scene.notices] == [1, 2, 3, 4, 5, 6]
    assert scene.tracker.callids.reopened == {"A"}


def test_a_recovered_outgoing_call_goes_on_as_well() -> None:
    """`sofia recover` brings the placed leg back before the one it was placed for."""
    scene = Scene().employee("A", "101").outside("B", "A").bridge("A", "B").gone("B").gone("A")
    again = {"variable_recovered": "true", "Caller__Channel__Created__Time": "9"}
    scene.outside("B", "A", **again).employee("A", "101", **again).bridge("A", "B")
    assert scene.gone("A").gone("B").told == [OUT + "O101 A101 S101 O101 A101 S101"]


def test_a_leg_recovered_before_its_end_was_noticed_is_the_same_leg() -> None:
    scene = Scene().client().phone("B", "101", "A").rings("B").bridge("A", "B")
    scene.phone("B", "101", variable_recovered="true", Caller__Channel__Created__Time="9")
    scene.client(variable_recovered="true", Caller__Channel__Created__Time="9").bridge("A", "B")
    assert scene.gone("A").gone("B").told == [IN + "I101 A101 S101"]


def test_rules_default_to_nobody() -> None:
    assert Rules().default_ext_of("74950000001") == ""


# whom a leg was placed for


def test_a_call_back_through_a_loopback_is_the_clients_call() -> None:
    glue = {"Channel__Name": "loopback/x", "variable_other_loopback_leg_uuid": "M"}
    scene = Scene().phone("L", "", **glue)
    scene.phone("M", "", **glue | {"variable_other_loopback_leg_uuid": "L"})
    scene.outside("A", "M").answers("A").bridge("M", "A").answers("L")
    scene.phone("B", "101", "L").rings("B")
    assert scene.so_far == ["in 79161234567 74950000000 I101"]
    scene.gone("B").gone("A").gone("L").gone("M")
    assert scene.told == ["in 79161234567 74950000000 I101 M101"]


def test_a_client_whose_caller_is_gone_is_a_client_all_the_same() -> None:
    scene = Scene().outside("A", "gone").answers("A").phone("B", "101", "A").rings("B")
    scene.bridge("A", "B").gone("A").gone("B")
    assert scene.told == ["in 79161234567 74950000000 I101 A101 S101"]


def test_a_parent_that_is_gone_hides_no_other() -> None:
    """A queue of one's own sets planfix_client_uuid on legs that name another leg first."""
    scene = Scene().client().phone("B", "101", "gone", variable_planfix_client_uuid="A").rings("B")
    assert scene.gone("B").gone("A").told == [IN + "I101 M101"]


@pytest.mark.parametrize("dialled", ["112", "0611", "*9891"])
def test_a_trunk_user_reaches_whatever_was_dialled(dialled: str) -> None:
    scene = Scene(Rules(trunk_users=frozenset({"gsm"}))).employee("A", "101", dialled)
    scene.phone("B", "gsm", "A").bridge("A", "B").gone("A").gone("B")
    assert scene.told == [f"out {dialled} - O101 A101 S101"]


def test_a_colleagues_mobile_behind_a_trunk_user_is_that_colleague() -> None:
    rules = Rules(trunk_users=frozenset({"gsm"}), aliases={"79260000007": "102"})
    scene = Scene(rules).employee("A", "101", "79260000007")
    scene.phone("B", "gsm", "A", variable_sip_req_uri="79260000007@192.0.2.1").bridge("A", "B")
    assert scene.gone("A").gone("B").told == []


@pytest.mark.parametrize("shown", ["205", "200001"])
def test_a_line_that_is_no_outside_number_is_left_out(shown: str) -> None:
    scene = Scene().employee("A", "101").outside("B", "A", shown=shown).gone("B", "USER_BUSY")
    assert scene.gone("A").told == ["out 79161234567 - O101 B101"]


def test_a_call_id_that_looks_like_a_numbered_callid_takes_nobodys_place() -> None:
    scene = Scene().client("U-2", Caller__Channel__Created__Time="1").phone("B", "101", "U-2")
    scene.rings("B").client("U", Caller__Channel__Created__Time="2").gone("U")
    scene.client("U", Caller__Channel__Created__Time="3").gone("U").gone("B").gone("U-2")
    assert list(dict.fromkeys(n.callid for n in scene.notices)) == ["U-2", "U", "U-3"]
    assert len(scene.told) == 3


def test_the_records_of_a_recovered_call_go_on_counting() -> None:
    scene = Scene()
    again: dict[str, str] = {}
    for created in ("1", "2"):
        scene.client(Caller__Channel__Created__Time=created, **again)
        scene.phone("B", "101", "A", Caller__Channel__Created__Time=created)
        scene.bridge("A", "B").event("RECORD_START", "A", Record__File__Path=f"/{created}")
        scene.gone("B").gone("A")
        again = {"variable_recovered": "true"}
    records = [(n.recording, n.ordinal) for n in scene.notices if n.recording]
    assert records == [("/1", 1), ("/2", 2)]
