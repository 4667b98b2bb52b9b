"""What one worker began and another closed without having heard of it gets its end."""

from dataclasses import replace

import pytest

from fsplanfix.calls.model import Kind, Status
from fsplanfix.calls.unfinished import left_open

from ..support.cases import for_each
from ..support.traces import NAMES, events, rules_of, told

GROUP = told(events("group_answered"))
OUT = told(events("out_answered"))


@pytest.mark.no_cover
@for_each(NAMES)
def test_a_call_that_ended_properly_needs_nothing(name: str) -> None:
    said = told(events(name), rules_of(name))
    for callid in {notice.callid for notice in said}:
        assert left_open([notice for notice in said if notice.callid == callid]) == []


@pytest.mark.no_cover
@for_each(NAMES)
def test_every_end_that_is_taken_away_comes_back(name: str) -> None:
    said = [
        notice for notice in told(events(name), rules_of(name)) if notice.kind is not Kind.RECORD
    ]
    for callid in {notice.callid for notice in said}:
        whole = [notice for notice in said if notice.callid == callid]
        begun = {(n.ext, n.ordinal) for n in whole if n.kind in (Kind.INCOMING, Kind.OUTGOING)}
        left = left_open([n for n in whole if n.kind is not Kind.COMPLETED])
        assert {(n.ext, n.ordinal) for n in left} == begun
        assert all(n.kind is Kind.COMPLETED and n.status is not None for n in left)


def test_the_status_is_the_one_that_fits() -> None:
    by_ext = {
        n.ext: n.status for n in left_open([n for n in GROUP if n.kind is not Kind.COMPLETED])
    }
    assert by_ext == {"101": Status.CANCELED, "102": Status.SUCCESS, "103": Status.CANCELED}
    assert {n.status for n in left_open([n for n in GROUP if n.kind is Kind.INCOMING])} == {
        Status.MISSED
    }
    assert [n.status for n in left_open([n for n in OUT if n.kind is Kind.OUTGOING])] == [
        Status.NOT_AVAILABLE
    ]


def test_each_end_names_the_rule_that_decides_it() -> None:
    """As the tracker names it where nothing was cut off."""
    for whole in (GROUP, OUT):
        ends = {n.ext: n.rule for n in whole if n.kind is Kind.COMPLETED}
        left = left_open([n for n in whole if n.kind is not Kind.COMPLETED])
        assert {n.ext: n.rule for n in left} == ends
    begun = left_open([n for n in GROUP if n.kind is Kind.INCOMING])
    assert {n.rule for n in begun} == {"3"}
    (unanswered,) = left_open([n for n in OUT if n.kind is Kind.OUTGOING])
    assert unanswered.rule == "9"


def test_a_talk_lasts_until_the_call_was_over() -> None:
    accepted = next(n for n in GROUP if n.kind is Kind.ACCEPTED)
    record = replace(GROUP[-1], at=accepted.at + 12_900_000)
    (talk,) = [
        n
        for n in left_open([*(n for n in GROUP if n.kind is not Kind.COMPLETED), record])
        if n.ext == "102"
    ]
    assert (talk.duration, talk.at) == (12, record.at)


def test_nothing_said_needs_no_end() -> None:
    assert left_open([]) == []
