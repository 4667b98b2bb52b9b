"""Who is on a leg (docs/call-rules.md, "Who is on a leg")."""

import re

import pytest

from fsplanfix.calls.model import Role, Rules
from fsplanfix.calls.parties import read_leg
from fsplanfix.freeswitch.events import SwitchEvent

from ..support.scene import IN, OUT, Scene

NO_PATTERN = re.compile(r"^(?!200)\d{2,5}$", re.ASCII)


def party(**headers: str) -> tuple[Role, str, str]:
    return party_by(Rules(), **headers)


def party_by(rules: Rules, **headers: str) -> tuple[Role, str, str]:
    fields = {key.replace("__", "-"): value for key, value in headers.items()}
    event = SwitchEvent.made_of({"Event-Name": "CHANNEL_CREATE", "Unique-ID": "u"} | fields)
    leg = read_leg(event, rules)
    return leg.role, leg.ext, leg.number


PLACED = {"Call__Direction": "outbound"}
TRUNK = {"variable_sip_gateway_name": "trunk"}


@pytest.mark.parametrize(
    ("headers", "role", "ext"),
    [
        ({"variable_user_name": "101"}, Role.EMPLOYEE, "101"),
        ({"variable_sip_auth_username": "101"}, Role.EMPLOYEE, "101"),
        ({"variable_user_name": "ivanov", "variable_number_alias": "107"}, Role.EMPLOYEE, "107"),
        ({"variable_user_name": "door"}, Role.HOUSE, ""),
        ({"variable_user_name": "123456"}, Role.HOUSE, ""),
        ({}, Role.OUTSIDE, ""),
    ],
)
def test_who_logs_in_is_of_the_house(headers: dict[str, str], role: Role, ext: str) -> None:
    shown = {"Caller__Caller__ID__Number": headers.get("variable_user_name", "101")}
    assert party(Call__Direction="inbound", **shown, **headers)[:2] == (role, ext)


def test_a_login_is_believed_and_its_caller_number_is_not() -> None:
    shows = {"Caller__Caller__ID__Number": "79161234567"}
    assert party(variable_user_name="101", **shows) == (Role.EMPLOYEE, "101", "")


def test_a_login_without_an_ext_that_shows_another_outside_number_is_a_gateway() -> None:
    shows = {"Caller__Caller__ID__Number": "79161234567"}
    assert party(variable_user_name="gsm", **shows) == (Role.OUTSIDE, "", "79161234567")
    own = party(variable_user_name="79161234567", **shows)
    assert own == (Role.HOUSE, "", "")


def test_a_trunk_user_brings_clients_and_reaches_clients() -> None:
    rules = Rules(trunk_users=frozenset({"200"}))
    brought = party_by(rules, variable_user_name="200", Caller__Caller__ID__Number="89161234567")
    assert brought == (Role.OUTSIDE, "", "79161234567")
    uri = "79161234567@192.0.2.1:6200"
    reached = party_by(rules, **PLACED, variable_dialed_user="200", variable_sip_req_uri=uri)
    assert reached == (Role.OUTSIDE, "", "79161234567")
    assert party_by(rules, **PLACED, variable_dialed_user="200") == (Role.OUTSIDE, "", "")


def test_a_trunk_user_that_shows_its_own_login_hides_the_caller() -> None:
    scene = Scene(Rules(trunk_users=frozenset({"200"}))).employee("A", "200", "74950000001")
    assert scene.gone("A").told == ["in anonymous 74950000001 I- M-"]


def test_a_trunk_user_reached_behind_a_prefix_is_told_with_it() -> None:
    scene = Scene(Rules(trunk_users=frozenset({"200"}))).employee("A", "101", "679161234567")
    scene.phone("B", "200", "A").bridge("A", "B").gone("A").gone("B")
    assert scene.told == ["out 679161234567 - O101 A101 S101"]


def test_a_trunk_user_without_a_number_in_the_request_reaches_whom_the_employee_dialled() -> None:
    scene = Scene(Rules(trunk_users=frozenset({"200"}))).employee("A", "101", "79161234567")
    scene.phone("B", "200", "A", Caller__Caller__ID__Number="74950000000").bridge("A", "B")
    assert scene.gone("A").gone("B").told == [OUT + "O101 A101 S101"]


