"""Whose call it is, where a switch serves several companies (docs/call-rules.md, "Whose call")."""

from dataclasses import replace

import pytest

from fsplanfix.calls.model import Kind, Notice, Rules

from ..support.cases import for_each
from ..support.scene import IN, Scene
from ..support.traces import NAMES, events, rules_of, told

FUSIONPBX = [name for name in NAMES if name.startswith("fusionpbx/")]
OURS = Rules(domains=frozenset({"a.example"}))
LINE = Rules(lines=("74950000001",))


def keys(notices: list[Notice]) -> set[tuple[str, str, Kind, int]]:
    return {(n.callid, n.ext, n.kind, n.ordinal) for n in notices}


@for_each(FUSIONPBX)
def test_two_companies_share_what_is_told_and_neither_sees_the_others(name: str) -> None:
    both = [
        told(events(name), replace(rules_of(name), domains=frozenset({domain})))
        for domain in ("a.example", "b.example")
    ]
    whole = told(events(name), rules_of(name))
    assert keys(both[0]) | keys(both[1]) == keys(whole)
    assert not keys(both[0]) & keys(both[1])


@for_each([name for name in NAMES if not name.startswith("accounts/")])
def test_a_line_names_the_calls_that_came_by_it(name: str) -> None:
    whole = told(events(name), rules_of(name))
    by_line = {notice.diversion for notice in whole if notice.diversion}
    for line in by_line:
        mine = told(events(name), replace(rules_of(name), lines=(line,)))
        assert {notice.diversion for notice in mine} == {line}
        assert keys(mine) == keys([notice for notice in whole if notice.diversion == line])
    assert told(events(name), replace(rules_of(name), lines=("74959999999",))) == []


def answered(scene: Scene, **phone: str) -> list[str]:
    scene.phone("B", "101", parent="A", **phone).rings("B").answers("A").answers("B")
    return scene.bridge("A", "B").gone("B").gone("A").told


@pytest.mark.parametrize(
    "named",
    [
        {"Caller__Context": "a.example"},
        {"Caller__Context": "A.EXAMPLE"},
        {"variable_dialed_domain": "a.example"},
        {"variable_domain_name": "a.example"},
        {"variable_presence_id": "101@a.example"},
        {"variable_planfix_account": "default"},
        {"variable_planfix_account": "default", "variable_dialed_domain": "b.example"},
        {"Caller__Context": "a.example", "variable_dialed_domain": "b.example"},
    ],
    ids=str,
)
def test_the_phone_that_rings_names_the_company(named: dict[str, str]) -> None:
    assert answered(Scene(OURS).client(), **named) == [f"{IN}I101 A101 S101"]


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"Caller__Context": "default"},
        {"variable_dialed_domain": "b.example"},
        {"variable_dialed_domain": "b.example", "variable_domain_name": "a.example"},
        {"variable_planfix_account": "other", "Caller__Context": "a.example"},
        {"variable_sip_to_host": "a.example", "variable_sip_from_host": "a.example"},
    ],
    ids=str,
)
def test_nobodys_call_is_not_told(named: dict[str, str]) -> None:
    assert answered(Scene(OURS).client(), **named) == []


def test_a_stranger_names_no_company() -> None:
    stranger = {
        "variable_presence_id": "101@a.example",
        "variable_sip_to_host": "a.example",
        "variable_sip_from_host": "a.example",
        "variable_sip_req_host": "a.example",
        "variable_sip_h_X-planfix_account": "default",
    }
    assert answered(Scene(OURS).client(**stranger)) == []


def test_the_clients_own_leg_names_the_company_before_it_is_lost_in_a_menu() -> None:
    scene = Scene(OURS).client(Caller__Context="public")
    scene.event("CHANNEL_ANSWER", "A", Caller__Context="a.example")
    assert scene.gone("A").told == [f"{IN}I- M-"]
    assert Scene(OURS).client(Caller__Context="public").gone("A").told == []


def test_a_line_comes_before_a_domain() -> None:
    rules = replace(OURS, lines=("7495000000*",))
    assert answered(Scene(rules).client(), variable_dialed_domain="b.example") == [
        # for this company the other one's employee is somebody outside
        f"{IN}I- A- S-"
    ]
    assert answered(Scene(LINE).client(), variable_dialed_domain="b.example") == [
        f"{IN}I101 A101 S101"
    ]


def test_what_was_begun_as_ones_call_stays_so() -> None:
    scene = Scene(OURS).client().phone("B", "101", parent="A", Caller__Context="a.example")
    scene.rings("B").answers("A").answers("B").bridge("A", "B")
    scene.event("CHANNEL_UNBRIDGE", "A", variable_planfix_account="other").gone("B")
    assert scene.gone("A").told == [f"{IN}I101 A101 S101"]


def test_the_same_ext_of_another_company_is_not_ours() -> None:
    scene = Scene(OURS).client().phone("B", "101", parent="A", Caller__Context="a.example")
    scene.phone("C", "101", parent="A", variable_dialed_domain="b.example").rings("C")
    assert scene.so_far == []
    scene.rings("B").gone("B", "NO_ANSWER").gone("C", "NO_ANSWER")
    assert scene.gone("A").told == [f"{IN}I101 M101"]


def test_the_other_companys_phone_is_not_busy_for_us() -> None:
    scene = Scene(OURS).employee("B", "101", "102", variable_domain_name="b.example")
    scene.employee("C", "102", "101", variable_domain_name="a.example")
    assert scene.tracker.book.exts_in_calls() == {"102"}


def test_clients_and_exts_that_are_left_out() -> None:
    assert answered(Scene(Rules(ignore_numbers=("7916*",))).client()) == []
    assert answered(Scene(Rules(ignore_numbers=("79161234568",))).client()) == [
        f"{IN}I101 A101 S101"
    ]
    scene = Scene(Rules(ignore_numbers=("101",))).client().phone("B", "101", parent="A")
    scene.phone("C", "102", parent="A").rings("B").rings("C")
    assert scene.gone("B").gone("C").gone("A").told == [f"{IN}I102 M102"]
    scene = Scene(Rules(ignore_numbers=("101",))).employee("B", "101", "79161234567")
    assert scene.outside("A", parent="B").gone("A").gone("B").told == []
