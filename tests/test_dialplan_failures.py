"""A call goes on through the dialplan files whatever becomes of the service and of Planfix."""

import re
import signal
from pathlib import Path

import gevent
import pytest

from fsplanfix.simulators.channel import Channel, Phones
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from .support.dialplan import (
    CLIENT,
    DOMAIN,
    FUSION,
    LINE,
    NEVER,
    RESCUE,
    dialplan,
    house,
)
from .support.service import running


def goes_on(call: Channel) -> None:
    assert (call.talked_with, call.misbehaviour) == ("103", [])
    assert call.rang[-3:] == ["101", "102", "103"]


@pytest.mark.parametrize("fusion", [False, True])
def test_a_call_goes_on_while_the_service_is_down(
    switch: Switch, tmp_path: Path, fusion: bool
) -> None:
    switch.speed = 50
    plan = dialplan(None, tmp_path, fusion)
    called, context = ("9000", DOMAIN) if fusion else (LINE, "public")
    variables = FUSION if fusion else {}
    call = Channel(switch, plan, Phones(picks_up={"103": 1}), CLIENT, called, **variables).run(
        context
    )
    goes_on(call)
    assert not call.rescued


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("fusion", [False, True])
def test_a_call_goes_on_when_the_service_is_killed_or_hung_while_it_holds_it(
    switch: Switch, planfix: Planfix, tmp_path: Path, sign: signal.Signals, fusion: bool
) -> None:
    hung = sign is signal.SIGSTOP
    planfix.delay = 3600
    with house(switch, planfix, tmp_path) as (service, _):
        plan = dialplan(service, tmp_path, fusion, rescue=RESCUE if hung else NEVER)
        called, context = ("9000", DOMAIN) if fusion else (LINE, "public")
        variables = FUSION if fusion else {}
        call = Channel(switch, plan, Phones(picks_up={"103": 1}), CLIENT, called, **variables)
        going = gevent.spawn(call.run, context)
        planfix.wait_for(lambda crm: crm.asked == 1)
        service.process.send_signal(sign)
        going.get(timeout=60)
        service.process.send_signal(signal.SIGCONT)
        service.process.kill()
    goes_on(call)
    assert call.rescued == hung


def misbehave(planfix: Planfix, how: str) -> None:
    if how == "down":
        planfix.stop()
    elif how == "slow":
        planfix.delay = 3600
    elif how in ("html", "drop"):
        planfix.answers.append(how)
    elif how.isdigit():
        planfix.answers.append(int(how))
    else:
        planfix.contacts[CLIENT] = {
            "a name of 10 kB": {"contact_name": "Б" * 10_000},
            "odd": {"contact_name": ["x"], "manager": {"y": 1}},
        }[how]  # type: ignore[assignment]


@pytest.mark.parametrize(
    "how", ["down", "slow", "html", "drop", "400", "401", "500", "a name of 10 kB", "odd"]
)
def test_a_call_goes_on_whatever_planfix_does(
    switch: Switch, planfix: Planfix, tmp_path: Path, how: str
) -> None:
    asked: list[str] = []
    planfix.before = lambda fields: asked.append(fields["cmd"])
    deadline = "0.5" if how == "slow" else "5"
    settings = {"CONTACT_DEADLINE": deadline, "RING_FIRST": "manager"}
    with house(switch, planfix, tmp_path, **settings) as (service, plan):
        misbehave(planfix, how)
        call = Channel(switch, plan, Phones(picks_up={"103": 1}), CLIENT, LINE).run("public")
        again = Channel(switch, plan, Phones(picks_up={"103": 1}), CLIENT, LINE).run("public")
        assert "Traceback" not in "\n".join(service.log)
        service.process.kill()  # it would finish its requests to Planfix first
    for one in (call, again):
        goes_on(one)
        assert not one.rescued
    assert asked.count("contact") == (0 if how == "down" else 1)  # what came of it is remembered
    assert call.shown["103"] == ("Б" * 60 if how == "a name of 10 kB" else CLIENT)


def test_a_caller_who_hangs_up_meanwhile_leaves_nothing_behind(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    planfix.delay = 0.5
    with house(switch, planfix, tmp_path) as (service, plan):
        call = Channel(switch, plan, Phones(picks_up={"102": 1}), CLIENT, LINE)
        going = gevent.spawn(call.run, "public")
        planfix.wait_for(lambda crm: crm.asked == 1)
        call.hang_up()
        going.get(timeout=60)
        service.wait_for("socket_app_gave_up")
        assert (call.cause, call.rang) == ("ORIGINATOR_CANCEL", [])
        next_call = Channel(switch, plan, Phones(picks_up={"102": 1}), CLIENT, LINE).run("public")
        assert next_call.talked_with == "102"
        assert not re.search("Traceback|crashed", "\n".join(service.log))


def test_a_port_that_is_taken_is_taken_over_when_it_is_free(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with house(switch, planfix, tmp_path) as (first, plan):
        address = first.socket_app
        (tmp_path / "second").mkdir()
        with running(switch, planfix, tmp_path / "second", ESL_LISTEN=address) as second:
            second.wait_for("socket_app_not_listening.*Address already in use")
            assert second.get("/health/ready").status_code == 200
            first.end()
            second.wait_for(f"socket_app_listening address={address}")
            call = Channel(switch, plan, Phones(picks_up={"102": 1}), CLIENT, LINE).run("public")
    assert call.shown == {"102": "Ivan Petrov"}
