"""From a channel's data to the variables the dialplan gets."""

from collections.abc import Mapping

import pytest

from fsplanfix.calls.model import Rules
from fsplanfix.freeswitch.events import SwitchEvent
from fsplanfix.planfix.contacts import Contacts
from fsplanfix.service.caller_lookup import CallerLookup

from ..support.traces import wire

CHANNEL = next(
    said
    for said in wire("outbound_lookup_then_resume")
    if said.startswith("Event-Name: CHANNEL_DATA")
)


def found(
    answer: dict[str, object], rules: Rules | None = None, channel: str = CHANNEL
) -> dict[str, str]:
    asked: list[Mapping[str, str]] = []

    def ask(fields: Mapping[str, str], seconds: float) -> Mapping[str, object]:
        asked.append(fields)
        return answer

    contacts = Contacts(ask, 1.5, lambda how, seconds: None)
    variables = CallerLookup(rules or Rules(), contacts).find_variables(
        SwitchEvent(channel.encode()), 1.0
    )
    assert [fields["phone"] for fields in asked] == (["79161234567"] if channel == CHANNEL else [])
    return variables


def test_an_outside_caller_gets_a_name_and_a_manager() -> None:
    assert found({"contact_name": "Иванов, Иван", "manager": 103}) == {
        "effective_caller_id_name": "Иванов Иван",
        "planfix_contact_name": "Иванов Иван",
        "planfix_manager": "103",
    }


def test_what_planfix_does_not_know_is_not_set() -> None:
    assert found({}) == {}
    assert found({"contact_name": "  ", "manager": ""}) == {}
    assert found({"manager": "103"}) == {"planfix_manager": "103"}


@pytest.mark.parametrize(
    ("code", "aliases", "manager"),
    [
        ("501", {"1001": "501"}, "1001"),
        ("501", {"79260000007": "501"}, "501"),
        ("501", {"501": "777", "79260000007": "501"}, ""),
        ("501", {"501": "777", "79260000007": "501", "1001": "501"}, "1001"),
        ("7", {}, ""),
        ("7", {"1001": "7"}, "1001"),
        ("123456", {}, ""),
        ("ivan", {"102": "ivan"}, "102"),
        ("101,user/102", {}, ""),
        ("501,7,104,105", {"79260000007": "501", "501": "777"}, "104"),
    ],
)
def test_the_manager_is_the_ext_behind_the_short_code(
    code: str, aliases: dict[str, str], manager: str
) -> None:
    assert found({"manager": code}, Rules(aliases=aliases)).get("planfix_manager", "") == manager


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("variable_uuid: ", "variable_user_name: 101\nvariable_uuid: "),
        ("Caller-Caller-ID-Number: 79161234567", "Caller-Caller-ID-Number: anonymous"),
        ("Caller-Privacy-Hide-Number: false", "Caller-Privacy-Hide-Number: true"),
        ("Call-Direction: inbound", "Call-Direction: outbound"),
    ],
)
def test_employees_and_hidden_callers_are_not_asked_about(old: str, new: str) -> None:
    assert old in CHANNEL
    assert found({"contact_name": "x"}, channel=CHANNEL.replace(f"\n{old}", f"\n{new}")) == {}
