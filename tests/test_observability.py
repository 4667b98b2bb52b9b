"""What an administrator sees of a running service: log, numbers, systemd, shadow mode."""

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO, cast

import gevent
import pytest
import requests
import structlog
import yaml
from gevent.socket import wait_read
from hypothesis import given
from hypothesis import strategies as st

from fsplanfix.service import logs
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from .support.commands import call_cli
from .support.deliveries import count, told
from .support.service import PATIENCE, Service, environment, running, settings_for
from .support.traces import wanted

CONTRIB = Path(__file__).parent.parent / "contrib"
CALL = "group_answered"


def exposed(text: str) -> set[str]:
    """The names of our numbers, without the suffixes of histograms and creation times."""
    names = set(re.findall(r"^# TYPE (fsplanfix_\w+) ", text, re.MULTILINE))
    return {name for name in names if not name.endswith("_created")}


def test_the_board_is_built_on_the_numbers_there_are(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path) as service:
        callid = switch.play(CALL, speed=0)
        planfix.wait_for(lambda crm: len(told(crm, callid)) == len(wanted(CALL)))
        service.wait_for("delivered.*status=Success")
        text = service.get("/metrics").text
    board = (CONTRIB / "grafana.json").read_text()
    used = set(re.findall(r"fsplanfix_\w+", " ".join(re.findall(r'"expr": "(.*)"', board))))
    plain = {name.removesuffix("_bucket") for name in used}
    assert plain == exposed(text)
    assert 'fsplanfix_notices_total{kind="INCOMING",status=""} 3.0' in text
    assert 'fsplanfix_notices_total{kind="COMPLETED",status="Success"} 1.0' in text
    assert 'fsplanfix_calls_total{type="in"} 1.0' in text
    assert "fsplanfix_delivery_seconds_count 7.0" in text
    assert re.search(r'fsplanfix_links_total\{server="127.0.0.1:\d+"\} 1.0', text)
    rules = yaml.safe_load((CONTRIB / "alerts.yml").read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules) == 8
    for rule in rules:
        assert set(re.findall(r"fsplanfix_\w+", rule["expr"])) <= exposed(text), rule
        assert rule["annotations"]["summary"]
    lag = re.findall(r"fsplanfix_event_lag_seconds\{.*\} (\S+)", text)
    assert len(lag) == 1


def test_the_log_may_be_json_without_phone_numbers(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path, LOG_FORMAT="json", LOG_MASK="true") as service:
        address = json.loads(service.log[0])["address"]
        fields = {"cmd": "makeCall", "token": "pbx-token-1", "from": "101", "to": "380501234567"}
        assert requests.post(f"{address}/planfix", data=fields, timeout=60).status_code == 400
        switch.play(CALL, speed=0)
        planfix.wait_for(lambda crm: count(crm) == len(wanted(CALL)))
    lines = [json.loads(line) for line in service.log]
    assert all({"event", "level", "timestamp"} <= set(line) for line in lines)
    assert {"notice_created", "delivered"} <= {line["event"] for line in lines}
    assert all(
        "callid" in line for line in lines if line["event"] in ("notice_created", "delivered")
    )
    (refused,) = [line for line in lines if line["event"] == "click_refused"]
    assert "3805***67" in refused["reason"]
    assert "380501234567" not in "".join(service.log)
    assert "79161234567" not in "".join(service.log)
    assert {line["phone"] for line in lines if line["event"] == "delivered"} == {"7916***67"}


def test_a_line_of_the_log_about_a_call_names_the_client(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    click = {"cmd": "makeCall", "token": "pbx-token-1", "from": "101"}
    with running(switch, planfix, tmp_path, LOG_FORMAT="json") as service:
        address = json.loads(service.log[0])["address"]
        planfix.answers.append(503)
        callid = switch.play(CALL, speed=0)
        planfix.wait_for(lambda crm: len(told(crm, callid)) == len(wanted(CALL)))
        for to in ("79161234567", "380501234567"):
            requests.post(f"{address}/planfix", data=click | {"to": to}, timeout=60)
        service.wait_for("click_to_call")
        planfix.wait_for(lambda crm: crm.accepted[-1].get("status") == "Success")
    lines = [json.loads(line) for line in service.log]
    named = {line["event"]: line.get("phone") for line in lines if "ext" in line}
    assert named.pop("click_refused") == "380501234567"
    assert named == dict.fromkeys(
        ["notice_created", "delivered", "not_delivered", "click_to_call"], "79161234567"
    )
    assert all("phone" in line for line in lines if line.get("callid"))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("79161234567 is not dialled", "7916***67 is not dialled"),
        ("101 and 1234", "101 and 1234"),
        ("2a7e0744-b938-4b71-9b5e-178056955788", "2a7e0744-b938-4b71-9b5e-178056955788"),
    ],
)
def test_only_what_may_be_a_phone_number_is_hidden(text: str, masked: str) -> None:
    assert logs.mask(None, "", {"reason": text, "callid": text}) == {
        "reason": masked,
        "callid": text,
    }


