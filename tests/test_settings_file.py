"""Where settings are looked for, and what is said of a file that is not there, not ours, or misspelt."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fsplanfix import settings_file
from fsplanfix.errors import SettingsError
from fsplanfix.settings import RuleSettings, Settings, load, unknown_names

from .support.commands import call_cli, run_cli, run_program
from .support.traces import path_of

NEEDED = {
    "PLANFIX_URL": "http://127.0.0.1:9/tel/api",
    "PLANFIX_TOKEN": "planfix-token",
    "PBX_TOKEN": "pbx-token-of-16-signs",
}
NOBODY = 65534


@pytest.fixture(autouse=True)
def system_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file that stands for the one in /etc; nothing else of this machine is seen."""
    for name in ("COUNTRY", settings_file.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "etc" / "fsplanfix.env"
    file.parent.mkdir()
    monkeypatch.setattr(settings_file, "SYSTEM_FILE", file)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return file


def test_the_first_file_that_is_there_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system_file: Path
) -> None:
    assert (settings_file.find(), load(RuleSettings).country) == (None, "RU")
    system_file.write_text("COUNTRY=KZ\nHIDDEN_NUMBER=\n")
    assert (load(RuleSettings).country, load(RuleSettings).hidden_number) == ("KZ", "")
    Path(".env").write_text("COUNTRY=BY\n")
    assert (load(RuleSettings).country, load(RuleSettings).hidden_number) == ("BY", "anonymous")
    (tmp_path / "named").write_text("COUNTRY=UA\n")
    monkeypatch.setenv("FSPLANFIX_ENV", str(tmp_path / "named"))
    assert load(RuleSettings).country == "UA"
    monkeypatch.setenv("COUNTRY", "AM")
    assert load(RuleSettings).country == "AM"


def test_no_file_at_all_can_be_asked_for(
    monkeypatch: pytest.MonkeyPatch, system_file: Path
) -> None:
    system_file.write_text("COUNTRY=KZ\n")
    monkeypatch.setenv("FSPLANFIX_ENV", os.devnull)
    assert load(RuleSettings).country == "RU"


def test_the_option_goes_before_the_variable(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("COUNTRY=UA\n")
    words = ("--env-file", str(tmp_path / "a"), "normalize", "0501234567")
    done = call_cli(tmp_path, *words, FSPLANFIX_ENV="/no/where")
    assert (done.stdout, done.stderr) == ("0501234567 -> 380501234567\n", "")


def test_a_folder_of_that_name_is_not_a_file_of_settings(system_file: Path) -> None:
    Path(".env").mkdir()
    system_file.write_text("COUNTRY=KZ\n")
    assert load(RuleSettings).country == "KZ"


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("/no/where", "There is no file /no/where (--env-file or FSPLANFIX_ENV)."),
        ("/usr", "/usr cannot be read: it is not a file."),
        ("{folder}/pipe", "/pipe cannot be read: it is not a file."),
        ("{folder}/binary", "it is not text in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, named: str, words: str) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    os.mkfifo(tmp_path / "pipe")
    done = call_cli(tmp_path, "normalize", "1", FSPLANFIX_ENV=named.format(folder=tmp_path))
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def as_nobody(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command as another user, who need not be able to find the program."""
    become = f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})"
    # what a module imports only when it is used is imported before its folder is out of reach
    named = "sys.argv[0] = '/usr/bin/fsplanfix'"
    start = f"import os, sys; from fsplanfix.__main__ import main; {become}; {named}; main()"
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    return run_program(folder, sys.executable, "-c", start, *words, **env)


@pytest.fixture
def somebodys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that anybody may enter, with a .env that only root may read."""
    folder = tmp_path_factory.mktemp("app")
    for above in (folder, *folder.parents[:2]):
        above.chmod(0o755)
    (folder / ".env").write_text("COUNTRY=KZ\n")
    (folder / ".env").chmod(0o600)
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ("run",),
        ("check",),
        ("check", "--json"),
        ("explain", "--last"),
        ("queue", "list"),
        ("queue", "retry", "1"),
        ("queue", "drop", "--all"),
        ("normalize", "8 (916) 123-45-67"),
        ("replay", str(path_of("in_one_answered"))),
    ],
    ids=" ".join,
)
def test_a_file_of_another_user_is_named_with_the_command_that_works(
    somebodys: Path, words: tuple[str, ...]
) -> None:
    done = as_nobody(somebodys, *words)
    shown = " ".join((done.stdout + done.stderr).split())
    assert done.returncode in (1, 2)
    assert ".env cannot be read: it belongs to root." in shown
    assert f"Tried: --env-file and FSPLANFIX_ENV (not given), {somebodys}/.env." in shown
    assert f"Use: sudo -u root /usr/bin/fsplanfix {shlex.join(words)}" in shown
    assert "Traceback" not in done.stderr


def test_a_file_named_by_the_variable_is_named_in_the_command(somebodys: Path) -> None:
    done = as_nobody(somebodys, "queue", "list", FSPLANFIX_ENV=f"{somebodys}/.env")
    # sudo keeps no variable
    assert f" --env-file {somebodys}/.env queue list" in done.stderr


def test_who_stands_in_another_users_folder_does_not_mean_the_file_there(somebodys: Path) -> None:
    somebodys.chmod(0o700)
    done = as_nobody(somebodys, "normalize", "8 (916) 123-45-67")
    assert (done.stdout, done.stderr) == ("8 (916) 123-45-67 -> 79161234567\n", "")


def test_what_is_missing_is_said_with_where_it_was_looked_for(tmp_path: Path) -> None:
    done = run_cli(tmp_path, "run")
    *missing, where = done.stderr.removeprefix("Error: ").splitlines()
    # without PLANFIX_URL and PLANFIX_TOKEN, `setup` is awaited
    assert [line.split()[0] for line in missing] == ["PBX_TOKEN"]
    assert where == (
        "There is no file of settings. Tried: --env-file and FSPLANFIX_ENV (not given), "
        f"{tmp_path}/.env, /etc/fsplanfix/fsplanfix.env. `fsplanfix init` creates one."
    )
    assert "There is no file of settings." in call_cli(tmp_path, "queue", "list").stderr
    (tmp_path / ".env").write_text("COUNTRY=RU\n")
    done = run_cli(tmp_path, "run")
    assert f"Settings come from the environment and {tmp_path}/.env." in done.stderr


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("RECORDING_DIR=/x\ndial_contex=y\nCOUNTRY=RU\n", {
            "RECORDING_DIR": "RECORDINGS_DIR", "dial_contex": "DIAL_CONTEXT",
        }),
        ("COMPOSE_PROJECT_NAME=x\nDATABASE_URL=y\nLOG_FILE=z\n", {}),
        ("PBX_TOKEN_FILE=/x\nfreeswitch_esl=y\n", {}),
        (f"{settings_file.FIRST_WORDS}.\nTZ=x\nPOPUP=1\n", {"TZ": "", "POPUP": "POPUP_TTL"}),
    ],
)  # fmt: skip
def test_names_that_are_not_settings_are_found(content: str, found: dict[str, str]) -> None:
    Path(".env").write_text(content)
    assert {unknown.name: unknown.nearest for unknown in unknown_names()} == found


