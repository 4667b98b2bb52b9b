"""Who a number belongs to: a real client against the stand-in Planfix."""

from collections.abc import Iterator, Mapping

import gevent
import pytest
from gevent.event import Event
from hypothesis import given
from hypothesis import strategies as st

from fsplanfix.errors import TransportError
from fsplanfix.planfix.api import PlanfixApi
from fsplanfix.planfix.contacts import FAILURES_IN_A_ROW, NOBODY, Contact, Contacts, read
from fsplanfix.simulators.planfix import Planfix

NUMBER = "79161234567"
IVAN = Contact("Ivan Petrov", ("102",))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Heard(list[str]):
    """How each lookup went."""

    def __call__(self, how: str, seconds: float) -> None:
        self.append(how)


@pytest.fixture
def client(planfix: Planfix) -> Iterator[PlanfixApi]:
    made = PlanfixApi(planfix.url, "planfix-token", 50)
    yield made
    made.close()


def contacts(
    client: PlanfixApi, heard: Heard, clock: Clock | None = None, deadline: float = 30
) -> Contacts:
    return Contacts(client.ask, deadline, heard, clock or Clock())


def test_a_client_is_found_and_remembered_for_ten_minutes(
    planfix: Planfix, client: PlanfixApi
) -> None:
    heard, clock = Heard(), Clock()
    ours = contacts(client, heard, clock)
    assert [ours.find(NUMBER, "c1", 30), ours.find(NUMBER, "c2", 30)] == [IVAN, IVAN]
    clock.now += 599
    assert ours.find(NUMBER, "c3", 0) == IVAN
    assert (planfix.asked, heard) == (1, ["asked", "cached", "cached"])
    clock.now += 2
    assert ours.find(NUMBER, "c4", 30) == IVAN
    assert planfix.asked == 2
    assert planfix.accepted[0] == {"cmd": "contact", "phone": NUMBER, "callid": "c1"}


def test_a_number_nobody_knows_is_remembered_too(planfix: Planfix, client: PlanfixApi) -> None:
    ours = contacts(client, Heard())
    assert [ours.find("79260000001", "c", 30), ours.find("79260000001", "c", 30)] == [
        NOBODY,
        NOBODY,
    ]
    assert planfix.asked == 1


def test_a_new_client_who_calls_again_soon_finds_his_new_manager(
    planfix: Planfix, client: PlanfixApi
) -> None:
    heard, clock = Heard(), Clock()
    ours = contacts(client, heard, clock)
    assert ours.find("79260000001", "c1", 30) == NOBODY
    clock.now += 29
    assert ours.find("79260000001", "c2", 30) == NOBODY
    planfix.contacts["79260000001"] = {"manager": "103,104"}
    clock.now += 2
    assert ours.find("79260000001", "c3", 30) == Contact("", ("103", "104"))
    clock.now += 599
    assert ours.find("79260000001", "c4", 30).managers == ("103", "104")
    assert heard == ["asked", "cached", "asked", "cached"]


def test_a_failure_is_remembered_for_half_a_minute(planfix: Planfix, client: PlanfixApi) -> None:
    planfix.answers.append(500)
    heard, clock = Heard(), Clock()
    ours = contacts(client, heard, clock)
    assert [ours.find(NUMBER, "c", 30), ours.find(NUMBER, "c", 30)] == [NOBODY, NOBODY]
    assert planfix.asked == 1
    clock.now += 31
    assert ours.find(NUMBER, "c", 30) == IVAN
    assert heard == ["failed", "cached", "asked"]


def test_two_hundred_calls_of_one_number_ask_once(planfix: Planfix, client: PlanfixApi) -> None:
    planfix.delay = 0.2
    ours = contacts(client, Heard())
    calls = [gevent.spawn(ours.find, NUMBER, f"c{n}", 30) for n in range(200)]
    gevent.joinall(calls)
    assert [call.value for call in calls] == [IVAN] * 200
    assert planfix.asked == 1


def test_a_slow_planfix_is_waited_for_no_longer_than_allowed(
    planfix: Planfix, client: PlanfixApi
) -> None:
    planfix.delay = 3600
    heard = Heard()
    ours = contacts(client, heard, deadline=1.5)
    assert ours.find(NUMBER, "c", 0.1) == NOBODY
    assert ours.find(NUMBER, "c", 3600) == NOBODY
    assert heard == ["late", "failed"]
    assert planfix.asked == 1


