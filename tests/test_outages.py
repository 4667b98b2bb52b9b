"""What becomes of calls when a part of the whole fails, with the real service as programs of their own."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import psycopg
import pytest
from gevent.event import Event

from fsplanfix.admin.traces import replay
from fsplanfix.calls.model import Rules
from fsplanfix.errors import StoreError
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.schema import State
from fsplanfix.outbox.store import Store
from fsplanfix.service.app import App
from fsplanfix.settings import Settings
from fsplanfix.settings.accounts import load_accounts
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.simulators.playback import Step

from .support.deliveries import count, told
from .support.dialplan_socket import CHANNEL_DATA, connect, read_until
from .support.postgres import empty_database
from .support.service import PATIENCE, Halt, Service, running, settings_for, split
from .support.traces import by_ext, wanted

WHOLE = "group_answered"
EVENTS_OF_WHOLE = 22
"""Those that the service follows."""


def linked(folder: Path, settings: dict[str, str]) -> Service:
    """Start a service that a test ends in its own way; it follows FreeSWITCH."""
    service = Service(folder, settings)
    service.wait_for("freeswitch_linked")
    return service


def wait_until_told(planfix: Planfix, *tokens: str) -> str:
    """Wait until Planfix was told these of one call; return its callid."""
    found: list[str] = []

    def look(crm: Planfix) -> bool:
        found[:] = [callid for callid in crm.history.cards if set(tokens) <= set(told(crm, callid))]
        return bool(found)

    planfix.wait_for(look)
    return found[0]


def wait_until_over(planfix: Planfix, callid: str) -> None:
    planfix.wait_for(
        lambda crm: (
            callid in crm.history.cards
            and all(p.state == "done" for p in crm.history.cards[callid].parts)
        )
    )


def wait_until_settled(store_url: str, notices: int) -> None:
    """Wait until it is written down that Planfix took so many: what is not is sent again."""
    store = Store(store_url)
    with gevent.Timeout(PATIENCE):
        while Queue(store).counts() != {State.DONE: notices}:
            gevent.sleep(0.01)
    store.close()


def is_a(name: str, dialled: str = "") -> Callable[[Step], bool]:
    """Tell an event by its name and, if given, by the phone its leg was dialled for."""
    return lambda step: (
        step.get("Event-Name") == name
        and (not dialled or step.get("variable_dialed_user") == dialled)
    )


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
        numbers = service.get("/metrics").text
        planfix.token = "changed"
        switch.play("in_one_no_answer", speed=0)
        service.wait_for("planfix_token_unknown")
        paused = service.get("/metrics").text
    assert "fsplanfix_rejected_notices 1.0" in numbers
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


# an end while the store does not answer


class Worker:
    """The service within this process, so that a test can take its store away."""

    def __init__(
        self, switch: Switch, planfix: Planfix, folder: Path, store_url: str, *roles: str
    ) -> None:
        settings = settings_for(switch, planfix, folder, STORE_URL=store_url, CONTACT_DEADLINE="5")
        self.app = App(load_accounts(Settings, settings), ["events", "courier", *roles])
        self._run = gevent.spawn(self.app.run)
        switch.wait_for_subscriber(PATIENCE)

    def end(self) -> int:
        self.app.stop()
        return int(self._run.get(timeout=PATIENCE))


def away(*_: object, **__: object) -> None:
    raise StoreError("The database does not answer.")


def test_what_cannot_be_stored_at_the_end_is_told_after_the_next_start(
    switch: Switch,
    planfix: Planfix,
    tmp_path: Path,
    store_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Answered, recorded and ended while the store was away: FreeSWITCH knows nothing of it now."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    worker = Worker(switch, planfix, tmp_path, store_url)
    with monkeypatch.context() as outage:
        outage.setattr("fsplanfix.service.app.TIME_TO_FINISH", 0.1)
        outage.setattr(Store, "save", away)
        callid = switch.play(WHOLE, speed=0)
        pipeline = worker.app._pipelines[0]
        with gevent.Timeout(PATIENCE):
            while not pipeline._unsaved:
                gevent.sleep(0.01)
        assert worker.end() == 1
    (spool,) = tmp_path.glob("*.spool-*")
    assert len(list(replay(spool, Rules()))) == len(wanted(WHOLE))
    again = Worker(switch, planfix, tmp_path, store_url)
    planfix.wait_for(lambda crm: len(told(crm, callid)) == len(wanted(WHOLE)))
    assert again.end() == 0
    assert list(tmp_path.glob("*.spool-*")) == []
    assert by_ext(told(planfix, callid)) == by_ext(wanted(WHOLE))
    assert planfix.history.surprises == []


# SQLite's lock held by another process

HOLD = """
import select, sqlite3, sys
store = sqlite3.connect(sys.argv[1], isolation_level=None)
while True:
    try:
        store.execute("BEGIN IMMEDIATE")
        break
    except sqlite3.OperationalError:
        pass
