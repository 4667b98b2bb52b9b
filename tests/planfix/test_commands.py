import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsplanfix.errors import DialRefused
from fsplanfix.freeswitch.originate import DialPlan, command
from fsplanfix.planfix.commands import Commands

TOKEN = "pbx-token"
GOOD = {"cmd": "makeCall", "from": "101", "to": "79161234567", "token": TOKEN}
PLAN = DialPlan("sofia/gateway/trunk/{number}", caller_id="74950000000")


class Dialled(list[tuple[str, str]]):
    def dial(self, ext: str, number: str) -> bool:
        self.append((ext, number))
        return True


def commands(dialled: Dialled, allow: str | None = None) -> Commands:
    pattern = re.compile(r"^\d{2,5}$", re.ASCII)
    return Commands(TOKEN, pattern, "RU", re.compile(allow) if allow else None, dialled.dial)


def test_a_click_dials_the_manager_and_the_client() -> None:
    dialled = Dialled()
    assert commands(dialled).answer(GOOD) == (200, {})
    assert dialled == [("101", "79161234567")]


@pytest.mark.parametrize("written", ["+7 (916) 123-45-67", "89161234567", "79161234567"])
def test_a_number_may_be_written_as_people_do(written: str) -> None:
    dialled = Dialled()
    commands(dialled).answer({**GOOD, "to": written})
    assert dialled == [("101", "79161234567")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"cmd": "makecall"},
        {"cmd": ""},
        {"from": ""},
        {"from": "1"},
        {"from": "101 102"},
        {"from": "101\n"},
        {"from": "\u0661\u0660\u0661"},
        {"from": "101@evil"},
        {"to": ""},
        {"to": "anonymous"},
        {"to": "7916\n1234567"},
        {"to": "79161234567%0A"},
        {"to": "sip:79161234567@evil"},
        {"to": "79161234567,sofia/gateway/x/1"},
        {"to": "*9"},
        {"to": "9" * 40},
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, str]) -> None:
    dialled = Dialled()
    assert commands(dialled).answer({**GOOD, **wrong}) == (400, {"error": "Invalid parameters"})
    assert dialled == []


@pytest.mark.parametrize("token", [None, "", "pbx-toke", "pbx-token ", "Ω", "\ud800"])
def test_a_wrong_token_is_refused_before_anything_else(token: str | None) -> None:
    fields = {name: value for name, value in GOOD.items() if name != "token"} | ({"token": token} if token else {})
    assert commands(Dialled()).answer({**fields, "cmd": "nonsense"}) == (401, {"error": "Invalid token"})


def test_numbers_outside_the_allowed_ones_are_refused() -> None:
    dialled = Dialled()
    assert commands(dialled, allow="7[0-9]{10}").answer({**GOOD, "to": "+380501234567"})[0] == 400
    assert commands(dialled, allow="7[0-9]{10}").answer(GOOD)[0] == 200


def test_without_a_switch_planfix_is_told() -> None:
    answer = Commands(TOKEN, re.compile("101"), "RU", None, lambda ext, number: False).answer(GOOD)
    assert answer[0] == 503


def test_the_manager_is_called_first_then_the_client() -> None:
    assert command("101", "79161234567", PLAN, "u-1") == (
        "originate {origination_uuid=u-1,origination_caller_id_number=79161234567,"
        "origination_caller_id_name=79161234567,originate_timeout=30,ignore_early_media=true,planfix_makecall=1,"
        "planfix_ext=101,planfix_phone=79161234567,effective_caller_id_number=74950000000}"
        "user/101 &bridge(sofia/gateway/trunk/79161234567)"
    )


def test_the_client_may_be_dialled_through_a_context() -> None:
    plan = DialPlan("", dial_context="default", user_domain="pbx.example.com")
    assert command("101", "79161234567", plan, "u").endswith("}user/101@pbx.example.com 79161234567 XML default")


HOSTILE = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from(
            [
                "101",
                "7916",
                "\n",
                "%0A",
                "{",
                "}",
                "[",
                "]",
                ",",
                "|",
                "&",
                ":_:",
                "^^",
                "${x}",
                "\u0661",
                " ",
                "@",
                "\0",
            ]
        ),
        max_size=12,
    ).map("".join),
    st.just("7" * 1_000_000),
)
DIALLED_COMMAND = re.compile(r"originate \{[a-z0-9_=,-]+\}user/[0-9]{2,5} &bridge\(sofia/gateway/trunk/[0-9]{3,15}\)")


@given(HOSTILE, HOSTILE)
def test_nothing_but_digits_ever_reaches_a_command(ext: str, number: str) -> None:
    dialled = Dialled()
    code, _ = commands(dialled).answer({**GOOD, "from": ext, "to": number})
    assert (code == 200) == bool(dialled)
    for pair in dialled:
        assert DIALLED_COMMAND.fullmatch(command(*pair, PLAN, "u-1"))


@given(HOSTILE, HOSTILE)
def test_the_command_itself_refuses_what_is_not_digits(ext: str, number: str) -> None:
    try:
        made = command(ext, number, DialPlan("sofia/gateway/trunk/{number}"), "u-1")
    except DialRefused:
        return
    assert re.fullmatch(r"originate \{[a-z0-9_=,-]+\}user/[0-9]+ &bridge\(sofia/gateway/trunk/[0-9]+\)", made)
