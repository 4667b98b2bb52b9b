"""The commands of click to call, as FreeSWITCH reads them (tried on 1.10.12)."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsplanfix.errors import DialRefused
from fsplanfix.freeswitch.originate import (
    Callee,
    Colleague,
    DialPlan,
    originate_command,
    originate_inside_command,
)

PLAN = DialPlan("sofia/gateway/trunk/{number}", ringback="%(800,3200,425)")
CLIENT = Callee("79161234567", caller_id="74950000000")


def made(
    user: str = "101", callee: Callee = CLIENT, plan: DialPlan = PLAN, outside: bool = False
) -> str:
    return originate_command("101", user, callee, plan, "u-1", outside)


def test_the_employee_is_called_first_then_the_client() -> None:
    assert made() == (
        "originate {origination_uuid=u-1,origination_caller_id_number=79161234567,"
        "origination_caller_id_name=79161234567,originate_timeout=30,group_confirm_early_ok=false,"
        "call_timeout=60,transfer_ringback=%(800\\,3200\\,425),planfix_makecall=1,"
        "planfix_ext=101,planfix_phone=79161234567,"
        "effective_caller_id_number=74950000000,effective_caller_id_name=74950000000}user/101 "
        "&bridge({ignore_early_media=false,bridge_answer_timeout=60,"
        "origination_caller_id_number=74950000000,origination_caller_id_name=74950000000}"
        "sofia/gateway/trunk/79161234567)"
    )


def test_the_phone_may_be_asked_to_answer_by_itself() -> None:
    plan = DialPlan("sofia/gateway/trunk/{number}", auto_answer=True)
    answering = (
        ",sip_auto_answer=true,alert_info=<http://www.notused.com>;info=alert-autoanswer;delay=0}"
    )
    assert f"{answering}user/101" in made(plan=plan)
    assert "auto" not in made("79260000007", plan=plan, outside=True)


def test_an_employee_on_a_mobile_is_called_like_a_client() -> None:
    command = made("79260000007", outside=True)
    assert "planfix_ext=79260000007," in command
    named = made("79260000007", replace(CLIENT, name="Client"), outside=True)
    assert "Client" not in named
    assert "origination_caller_id_name=79161234567," in named
    assert re.search(r"}sofia/gateway/trunk/79260000007 &bridge\(.*/trunk/79161234567\)$", command)


def test_the_client_may_be_dialled_through_a_context() -> None:
    plan = DialPlan("", dial_context="default", user_domain="pbx.example.com")
    assert made(plan=plan).endswith("}user/101@pbx.example.com 79161234567 XML default")


def test_an_employee_may_have_a_trunk_of_his_own() -> None:
    plan = DialPlan("sofia/gateway/a/{number}", dial_strings={"101": "sofia/gateway/b/{number}"})
    assert made(plan=plan).endswith("}sofia/gateway/b/79161234567)")
    other = originate_command("102", "102", CLIENT, plan, "u-1")
    assert other.endswith("}sofia/gateway/a/79161234567)")


def test_the_phone_shows_the_clients_name_and_the_client_never_an_ext() -> None:
    command = made(callee=Callee("79161234567", name="Иванов Иван"))
    first, second = re.findall(r"\{[^{}]*\}", command)
    assert r"origination_caller_id_name=Иванов\sИван," in first
    assert "origination_caller_id_number=anonymous,origination_caller_id_name=anonymous" in second


@pytest.mark.parametrize("context", ["", "default"])
def test_a_click_is_recorded_on_the_clients_leg(context: str) -> None:
    plan = DialPlan("sofia/gateway/trunk/{number}", context, recordings="/rec", is_stereo=True)
    command = made(callee=Callee("79161234567", digits="123"), plan=plan)
    wanted = {
        "execute_on_answer": r"record_session\s/rec/u-1.wav",
        "execute_on_answer_2": r"send_dtmf\sWW123",
        "RECORD_STEREO": "true",
    }
    for name, value in wanted.items():
        written = f"nolocal:{name}={value}" if context else f",{name}={value}"
        assert written in command
    if context:
        exported = ("bridge_answer_timeout", "execute_on_answer", "RECORD_STEREO")
        names = r"\,".join(f"nolocal:{name}" for name in exported)
        assert f"export_vars={names}\\,nolocal:execute_on_answer_2," in command


def test_a_colleague_is_called_without_a_word_of_planfix() -> None:
    command = originate_inside_command("101", "101", Colleague("102", "anna"), PLAN, "u-1")
    assert command.endswith(
        "}user/101 &bridge({ignore_early_media=false,bridge_answer_timeout=60,"
        "origination_caller_id_number=101,origination_caller_id_name=101}user/anna)"
    )
    assert "origination_caller_id_number=102," in command
    assert "planfix" not in command


def test_an_employee_on_a_mobile_is_called_by_his_number_for_a_colleague_too() -> None:
    plan = DialPlan(
        "sofia/gateway/a/{number}",
        dial_strings={"101": "sofia/gateway/b/{number}"},
        auto_answer=True,
    )
    command = originate_inside_command(
        *("101", "79260000007", Colleague("102", "anna"), plan, "u-1"),
        outside=True,
        user_dialled="89260000007",
    )
    assert "}sofia/gateway/b/89260000007 &bridge(" in command
    assert command.endswith("}user/anna)")
    assert ",planfix_ext=101}" in command
    assert "auto" not in command
    with pytest.raises(DialRefused):
        originate_inside_command("101", "x}", Colleague("102", "anna"), plan, "u-1", outside=True)


@pytest.mark.parametrize(
    ("caller_id", "seen"), [("", "anonymous"), ("anonymous", "anonymous"), ("74950000001",) * 2]
)
def test_a_colleague_on_a_mobile_is_called_through_his_trunk_and_never_sees_the_ext(
    caller_id: str, seen: str
) -> None:
    plan = replace(PLAN, dial_strings={"102": "sofia/gateway/b/{number}"})
    to = Colleague("102", "79260000007", True, "89260000007", caller_id)
    command = originate_inside_command("101", "101", to, plan, "u-1")
    assert command.endswith(
        f"origination_caller_id_number={seen},origination_caller_id_name={seen},planfix_ext=102}}"
        "sofia/gateway/b/89260000007)"
    )
    assert "}user/101 &bridge(" in command
    assert command.count("planfix") == 1
    bad = (replace(to, user="x}"), replace(to, dialled="x}"), replace(to, caller_id="a,b"))
    for colleague in bad:
        with pytest.raises(DialRefused):
            originate_inside_command("101", "101", colleague, plan, "u-1")


@pytest.mark.parametrize(
    "bad",
    [
        Callee("7916,1"),
        Callee("79161234567", digits="1,2"),
        Callee("79161234567", name="a,b"),
        Callee("79161234567", name="${x}"),
        Callee("79161234567", name="a'b"),
        Callee("79161234567", name="a\\sb"),
        Callee("79161234567", name="a\nb"),
        Callee("79161234567", caller_id="101}user/x"),
    ],
)
def test_what_would_mean_something_else_is_refused(bad: Callee) -> None:
    with pytest.raises(DialRefused):
        made(callee=bad)


@given(st.text(), st.text(), st.text(), st.text(), st.booleans(), st.text())
def test_a_colleague_is_called_by_names_and_digits_alone(
    ext: str, user: str, colleague: str, dialled: str, is_outside: bool, caller_id: str
) -> None:
    to = Colleague(dialled, colleague, is_outside, caller_id=caller_id)
    try:
        command = originate_inside_command(ext, user, to, PLAN, "u-1")
    except DialRefused:
        return
    assert re.fullmatch(
        r"originate \{[^{} ]+\}user/[\w.-]+ &bridge\(\{[^{} ]+\}"
        r"(user/[\w.-]+|sofia/gateway/trunk/\d+)\)",
        command,
    )
