"""A changed file of accounts is taken over by the running service, and a wrong one changes nothing."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import requests
from structlog.testing import capture_logs

from fsplanfix.errors import StoreError
from fsplanfix.planfix.courier import Courier
from fsplanfix.recordings import bucket
from fsplanfix.recordings.files import Files
from fsplanfix.recordings.library import Library
from fsplanfix.recordings.urls import RecordingUrls
from fsplanfix.service import companies as served
from fsplanfix.service.company import Company
from fsplanfix.service.reload import Reload
from fsplanfix.settings import Settings
from fsplanfix.settings.accounts import load_accounts
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from .support.commands import call_cli
from .support.deliveries import told
from .support.service import Service, settings_for, started
from .support.traces import path_of
from .support.visitor import Visitor

pytestmark = pytest.mark.no_cover

ACCOUNT = """
[{name}]
planfix_url = "{url}"
planfix_token = "token-of-{name}"
pbx_token = "pbx-token-of-{name}"
domains = "{name}.example"
admin_password = "password-of-{name}"
{more}
"""
WHOLE = ["I101", "A101", "S101"]


@pytest.fixture
def planfixes() -> Iterator[dict[str, Planfix]]:
    stand_ins = {name: Planfix(token=f"token-of-{name}") for name in ("a", "b")}
    for stand_in in stand_ins.values():
        stand_in.start()
    yield stand_ins
    for stand_in in stand_ins.values():
        stand_in.stop()


class Companies:
    """A running service and its file of accounts."""

    service: Service

    def __init__(self, file: Path, switch: Switch, env: dict[str, str]) -> None:
        self.env = env
        self.file = file
        self.switch = switch

    def write(self, planfixes: Mapping[str, Planfix], **more: str) -> None:
        text = "".join(
            ACCOUNT.format(name=name, url=planfix.url, more=more.get(name, ""))
            for name, planfix in planfixes.items()
        )
        new = self.file.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.file)

    def reload(self, becomes: str) -> None:
        self.service.process.send_signal(signal.SIGHUP)
        self.service.wait_for(becomes)

    def play(self, name: str, trace: str = "did_answered", **swap: str) -> str:
        named = {"a.example": f"{name}.example", **swap}
        return self.switch.play(path_of(f"fusionpbx/{trace}"), 0, swap=named)

    def click(self, name: str) -> int:
        fields = {"cmd": "ping", "token": f"pbx-token-of-{name}"}
        return requests.post(f"{self.service.address}/planfix", data=fields, timeout=60).status_code


@pytest.fixture
def running(switch: Switch, planfixes: dict[str, Planfix], tmp_path: Path) -> Iterator[Companies]:
    file = tmp_path / "accounts.toml"
    settings = settings_for(switch, planfixes["a"], tmp_path, ACCOUNTS_FILE=str(file))
    for name in ("PLANFIX_URL", "PLANFIX_TOKEN", "PBX_TOKEN"):
        del settings[name]
    one = Companies(file, switch, settings)
    one.write({"a": planfixes["a"]})
    service = one.service = Service(tmp_path, settings)
    with started(service):
        yield one


def test_a_new_company_is_served_without_a_restart(
    running: Companies, planfixes: dict[str, Planfix]
) -> None:
    assert running.click("b") == 401
    running.write(planfixes)
    running.reload("accounts_reloaded accounts=2 added=b changed= removed=")
    callid = running.play("b")
    planfixes["b"].wait_for(lambda crm: told(crm, callid) == WHOLE)
    callid = running.play("a")
    planfixes["a"].wait_for(lambda crm: told(crm, callid) == WHOLE)
    assert running.click("b") != 401
    assert Visitor(running.service).log_in("password-of-b").status_code == 302


def test_a_changed_setting_counts_from_the_next_call(
    running: Companies, planfixes: dict[str, Planfix]
) -> None:
    running.write({"a": planfixes["a"]}, a='extension_aliases = "101:501"')
    running.reload("accounts_reloaded accounts=1 added= changed=a removed=")
    assert not [line for line in running.service.log if "rules_changed" in line]
    callid = running.play("a")
    planfixes["a"].wait_for(lambda crm: told(crm, callid) == ["I501", "A501", "S501"])
    assert Visitor(running.service).log_in("password-of-a").status_code == 302


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a\n", "is not TOML"),
        ("[a]\ndomains = 'a.example'\n", "pbx_token is missing"),
        ("", "names no account"),
        (None, "cannot be read"),
    ],
    ids=str,
)
def test_a_wrong_file_changes_nothing_and_says_why(
    running: Companies, planfixes: dict[str, Planfix], text: str | None, problem: str
) -> None:
    if text is None:
        running.file.unlink()
    else:
        running.file.write_text(text)
    running.reload(f"accounts_refused .*{problem}")
    callid = running.play("a")
    planfixes["a"].wait_for(lambda crm: told(crm, callid) == WHOLE)
    assert running.click("a") != 401


def test_what_a_removed_company_still_has_to_be_sent_is_sent(
    running: Companies, planfixes: dict[str, Planfix]
) -> None:
    running.write(planfixes)
    running.reload("accounts_reloaded accounts=2")
    planfixes["b"].answers += [503]
    callid = running.play("b")
    running.service.wait_for("not_delivered")
    running.write({"a": planfixes["a"]})
    running.reload("accounts_reloaded accounts=1 added= changed= removed=b")
    planfixes["b"].wait_for(lambda crm: told(crm, callid) == WHOLE)
    assert running.click("b") == 401
    assert Visitor(running.service).log_in("password-of-b").status_code == 401
    running.play("b")
    running.play("a")
    planfixes["a"].wait_for(lambda crm: len(crm.accepted) == 3)
    assert len(planfixes["b"].accepted) == 3


def test_the_command_reloads_every_worker(
    running: Companies, planfixes: dict[str, Planfix], tmp_path: Path
) -> None:
    running.write(planfixes)
    env = running.env
    done = call_cli(tmp_path, "reload", **env)
    assert done.returncode == 0, done.stderr
    assert "has 2 accounts" in done.stdout
    running.service.wait_for("accounts_reloaded accounts=2")
    running.file.write_text("[a")
    wrong = call_cli(tmp_path, "reload", **env)
    assert wrong.returncode == 1
    assert "is not TOML" in wrong.stderr


def test_without_a_file_there_is_nothing_to_reload(tmp_path: Path) -> None:
    done = call_cli(tmp_path, "reload", PBX_TOKEN="0123456789abcdef")
    assert done.returncode == 1
    assert "Only ACCOUNTS_FILE is read again, and it is not set." in done.stderr


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    found = tmp_path / "accounts.toml"
    monkeypatch.setenv("ACCOUNTS_FILE", str(found))
    found.write_text(ACCOUNT.format(name="a", url="https://a.planfix.com/tel/api", more=""))
    return found


def not_to_be_made(*_: object) -> Company:
    raise StoreError("the database does not answer")


def reloading(file: Path) -> list[dict[str, object]]:
    """What is logged when this file is taken over, and no company can be made."""
    before = load_accounts(Settings)
    rules = before.rules()
    companies = served.Companies(
        {}, rules, Library(Path(), Files(Path()), RecordingUrls("", ["k"]), None)
    )
    courier = Courier.__new__(Courier)
    file.write_text(file.read_text() + 'recordings_s3 = "s3://kept"\n')
    with capture_logs() as logs:
        Reload(before, rules, companies, courier, not_to_be_made, lambda *_: None).take_over()
    assert list(companies) == []
    return [dict(line) for line in logs]


def test_while_the_database_is_away_nothing_changes(file: Path) -> None:
    (line,) = reloading(file)
    assert line["event"] == "accounts_refused"
    assert "the database does not answer" in str(line["problem"])


def test_a_bucket_is_refused_where_nothing_can_reach_one(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setattr(bucket, "is_installed", lambda: False)
    (line,) = reloading(file)
    assert line["event"] == "accounts_refused"
    assert "boto3" in str(line["problem"])


def test_how_long_recordings_are_kept_counts_from_the_reload(tmp_path: Path, file: Path) -> None:
    recording = tmp_path / "talk.wav"
    recording.write_bytes(b"RIFF")
    forty_days_ago = time.time() - 40 * 86400
    os.utime(recording, (forty_days_ago, forty_days_ago))

    def keeping(days: float) -> dict[str, Company]:
        settings = SimpleNamespace(recordings_dir=tmp_path, recordings_keep_days=days)
        files = Files(tmp_path, None, days)
        library = Library(tmp_path, files, RecordingUrls("", ["k"]), None)
        return {"a": cast(Company, SimpleNamespace(settings=settings, recordings=library))}

    companies = served.Companies(
        keeping(30), load_accounts(Settings).rules(), keeping(30)["a"].recordings
    )
    companies.become(keeping(60))
    companies.delete_old_recordings()
    assert recording.exists()

    companies.become(keeping(30))
    companies.delete_old_recordings()
    assert not recording.exists()
