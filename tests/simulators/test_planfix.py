"""The stand-in is strict: what the API does not allow gets 400, a wrong token 401."""

from __future__ import annotations

import pytest
import requests

from fsplanfix.simulators.planfix import Planfix

INCOMING = {
    "cmd": "event",
    "type": "in",
    "event": "INCOMING",
    "phone": "79161234567",
    "ext": "101",
    "callid": "c",
}
COMPLETED = INCOMING | {
    "event": "COMPLETED",
    "status": "Success",
    "duration": "5",
    "is_recorded": "1",
}
RECORD = {"cmd": "record", "callid": "c", "record_link": "https://pbx.example.com/r"}


def send(
    planfix: Planfix, fields: dict[str, str], token: str = "planfix-token"
) -> requests.Response:
    return requests.post(planfix.url, data={**fields, "planfix_token": token}, timeout=60)


@pytest.mark.parametrize(
    "fields",
    [
        INCOMING,
        COMPLETED,
        COMPLETED | {"data_utm": "x", "record_link": "https://x/y"},
        RECORD,
        RECORD | {"is_temp": "1"},
        {"cmd": "contact", "phone": "79161234567"},
        INCOMING | {"type": "out", "event": "OUTGOING"},
        COMPLETED | {"type": "out", "status": "NotAllowed"},
        {name: value for name, value in INCOMING.items() if name != "ext"},
        INCOMING | {"phone": "anonymous"},
    ],
)
def test_what_the_api_allows_is_accepted(planfix: Planfix, fields: dict[str, str]) -> None:
    assert send(planfix, fields).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {},
        INCOMING | {"cmd": "ping"},
        INCOMING | {"type": "IN"},
        INCOMING | {"type": "out"},
        INCOMING | {"event": "RINGING"},
        INCOMING | {"phone": ""},
        INCOMING | {"phone": "+79161234567"},
        INCOMING | {"ext": ""},
        INCOMING | {"ext": "a"},
        INCOMING | {"callid": ""},
        INCOMING | {"status": "Success"},
        INCOMING | {"data_x": "1"},
        INCOMING | {"more": "1"},
        COMPLETED | {"status": "Cancelled"},
        COMPLETED | {"status": "Busy"},
        COMPLETED | {"duration": "-1"},
        COMPLETED | {"duration": "1.5"},
        COMPLETED | {"is_recorded": "yes"},
        RECORD | {"record_link": "/var/r.wav"},
        RECORD | {"ext": "101"},
        {"cmd": "contact"},
    ],
)
def test_what_the_api_does_not_allow_is_refused(planfix: Planfix, fields: dict[str, str]) -> None:
    answer = send(planfix, fields)
    assert (answer.status_code, answer.json()["error"]) == (400, "Invalid parameters")


def test_a_field_sent_twice_is_refused(planfix: Planfix) -> None:
    pairs = [*INCOMING.items(), ("ext", "102"), ("planfix_token", "planfix-token")]
    assert requests.post(planfix.url, data=pairs, timeout=60).status_code == 400


def test_json_is_refused(planfix: Planfix) -> None:
    assert requests.post(planfix.url, json=INCOMING, timeout=60).status_code == 401


def test_a_wrong_token_is_refused(planfix: Planfix) -> None:
    answer = send(planfix, INCOMING, token="x")
    assert (answer.status_code, answer.json()) == (401, {"error": "Invalid token"})


def test_what_makes_no_sense_in_its_place_is_noticed(planfix: Planfix) -> None:
    for fields in (RECORD, COMPLETED, INCOMING | {"event": "ACCEPTED"}, INCOMING, INCOMING, RECORD):
        assert send(planfix, fields).status_code == 200
    assert [text.split(" in c")[0] for text in planfix.history.surprises] == [
        "record before the call c was over",
        "COMPLETED for 101 without a beginning",
        "ACCEPTED for 101 without a beginning",
        "INCOMING twice for 101",
        "record before the call c was over",
    ]


def test_a_contact_is_known_by_number(planfix: Planfix) -> None:
    answer = send(planfix, {"cmd": "contact", "phone": "79161234567"})
    assert answer.json() == {"contact_name": "Ivan Petrov", "manager": "102"}


def test_it_can_lose_the_answer_after_taking_the_request(planfix: Planfix) -> None:
    planfix.answers.append("drop after")
    with pytest.raises(requests.ConnectionError):
        send(planfix, INCOMING)
    assert len(planfix.accepted) == 1


def test_the_page_follows_the_calls(planfix: Planfix) -> None:
    send(planfix, INCOMING)
    with requests.get(f"{planfix.page}stream", stream=True, timeout=60) as stream:
        first = next(stream.iter_lines()).decode()
    assert '"state": "ringing"' in first


def test_a_click_without_a_phone_system_says_so(planfix: Planfix) -> None:
    planfix.pbx_url = "http://127.0.0.1:9/planfix"
    assert planfix.click("101", "79161234567")[0] == 0
