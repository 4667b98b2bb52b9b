"""A click in Planfix calls the employee and then the client, through the whole service."""

import re
from pathlib import Path

import pytest

from fsplanfix.simulators.freeswitch import Switch, variables
from fsplanfix.simulators.planfix import Planfix

from .support.commands import call_cli
from .support.deliveries import told
from .support.service import running
from .support.traces import path_of

pytestmark = pytest.mark.no_cover


@pytest.mark.parametrize(
    ("trace", "outcome"),
    [
        ("makecall_answered", ["O101", "A101", "S101"]),
        ("makecall_client_busy", ["O101", "B101"]),
    ],
)
def test_a_click_in_planfix_makes_a_call(
    switch: Switch, planfix: Planfix, tmp_path: Path, trace: str, outcome: list[str]
) -> None:
    switch.makecall, switch.speed = trace, 20
    with running(switch, planfix, tmp_path, OUTBOUND_CALLER_ID="74950000000") as service:
        answer = service.click(
            cmd="makeCall", token="pbx-token-1", **{"from": "102", "to": "+7 926 000-11-22"}
        )
        assert (answer.status_code, answer.json()) == (200, {})
        planfix.wait_for(lambda crm: len(crm.accepted) == len(outcome) + 1)
    # the employee's phone shows the client's name
    contact, first, *_ = planfix.accepted
    assert (contact["cmd"], contact["phone"]) == ("contact", "79260001122")
    assert (first["phone"], first["ext"], first["diversion"]) == (
        "79260001122",
        "102",
        "74950000000",
    )
    assert told(planfix, first["callid"]) == [token.replace("101", "102") for token in outcome]
    assert len(switch.originated) == 1


