"""`fsplanfix init` as a person meets it: in a real terminal, in a script, in a folder that is not theirs."""

import os
import re
import stat
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given, settings
from hypothesis import strategies as st

from fsplanfix import settings_file
from fsplanfix.admin import initial_settings
from fsplanfix.errors import SettingsError
from fsplanfix.settings import Settings

from ..support.commands import call_cli, run_cli
from ..support.terminal import Terminal

URL = "https://example.planfix.com/tel/api"
GIVEN = ("init", "--planfix-url", URL, "--planfix-token", "abc")


def test_a_few_questions_lead_to_settings_that_work(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "init")
    for question, answer in [
        ("Address for requests, as Planfix shows it: ", "example.com"),
        ("'example.com' is not a web address", None),
        ("Address for requests, as Planfix shows it: ", URL),
        ("Token, as Planfix shows it: ", "to'ken"),
        ("Your https address, such as https://pbx.example.com: ", "http://pbx.example.com"),
        ("PUBLIC_URL: tokens would cross", None),
        ("Your https address, such as https://pbx.example.com: ", "https://pbx.example.com"),
        (r"Event socket of FreeSWITCH \[127.0.0.1:8021\]: ", ""),
        ("Its password .*: ", ""),
        (r"Folder of the recordings \[/var/lib/freeswitch/recordings\]: ", ""),
        (r"Database \[sqlite:///fsplanfix.db\]: ", ""),
        (r"Country, two letters \[RU\]: ", "KZ"),
    ]:
        terminal.expect(question)
        if answer is not None:
            terminal.type(answer)
    assert terminal.end() == 0
    shown = terminal.shown
    assert max(map(len, shown.splitlines())) <= 80
    values = {
        name: value or ""
        for name, value in dotenv_values(tmp_path / ".env", interpolate=False).items()
    }
    assert (values["PLANFIX_TOKEN"], values["COUNTRY"]) == ("to'ken", "KZ")
    assert "to'ken" not in shown
    assert f"key of your PBX       {values['PBX_TOKEN']}" in shown
    assert "https://pbx.example.com/planfix" in shown
    password = re.findall(r'name="password" value="(\w{32})"', shown)[0]
    assert values["FREESWITCH_ESL"] == f"esl://:{password}@127.0.0.1:8021"
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert initial_settings.problems(values) == []


