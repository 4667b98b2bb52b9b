"""Each symptom of docs/troubleshooting.md, brought about once: what it quotes is what is printed."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import gevent
import pytest
from gevent.event import Event
from structlog.testing import capture_logs

from fsplanfix.calls import snapshot
from fsplanfix.calls.model import Rules
from fsplanfix.errors import StoreError, TraceError
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.store import Store
from fsplanfix.service.app import App
from fsplanfix.service.leftovers import LOOK_EVERY, Leftovers
from fsplanfix.service.spool import Spool
from fsplanfix.settings import Settings
from fsplanfix.settings.accounts import load_accounts
from fsplanfix.simulators.channel import Channel, Phones
from fsplanfix.simulators.dialplan import Dialplan
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from .support.commands import call_cli
from .support.service import PATIENCE, Halt, Service, running, settings_for, started
from .support.traces import TRACES, path_of
from .support.worker import Worker, upto

PAGE = Path(__file__).parent.parent / "docs" / "troubleshooting.md"
TESTS = Path(__file__).parent
RING = TESTS.parent / "freeswitch-dialplan" / "public" / "00_2_planfix_ring.xml"

ELSEWHERE = {
    "socket_app_not_listening": "test_dialplan_failures.py",
    "record_passed_over": "service/test_history.py",
    "store_unavailable": "test_outages.py",
    "store_takes_nothing": "service/test_readiness.py",
    "account_unknown": "planfix/test_accounts.py",
    "store_damaged": "service/test_readiness.py",
    "rules_changed": "test_outages.py",
    "bucket_unavailable": "recordings/test_kept_in_a_bucket.py",
    "alert_not_sent": "test_alarms.py",
}
"""What another test brings about, with a running service or its parts."""

OF_OTHERS = {
    *("explain", "DIAL_CONTEXT", "problem", "-", "-2", "anonymous"),
    *("-ERR GATEWAY_DOWN", "-ERR NO_ROUTE_DESTINATION", "Ringback not supported"),
}
"""Settings, signs, and words of FreeSWITCH."""


def quotes() -> list[str]:
    cells = re.findall(r"^\| ([^|]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [quote for cell in cells for quote in re.findall(r"`([^`]+)`", cell)]


def assert_shown(quote: str, text: str) -> None:
    """`…` stands for anything, and so does a number."""
    assert quote in quotes()
    parts = [re.escape(part) for part in re.split(r"…|(?<= )\d+(?= )", quote)]
    assert re.search(".+".join(parts), " ".join(text.split())), f"{quote} is not in:\n{text}"


def test_every_quote_of_the_page_was_seen_once() -> None:
    ours = Path(__file__).read_text(encoding="utf-8")
    for quote in set(quotes()) - OF_OTHERS:
        there = (TESTS / ELSEWHERE[quote]).read_text("utf-8") if quote in ELSEWHERE else ours
        assert f'"{quote}' in there or quote in there.replace('"', " "), quote
    assert set(ELSEWHERE) | OF_OTHERS <= set(quotes())


def explained(folder: Path, *words: str, until: str) -> str:
    """What `explain` prints, once it has `until`."""
    with gevent.Timeout(PATIENCE, AssertionError(f"no {until!r}")):
        while True:
            done = call_cli(folder, "explain", *words, STORE_URL=f"sqlite:///{folder}/store.db")
            shown = done.stdout + done.stderr
            if re.search(until, shown, re.MULTILINE):
                return shown
            gevent.sleep(0.05)


# no call appears


def test_what_explain_says_of_calls_that_planfix_is_not_told(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path):
        ignored = switch.play(path_of("ignored_by_variable"), speed=0)
        early = switch.play(TRACES / "reports" / "r01a_out_183_then_480.jsonl.gz", speed=0)
        shown = explained(tmp_path, ignored, until="told nothing")
        assert_shown("Planfix is told nothing of this call.", shown)
        shown = explained(tmp_path, early, until="^✓.*COMPLETED")
        assert_shown("hears the network's sound, not answered yet", shown)
        assert_shown("✓", shown)
        shown = explained(tmp_path, "79990000000", until="No record")
        assert_shown("No record of call or number …", shown)


@pytest.mark.parametrize(
    ("mark", "answers", "settings", "options"),
    [
        ("✗", [400], {}, []),
        ("…", [503] * 99, {"POPUP_TTL": "0"}, []),
        ("-", [503], {"POPUP_TTL": "0.000001"}, []),
        ("○", [], {}, ["--shadow"]),
    ],
)
def test_the_marks_before_a_notice(
    switch: Switch,
    planfix: Planfix,
    tmp_path: Path,
    mark: str,
    answers: list[int],
    settings: dict[str, str],
    options: list[str],
) -> None:
    planfix.answers.extend(answers)
    given = settings_for(switch, planfix, tmp_path, **settings)
    with started(Service(tmp_path, given, *options)):
        callid = switch.play("in_one_no_answer", speed=0)
        shown = explained(tmp_path, callid, until=f"^{mark} .*INCOMING")
        assert_shown(mark, shown)
        if mark == "…":
            explained(tmp_path, callid, until="^! .*try 1 to send INCOMING")
        if mark == "-":
            assert_shown("too late to show", shown)


def test_a_recording_that_lies_elsewhere(switch: Switch, planfix: Planfix, tmp_path: Path) -> None:
    with running(switch, planfix, tmp_path, RECORDINGS_DIR=str(tmp_path)):
        callid = switch.play("in_one_answered", speed=0)
        shown = explained(tmp_path, callid, until=r"not\s+sent:")
    assert_shown("not sent: …", shown)


# calls that are reported wrongly


def test_a_call_that_ended_while_the_link_was_lost(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path) as service:
        ringing = Halt(switch, lambda step: step.get("Event-Name") == "CHANNEL_ANSWER")
        player = gevent.spawn(switch.play, "in_one_answered", 1.0)
        assert ringing.reached()
        planfix.wait_for(lambda crm: bool(crm.accepted), PATIENCE)
        callid = planfix.accepted[0]["callid"]
        switch.refuse_addresses = True
        switch.drop()
        service.wait_for("freeswitch_unreachable")
        ringing.go_on()
        player.join()
        switch.refuse_addresses = False
        shown = explained(tmp_path, callid, until="is gone")
    assert_shown("unknown: the service was not listening from … to …", shown)
    assert_shown("is gone: nobody heard its end (rule 15)", shown)


@pytest.fixture
def file_store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/store.db")
    yield store
    store.close()


def test_what_the_log_says_of_a_freeswitch_that_stays_away(file_store: Store) -> None:
    talk, _ = upto("in_one_answered", "CHANNEL_BRIDGE")
    worker = Worker(file_store)
    worker.relink([], talk[0].get("Core-UUID"))
    worker.hear(*talk)
    now = iter(range(0, 10**6, int(LOOK_EVERY)))
    watch = Leftovers(
        file_store, Rules(), lambda: None, lambda _: None, 120.0, (), lambda: next(now)
    )
    with capture_logs() as logged:
        for _ in range(10):
            watch.look()
    assert_shown("freeswitch_gone", str(logged))


def test_what_the_log_says_of_a_fault_of_ours(
    file_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise RuntimeError("a fault")

    talk, _ = upto("in_one_answered", "CHANNEL_BRIDGE")
    worker = Worker(file_store)
    with capture_logs() as logged, monkeypatch.context() as fault:
        fault.setattr(snapshot, "dump", fail)
        worker.hear(talk[0])
        fault.setattr(worker.pipeline.tracker, "feed", fail)
        worker.hear(talk[1])
    assert_shown("work_set_aside", str(logged))
    assert_shown("event_set_aside", str(logged))


def test_what_the_log_says_of_a_file_that_cannot_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", fail)
    with capture_logs() as logged:
        Spool(tmp_path / "store.db", "127.0.0.1:8021").remove(tmp_path / "store.db.spool-1")
    assert_shown("spool_stuck", str(logged))


# no name, wrong phone first


def test_what_the_log_says_of_a_caller(switch: Switch, planfix: Planfix, tmp_path: Path) -> None:
    switch.speed = 50
    switch.registered = set()
    planfix.contacts.clear()
    with running(switch, planfix, tmp_path, CONTACT_DEADLINE="5") as service:
        ring = RING.read_text(encoding="utf-8").replace("127.0.0.1:8084", service.socket_app)
        # a busy machine may be slower than the rescue
        (tmp_path / "ring.xml").write_text(ring.replace("+3 ", "+3600 "), encoding="utf-8")
        plan = Dialplan([(tmp_path / "ring.xml", "public")], switch.globals)
        line = ""
        # a FreeSWITCH that does not say in time who is absent has everybody rung: once more
        with gevent.Timeout(PATIENCE):
            while "rung=0" not in line:
                call = Channel(switch, plan, Phones(), "79161234567", "74950000001").run("public")
                line = service.wait_for(f"caller_lookup callid={call.uuid}.*")[0]
    assert_shown("caller_lookup", line)
    assert_shown("known=false", line)
    assert_shown("rung=0", line)


# clicks


@pytest.mark.parametrize(
    ("ext", "number", "reason"),
    [
        ("105", "79161234567", "no phone is registered"),
        ("199", "79161234567", "FreeSWITCH's directory has no such user"),
        ("101", "380501234567", "it is abroad"),
        ("101", "101", "is your own extension"),
        ("102", "79161234567", "FreeSWITCH has no domain of its own"),
        ("101", "78091234567", "it is a premium-rate number"),
    ],
)
def test_the_reason_of_a_click_that_calls_nobody(
    switch: Switch, planfix: Planfix, tmp_path: Path, ext: str, number: str, reason: str
) -> None:
    # found in no domain, as on FusionPBX
    switch.contacts["102"] = "error/user_not_registered"
    if "no domain" in reason:
        del switch.globals["domain"]
    with running(switch, planfix, tmp_path) as service:
        answer = service.click(cmd="makeCall", token="pbx-token-1", **{"from": ext, "to": number})
        shown = explained(tmp_path, number, until="click to call")
        assert_shown(reason, answer.text)
        assert_shown(reason, shown)
        assert_shown(reason, service.wait_for("click_refused.*|click_to_call_failed.*")[0])


def test_the_reason_of_a_click_too_many(switch: Switch, planfix: Planfix, tmp_path: Path) -> None:
    with running(switch, planfix, tmp_path, DIAL_LIMIT_PER_EXT="2") as service:
        for number in ("79161234567", "79161234568", "79161234569"):
            fields = {"from": "101", "to": number}
            answer = service.click(cmd="makeCall", token="pbx-token-1", **fields)
        shown = explained(tmp_path, "79161234569", until="click to call")
    assert_shown("More than 20 calls in a minute", answer.text)
    assert_shown("More than 20 calls in a minute", shown)


# recordings


def test_what_the_log_says_of_a_recording_that_is_not_converted(
    switch: Switch, planfix: Planfix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools, folder = tmp_path / "tools", tmp_path / "recordings"
    tools.mkdir()
    folder.mkdir()
    (tools / "ffmpeg").write_text("#!/bin/sh\necho no space >&2\nexit 1\n")
    (tools / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    switch.recordings_dir = str(folder)
    more = {"RECORDINGS_DIR": str(folder), "RECORDINGS_CONVERT": "mp3"}
    with running(switch, planfix, tmp_path, **more) as service:
        switch.play("in_one_answered", speed=0)
        assert_shown("recording_not_converted", service.wait_for("recording_not_converted.*")[0])


# the store


def test_what_the_log_says_of_a_database_that_refuses_a_write(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path) as service:
        with sqlite3.connect(tmp_path / "store.db") as database:
            database.execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON notices WHEN new.kind = 'INCOMING' "
                "BEGIN SELECT RAISE(ABORT, 'no such content'); END"
            )
        database.close()
        switch.play("in_one_no_answer", speed=0)
        assert_shown("write_refused", service.wait_for("write_refused.*")[0])


def stopped_without_a_store(
    switch: Switch, planfix: Planfix, folder: Path, outage: pytest.MonkeyPatch
) -> str:
    """The log of a service whose store is away when it is stopped: it holds an answer and events."""
    may_answer = Event()
    planfix.before = lambda fields: may_answer.wait()

    def away(*_: object, **__: object) -> NoReturn:
        raise StoreError("The database does not answer.")

    app = App(load_accounts(Settings, settings_for(switch, planfix, folder)), ["events", "courier"])
    running_app = gevent.spawn(app.run)
    switch.wait_for_subscriber(PATIENCE)
    switch.play("in_one_no_answer", speed=0)
    planfix.wait_for(lambda crm: crm.asked == 1, PATIENCE)
    with capture_logs() as logged:
        outage.setattr("fsplanfix.service.app.TIME_TO_FINISH", 0.1)
        outage.setattr(Store, "save", away)
        outage.setattr(Queue, "settle_and_claim", away)
        may_answer.set()
        switch.play("in_one_answered", speed=0)
        with gevent.Timeout(PATIENCE):
            while not (app._pipelines[0]._unsaved and app._courier.claims.outcomes):
                gevent.sleep(0.01)
        app.stop()
        assert running_app.get(timeout=PATIENCE) == 1
    return "\n".join(str(line) for line in logged)


def test_what_the_log_says_of_what_is_not_stored_at_the_stop(
    switch: Switch, planfix: Planfix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = stopped_without_a_store(switch, planfix, tmp_path, monkeypatch)
    assert_shown("events_kept", log)
    assert_shown("answers_kept", log)


def test_what_the_log_says_if_no_file_can_be_written_either(
    switch: Switch, planfix: Planfix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise TraceError("the folder cannot be written")

    monkeypatch.setattr(Spool, "keep", fail)
    log = stopped_without_a_store(switch, planfix, tmp_path, monkeypatch)
    assert_shown("events_lost", log)
    assert "'problem': 'the folder cannot be written'" in log
