"""The running service tells a person of troubles."""

from pathlib import Path

import gevent

from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from .support.deliveries import count
from .support.service import PATIENCE, running
from .support.traces import wanted

CALL = "group_answered"


def lines(file: Path, least: int) -> list[str]:
    """What was told, once there are so many lines."""
    with gevent.Timeout(PATIENCE):
        while not file.exists() or len(file.read_text().splitlines()) < least:
            gevent.sleep(0.05)
    return file.read_text().splitlines()


def test_an_alarm_that_is_still_on_after_a_restart_is_told_once(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    program = tmp_path / "tell-me"
    program.write_text(f'#!/bin/sh\necho "$1" >> {told}\n')
    program.chmod(0o755)

    planfix.answers += [400]
    with running(switch, planfix, tmp_path, ALERT_COMMAND=str(program)) as service:
        switch.play(CALL, speed=0)
        planfix.wait_for(lambda crm: count(crm) == len(wanted(CALL)) - 1)
        (line,) = lines(told, 1)
        service.wait_for("alert_sent alarms=rejected|alert_sent.*rejected")
    assert "1 notices were rejected by Planfix" in line

    planfix.token = "another"
    with running(switch, planfix, tmp_path, ALERT_COMMAND=str(program)) as service:
        switch.play(CALL, speed=0)
        service.wait_for("planfix_token_unknown")
    assert len(lines(told, 1)) == 1


def test_an_alert_that_nobody_takes_is_said_in_the_log(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    planfix.answers += [400]
    with running(switch, planfix, tmp_path, ALERT_COMMAND="/bin/false") as service:
        switch.play(CALL, speed=0)
        line = service.wait_for("alert_not_sent.*").string
    assert 'problem="/bin/false ended with 1"' in line