print("held", flush=True)
select.select([sys.stdin], [], [], 30)  # so that who waits without giving way is found out
store.execute("ROLLBACK")
"""


@contextmanager
def held(store: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Hold the lock, as a backup or a shell does, until standard input is closed."""
    command = [sys.executable, "-c", HOLD, str(store)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield holder


def test_a_caller_has_a_name_while_the_store_is_locked(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    """Whoever waited for the lock stopped everybody, so that the dialplan's time was over."""
    worker = Worker(switch, planfix, tmp_path, f"sqlite:///{tmp_path}/store.db", "socket")
    socket_app = worker.app._socket_app
    assert socket_app is not None
    assert socket_app.listening.wait(PATIENCE)
    with held(tmp_path / "store.db") as holder:
        callid = switch.play("in_one_no_answer", speed=0)
        with gevent.Timeout(PATIENCE):
            while worker.app._pipelines[0].progress.busy_since is None:  # it is to be written down
                gevent.sleep(0.01)
        with connect(socket_app) as sock:
            assert read_until(sock, b"\n\n") == b"connect\n\n"
            sock.sendall(CHANNEL_DATA.encode())
            said = b""
            while not said.endswith(b"exit\n\n"):
                said += read_until(sock, b"\n\n")
                sock.sendall(b"Content-Type: command/reply\nReply-Text: +OK\n\n")
        assert holder.poll() is None
        assert told(planfix, callid) == []
    assert b"planfix_contact_name=Ivan Petrov" in said
    assert b"planfix_manager=102" in said
    planfix.wait_for(lambda crm: told(crm, callid) == ["I101", "M101"])
    assert worker.end() == 0


def test_what_waits_for_a_frozen_connection_does_not_hold_up_the_end(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    """A stop was never over if the way to PostgreSQL had frozen: systemd killed what was kept."""
    worker = Worker(switch, planfix, tmp_path, f"sqlite:///{tmp_path}/store.db")

    def tidies_up_for_ever() -> None:
        try:
            Event().wait()
        finally:
            Event().wait()

    worker.app._helpers.append(gevent.spawn(tidies_up_for_ever))
    gevent.sleep(0)
    assert worker.end() == 0


def test_what_was_heard_before_the_store_could_be_asked_is_told_after_the_next_start(
    switch: Switch,
    planfix: Planfix,
    tmp_path: Path,
    store_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The link holds events back until the store has said which calls are open."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    with monkeypatch.context() as outage:
        outage.setattr("fsplanfix.service.app.TIME_TO_FINISH", 0.1)
        outage.setattr(Store, "open_calls", away)
        worker = Worker(switch, planfix, tmp_path, store_url)
        callid = switch.play(WHOLE, speed=0)
        with gevent.Timeout(PATIENCE):
            while len(worker.app._links[0]._held or []) < EVENTS_OF_WHOLE:
                gevent.sleep(0.01)
        assert worker.end() == 1
    again = Worker(switch, planfix, tmp_path, store_url)
    planfix.wait_for(lambda crm: len(told(crm, callid)) == len(wanted(WHOLE)))
    assert again.end() == 0
    assert by_ext(told(planfix, callid)) == by_ext(wanted(WHOLE))


def test_what_was_heard_before_the_store_could_be_asked_survives_a_cut_of_the_link(
    switch: Switch, planfix: Planfix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as outage:
        outage.setattr(Store, "open_calls", away)
        worker = Worker(switch, planfix, tmp_path, f"sqlite:///{tmp_path}/store.db")
        callid = switch.play(WHOLE, speed=0)
        with gevent.Timeout(PATIENCE):
            while len(worker.app._links[0]._held or []) < EVENTS_OF_WHOLE:
                gevent.sleep(0.01)
        switch.drop()
    planfix.wait_for(lambda crm: len(told(crm, callid)) == len(wanted(WHOLE)))
    assert worker.end() == 0
    assert by_ext(told(planfix, callid)) == by_ext(wanted(WHOLE))


def test_an_answer_that_cannot_be_stored_at_the_end_is_not_asked_for_twice(
    switch: Switch,
    planfix: Planfix,
    tmp_path: Path,
    store_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    worker = Worker(switch, planfix, tmp_path, store_url)
    may_answer = Event()
    planfix.before = lambda _: may_answer.wait()
    callid = switch.play("in_one_no_answer", speed=0)
    planfix.wait_for(lambda crm: crm.asked == 1)
    with monkeypatch.context() as outage:
        outage.setattr("fsplanfix.service.app.TIME_TO_FINISH", 0.1)
        outage.setattr(Queue, "settle_and_claim", away)
        may_answer.set()
        with gevent.Timeout(PATIENCE):
            while not worker.app._courier.claims.outcomes:
                gevent.sleep(0.01)
        assert worker.end() == 1
    assert len(list(tmp_path.glob("*.answers-*"))) == 1
    again = Worker(switch, planfix, tmp_path, store_url)
    planfix.wait_for(lambda crm: len(told(crm, callid)) == len(wanted("in_one_no_answer")))
    assert again.end() == 0
    assert list(tmp_path.glob("*.answers-*")) == []
    assert told(planfix, callid) == wanted("in_one_no_answer")
    assert len(planfix.received) == len(wanted("in_one_no_answer"))


def test_a_file_of_answers_that_cannot_be_read_stops_nothing(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    torn = tmp_path / "store.db.answers-1.json"
    torn.write_text("[{")
    with running(switch, planfix, tmp_path) as service:
        service.wait_for("answers_unreadable.*answers-1.json")
        callid = switch.play(WHOLE, speed=0)
        planfix.wait_for(lambda crm: len(told(crm, callid)) == len(wanted(WHOLE)))
    assert torn.exists()
