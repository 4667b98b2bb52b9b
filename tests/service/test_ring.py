"""Who rings first, second and last."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsplanfix.calls.model import Rules
from fsplanfix.freeswitch.ring import MOST_RUNG, Phone
from fsplanfix.service.ring import First, Order, Wanted, group_of

ALIASES = {
    **{"79260000003": "103", "79260000004": "104", "1005": "105", "1006": "106", "1007": "106"},
    "79260000008": "8",
}
BOTH = (First.MANAGER, First.LAST)


def rung(
    wanted: Wanted,
    absent: Sequence[str] = (),
    busy: Sequence[str] = (),
    first: Sequence[First] = BOTH,
    unknown: Sequence[str] = (),
) -> list[list[str]]:
    asked: list[list[str]] = []
    asked_again: list[list[str]] = []

    def find(users: list[str]) -> set[str]:
        asked.append(users)
        return {user for user in users if user in (*absent, *unknown)}

    def find_unknown(users: list[str]) -> set[str]:
        asked_again.append(users)
        assert not [user for user in users if user not in (*absent, *unknown)]
        return {user for user in users if user in unknown}

    steps = Order(Rules(aliases=ALIASES), first).steps(wanted, find, busy, find_unknown)
    assert max(len(asked), len(asked_again)) <= 1
    assert all(phone.is_outside == (len(phone.name) == 11) for step in steps for phone in step)
    return [[phone.name for phone in step] for step in steps]


def test_managers_ring_at_once_then_their_mobiles_then_the_last_then_all() -> None:
    wanted = Wanted(["103", "104"], "102", ["101", "102", "103"])
    assert rung(wanted) == [
        ["103", "104"],
        ["79260000003", "79260000004"],
        ["102"],
        ["101", "102", "103"],
    ]
    assert rung(wanted, first=(First.LAST, First.MANAGER))[0] == ["102"]
    assert rung(wanted, first=()) == [["101", "102", "103"]]


def test_nobody_rings_twice_before_the_group() -> None:
    assert rung(Wanted(["103"], "103", ["101"])) == [["103"], ["79260000003"], ["101"]]
    assert rung(Wanted(["102"], "102", ["102"])) == [["102"]]
    assert rung(Wanted(["101", "102"], "", ["102", "101"])) == [["101", "102"]]


def test_a_phone_that_is_absent_leaves_its_mobile_and_a_busy_employee_neither() -> None:
    wanted = Wanted(["103", "104"], "", ["101", "103"])
    assert rung(wanted, absent=["103"]) == [["104"], ["79260000003", "79260000004"], ["101"]]
    assert rung(wanted, busy=["103", "101"]) == [["104"], ["79260000004"]]
    assert rung(Wanted([], "", ["101"]), busy=["101"]) == []


def test_who_has_a_mobile_alone_rings_with_the_group_and_whose_phone_is_off_does_not() -> None:
    group = ["101", "103", "104", "8"]
    assert rung(Wanted(group=group), absent=["103"], unknown=["104"]) == [
        ["101", "79260000004", "79260000008"]
    ]
    assert rung(Wanted(group=["8"])) == [["79260000008"]]
    assert rung(Wanted(["8"], group=["8"])) == [["79260000008"]]
    assert rung(Wanted(["8"], group=["8", "101"])) == [["79260000008"], ["101", "79260000008"]]
    assert rung(Wanted(group=group), absent=["103"], unknown=["101", "104"], busy=["104"]) == [
        ["79260000008"]
    ]


def test_an_employee_who_calls_from_his_mobile_is_not_called_back_on_it() -> None:
    wanted = Wanted(["103"], "104", ["101"], caller="79260000003")
    assert rung(wanted) == [["103"], ["104"], ["79260000004"], ["101"]]


def test_aliases_work_in_both_directions() -> None:
    # Planfix's 105 is the user 1005, who may be named either way; 106 has two users
    assert rung(Wanted(["105"])) == [["1005"]]
    assert rung(Wanted([], "", ["1005", "105", "106"]), absent=["1006"]) == [["1005", "1007"]]
    assert rung(Wanted(["105"]), busy=["105"]) == []
    assert rung(Wanted(["1005"]), busy=["105"]) == []


@pytest.mark.parametrize("name", ["", "7", "user/101", "101@x", "&park()", "79260000009", "1"])
def test_only_exts_of_the_house_can_be_named(name: str) -> None:
    assert rung(Wanted([name], name, [name])) == []


def test_a_group_is_read_with_care() -> None:
    assert group_of(" 101 ,102,,101,\n103") == ["101", "102", "103"]
    assert group_of("101;102 103") == ["101", "102", "103"]
    assert group_of("") == []
    assert len(group_of(",".join(str(n) for n in range(100, 9000)))) == MOST_RUNG


@given(st.text(max_size=50), st.lists(st.text(max_size=8), max_size=5), st.text(max_size=8))
def test_whatever_is_named_only_users_and_aliases_ring(
    group: str, managers: list[str], last: str
) -> None:
    steps = Order(Rules(aliases=ALIASES), BOTH).steps(
        Wanted(managers, last, group_of(group)), lambda users: frozenset(), ()
    )
    for phone in (phone for step in steps for phone in step):
        assert phone in (Phone(phone.name, is_outside=True), Phone(phone.name))
        assert phone.name in ALIASES or Rules().ext_pattern.fullmatch(phone.name)
