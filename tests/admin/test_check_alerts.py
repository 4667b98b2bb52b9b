"""What `fsplanfix check` says about whom troubles are told to."""

from pathlib import Path
from typing import Any

import pytest

from fsplanfix.admin.check_alerts import TEST, check_alerts
from fsplanfix.admin.findings import Finding, Grade
from fsplanfix.settings import Settings

from ..support.commands import run_cli
from ..support.findings import TOKEN, says


def look(send_test: bool = False, **settings: str) -> list[Finding]:
    chosen = Settings(_env_file=None, pbx_token=TOKEN, **settings)  # type: ignore[arg-type, call-arg]
    return list(check_alerts(chosen, send_test))


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "tell-me"
    file.write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/told\n')
    file.chmod(0o755)
    return file


def test_it_is_said_whether_anybody_is_told(program: Path) -> None:
    nobody = says(look(), Grade.OK, "nobody is told of troubles")
    assert nobody.mark == "i"
    assert "set ALERT_COMMAND to a program" in nobody.hint
    says(look(True), Grade.BROKEN, "nobody is told of troubles")
    both = look(alert_command=str(program), alert_url="https://alerts.example.com/secret")
    assert "secret" not in str(both)
    says(both, Grade.OK, "troubles are told by ALERT_COMMAND and ALERT_URL")
    assert not (program.parent / "told").exists()


def test_a_test_alert_says_that_it_is_one(program: Path) -> None:
    says(look(True, alert_command=str(program)), Grade.OK, "took a test alert")
    assert (program.parent / "told").read_text() == TEST.line


def test_what_does_not_work_is_broken(program: Path) -> None:
    program.write_text("#!/bin/sh\nexit 3\n")
    says(look(True, alert_command=str(program)), Grade.BROKEN, "tell-me ended with 3")
    says(look(True, alert_url="http://127.0.0.1:9/secret"), Grade.BROKEN, "ALERT_URL: it cannot be")
    program.chmod(0o644)
    says(look(alert_command=str(program)), Grade.BROKEN, "tell-me cannot be started")


def test_a_wrong_command_does_not_keep_the_address_from_being_tried(program: Path) -> None:
    program.chmod(0o644)
    both: Any = {"alert_command": str(program), "alert_url": "http://127.0.0.1:9/secret"}
    says(look(True, **both), Grade.BROKEN, "tell-me cannot be started")
    says(look(True, **both), Grade.BROKEN, "ALERT_URL: it cannot be")
    says(look(**both), Grade.BROKEN, "tell-me cannot be started")
    says(look(**both), Grade.OK, "troubles are told by ALERT_URL (")


def test_the_command_sends_it(program: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    settings = {"PBX_TOKEN": TOKEN, "ALERT_COMMAND": str(program), "HTTP_LISTEN": "127.0.0.1:9"}
    settings |= {"FREESWITCH_ESL": "esl://:secret@127.0.0.1:9", "ESL_LISTEN": "127.0.0.1:9"}
    said = run_cli(tmp_path / "empty", "check", "--test-alert", **settings)
    assert "ALERT_COMMAND took a test alert" in " ".join(said.stdout.split())
    assert (tmp_path / "told").read_text() == TEST.line
