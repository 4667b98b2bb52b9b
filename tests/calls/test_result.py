"""What a call came to, from everything that Planfix is told of it."""

from urllib.parse import quote

import pytest

from fsplanfix.calls.model import Kind, Missed, Notice, Rules, Status
from fsplanfix.calls.result import CallResult, Result, result_of
from fsplanfix.calls.variables import LONGEST_NAME
from fsplanfix.freeswitch.events import SwitchEvent

from ..support.cases import for_each
from ..support.traces import NAMES, events, rules_of, shorthand, told


def results(name: str, rules: Rules | None = None) -> list[CallResult]:
    notices = told(events(name), rules or rules_of(name))
    calls: dict[str, list[Notice]] = {}
    for notice in notices:
        calls.setdefault(notice.callid, []).append(notice)
    found = [result_of(call) for call in calls.values()]
    return [result for result in found if result is not None]


@for_each(NAMES)
def test_a_call_came_to_what_planfix_is_told(name: str) -> None:
    """Read from the shorthand of the call rules, which shares nothing with the result."""
    notices = told(events(name), rules_of(name))
    found = results(name)
    for result, tokens in zip(found, shorthand(notices).values(), strict=True):
        head, *rest = tokens
        letters = {token[0] for token in rest}
        exts = {token[1:].rstrip("!") for token in rest if token != "R"}
        assert head.split()[:2] == [result.direction, result.phone]
        assert (result.result is Result.ANSWERED) == ("A" in letters)
        assert (result.result is Result.MISSED) <= (result.direction == "in")
        assert result.recordings == rest.count("R")
        assert {share.ext or "-" for share in result.shares} == exts
        talked = {token[1:].rstrip("!").replace("-", "") for token in rest if token.startswith("S")}
        assert {s.ext for s in result.shares if s.status is Status.SUCCESS} == talked
        assert [s.status for s in result.shares[: len(talked)]] == [Status.SUCCESS] * len(talked)
        mine = [notice for notice in notices if notice.callid == result.callid]
        assert result.talked == sum(notice.duration for notice in mine)
        assert result.talked == sum(share.talked for share in result.shares)


@pytest.mark.parametrize(
    ("name", "result", "answered_by", "rung"),
    [
        ("in_one_answered", Result.ANSWERED, "101", ["101"]),
        ("group_answered", Result.ANSWERED, "102", ["102", "101", "103"]),
        ("group_no_answer", Result.MISSED, "", ["102", "101", "103"]),
        ("attended_transfer", Result.ANSWERED, "101", ["101", "102"]),
        ("ivr_abandoned", Result.MISSED, "", [""]),
        ("out_answered", Result.ANSWERED, "101", ["101"]),
        ("queue_agent_rung_twice", Result.ANSWERED, "101", ["101", "102"]),
        ("vanilla/conference_two_employees", Result.ANSWERED, "", None),
    ],
)
def test_recorded_calls(
    name: str, result: Result, answered_by: str, rung: list[str] | None
) -> None:
    (found,) = results(name)
    assert found.result is result
    if rung is not None:
        assert found.answered_by == answered_by
        assert [share.ext for share in found.shares] == rung


def test_a_call_that_counts_as_missed_for_nobody_was_missed() -> None:
    (found,) = results("group_no_answer", Rules(missed=Missed.NONE))
    assert found.result is Result.MISSED
    assert {share.status for share in found.shares} == {Status.CANCELED}


def test_an_end_that_nobody_heard_is_unknown() -> None:
    notices = [n for n in told(events("group_no_answer")) if n.kind is not Kind.COMPLETED]
    ends = [
        Notice(
            *(n.callid, Kind.COMPLETED, n.position + 9, n.at, n.type, n.phone, "", n.ext),
            status=Status.CANCELED,
            rule="15",
        )
        for n in notices
    ]
    found = result_of([*notices, *ends])
    assert found is not None
    assert found.result is Result.UNKNOWN


def test_the_wait_is_from_the_first_ring_to_the_answer_or_the_end() -> None:
    (answered,) = results("group_answered")
    notices = told(events("group_answered"))
    rang = min(n.at for n in notices)
    taken = next(n.at for n in notices if n.kind is Kind.ACCEPTED)
    assert answered.waited == (taken - rang) // 1_000_000
    (missed,) = results("in_one_no_answer")
    assert missed.waited is not None
    assert missed.waited > 0
    # nobody's phone rang: how long the client waited in the menu is not told
    (abandoned,) = results("ivr_abandoned")
    assert abandoned.waited is None


def named(event: SwitchEvent, name: str) -> SwitchEvent:
    """The event as FreeSWITCH sends it after the dialplan has set the client's name."""
    line = f"variable_planfix_contact_name: {quote(name)}".encode()
    return SwitchEvent(event.raw.rstrip(b"\n") + b"\n" + line + b"\n")


@pytest.mark.parametrize("name", ["in_one_answered", "group_no_answer", "ivr_abandoned"])
def test_the_clients_name_is_the_one_the_dialplan_set(name: str) -> None:
    stream = [
        named(event, "Пётр\n Ёлкин") if event.get("Call-Direction") != "outbound" else event
        for event in events(name)
    ]
    result = result_of(told(stream, rules_of(name)))
    assert result is not None
    assert result.name == "Пётр Ёлкин"


def test_no_name_is_longer_than_a_name() -> None:
    stream = [named(event, "x" * 5000) for event in events("in_one_no_answer")]
    result = result_of(told(stream))
    assert result is not None
    assert result.name == "x" * LONGEST_NAME


def test_nothing_told_is_no_call() -> None:
    assert result_of([]) is None
