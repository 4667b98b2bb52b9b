"""Alerts reach a command and an address, which are not trusted."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent.event import AsyncResult, Event
from gevent.pywsgi import WSGIServer

from fsplanfix.alerts.book import Alert
from fsplanfix.alerts.sender import Sender

ALERT = Alert("fsplanfix on pbx1: it's $(broken); `rm` \"all\" 'of' it")


def program(folder: Path, *lines: str) -> Path:
    file = folder / "tell-me"
    file.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    file.chmod(0o755)
    return file


def test_a_command_gets_one_line_as_its_one_argument_and_none_of_our_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANFIX_TOKEN", "a-secret")
    out = tmp_path / "out"
    file = program(tmp_path, f'printf "%s\\n" "$#" "$1" > {out}', f"env >> {out}", "cat", "echo no")
    assert Sender(file, "").send(ALERT) == {"ALERT_COMMAND": ""}
    count, line, *environment = out.read_text().splitlines()
    assert (count, line) == ("1", ALERT.line)
    assert "a-secret" not in "\n".join(environment)


def test_what_is_wrong_with_a_command_is_said(tmp_path: Path) -> None:
    failing = program(tmp_path, "exit 3")
    assert Sender(failing, "").send(ALERT)["ALERT_COMMAND"].endswith("tell-me ended with 3")
    missing = Sender(tmp_path / "missing", "").send(ALERT)["ALERT_COMMAND"]
    assert missing.endswith("missing cannot be started (No such file or directory)")
    failing.chmod(0o644)
    assert "Permission denied" in Sender(failing, "").send(ALERT)["ALERT_COMMAND"]


def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    file = program(tmp_path, f"exec 3> {fifo}", "sleep 1000 &", "sleep 1000")
    problem = Sender(file, "", seconds=0.5).send(ALERT)["ALERT_COMMAND"]
    assert problem.endswith("tell-me did not end within 0.5 s")
    # the pipe has an end only once nobody holds it open for writing
    with gevent.Timeout(60), open(reader, "rb", buffering=0) as pipe:
        gevent.os.make_nonblocking(pipe.fileno())
        assert gevent.os.nb_read(pipe.fileno(), 1) == b""


class Hook:
    """A server that is told of alerts. got: the first body. code, headers: its answer."""

    def __init__(self) -> None:
        self.got: AsyncResult[bytes] = AsyncResult()
        self.code = "200 OK"
        self.headers: list[tuple[str, str]] = []
        self.may_answer = Event()
        self.may_answer.set()
        self.paths: list[str] = []
        self.server = WSGIServer(("127.0.0.1", 0), self._answer, log=None)
        self.server.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook/secret-token"

    def _answer(self, environ, start_response):  # type: ignore[no-untyped-def]
        self.paths.append(environ["PATH_INFO"])
        self.got.set(environ["wsgi.input"].read())
        self.may_answer.wait()
        start_response(self.code, self.headers)
        return [b"{" * 100_000]


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.server.stop(timeout=0)


def test_an_address_gets_json(hook: Hook) -> None:
    assert Sender(None, hook.url).send(ALERT) == {"ALERT_URL": ""}
    assert json.loads(hook.got.get() or b"") == {"text": ALERT.line, "changes": []}


def test_an_address_that_sends_us_elsewhere_is_not_obeyed(hook: Hook) -> None:
    hook.code, hook.headers = "307 Temporary Redirect", [("Location", "/elsewhere")]
    assert Sender(None, hook.url).send(ALERT) == {"ALERT_URL": "it answered 307"}
    assert hook.paths == ["/hook/secret-token"]


def test_no_problem_with_an_address_names_it(hook: Hook) -> None:
    hook.code = "403 Forbidden"
    assert Sender(None, hook.url).send(ALERT) == {"ALERT_URL": "it answered 403"}
    hook.may_answer.clear()
    late = Sender(None, hook.url, seconds=0.2).send(ALERT)["ALERT_URL"]
    hook.may_answer.set()
    assert "secret" not in late
    assert late
    hook.server.stop(timeout=0)
    gone = Sender(None, hook.url).send(ALERT)["ALERT_URL"]
    assert gone == "it cannot be reached (Connection refused)"


def test_both_ways_are_tried(hook: Hook, tmp_path: Path) -> None:
    sent = Sender(tmp_path / "missing", hook.url).send(ALERT)
    assert sent["ALERT_COMMAND"]
    assert not sent["ALERT_URL"]
    assert not Sender(None, "")