def test_every_name_in_a_file_of_our_own_must_be_a_setting(system_file: Path) -> None:
    system_file.write_text("COMPOSE_PROJECT_NAME=x\n")
    assert [unknown.name for unknown in unknown_names()] == ["COMPOSE_PROJECT_NAME"]


def test_our_own_files_begin_as_they_should() -> None:
    example = Path(__file__).parent.parent / ".env.example"
    assert example.read_text().startswith(settings_file.FIRST_WORDS)
    Path(".env").write_bytes(example.read_bytes())
    assert unknown_names() == []
    assert "PLANFIX_URL" in {name.upper() for name in Settings.model_fields}


def test_the_check_names_the_nearest_setting(tmp_path: Path) -> None:
    lines = [f"{name}={value}" for name, value in NEEDED.items()]
    store = f"sqlite:///{tmp_path}/store.db"
    (tmp_path / ".env").write_text("\n".join([*lines, "RECORDING_DIR=/x", f"STORE_URL={store}"]))
    done = run_cli(tmp_path, "check", "--json")
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    (finding,) = [found for found in findings if "RECORDING_DIR" in found.get("what", "")]
    assert finding["what"] == "RECORDING_DIR in .env is not a setting"
    assert (finding["mark"], finding["hint"]) == ("!", "is it RECORDINGS_DIR?")


def test_the_start_warns_of_a_misspelt_name_and_goes_on(tmp_path: Path) -> None:
    lines = [f"{name}={value}" for name, value in NEEDED.items()]
    # the store cannot be opened, so the service ends by itself
    (tmp_path / ".env").write_text("\n".join([*lines, "RECORDING_DIR=/x", "STORE_URL=nonsense"]))
    done = run_cli(tmp_path, "run")
    assert re.search(r'setting_unknown .*hint="is it RECORDINGS_DIR\?"', done.stderr)
    assert "STORE_URL is not a database address" in done.stderr


def test_a_misspelt_name_is_told_with_what_is_missing() -> None:
    Path(".env").write_text("PLANFIX_TOKN=x\n")
    with pytest.raises(SettingsError) as caught:
        load(Settings)
    assert "PLANFIX_TOKN is not a setting: is it PLANFIX_TOKEN?" in caught.value.problems


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("owner", "becomes"), [(NOBODY, NOBODY), (0, 0)])
def test_root_works_as_the_user_of_the_service(
    tmp_path: Path, system_file: Path, owner: int, becomes: int
) -> None:
    system_file.write_text("COUNTRY=KZ\n")
    os.chown(system_file, owner, owner)
    # it cannot be undone, so another process does it
    done = run_program(
        tmp_path,
        *(sys.executable, "-c"),
        "import os; from pathlib import Path; from fsplanfix import settings_file as file; "
        f"file.SYSTEM_FILE = Path('{system_file}'); file.become_owner(); print(os.getuid())",
    )
    assert (done.returncode, done.stdout) == (0, f"{becomes}\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("words", ["calls", "explain --last", "queue list", "unpair"])
def test_root_opens_the_store_as_the_user_of_the_service(
    tmp_path: Path, system_file: Path, words: str
) -> None:
    system_file.write_text(f"STORE_URL=sqlite:///{tmp_path}/none.db\n")
    os.chown(system_file, NOBODY, NOBODY)
    done = run_program(
        tmp_path,
        *(sys.executable, "-c"),
        "import atexit, os; from pathlib import Path; from fsplanfix import settings_file as file; "
        f"from fsplanfix.cli import cli; file.SYSTEM_FILE = Path('{system_file}'); "
        f"atexit.register(lambda: print(os.getuid())); cli.main({words.split()})",
    )
    assert (done.returncode, done.stdout) == (1, f"{NOBODY}\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_stays_root_with_any_other_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"STORE_URL=sqlite:///{tmp_path}/store.db\n")
    os.chown(tmp_path / ".env", NOBODY, NOBODY)
    done = run_cli(tmp_path, "queue", "list")
    assert "There is no store at" in done.stderr