# a reader of the log that stops reading


class SlowReader:
    """A pipe that holds 4 kB, as whoever reads the log may leave it. lines: read so far."""

    def __init__(self) -> None:
        self.reads, self.writes = os.pipe()
        fcntl.fcntl(self.writes, fcntl.F_SETPIPE_SZ, 4096)
        self.text = ""

    def read_until(self, pattern: str) -> re.Match[str]:
        with gevent.Timeout(60, AssertionError(f"no {pattern!r}")):
            while (found := re.search(pattern, self.text)) is None:
                wait_read(self.reads)
                self.text += os.read(self.reads, 65536).decode()
        return found


@pytest.fixture
def reader() -> Iterator[SlowReader]:
    made = SlowReader()
    yield made
    os.close(made.reads)


@pytest.mark.no_cover
def test_a_log_that_nobody_reads_stops_no_call(
    switch: Switch, planfix: Planfix, tmp_path: Path, reader: SlowReader
) -> None:
    settings = settings_for(switch, planfix, tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "fsplanfix", "run"],
        cwd=tmp_path,
        env=environment(**settings),
        stderr=reader.writes,
    )
    os.close(reader.writes)
    try:
        address = reader.read_until(r"web_listening address=(\S+)")[1]
        switch.wait_for_subscriber(60)
        callids = [switch.play(CALL, speed=0) for _ in range(10)]  # 160 lines, 30 kB
        planfix.wait_for(lambda crm: count(crm) == 10 * len(wanted(CALL)))
        assert requests.get(f"{address}/health/live", timeout=60).ok
        reader.read_until(f"delivered callid={callids[-1]}.*status=Success")
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0


def test_lines_that_nobody_reads_are_kept_then_counted(
    reader: SlowReader, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "MOST_LINES_WAITING", 10)
    monkeypatch.setattr(logs.Unbreakable, "lost", 0)
    with os.fdopen(reader.writes, "w") as stream:
        log = logs.Unbreakable(stream)
        for n in range(100):
            log.write(f"{n:3}" + "x" * 997 + "\n")
        reader.read_until(" 9x")
        with gevent.Timeout(60):
            while "log_lines_lost" not in capsys.readouterr().out:
                gevent.sleep(0.01)
        log.write("and on\n")
        reader.read_until("and on")
    numbers = [int(line[:3]) for line in reader.text.splitlines()[:-1]]
    assert numbers == list(range(len(numbers)))
    assert 10 < len(numbers) < 100
    assert logs.Unbreakable.lost == 100 - len(numbers)


