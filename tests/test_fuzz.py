"""A short `make fuzz`, and proof that it sees what it looks for."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsplanfix.calls.model import Rules
from fsplanfix.planfix.commands import number_clicked
from fsplanfix.simulators.planfix import Planfix
from fuzz.__main__ import SAID, judge
from fuzz.answers import Answers, HostileSwitch
from fuzz.inputs import Inputs
from fuzz.target import ALLOWED_IN_ESL, LISTED, Target, steers

from .support.service import Service, running

pytestmark = pytest.mark.no_cover


@pytest.mark.long
def test_thousands_of_hostile_inputs_do_no_harm() -> None:
    command = [sys.executable, "-m", "fuzz", "--inputs", "6000", "--seed", "1", "--no-figures"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "0 problems"
    assert re.findall(r"^(SQLite|PostgreSQL)$", done.stdout, re.MULTILINE) == [
        "SQLite",
        "PostgreSQL",
    ]
    assert figures(r"^events +(\d+) ", done.stdout) == [150, 150]
    assert figures(r"^call detail records +(\d+) ", done.stdout) == [30, 30]
    assert min(figures(r"^answers of FreeSWITCH +(\d+) ", done.stdout)) > 100
    assert min(figures(r"^answers of Planfix +(\d+)", done.stdout)) > 10
    assert min(figures(r"^calls placed (\d+), ", done.stdout)) > 2
    assert min(figures(r"Planfix asked (\d+) times", done.stdout)) > 25


def figures(pattern: str, printed: str) -> list[int]:
    """Return a figure of each database's share."""
    found = [int(figure) for figure in re.findall(pattern, printed, re.MULTILINE)]
    assert len(found) == 2
    return found


def test_freeswitch_answers_with_everything_that_has_broken_something() -> None:
    switch, inputs = HostileSwitch(), Inputs(1, "token", "")
    switch.answers = Answers(1, inputs)
    said = "".join(switch.api("global_getvar domain") for _ in range(500))
    for _ in range(30):
        shown = switch.api("show channels as json")
        said += shown
        for uuid in re.findall(r'"uuid": "(.{1,40}?)"', shown):
            said += switch.api(f"uuid_dump {uuid} json")
    for kind in (
        "\0",
        "\\u0000",
        "\ud800",
        "\\ud800",
        "\x1b",
        "\\u001b",
        "\u202e",
        '{"rows":' * 99,
    ):
        assert kind in said
    assert re.search(r"[1-9]\d{4000}|x{9999}", said)
    for of_a_wrong_type in ('": null', '": true', '": -1', '": 1e+300', '": ["x"]', '": {"x"'):
        assert of_a_wrong_type in said


def test_clicks_have_extensions_and_contacts_somebody_responsible() -> None:
    inputs = Inputs(1, "token", "")
    written = [inputs.clicked() for _ in range(300)]
    clicked = [number_clicked(one, Rules()) for one in written]
    for sign in ("(доб", ", доб", "\u00a0доб"):
        assert any(
            sign in one and digits for one, (_, digits) in zip(written, clicked, strict=True)
        )
    assert any("\u2212" in one and n for one, (n, _) in zip(written, clicked, strict=True))
    for kind in (("", ""), ("number", ""), ("number", "digits")):
        assert kind in [("number" * bool(n), "digits" * bool(d)) for n, d in clicked]
    answers = [inputs.answer() for _ in range(300)]
    assert {"102", None, True} <= {a.get("responsible") for a in answers if _is_plain(a)}
    assert any(len(str(answer.get("responsible"))) > 2000 for answer in answers)
    assert any("manager" not in answer for answer in answers)


def _is_plain(answer: dict[str, object]) -> bool:
    return isinstance(answer.get("responsible"), str | bool | None)


@pytest.fixture
def switch() -> Iterator[HostileSwitch]:
    simulated = HostileSwitch()
    simulated.start()
    yield simulated
    simulated.stop()


def test_an_honest_call_that_is_not_told_of_would_be_seen(
    switch: HostileSwitch, planfix: Planfix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuzz.target.HONEST_WITHIN", 0.0)
    target = Target(None, ("", 0), ("", 0), "", switch, planfix)  # type: ignore[arg-type]
    target.check_honest_call()
    assert target.problems == ["Planfix was told of an honest call: []"]


CLICK = (
    r"originate {a=b,transfer_ringback=%(800\,3200\,425)}user/101 &bridge("
    "{ignore_early_media=false,bridge_answer_timeout=60,origination_caller_id_number=anonymous,"
    "origination_caller_id_name=anonymous}sofia/gateway/trunk/79161234567)"
)


@pytest.mark.parametrize(
    ("part", "hostile"),
    [
        ("user/101", "user/101@evil"),
        ("user/101", "user/\u0661\u0660\u0661"),
        ("79161234567", "79161234567,user/102"),
        ("a=b", "a=${x}"),
        ("a=b", "a=b}{c=d"),
        ("a=b", "a=b=c"),
        ("_name=anonymous", "_name=Anna"),
        ("anonymous}", r"anonymous,execute_on_answer_2=send_dtmf\sWW1\sx}"),
        (r"%(800\,3200\,425)", "%(800,3200,425)"),
        (r"425)", r"425\,x=1)"),
        ("bridge_answer_timeout=60", "bridge_answer_timeout=60,c=d"),
    ],
)
def test_a_hostile_click_would_be_seen(part: str, hostile: str) -> None:
    assert ALLOWED_IN_ESL.fullmatch(CLICK)
    assert not ALLOWED_IN_ESL.fullmatch(CLICK.replace(part, hostile, 1))


@pytest.mark.parametrize("command", ["sofia_contact 101\n", "user_exists id 101 102 127.0.0.1"])
def test_a_hostile_command_would_be_seen(command: str) -> None:
    assert not ALLOWED_IN_ESL.fullmatch(command)


@pytest.mark.parametrize(
    "said", ["resume\nexit", "sendmsg\ncall-command: hangup", "api status", "exit "]
)
def test_a_hostile_word_on_a_channel_would_be_seen(said: str) -> None:
    assert not SAID.fullmatch(said)


def test_a_sign_that_steers_would_be_seen() -> None:
    for sign in ("\0", "\x1b", "\r", "\x7f", "\x9b", "\u202e", "\ufeff", "\ud800"):
        assert steers(f"answer={sign}")
    assert not steers("       1  rejected 79161234567  101   COMPLETED Missed ООО «Ромашка»")
    assert not LISTED.fullmatch("forged")


def test_growth_would_be_seen(switch: HostileSwitch, planfix: Planfix) -> None:
    target = Target(None, ("", 0), ("", 0), "", switch, planfix)  # type: ignore[arg-type]
    judge(target, (100_000, 50), (120_000, 160))
    assert target.problems == []
    judge(target, (100_000, 50), (120_001, 161))
    assert target.problems == [
        "memory grew from 100000 to 120001 kB",
        "open files grew from 50 to 161",
    ]


def test_a_secret_or_a_crash_in_the_log_would_be_seen(
    switch: HostileSwitch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path) as service:
        target = Target(service, ("", 0), ("", 0), "", switch, planfix)
        target.check_log()
        target.check_commands()
        assert target.count == 0
        said = "timestamp=2026-11-25T12:00:00Z level=info"
        service.log += [f"{said} Traceback (most recent call last):", f"{said} token=pbx-token-1"]
        service.log += ["forged=line", f"{said} answer=\x1b[2J", f"{said} answer=\u202e"]
        switch.commands.append("reload mod_sofia")
        target.check_log()
        target.check_commands()
    assert target.count == 6
    assert isinstance(service, Service)
