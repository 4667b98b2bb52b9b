"""Calls that the service could not hear, told afterwards, with the real service as programs of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gevent

from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from .support.deliveries import told
from .support.service import Halt, running
from .support.traces import by_ext, path_of, wanted


def is_told(callid: str, name: str) -> Callable[[Planfix], bool]:
    return lambda crm: by_ext(told(crm, callid)) == by_ext(wanted(name))


def hear_one(switch: Switch, planfix: Planfix, folder: Path, settings: dict[str, str]) -> str:
    """Let the service hear a call and end; return its callid."""
    with running(switch, planfix, folder, **settings):
        callid = switch.play("in_one_no_answer", 0)
        planfix.wait_for(lambda crm: any(token[0] == "M" for token in told(crm, callid)))
    return callid


def test_calls_of_a_maintenance_hour_are_told_at_the_next_start(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    switch.cdr_dir = str(tmp_path / "cdr")
    settings = {"CDR_DIR": switch.cdr_dir, "POPUP_TTL": "0"}
    heard = hear_one(switch, planfix, tmp_path, settings)
    missed = {name: switch.play(path_of(name), 0) for name in ("group_answered", "out_busy")}
    switch.play(path_of("internal_answered"), 0)
    with running(switch, planfix, tmp_path, **settings) as service:
        for name in ("group_answered", "out_busy"):
            planfix.wait_for(is_told(missed[name], name))
        service.wait_for("call_told_afterwards")
    assert set(planfix.history.cards) == {heard, missed["group_answered"], missed["out_busy"]}
    assert not planfix.history.surprises


def test_windows_of_calls_that_are_over_do_not_open(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    switch.cdr_dir = str(tmp_path / "cdr")
    settings = {"CDR_DIR": switch.cdr_dir, "POPUP_TTL": "0.001"}
    hear_one(switch, planfix, tmp_path, settings)
    callid = switch.play("group_answered", 0)
    with running(switch, planfix, tmp_path, **settings):
        planfix.wait_for(lambda crm: "R" in told(crm, callid))
    assert sorted(told(planfix, callid)) == ["R", "S102!", "X101", "X103"]


def test_a_call_of_which_the_end_was_not_heard_gets_its_true_end(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    switch.cdr_dir = str(tmp_path / "cdr")
    settings = {"CDR_DIR": switch.cdr_dir, "POPUP_TTL": "0"}
    halt = Halt(switch, lambda step: step.get("Event-Name") == "CHANNEL_BRIDGE")
    with running(switch, planfix, tmp_path, **settings):
        player = gevent.spawn(switch.play, "group_answered", 0)
        assert halt.reached()
        planfix.wait_for(lambda crm: len(crm.accepted) == 3)
    halt.go_on()
    callid = player.get()
    with running(switch, planfix, tmp_path, **settings):
        planfix.wait_for(is_told(callid, "group_answered"))
    ends = [fields for fields in planfix.accepted if fields.get("status") == "Success"]
    assert [fields["duration"] for fields in ends] == ["2"]