def test_a_click_on_a_colleague_rings_him_and_is_not_reported(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    switch.makecall, switch.speed = path_of("click_colleague"), 50
    with running(switch, planfix, tmp_path) as service:
        answer = service.click(cmd="makeCall", token="pbx-token-1", **{"from": "101", "to": "102"})
        assert (answer.status_code, answer.json()) == (200, {})
        service.wait_for("event=click_to_call .*ext=101.*phone=102")
        honest = switch.play("in_one_answered")
        planfix.wait_for(lambda crm: "COMPLETED" in [f.get("event") for f in crm.accepted])
    assert {fields["callid"] for fields in planfix.accepted} == {honest}
    (command,) = switch.originated
    assert command.endswith("}user/102)")


@pytest.mark.parametrize("to", ["110", "+7 926 000-00-07"])
def test_a_click_on_a_colleague_who_has_only_a_mobile_rings_it_and_is_not_reported(
    switch: Switch, planfix: Planfix, tmp_path: Path, to: str
) -> None:
    switch.makecall, switch.speed = path_of("click_colleague_on_mobile"), 50
    settings = {"EXTENSION_ALIASES": "79260000007:110", "DIAL_RULES": r"7(\d{10})=8$1"}
    with running(switch, planfix, tmp_path, **settings) as service:
        answer = service.click(cmd="makeCall", token="pbx-token-1", **{"from": "101", "to": to})
        assert (answer.status_code, answer.json()) == (200, {})
        service.wait_for("event=click_to_call .*ext=101.*phone=110")
        honest = switch.play("in_one_answered")
        planfix.wait_for(lambda crm: "COMPLETED" in [f.get("event") for f in crm.accepted])
    assert {fields["callid"] for fields in planfix.accepted} == {honest}
    (command,) = switch.originated
    assert command.endswith("}sofia/gateway/trunk/89260000007)")


@pytest.mark.parametrize("context", ["", "planfix_click"])
def test_a_click_is_recorded_where_freeswitch_has_its_folder(
    switch: Switch, planfix: Planfix, tmp_path: Path, context: str
) -> None:
    switch.speed = 20
    settings = {
        "RECORD_CLICKS": "true",
        "RECORD_STEREO": "true",
        "RECORDINGS_MAP": f"/usr/recordings:{tmp_path}",
        "DIAL_CONTEXT": context,
    }
    with running(switch, planfix, tmp_path, **settings) as service:
        service.click(cmd="makeCall", token="pbx-token-1", **{"from": "101", "to": "79161234567"})
        planfix.wait_for(lambda crm: "OUTGOING" in [f.get("event") for f in crm.accepted])
    (command,) = switch.originated
    employee, *client = map(variables, re.findall(r"\{[^{}]*\}", command))
    wanted = {
        "execute_on_answer": f"record_session /usr/recordings/{employee['origination_uuid']}.wav",
        "RECORD_STEREO": "true",
    }
    if context:
        wanted["bridge_answer_timeout"] = "60"
        wanted = {f"nolocal:{name}": value for name, value in wanted.items()}
        assert set(employee["export_vars"].split(",")) == set(wanted)
        client = [employee]
    assert wanted.items() <= client[0].items()


@pytest.mark.parametrize(
    ("settings", "ringback"),
    [
        ({}, "%(800,3200,425)"),
        ({"COUNTRY": "KZ"}, "%(1000,4000,425)"),
        ({"RINGBACK": "tone_stream://%(2000,4000,440,480)"}, "%(2000,4000,440,480)"),
    ],
)
def test_after_a_click_the_employee_hears_the_tone_of_the_country_or_the_one_that_is_set(
    switch: Switch, planfix: Planfix, tmp_path: Path, settings: dict[str, str], ringback: str
) -> None:
    switch.speed = 20
    with running(switch, planfix, tmp_path, DIAL_ALLOW=r"\d+", **settings) as service:
        service.click(cmd="makeCall", token="pbx-token-1", **{"from": "101", "to": "79161234567"})
        planfix.wait_for(lambda crm: "OUTGOING" in [f.get("event") for f in crm.accepted])
    (command,) = switch.originated
    assert variables(command[command.index("{") : command.index("}")])["transfer_ringback"] == (
        ringback
    )


def test_planfix_is_answered_while_the_phone_still_rings(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    switch.speed = 0.01
    with running(switch, planfix, tmp_path) as service:
        answer = service.click(
            cmd="makeCall", token="pbx-token-1", **{"from": "101", "to": "79161234567"}
        )
        assert answer.status_code == 200
        assert not any("click_to_call" in line for line in service.log)


def test_a_click_for_a_phone_that_is_off_is_refused_with_the_reason(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path) as service:
        answer = service.click(
            cmd="makeCall", token="pbx-token-1", **{"from": "105", "to": "79161234567"}
        )
        assert (answer.status_code, answer.json()["reason"]) == (
            400,
            "Extension 105 cannot be called: no phone is registered",
        )
        assert 'fsplanfix_clicks_total{outcome="REFUSED"} 1.0' in service.get("/metrics").text
    assert (switch.originated, planfix.received) == ([], [])
    told = call_cli(
        tmp_path, "explain", "79161234567", STORE_URL=f"sqlite:///{tmp_path}/store.db"
    ).stdout
    assert (
        "click to call refused: Extension 105 cannot be called: no phone is registered"
        in " ".join(told.split())
    )


def test_a_phone_that_goes_off_at_that_moment_shows_in_the_log_the_numbers_and_explain(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    switch.contacts = {"105": "sofia/internal/sip:105@127.0.0.1:6105"}
    with running(switch, planfix, tmp_path) as service:
        answer = service.click(
            cmd="makeCall", token="pbx-token-1", **{"from": "105", "to": "79161234567"}
        )
        assert answer.status_code == 200
        callid = service.wait_for("click_to_call_failed.*callid=(\\S+).*USER_NOT_REGISTERED")[1]
        assert (
            'fsplanfix_clicks_total{outcome="USER_NOT_REGISTERED"} 1.0'
            in service.get("/metrics").text
        )
    assert [request.fields["cmd"] for request in planfix.received] == ["contact"]
    explained = call_cli(tmp_path, "explain", callid, STORE_URL=f"sqlite:///{tmp_path}/store.db")
    assert explained.returncode == 0
    assert "click to call: the employee's phone is off" in explained.stdout
    last = call_cli(tmp_path, "explain", "--last", STORE_URL=f"sqlite:///{tmp_path}/store.db")
    assert last.stdout == explained.stdout


def test_a_click_goes_to_the_switch_where_the_phone_is_registered(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    other = Switch()
    other.start()
    switch.registered, other.registered = {"101"}, {"102"}
    both = f"esl://:ClueCon@127.0.0.1:{switch.port},esl://:ClueCon@127.0.0.1:{other.port}"
    with running(switch, planfix, tmp_path, FREESWITCH_ESL=both) as service:
        for port in (switch.port, other.port):
            service.wait_for(f"freeswitch_linked server=127.0.0.1:{port}")
        for ext in ("101", "102", "103"):
            service.click(cmd="makeCall", token="pbx-token-1", **{"from": ext, "to": "79161234567"})
        service.wait_for("ext=102.*kind=OUTGOING")
        service.wait_for("ext=101.*kind=OUTGOING")
    other.stop()
    assert [len(switch.originated), len(other.originated)] == [1, 1]
    assert "}user/101 " in switch.originated[0]
    assert "}user/102 " in other.originated[0]


@pytest.mark.parametrize(
    ("aliases", "registered", "leg"),
    [
        ("1001:501", {"1001"}, "}user/1001 "),
        ("79260000007:501", set[str](), "}sofia/gateway/trunk/79260000007 "),
        ("1001:501,79260000007:501", set[str](), "}sofia/gateway/trunk/79260000007 "),
        ("1001:501,79260000007:501", {"1001"}, "}user/1001 "),
        ("501:777,1001:501", {"501", "1001"}, "}user/1001 "),
        ("ivan.petrov:501", {"ivan.petrov"}, "}user/ivan.petrov "),
    ],
)
def test_a_short_code_of_planfix_calls_whoever_it_is_an_alias_of(
    switch: Switch, planfix: Planfix, tmp_path: Path, aliases: str, registered: set[str], leg: str
) -> None:
    switch.users, switch.registered = {"501", "1001", "ivan.petrov"}, registered
    with running(switch, planfix, tmp_path, EXTENSION_ALIASES=aliases) as service:
        answer = service.click(
            cmd="makeCall", token="pbx-token-1", **{"from": "501", "to": "79161234567"}
        )
        assert answer.status_code == 200
        planfix.wait_for(
            lambda crm: any(fields.get("event") == "OUTGOING" for fields in crm.accepted)
        )
    assert leg in switch.originated[0]
    assert {f["ext"] for f in planfix.accepted if f["cmd"] == "event"} == {"501"}


@pytest.mark.parametrize(
    ("settings", "leg"),
    [
        ({}, "}sofia/gateway/trunk/989161234567)"),
        ({"DIAL_CONTEXT": "default"}, " 989161234567 XML default"),
    ],
)
def test_a_click_dials_what_the_rules_say_and_reports_the_clients_number(
    switch: Switch, planfix: Planfix, tmp_path: Path, settings: dict[str, str], leg: str
) -> None:
    switch.speed, switch.registered = 20, {"102"}
    rules = {"DIAL_RULES": r"7(\d{10})=98$1", "EXTENSION_ALIASES": "79260000007:501"}
    with running(switch, planfix, tmp_path, **rules, **settings) as service:
        for ext in ("102", "501"):
            click = {"cmd": "makeCall", "from": ext, "to": "8 (916) 123-45-67"}
            assert service.click(**click, token="pbx-token-1").status_code == 200
            service.wait_for(f"click_to_call .*ext={ext}")
        service.wait_for("notice_created.*kind=OUTGOING")
    assert all(leg in command for command in switch.originated)
    # the employee's mobile is dialled through the same trunk
    assert any("}sofia/gateway/trunk/989260000007 " in command for command in switch.originated)
    phones = [set(re.findall(r"planfix_phone=(\d+)", command)) for command in switch.originated]
    assert phones == [{"79161234567"}] * 2


@pytest.mark.parametrize(
    ("trace", "outcome"),
    [
        ("makecall_manager_no_answer", "the employee did not pick up"),
        ("makecall_manager_declines", "the employee declined"),
    ],
)
def test_a_click_that_the_employee_does_not_take_shows_in_explain_and_not_in_planfix(
    switch: Switch, planfix: Planfix, tmp_path: Path, trace: str, outcome: str
) -> None:
    switch.makecall, switch.speed = path_of(trace), 50
    with running(switch, planfix, tmp_path) as service:
        service.click(cmd="makeCall", token="pbx-token-1", **{"from": "101", "to": "79161234567"})
        callid = service.wait_for("click_to_call_failed.*callid=(\\S+)")[1]
    assert [request.fields["cmd"] for request in planfix.received] == ["contact"]
    explained = call_cli(tmp_path, "explain", callid, STORE_URL=f"sqlite:///{tmp_path}/store.db")
    assert f"click to call: {outcome}" in explained.stdout


def test_the_phone_rings_with_the_number_while_planfix_is_silent(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    switch.speed, planfix.delay = 50, 3600
    with running(switch, planfix, tmp_path) as service:
        service.click(cmd="makeCall", token="pbx-token-1", **{"from": "101", "to": "79161234567"})
        service.wait_for("notice_created.*kind=OUTGOING")
        service.process.kill()  # it would finish its requests to Planfix first
    (command,) = switch.originated
    assert ",origination_caller_id_name=79161234567," in command