@pytest.mark.parametrize(
    ("headers", "role", "ext"),
    [
        ({"variable_dialed_user": "101"}, Role.EMPLOYEE, "101"),
        ({"variable_dialed_user": "101", **TRUNK}, Role.EMPLOYEE, "101"),
        ({"variable_planfix_ext": "101", **TRUNK}, Role.EMPLOYEE, "101"),
        ({"variable_presence_id": "1002@a.example"}, Role.EMPLOYEE, "1002"),
        (
            {"variable_presence_id": "1002@a.example", "variable_dialed_user": "door"},
            Role.EMPLOYEE,
            "1002",
        ),
        ({"variable_dialed_user": "door"}, Role.HOUSE, ""),
        ({"variable_dialed_user": "door", **TRUNK}, Role.HOUSE, ""),
        ({"variable_presence_id": "door@a.example"}, Role.HOUSE, ""),
        ({"variable_presence_id": "door@a.example", **TRUNK}, Role.OUTSIDE, ""),
        ({"Caller__Destination__Number": "101"}, Role.EMPLOYEE, "101"),
        ({"Caller__Destination__Number": "112", **TRUNK}, Role.OUTSIDE, ""),
        (
            {"Caller__Destination__Number": "90210", "variable_presence_id": "door@a.example"},
            Role.HOUSE,
            "",
        ),
        ({"Caller__Destination__Number": "k7f3x0"}, Role.OUTSIDE, ""),
    ],
)
def test_whom_the_pbx_calls(headers: dict[str, str], role: Role, ext: str) -> None:
    assert party(**PLACED, **headers)[:2] == (role, ext)


def test_a_gateway_of_the_house_leads_to_colleagues() -> None:
    rules = Rules(house_gateways=frozenset({"branch"}))
    branch = {**PLACED, "variable_sip_gateway_name": "branch"}
    by_ext = party_by(rules, **branch, Caller__Destination__Number="201")
    assert by_ext[:2] == (Role.EMPLOYEE, "201")
    by_number = party_by(rules, **branch, Caller__Destination__Number="79161234567")
    assert by_number == (Role.HOUSE, "", "")


def test_a_number_with_an_alias_is_that_employee_wherever_it_is_rung() -> None:
    rules = Rules(aliases={"79260000007": "101"})
    called = party_by(rules, **PLACED, **TRUNK, Caller__Destination__Number="89260000007")
    assert called[:2] == (Role.EMPLOYEE, "101")


def test_a_colleagues_call_forwarded_to_a_colleagues_mobile_is_internal() -> None:
    scene = Scene(Rules(aliases={"79260000007": "102"})).employee("A", "101", "102")
    scene.outside("B", "A", number="79260000007").rings("B").bridge("A", "B")
    assert scene.gone("A").gone("B").told == []


def test_a_door_phone_is_no_client_and_its_calls_are_internal() -> None:
    scene = Scene().employee("A", "door", "101").phone("B", "101", "A").rings("B").bridge("A", "B")
    assert scene.gone("A").gone("B").told == []


def test_what_a_colleague_without_an_ext_does_outside_is_not_reported() -> None:
    scene = Scene().employee("A", "fax", "79161234567").outside("B", "A").bridge("A", "B")
    assert scene.gone("A").gone("B").told == []


def test_who_gets_the_client_from_a_colleague_without_an_ext_is_reported() -> None:
    scene = Scene().employee("A", "bot", "79161234567").outside("B", "A").bridge("A", "B")
    scene.phone("C", "101", "B").rings("C").bridge("B", "C").gone("A").gone("C").gone("B")
    assert scene.told == ["in 79161234567 74950000000 I101 A101 S101"]


# numbers of an outside party


@pytest.mark.parametrize("number", ["0", "0000000000", "+00", "", "anonymous"])
def test_a_number_of_zeros_only_is_hidden(number: str) -> None:
    scene = Scene().client(number=number).gone("A")
    assert scene.notices[0].phone == "anonymous"


def test_hidden_callers_may_be_left_out() -> None:
    scene = Scene(Rules(hidden_number="")).client(number="0").phone("B", "101", "A").rings("B")
    assert scene.bridge("A", "B").gone("A").gone("B").told == []


@pytest.mark.parametrize(
    ("request_to", "to", "line"),
    [
        ("lab", "74950000001", "74950000001"),
        ("gw+trunk", "84950000001", "74950000001"),
        ("74950000002", "74950000001", "74950000002"),
        ("5001", "trunk", "5001"),
        ("lab", "lab", "-"),
    ],
)
def test_the_line_is_in_the_request_or_else_in_to(request_to: str, to: str, line: str) -> None:
    scene = Scene().client(Caller__Destination__Number=request_to, variable_sip_to_user=to)
    assert scene.gone("A").told == [f"in 79161234567 {line} I- M-"]


def test_the_dialplan_may_name_the_line() -> None:
    scene = Scene().client().event("CHANNEL_ANSWER", "A", variable_planfix_diversion="84950000002")
    scene.phone("B", "101", "A").rings("B").gone("B").gone("A")
    assert scene.told == ["in 79161234567 74950000002 I101 M101"]


def test_data_may_be_named_in_any_letters() -> None:
    scene = Scene().client(variable_planfix_data_Источник="Яндекс").gone("A")
    assert scene.notices[-1].data == {"Источник": "Яндекс"}
    assert scene.told == [IN + "I- M-"]