def test_a_silent_name_server_is_waited_for_no_longer_than_allowed(
    planfix: Planfix, client: PlanfixApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaks = Event()
    with monkeypatch.context() as silent:
        silent.setattr("gevent.socket.getaddrinfo", lambda *_, **__: speaks.wait())
        heard = Heard()
        ours = contacts(client, heard, deadline=0.05)
        assert ours.find("79260000000", "c", 0) == NOBODY
        for n in range(FAILURES_IN_A_ROW):
            assert ours.find(f"7926000000{n}", "c", 60) == NOBODY
    assert heard == ["late"] + ["failed"] * FAILURES_IN_A_ROW
    assert ours.find(NUMBER, "c", 60) == NOBODY
    assert heard[-1] == "paused"
    speaks.set()


def test_planfix_is_left_alone_while_it_is_down_and_asked_again_later(
    planfix: Planfix, client: PlanfixApi
) -> None:
    planfix.answers.extend([500] * FAILURES_IN_A_ROW)
    heard = Heard()
    ours = contacts(client, heard)
    for n in range(FAILURES_IN_A_ROW + 3):
        assert ours.find(f"7926000000{n}", "c", 30) == NOBODY
    assert heard == ["failed"] * FAILURES_IN_A_ROW + ["paused"] * 3
    assert planfix.asked == FAILURES_IN_A_ROW
    ours._breaker._recovery_timeout = 0
    assert ours.find(NUMBER, "c", 30) == IVAN
    assert ours.find("79260000009", "c", 30) == NOBODY
    assert heard[-2:] == ["asked", "asked"]


def test_a_number_planfix_minds_does_not_pause_the_others(
    planfix: Planfix, client: PlanfixApi
) -> None:
    planfix.answers.extend([400] * (FAILURES_IN_A_ROW + 1))
    heard = Heard()
    ours = contacts(client, heard)
    for n in range(FAILURES_IN_A_ROW + 1):
        ours.find(f"7926000000{n}", "c", 30)
    assert ours.find(NUMBER, "c", 30) == IVAN
    assert "paused" not in heard


def test_a_crash_of_ours_keeps_nobody_waiting() -> None:
    def crash(fields: Mapping[str, str], seconds: float) -> Mapping[str, object]:
        raise TransportError("x") if fields["phone"] == "1" else KeyError("a mistake")

    ours = Contacts(crash, 1.5, Heard(), Clock())
    assert ours.find("1", "c", 30) == NOBODY


@pytest.mark.parametrize(
    ("answer", "contact"),
    [
        ({"contact_name": "John Smith", "manager": 103}, Contact("John Smith", ("103",))),
        ({"contact_name": "John Smith", "responsible": "103"}, Contact("John Smith", ("103",))),
        ({"manager": "", "responsible": "104"}, Contact("", ("104",))),
        ({"manager": "103,104"}, Contact("", ("103", "104"))),
        ({"manager": " 104 , 103,,104 "}, Contact("", ("104", "103"))),
        ({"manager": [103, "104"]}, Contact("", ("103", "104"))),
        ({"manager": [], "responsible": [104, 103]}, Contact("", ("104", "103"))),
        ({"responsible": [None, {"id": 1}, "104", True, ["105"]]}, Contact("", ("104",))),
        ({"manager": list(range(1000, 9000))}, Contact("", tuple(map(str, range(1000, 1010))))),
        (
            {"manager": ",".join(map(str, range(1000, 1030)))},
            Contact("", tuple(map(str, range(1000, 1010)))),
        ),
        ({"manager": "101," * 3000}, NOBODY),
        ({"contact_name": None, "manager": None}, NOBODY),
        ({"contact_name": ["x"], "manager": {"y": 1}}, NOBODY),
        ({"manager": True}, NOBODY),
        ({"manager": -1}, NOBODY),
        ({"manager": "101\nevil"}, NOBODY),
        ({"manager": "101,user/102"}, NOBODY),
        ({"manager": "\u0661\u0660\u0661"}, NOBODY),
        ({"manager": 10**4000}, NOBODY),
        ({}, NOBODY),
    ],
)
def test_what_planfix_says_is_read_with_care(answer: dict[str, object], contact: Contact) -> None:
    assert read(answer) == contact


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["contact_name", "manager", "responsible"]), ANYTHING))
def test_no_answer_breaks_the_reading(answer: dict[str, object]) -> None:
    contact = read(answer)
    assert isinstance(contact.name, str)
    assert all(code and code.isascii() for code in contact.managers)


def test_a_name_holds_nothing_that_no_text_can_hold(planfix: Planfix, client: PlanfixApi) -> None:
    """JSON's escapes spell a NUL and halves of surrogate pairs; pairs and others stay."""
    name = "Ivan\0 \ud800Petrov\udfff \U0001f600"
    planfix.contacts[NUMBER] = {"contact_name": name, "manager": "1\x0002"}
    found = contacts(client, Heard()).find(NUMBER, "c1", 30)
    assert found == Contact("Ivan\ufffd \ufffdPetrov\ufffd \U0001f600")
