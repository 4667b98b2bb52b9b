"""What becomes of calls and answers while the store is away, or locked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import pytest
from gevent.event import Event

from fsplanfix.admin.traces import replay
from fsplanfix.calls.model import Rules
from fsplanfix.errors import StoreError
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.store import Store
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from .support.deliveries import told
from .support.dialplan_socket import CHANNEL_DATA, connect, read_until
from .support.outages import (
    EVENTS_OF_WHOLE,
    WHOLE,
    Worker,
)
from .support.service import PATIENCE, running
from .support.traces import by_ext, wanted


def away(*_: object, **__: object) -> None:
    raise StoreError("The database does not answer.")


def wait_until(happened: Callable[[], bool]) -> None:
    with gevent.Timeout(PATIENCE):
        while not happened():
            gevent.sleep(0.01)


def holds_back(worker: Worker) -> int:
    """How many events its link holds back."""
    return len(worker.app._links[0]._held or [])


def assert_next_worker_tells(
    name: str, callid: str, switch: Switch, planfix: Planfix, folder: Path, store_url: str
) -> None:
    again = Worker(switch, planfix, folder, store_url)
    planfix.wait_for(lambda crm: len(told(crm, callid)) == len(wanted(name)))
    assert again.end() == 0


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
        wait_until(lambda: bool(pipeline._unsaved))
        assert worker.end() == 1
    (spool,) = tmp_path.glob("*.spool-*")
    assert len(list(replay(spool, Rules()))) == len(wanted(WHOLE))
    assert_next_worker_tells(WHOLE, callid, switch, planfix, tmp_path, store_url)
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
        # it is to be written down
        wait_until(lambda: worker.app._pipelines[0].progress.busy_since is not None)
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
        wait_until(lambda: holds_back(worker) >= EVENTS_OF_WHOLE)
        assert worker.end() == 1
    assert_next_worker_tells(WHOLE, callid, switch, planfix, tmp_path, store_url)
    assert by_ext(told(planfix, callid)) == by_ext(wanted(WHOLE))


def test_what_was_heard_before_the_store_could_be_asked_survives_a_cut_of_the_link(
    switch: Switch, planfix: Planfix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as outage:
        outage.setattr(Store, "open_calls", away)
        worker = Worker(switch, planfix, tmp_path, f"sqlite:///{tmp_path}/store.db")
        callid = switch.play(WHOLE, speed=0)
        wait_until(lambda: holds_back(worker) >= EVENTS_OF_WHOLE)
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
        wait_until(lambda: bool(worker.app._courier.claims.outcomes))
        assert worker.end() == 1
    assert len(list(tmp_path.glob("*.answers-*"))) == 1
    assert_next_worker_tells("in_one_no_answer", callid, switch, planfix, tmp_path, store_url)
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
