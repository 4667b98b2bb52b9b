"""Nothing from outside reaches a terminal or the log unescaped."""

import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsplanfix.printable import lines, printable
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from .support.commands import call_cli
from .support.service import running

HOSTILE = "\x1b]0;owned\x07\x1b[2J\rforged\nline \u202egnp.exe\x9b31m\x7f\u2028end"
STEER = set("\x1b\x07\r\u202e\x9b\x7f\u2028")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ООО «Ромашка» – 12 №\u00a05", "ООО «Ромашка» – 12 №\u00a05"),
        ("e\u0301 😀", "e\u0301 😀"),
        ("\x1b[31m", "\\u001b[31m"),
        ("a\r\nb\tc\0", "a\\r\\nb\\tc\\u0000"),
        ("\x7f\x9b", "\\u007f\\u009b"),
        ("\u202e\u2066\u200f\ufeff", "\\u202e\\u2066\\u200f\\ufeff"),
        ("\ud800x", "\\ud800x"),
        ("\U000e0001", "\\udb40\\udc01"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("", ""),
    ],
)
def test_what_steers_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_nothing_that_steers_is_left(text: str) -> None:
    shown = printable(text)
    shown.encode()
    assert not [sign for sign in shown if unicodedata.category(sign)[0] == "C"]
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown
    assert lines(f"{text}\n{text}").split("\n") == [printable(x) for x in text.split("\n")] * 2


@given(st.text())
def test_a_line_of_json_means_the_same(text: str) -> None:
    for ascii_only in (True, False):
        assert json.loads(printable(json.dumps(text, ensure_ascii=ascii_only))) == text


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_what_planfix_answers_steers_neither_log_nor_terminal(
    switch: Switch, planfix: Planfix, tmp_path: Path, form: str
) -> None:
    planfix.refusal = HOSTILE
    planfix.answers.extend([400] * 8)
    with running(switch, planfix, tmp_path, LOG_FORMAT=form) as service:
        callid = switch.play("in_one_no_answer", speed=0)
        service.wait_for("notice_rejected.*COMPLETED|COMPLETED.*notice_rejected")
        log = "\n".join(service.log)
    store = {"STORE_URL": f"sqlite:///{tmp_path}/store.db"}
    listed = call_cli(tmp_path, "queue", "list", **store)
    told = call_cli(tmp_path, "explain", callid, **store)
    for text in (log, listed.stdout, told.stdout):
        assert "owned" in text
        assert not STEER & set(text)
        assert not [line for line in text.splitlines() if line.startswith(("forged", "line"))]


def test_a_log_line_holds_nothing_that_steers(tmp_path: Path) -> None:
    script = (
        "import structlog\nfrom fsplanfix.service import logs\nlogs.set_up('INFO')\n"
        f"log = structlog.get_logger()\nbad = {HOSTILE!r}\n"
        "log.info('x', text=bad, listed=[bad], error=OSError(bad), other='\\ud800')\n"
        "try:\n    raise ValueError(bad)\nexcept ValueError:\n    log.exception('crashed')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, cwd=tmp_path
    )
    text = done.stderr.decode()
    assert len(text.splitlines()) == 2
    assert text.count("owned") >= 4
    assert not STEER & set(text)