@given(
    st.dictionaries(
        st.sampled_from(["timestamp", "level", "event", "callid", "phone", "problem"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text('a "=\\\n\tя/')),
    )
)
def test_a_line_is_written_as_structlog_writes_it(line: dict[str, object]) -> None:
    order = ["timestamp", "level", "event"]
    theirs = structlog.processors.LogfmtRenderer(key_order=order, drop_missing=True)
    # a missing one and an empty one are the same there
    line = {name: it for name, it in line.items() if it is not None or name not in order}
    assert logs.logfmt(None, "", dict(line)) == theirs(None, "", dict(line))


def test_a_line_after_lost_ones_is_not_waited_for(
    reader: SlowReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who logs holds structlog's lock: to log from there that lines were lost stopped everybody."""
    monkeypatch.setattr(logs, "MOST_LINES_WAITING", 1)
    monkeypatch.setattr(logs.Unbreakable, "lost", 0)
    with os.fdopen(reader.writes, "w") as stream:
        factory = structlog.WriteLoggerFactory(cast(TextIO, logs.Unbreakable(stream)))
        structlog.configure([structlog.processors.LogfmtRenderer()], logger_factory=factory)
        log = structlog.get_logger()
        for _ in range(100):
            log.info("x" * 999)
        assert logs.Unbreakable.lost

        # all that is kept is read between two turns of the loop, so that the next line finds room
        os.set_blocking(reader.reads, False)
        with gevent.Timeout(60):
            for _ in range(10):
                with contextlib.suppress(BlockingIOError):
                    while os.read(reader.reads, 65536):
                        pass
                log.info("and on")
    structlog.reset_defaults()


def test_lines_that_cannot_be_written_are_counted_each_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs.Unbreakable, "lost", 0)
    with open("/dev/full", "w") as full:
        log = logs.Unbreakable(full)
        for size in (1, 2 * logs.MOST_AT_ONCE):
            log.write("x" * size + "\n")
    assert logs.Unbreakable.lost == 2


@pytest.mark.no_cover
def test_the_numbers_tell_of_lines_that_nobody_read(
    switch: Switch, planfix: Planfix, tmp_path: Path, reader: SlowReader
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fsplanfix", "run"],
        cwd=tmp_path,
        env=environment(**settings_for(switch, planfix, tmp_path)),
        stderr=reader.writes,
    )
    os.close(reader.writes)
    try:
        address = reader.read_until(r"web_listening address=(\S+)")[1]
        switch.wait_for_subscriber(60)
        lost = 0.0
        with gevent.Timeout(60):
            while not lost:
                switch.play(CALL, speed=0)
                numbers = requests.get(f"{address}/metrics", timeout=60).text
                lost = float(re.findall(r"^fsplanfix_log_lines_lost_total (\S+)", numbers, re.M)[0])
        assert lost >= 1
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0


# systemd


def silent_or(ears: socket.socket) -> bytes:
    """The next thing heard, nothing if it stays silent."""
    try:
        return ears.recv(99)
    except TimeoutError:
        return b""


def test_systemd_is_told_and_notices_a_hang(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ears:
        ears.bind(path)
        ears.settimeout(60)
        settings = settings_for(
            switch, planfix, tmp_path, NOTIFY_SOCKET=path, WATCHDOG_USEC="200000"
        )
        service = Service(tmp_path, settings)
        heard = [ears.recv(99)]
        while len(heard) < 5:
            heard.append(ears.recv(99))
        assert set(heard) == {b"READY=1", b"WATCHDOG=1"}
        service.process.send_signal(signal.SIGSTOP)
        ears.settimeout(1)  # ten times the pause between two signs of life
        with gevent.Timeout(60):
            while silent_or(ears):
                pass
        service.process.send_signal(signal.SIGCONT)
        ears.settimeout(60)
        assert ears.recv(99) == b"WATCHDOG=1"
        ending = gevent.spawn(service.end)
        while ears.recv(99) != b"STOPPING=1":
            pass
        assert ending.get(timeout=60) == 0


def test_the_unit_is_hardened_and_names_what_there_is() -> None:
    unit = (CONTRIB / "fsplanfix.service").read_text()
    for line in (
        "Type=notify",
        "WatchdogSec=30",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "User=fsplanfix",
    ):
        assert f"\n{line}\n" in unit
    for file in re.findall(
        r"`([\w.]+)`", (CONTRIB / "README.md").read_text().split("The log goes")[0]
    ):
        assert any((folder / file).exists() for folder in (CONTRIB, CONTRIB.parent)) or (
            "." not in file
        )


# shadow mode


def test_in_shadow_mode_everything_is_said_and_nothing_is_sent(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    service = Service(tmp_path, settings_for(switch, planfix, tmp_path), "--shadow")
    service.wait_for("freeswitch_linked")
    switch.wait_for_subscriber()
    callid = switch.play(CALL, speed=0)
    service.wait_for("notice_created.*kind=record")
    url = f"sqlite:///{tmp_path}/store.db"
    with gevent.Timeout(PATIENCE):
        while (shown := call_cli(tmp_path, "explain", callid, STORE_URL=url).stdout).count("○") < 9:
            gevent.sleep(0.01)
    assert service.end() == 0
    assert planfix.asked == 0
    assert max(map(len, shown.splitlines())) <= 80
    sending = Service(tmp_path, settings_for(switch, planfix, tmp_path))
    sending._reader.join(60)
    assert "was written by `run --shadow`" in sending.log[-1]
    assert sending.end() == 1


def test_shadow_mode_keeps_off_a_store_that_is_in_use(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path):
        pass
    shadow = Service(tmp_path, settings_for(switch, planfix, tmp_path), "--shadow")
    shadow._reader.join(60)
    assert "give `run --shadow` one of its own" in shadow.log[-1]
    assert shadow.end() == 1
    assert os.path.exists(tmp_path / "store.db")
