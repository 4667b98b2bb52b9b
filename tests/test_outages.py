"""What becomes of calls when a part of the whole fails, with the real service as programs of their own."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import gevent
import psycopg
import pytest

from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.simulators.playback import Step

from .support.deliveries import count, told
from .support.outages import (
    WHOLE,
    Worker,
    is_a,
    linked,
    wait_until_over,
    wait_until_settled,
    wait_until_told,
)
from .support.postgres import empty_database
from .support.service import PATIENCE, Halt, Service, running, settings_for, split
from .support.traces import by_ext, wanted


def test_a_link_cut_in_the_middle_of_a_talk(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path) as service:
        talking = Halt(switch, is_a("CALL_UPDATE"))
        player = gevent.spawn(switch.play, WHOLE, 1.0)
        callid = wait_until_told(planfix, "A102")
        assert talking.reached()
        switch.drop()
        talking.go_on()
        player.join()
        service.wait_for("reconciled.*missed")
        wait_until_over(planfix, callid)
    assert told(planfix, callid)[-2:] in (
        ["S102!", "R"],
        ["R", "S102!"],
        ["X103", "S102!"],
        ["X101", "S102!"],
    )
    assert planfix.history.surprises == []


@pytest.mark.parametrize("freeswitch_too", [False, True])
def test_the_end_of_a_call_that_nobody_heard(
    switch: Switch, planfix: Planfix, tmp_path: Path, freeswitch_too: bool
) -> None:
    """The service is killed while phones ring, and comes back when the call is long over."""
    settings = settings_for(switch, planfix, tmp_path)
    first = linked(tmp_path, settings)
    ringing = Halt(switch, is_a("CHANNEL_ANSWER"))
    player = gevent.spawn(switch.play, WHOLE, 1.0)
    callid = wait_until_told(planfix, "I101", "I102", "I103")
    wait_until_settled(settings["STORE_URL"], 3)
    first.process.send_signal(signal.SIGKILL)
    if freeswitch_too:
        switch.restart()
    first.end()
    ringing.go_on()
    player.join()
    second = Service(tmp_path, settings)
    wait_until_over(planfix, callid)
    assert second.end() == 0
    assert sorted(told(planfix, callid)) == ["I101", "I102", "I103", "M101", "M102", "M103"]
    assert planfix.history.surprises == []


def test_a_switch_spelled_otherwise_after_a_restart(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    """The talk ends while the address in FREESWITCH_ESL is written in another way."""
    settings = settings_for(switch, planfix, tmp_path)
    first = linked(tmp_path, settings)
    talking = Halt(switch, is_a("CALL_UPDATE"))
    player = gevent.spawn(switch.play, WHOLE, 1.0)
    callid = wait_until_told(planfix, "A102")
    assert talking.reached()
    assert first.end() == 0
    talking.go_on()
    player.join()
    otherwise = {"FREESWITCH_ESL": f"esl://:ClueCon@localhost:{switch.port}"}
    with running(switch, planfix, tmp_path, **otherwise):
        wait_until_over(planfix, callid)
    assert by_ext(told(planfix, callid))["102"] == ["I102", "A102", "S102!"]
    assert planfix.history.surprises == []


def test_a_transfer_that_nobody_heard(switch: Switch, planfix: Planfix, tmp_path: Path) -> None:
    """101 talks, the service is killed, the client is handed on to 102 who talks when the service is back."""
    settings = settings_for(switch, planfix, tmp_path)
    first = linked(tmp_path, settings)
    talks_with_101 = Halt(switch, is_a("CHANNEL_HANGUP", "101"))
    player = gevent.spawn(switch.play, "blind_transfer_answered", 1.0)
    callid = wait_until_told(planfix, "A101")
    wait_until_settled(settings["STORE_URL"], 2)
    first.process.send_signal(signal.SIGKILL)
    first.end()
    talks_with_102 = Halt(switch, is_a("CHANNEL_HANGUP", "102"))
    talks_with_101.go_on()
    assert talks_with_102.reached()
    second = Service(tmp_path, settings)
    second.wait_for("reconciled.*missed")
    talks_with_102.go_on()
    player.join()
    wait_until_over(planfix, callid)
    planfix.wait_for(lambda crm: "R" in told(crm, callid))
    assert second.end() == 0
    tokens = [token.rstrip("!") for token in told(planfix, callid)]
    assert [t for t in tokens if "101" in t] == ["I101", "A101", "S101"]
    assert [t for t in tokens if "102" in t] == ["I102", "A102", "S102"]
    assert planfix.history.surprises == []


def test_a_restart_of_freeswitch_ends_every_call(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path):
        talking = Halt(switch, is_a("CALL_UPDATE"))
        gevent.spawn(switch.play, WHOLE, 1.0)
        callid = wait_until_told(planfix, "A102")
        assert talking.reached()
        switch.restart()
        talking.go_on()
        wait_until_over(planfix, callid)
    assert "S102!" in told(planfix, callid)
    assert planfix.history.surprises == []


@pytest.mark.no_cover
def test_calls_that_came_while_the_service_stood_still_are_told_as_they_were(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    """FreeSWITCH fills its socket to us and waits; nothing of 60 calls is lost."""
    happened: list[Step] = []
    with running(switch, planfix, tmp_path) as service:
        switch.wait_for_subscriber(PATIENCE)
        service.process.send_signal(signal.SIGSTOP)
        switch.before = happened.append
        calls = [gevent.spawn(switch.play, "in_one_answered", 0) for _ in range(60)]
        before = -1
        while before < len(happened):  # until the socket is full, or all is said
            before = len(happened)
            gevent.sleep(0.05)
        service.process.send_signal(signal.SIGCONT)
        gevent.joinall(calls)
        planfix.wait_for(
            lambda crm: count(crm) >= 60 * len(wanted("in_one_answered")),
            timeout=2 * PATIENCE,
        )
    for call in calls:
        assert by_ext(told(planfix, str(call.value))) == by_ext(wanted("in_one_answered"))
    assert planfix.history.surprises == []


@pytest.mark.no_cover
def test_two_workers_on_one_switch_say_everything_once(
    switch: Switch, planfix: Planfix, tmp_path: Path, store_url: str
) -> None:
    with (
        running(switch, planfix, tmp_path, STORE_URL=store_url) as one,
        running(switch, planfix, tmp_path, STORE_URL=store_url) as other,
    ):
        for service in (one, other):
            service.wait_for("freeswitch_linked")
        calls = [gevent.spawn(switch.play, WHOLE, 10.0) for _ in range(10)]
        gevent.joinall(calls)
        planfix.wait_for(lambda crm: count(crm) >= 80, PATIENCE)
        for service in (one, other):
            assert service.end() == 0  # whatever either had left to say is said by now
    assert count(planfix) == 80
    assert len(planfix.received) == len(planfix.accepted)
    assert planfix.history.surprises == []


def test_a_postgresql_that_is_killed_costs_nothing(
    switch: Switch, planfix: Planfix, tmp_path: Path, postgres: str
) -> None:
    """One of its processes is killed in the middle of a talk: it throws out all and recovers."""
    worker = Worker(switch, planfix, tmp_path, empty_database(postgres))
    talking = Halt(switch, is_a("CALL_UPDATE"))
    playing = gevent.spawn(switch.play, WHOLE, 0)
    assert talking.reached()
    callid = wait_until_told(planfix, "A102")
    with psycopg.connect(postgres, autocommit=True) as connection:
        os.kill(connection.info.backend_pid, signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    talking.go_on()
    playing.join()
    planfix.wait_for(lambda crm: len(told(crm, callid)) == len(wanted(WHOLE)), PATIENCE)
    assert worker.end() == 0
    assert by_ext(told(planfix, callid)) == by_ext(wanted(WHOLE))
    assert planfix.history.surprises == []


def test_the_roles_may_be_split(
    switch: Switch, planfix: Planfix, tmp_path: Path, store_url: str
) -> None:
    with split(switch, planfix, tmp_path, store_url, "events", "courier", "web") as (
        events,
        _,
        web,
    ):
        callid = switch.play(WHOLE, speed=0)
        planfix.wait_for(lambda crm: len(told(crm, callid)) == len(wanted(WHOLE)))
        web.wait_for("freeswitch_linked")
        switch.speed = 20
        assert web.click(
            cmd="makeCall", token="pbx-token-1", **{"from": "101", "to": "79161112233"}
        ).ok
        planfix.wait_for(
            lambda crm: any(fields.get("phone") == "79161112233" for fields in crm.accepted)
        )
        assert events.log
    assert planfix.history.surprises == []


def test_another_courier_takes_over_from_one_that_was_killed(
    switch: Switch, planfix: Planfix, tmp_path: Path, store_url: str
) -> None:
    planfix.delay = 3600.0
    with split(switch, planfix, tmp_path, store_url, "events", "courier") as (_, doomed):
        switch.play("in_one_no_answer", speed=0)
        planfix.wait_for(lambda crm: crm.asked > 0)
        doomed.process.send_signal(signal.SIGKILL)
        planfix.delay = 0.0
        with split(switch, planfix, tmp_path, store_url, "courier"):
            planfix.wait_for(lambda crm: len(crm.accepted) >= 2, PATIENCE)


def test_a_full_disk_is_not_ready_and_loses_nothing(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path) as service:
        pid = service.process.pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        callid = switch.play(WHOLE, speed=0)
        service.wait_for("store_unavailable")
        assert service.get("/health/ready").json()["store"] is False
        assert planfix.received == []
        resource.prlimit(
            pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )
        planfix.wait_for(lambda crm: len(told(crm, callid)) == len(wanted(WHOLE)))
        assert service.get("/health/ready").json()["store"] is True
    assert "Traceback" not in "\n".join(service.log)


def test_the_numbers_tell_how_things_stand(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    planfix.answers.extend([400])
    with running(switch, planfix, tmp_path) as service:
        switch.play("in_one_no_answer", speed=0)
        service.wait_for("notice_rejected")
        numbers = service.numbers("fsplanfix_rejected_notices 1.0")
        planfix.token = "changed"
        switch.play("in_one_no_answer", speed=0)
        service.wait_for("planfix_token_unknown")
        paused = service.get("/metrics").text
    assert "fsplanfix_account_paused 0.0" in numbers
    assert "fsplanfix_account_paused 1.0" in paused
    assert "fsplanfix_event_overflows_total 0.0" in paused
    assert f'fsplanfix_freeswitch_linked{{server="127.0.0.1:{switch.port}"}} 1.0' in paused
    for gauge in (
        "fsplanfix_backlog",
        "fsplanfix_oldest_undelivered_seconds",
        "fsplanfix_store_up",
    ):
        assert f"\n{gauge} " in paused


def test_workers_with_different_rules_are_told(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with (
        running(switch, planfix, tmp_path),
        running(switch, planfix, tmp_path, COUNTRY="KZ", DEFAULT_EXT="1") as other,
    ):
        warning = other.wait_for("rules_changed.*")[0]
    assert "settings=COUNTRY,DEFAULT_EXT" in warning
    assert "give it the same settings" in warning


def test_a_planfix_that_never_answers_holds_up_nobody_else(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    planfix.delay = 3600.0
    with running(switch, planfix, tmp_path) as service:
        switch.play(WHOLE, speed=0)
        planfix.wait_for(lambda crm: crm.asked > 0)
        assert service.get("/health/ready").status_code == 200
        assert service.get("/metrics").ok


@pytest.mark.parametrize(
    "answer", ["garbage", "-ERR no", "[]", '{"rows": [{"uuid": "a b"}, {"uuid": "x"}]}']
)
def test_a_switch_that_cannot_name_its_channels_is_followed_all_the_same(
    switch: Switch, planfix: Planfix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(switch, "_show", lambda text: answer)
    with running(switch, planfix, tmp_path):
        callid = switch.play(WHOLE, speed=0)
        planfix.wait_for(lambda crm: len(told(crm, callid)) == len(wanted(WHOLE)))