def test_a_file_that_is_there_is_replaced_only_if_one_says_so(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PLANFIX_TOKEN=kept\n")
    terminal = Terminal(tmp_path, *GIVEN)
    terminal.expect(r"\.env already exists. Overwrite it\? \[y/N\]")
    terminal.type("n")
    assert terminal.end() == 1
    assert "Aborted" in terminal.shown
    done = run_cli(tmp_path, *GIVEN)
    assert (done.returncode, done.stderr) == (
        1,
        "Error: .env already exists; use --force to overwrite it.\n",
    )
    assert (tmp_path / ".env").read_text() == "PLANFIX_TOKEN=kept\n"
    assert run_cli(tmp_path, *GIVEN, "--force").returncode == 0
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_a_script_needs_no_terminal(tmp_path: Path) -> None:
    done = run_cli(
        tmp_path, "init", PLANFIX_URL=URL, PLANFIX_TOKEN="abc", PUBLIC_URL="https://pbx.example.com"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    first = dotenv_values(tmp_path / ".env")
    run_cli(tmp_path, *GIVEN, "--force")
    assert dotenv_values(tmp_path / ".env")["PBX_TOKEN"] != first["PBX_TOKEN"]
    assert len(first["PBX_TOKEN"] or "") == 32


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--planfix-url", "", "--planfix-token", ""), "PLANFIX_URL"),
        (
            (*GIVEN[1:], "--public-url", "http://pbx.example.com"),
            "PUBLIC_URL: tokens would cross the network",
        ),
        ((*GIVEN[1:], "--freeswitch", "nonsense"), "FREESWITCH_ESL: write it like"),
        ((*GIVEN[1:], "--freeswitch-password", "a b"), "FREESWITCH_ESL: write it like"),
        ((*GIVEN[1:], "--country", "Russia"), "COUNTRY: 'Russia' is not a country code"),
        (
            (*GIVEN[1:], "--file", "no/where/.env"),
            "no/where/.env cannot be written (No such file or directory)",
        ),
        ((*GIVEN[1:], "--file", "/proc/.env"), "/proc/.env cannot be written"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    done = call_cli(tmp_path, "init", *words)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.no_cover
@given(st.text(min_size=1, max_size=40))
@settings(max_examples=200)
def test_any_token_is_read_back_as_it_was_written_or_refused(
    tmp_path_factory: pytest.TempPathFactory, token: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.env"
    values = {"PLANFIX_URL": URL, "PLANFIX_TOKEN": token, "PBX_TOKEN": "0123456789abcdef"}
    try:
        initial_settings.write(file, values)
    except SettingsError:
        return
    assert Settings(_env_file=file).planfix_token.get_secret_value() == token  # type: ignore[call-arg]


NEEDED = {"PLANFIX_URL": URL, "PLANFIX_TOKEN": "abc", "PBX_TOKEN": "0123456789abcdef"}


@pytest.mark.parametrize(
    ("token", "line"),
    [
        ("3f9a-B_c.d~e", "PLANFIX_TOKEN=3f9a-B_c.d~e"),
        ("a#b=c d", "PLANFIX_TOKEN=a#b=c d"),
        ("a #b", "PLANFIX_TOKEN='a #b'"),
        ("a$b", "PLANFIX_TOKEN='a$b'"),
        (" a ", "PLANFIX_TOKEN=' a '"),
        ("'a'", r"PLANFIX_TOKEN='\'a\''"),
    ],
)
def test_a_value_is_quoted_only_where_it_must_be(tmp_path: Path, token: str, line: str) -> None:
    # docker run --env-file takes quotes for a part of the value
    initial_settings.write(tmp_path / ".env", {**NEEDED, "PLANFIX_TOKEN": token})
    assert line in (tmp_path / ".env").read_text().splitlines()


def test_what_is_usual_is_written_without_quotes(tmp_path: Path) -> None:
    assert run_cli(tmp_path, *GIVEN, "--public-url", "https://pbx.example.com").returncode == 0
    assert "'" not in "".join((tmp_path / ".env").read_text().splitlines()[1:])


def test_the_file_named_for_every_command_is_the_one_that_is_written(tmp_path: Path) -> None:
    done = run_cli(tmp_path, "--env-file", "named.env", *GIVEN)
    assert (done.returncode, os.listdir(tmp_path)) == (0, ["named.env"])


@pytest.fixture
def system_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Stands for the file in /etc that the Debian package's `init` writes."""
    for module in (initial_settings, settings_file):
        monkeypatch.setattr(module, "SYSTEM_FILE", tmp_path / "fsplanfix.env")
    monkeypatch.delenv(settings_file.VARIABLE, raising=False)
    return tmp_path / "fsplanfix.env"


def test_the_package_keeps_settings_and_store_where_the_unit_expects_them(
    monkeypatch: pytest.MonkeyPatch, system_file: Path
) -> None:
    assert initial_settings.default_file() == Path(".env")
    assert initial_settings.questions(Path(".env"))["store_url"][2] == "sqlite:///fsplanfix.db"
    monkeypatch.setattr("sys.prefix", "/usr/lib/fsplanfix")
    assert initial_settings.default_file() == system_file
    store = "sqlite:////var/lib/fsplanfix/fsplanfix.db"
    assert initial_settings.questions(system_file)["store_url"][2] == store
    shown = initial_settings.what_to_do(
        system_file, {"PBX_TOKEN": "x", "ADMIN_PASSWORD": "y"}, "127.0.0.1", "8021", "z"
    )
    assert "sudo systemctl restart fsplanfix" in shown
    assert "/usr/share/fsplanfix/freeswitch-dialplan/" in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_belongs_to_the_service(
    monkeypatch: pytest.MonkeyPatch, system_file: Path
) -> None:
    monkeypatch.setattr(initial_settings, "USER", "nobody")
    initial_settings.write(system_file, NEEDED)
    assert (system_file.owner(), stat.S_IMODE(system_file.stat().st_mode)) == ("nobody", 0o600)
    # whoever owned a file before owns the one that replaces it
    os.chown(system_file, 1, 1)
    initial_settings.write(system_file, NEEDED)
    assert (system_file.stat().st_uid, system_file.stat().st_gid) == (1, 1)
