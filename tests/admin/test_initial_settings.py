"""`fsplanfix init` as a person meets it: in a real terminal, in a script, in a folder that is not theirs."""

import os
import re
import stat
from pathlib import Path

import pytest
from dotenv import dotenv_values

from fsplanfix.admin import initial_settings
from fsplanfix.admin.answers import understood
from fsplanfix.admin.fs_cli_file import write_fs_cli
from fsplanfix.freeswitch.connection import Server
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from ..support.commands import call_cli, run_cli
from ..support.init_command import GIVEN, URL
from ..support.terminal import Terminal


def conversation(terminal: Terminal, *said: tuple[str, str | None]) -> None:
    """Wait for each text and type the answer to it, if it has one."""
    for pattern, answer in said:
        terminal.expect(pattern)
        if answer is not None:
            terminal.type(answer)


def written(file: Path) -> dict[str, str]:
    return {name: value or "" for name, value in dotenv_values(file, interpolate=False).items()}


ADDRESS = "Address for requests, as Planfix shows it"
TOKEN = "Token, as Planfix shows it"
PUBLIC = "Your https address, such as https://pbx.example.com"
SOCKET = r"Event socket of FreeSWITCH \[.*\]: "
PASSWORD = "Its password .*: "
ANYWAY = "Write it anyway"

SAME = (
    (r"Folder of the recordings \[.*\]: ", ""),
    (r"Database \[.*\]: ", ""),
    (r"Country, two letters \[RU\]: ", ""),
)
FROM_FREESWITCH = (
    (r"Which users are exts, as a regular expression \[.*\]: ", ""),
    (r"Domain of the users.*: ", ""),
    (r"Dialplan context that clicks dial through.*: ", ""),
)
DIAL = (r"How a click dials the client \[sofia/gateway/trunk/{number}\]: ", "")


def test_a_few_questions_lead_to_settings_that_work(
    tmp_path: Path, switch: Switch, planfix: Planfix
) -> None:
    planfix.knows_ping = True
    planfix.token = "to'ken"
    terminal = Terminal(tmp_path, "init")
    conversation(
        terminal,
        (f"{ADDRESS}: ", "example.com"),
        ("'example.com' is not a web address", None),
        (f"{ADDRESS}: ", planfix.url),
        (f"{TOKEN}: ", "to'ken"),
        (f"{PUBLIC}: ", "http://pbx.example.com"),
        ("PUBLIC_URL: tokens would cross", None),
        (f"{PUBLIC}: ", "https://a.example/planfix"),
        ("/planfix is left out, fsplanfix adds it itself: https://a.example\n", None),
        ("Planfix: reachable, token accepted", None),
        (r"Event socket of FreeSWITCH \[127.0.0.1:8021\]: ", "127.0.0.1:8021:1"),
        ("is not the address of an event socket; write it like", None),
        (SOCKET, f"127.0.0.1:{switch.port}"),
        (PASSWORD, "a b"),
        ("FREESWITCH_ESL: write it like", None),
        (PASSWORD, ""),
        ("accepts the password.\nIts users: 101, 102, 103, 104, 105.\n", None),
        (r"Its gateways: trunk \(NOREG\).\n", None),
        *SAME[:2],
        (r"Country, two letters \[RU\]: ", "KZ"),
        *FROM_FREESWITCH,
        DIAL,
        ("Write the new password into /etc/fs_cli.conf", "n"),
    )
    assert terminal.end() == 0
    shown = terminal.shown
    assert max(map(len, shown.splitlines())) <= 80
    values = written(tmp_path / ".env")
    assert (values["PLANFIX_TOKEN"], values["COUNTRY"]) == ("to'ken", "KZ")
    assert "to'ken" not in shown
    assert f"key of your PBX       {values['PBX_TOKEN']}" in shown
    assert "address of your PBX   https://a.example/planfix\n" in shown
    password = re.findall(r'name="password" value="(\w{32})"', shown)[0]
    assert values["FREESWITCH_ESL"] == f"esl://:{password}@127.0.0.1:{switch.port}"
    assert "fs_cli -p ClueCon -x 'reload mod_event_socket'" in shown
    assert "From then on fs_cli needs the new password" in shown
    assert not {"EXTENSION_PATTERN", "USER_DOMAIN", "DIAL_CONTEXT"} & set(values)
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert initial_settings.problems(values) == []


def test_a_file_that_is_there_is_changed_only_if_one_says_so(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PLANFIX_TOKEN=kept\n")
    terminal = Terminal(tmp_path, *GIVEN)
    terminal.expect(r"Change it\? \[Y/n\]")
    terminal.type("n")
    assert terminal.end() == 1
    assert "Aborted" in terminal.shown
    done = call_cli(tmp_path, *GIVEN)
    assert (done.returncode, done.stderr) == (
        1,
        "Error: .env already exists; use --force to change it.\n",
    )
    assert (tmp_path / ".env").read_text() == "PLANFIX_TOKEN=kept\n"
    assert call_cli(tmp_path, *GIVEN, "--force").returncode == 0
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


BY_HAND = """\
# Settings of fsplanfix
PLANFIX_URL={url}

# the token of May
PLANFIX_TOKEN='planfix-token'
export PBX_TOKEN=0123456789abcdef
SECRET_KEY=the-key
SECRET_KEY_OLD=older
ADMIN_PASSWORD=secret
FREESWITCH_ESL=esl://:p@ss@127.0.0.1:{port}  # ours
DIAL_ALLOW=7\\d{{10}}
HIDDEN_NUMBER=
PUBLIC_URL=https://old.example.com
COUNTRY=RU"""


def by_hand(tmp_path: Path, switch: Switch, planfix: Planfix) -> str:
    text = BY_HAND.format(url=planfix.url, port=switch.port)
    (tmp_path / ".env").write_text(text)
    switch.password = "p@ss"
    return text


def test_init_again_offers_what_is_there_and_keeps_what_it_does_not_ask_about(
    tmp_path: Path, switch: Switch, planfix: Planfix
) -> None:
    before = by_hand(tmp_path, switch, planfix)
    terminal = Terminal(tmp_path, "init")
    conversation(
        terminal,
        (r"Change it\? \[Y/n\]", ""),
        (r"Replace its secrets .* \[y/N\]", ""),
        (rf"{ADDRESS} \[{re.escape(planfix.url)}\]: ", ""),
        (TOKEN + r" \(empty: the present\s+one\): ", ""),
        (PUBLIC + r" \[https://old.example.com\]: ", "https://new.example.com"),
        ("Planfix: reachable, token accepted", None),
        (rf"Event socket of FreeSWITCH \[127.0.0.1:{switch.port}\]: ", ""),
        (r"Its password \(empty: the present one\): ", ""),
        *SAME,
        *FROM_FREESWITCH,
        DIAL,
    )
    assert terminal.end() == 0
    after = before.replace("https://old.example.com", "https://new.example.com") + "\n"
    lines = (tmp_path / ".env").read_text().splitlines(keepends=True)
    assert "".join(lines).startswith(after)
    assert sorted(line.partition("=")[0] for line in lines[len(after.splitlines()) :]) == [
        "RECORDINGS_DIR",
        "STORE_URL",
    ]
    old = tmp_path / ".env.old"
    assert (old.read_text(), stat.S_IMODE(old.stat().st_mode)) == (before, 0o600)
    assert ".env.old is the file as it was." in terminal.shown
    # FreeSWITCH has this password already, so there is nothing to change in it
    assert "event_socket.conf.xml" not in terminal.shown
    assert "fs_cli.conf" not in terminal.shown
    assert "p@ss" not in terminal.shown
    again = call_cli(tmp_path, "init", "--force")
    assert ".env stays as it is." in again.stdout
    assert old.read_text() == before


def test_new_secrets_leave_the_links_of_before_valid(
    tmp_path: Path, switch: Switch, planfix: Planfix
) -> None:
    by_hand(tmp_path, switch, planfix)
    done = call_cli(tmp_path, "init", "--force", "--new-secrets")
    values = written(tmp_path / ".env")
    assert values["SECRET_KEY_OLD"] == "the-key,older"
    assert values["SECRET_KEY"] != "the-key"
    assert values["PBX_TOKEN"] in done.stdout
    assert values["PBX_TOKEN"] != "0123456789abcdef"
    assert values["ADMIN_PASSWORD"] != "secret"
    assert values["FREESWITCH_ESL"].startswith("esl://:p@ss@")


def test_a_setting_that_is_wrong_already_is_named_before_the_first_question(
    tmp_path: Path,
) -> None:
    (tmp_path / ".env").write_text("DIAL_STRING=nonsense\nLOG_LEVEL=loud\n")
    terminal = Terminal(tmp_path, "init", "--force")
    assert terminal.end() == 1
    assert "LOG_LEVEL: 'LOUD' cannot be used" in terminal.shown
    assert "Fix it in .env first." in terminal.shown
    assert "DIAL_STRING" not in terminal.shown


def test_an_answer_that_does_not_fit_a_setting_beside_it_is_asked_for_again(
    tmp_path: Path, switch: Switch, planfix: Planfix
) -> None:
    (tmp_path / ".env").write_text("RECORD_CLICKS=true\nPLANFIX_TOKEN_FILE=token\n")
    (tmp_path / "token").write_text("planfix-token")
    terminal = Terminal(tmp_path, "init", "--force")
    conversation(
        terminal,
        (f"{ADDRESS}: ", planfix.url),
        (f"{PUBLIC}: ", ""),
        (SOCKET, f"127.0.0.1:{switch.port}"),
        (r"Its password .*\): ", "ClueCon"),
        ("Folder of the recordings", "/var/our recordings"),
        ("FreeSWITCH cannot be told to record into", None),
        ("Folder of the recordings", "/var/recordings"),
        ("Database", ""),
    )
    terminal.stop()


def test_who_does_not_answer_is_named_and_one_may_write_all_the_same(
    tmp_path: Path, switch: Switch, planfix: Planfix
) -> None:
    switch.password = "another"
    terminal = Terminal(tmp_path, "init", "--fs-cli", str(tmp_path / "fs_cli.conf"))
    conversation(
        terminal,
        (f"{ADDRESS}: ", planfix.url),
        (f"{TOKEN}: ", "wrong"),
        (f"{PUBLIC}: ", ""),
        ("Planfix: Planfix does not know our token: 401", None),
        ("Hint: put the token that Planfix shows into PLANFIX_TOKEN", None),
        (ANYWAY, "n"),
        (rf"{ADDRESS} \[{re.escape(planfix.url)}\]: ", ""),
        (TOKEN, "planfix-token"),
        (PUBLIC, ""),
        ("Planfix: reachable, token accepted", None),
        (SOCKET, "127.0.0.1:1"),
        (PASSWORD, ""),
        (r"FreeSWITCH at 127.0.0.1:1 cannot be reached \(Connection refused\)", None),
        (ANYWAY, "n"),
        (SOCKET, f"127.0.0.1:{switch.port}"),
        (PASSWORD, "wrong"),
        ("refuses the password", None),
        (ANYWAY, "y"),
        *SAME,
    )
    assert terminal.end() == 0
    values = written(tmp_path / ".env")
    assert values["PLANFIX_TOKEN"] == "planfix-token"
    assert values["FREESWITCH_ESL"] == f"esl://:wrong@127.0.0.1:{switch.port}"
    assert f"finds the new password in {tmp_path}/fs_cli.conf" in " ".join(terminal.shown.split())


def test_fusionpbx_is_known_by_what_it_lacks(
    tmp_path: Path, switch: Switch, planfix: Planfix
) -> None:
    trunk = "6b1e0c5e-3f1f-4a41-9b0c-0f6f2a0d7c11"
    switch.globals, switch.denied = {}, {"list_users"}
    switch.registrations = [("101", "pbx.example.com"), ("100200", "pbx.example.com")]
    switch.gateways = {"5a1e0c5e-3f1f-4a41-9b0c-0f6f2a0d7c11": "FAIL_WAIT", trunk: "REGED"}
    terminal = Terminal(tmp_path, "init", "--planfix-url", planfix.url, "--public-url", "")
    conversation(
        terminal,
        (f"{TOKEN}: ", "planfix-token"),
        (SOCKET, f"127.0.0.1:{switch.port}"),
        (PASSWORD, ""),
        ("FreeSWITCH 1.10.12 with FusionPBX accepts the password.", None),
        ("Their domains: pbx.example.com.", None),
        *SAME,
        (r"Which users are exts, as a regular expression \[\^\\d\{3,6\}\$\]: ", ""),
        (r"Domain of the users \(-: FreeSWITCH's own\) \[pbx.example.com\]: ", ""),
        (r"clicks dial through \(-: a gateway\)\s+\[pbx.example.com\]: ", "-"),
        (rf"How a click dials the client \[sofia/gateway/{trunk}/{{number}}\]: ", ""),
        ("Write the new password", "n"),
    )
    assert terminal.end() == 0
    values = written(tmp_path / ".env")
    assert values["EXTENSION_PATTERN"] == r"^\d{3,6}$"
    assert values["USER_DOMAIN"] == "pbx.example.com"
    assert values["DIAL_STRING"] == f"sofia/gateway/{trunk}/{{number}}"
    assert "DIAL_CONTEXT" not in values


@pytest.mark.parametrize(
    ("option", "answer", "value", "note"),
    [
        (
            "planfix_url",
            "https://a.planfix.com",
            "https://a.planfix.com/tel/api",
            "/tel/api is added",
        ),
        ("planfix_url", "https://a.planfix.com/x", "https://a.planfix.com/x", ""),
        ("public_url", "https://h/planfix", "https://h", "/planfix is left out"),
        ("public_url", "https://h/", "https://h", ""),
        ("freeswitch", "localhost", "localhost:8021", "Port 8021 is added"),
        ("freeswitch", "::1", "[::1]:8021", "Port 8021 is added"),
        ("freeswitch", "[::1]:8022", "[::1]:8022", ""),
    ],
)
def test_an_answer_is_understood_as_it_was_meant(
    option: str, answer: str, value: str, note: str
) -> None:
    found = understood(option, initial_settings.QUESTIONS[option].setting, answer)
    assert (found.value, found.note.split(":")[0].split(", ")[0]) == (value, note)


def test_what_remains_is_said_even_if_fs_cli_cannot_be_told(tmp_path: Path) -> None:
    done = call_cli(tmp_path, *GIVEN, "--fs-cli", "no/where/fs_cli.conf")
    assert done.returncode == 1
    assert "no/where/fs_cli.conf cannot be written (No such file or directory)" in done.stderr
    assert "key of your PBX" in done.stdout
    assert "From then on fs_cli needs the new password" in done.stdout
    assert (tmp_path / ".env").exists()


def test_the_file_of_fs_cli_keeps_its_other_profiles(tmp_path: Path) -> None:
    file, server = tmp_path / "fs_cli.conf", Server("127.0.0.1", 8021, "new")
    profile = "[default]\nhost     => 127.0.0.1\nport     => 8021\npassword => new\n"
    write_fs_cli(file, server)
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == (profile, 0o600)
    other = "[branch]\nhost => 192.0.2.1\npassword => kept\n"
    before = f"[default]\npassword => old\ndebug => 6\n\n{other}"
    file.write_text(before)
    file.chmod(0o640)
    write_fs_cli(file, server)
    assert file.read_text() == f"{profile}\n{other}"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert (tmp_path / "fs_cli.conf.old").read_text() == before


@pytest.mark.parametrize(
    ("given", "command"),
    [
        ([], "fs_cli -p PASSWORD -x reloadxml"),
        (["--fs-cli", "fs_cli.conf"], "fs_cli -x reloadxml"),
        (["--freeswitch-password", "ClueCon"], "fs_cli -x reloadxml"),
    ],
)
def test_a_command_of_fs_cli_that_is_told_has_the_password_it_needs(
    tmp_path: Path, given: list[str], command: str
) -> None:
    done = run_cli(tmp_path, *GIVEN, *given)
    assert done.returncode == 0, done.stderr
    assert f"then: {command}\n" in done.stdout


def test_a_script_needs_no_terminal(tmp_path: Path) -> None:
    done = run_cli(
        tmp_path, "init", PLANFIX_URL=URL, PLANFIX_TOKEN="abc", PUBLIC_URL="https://pbx.example.com"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    first = dotenv_values(tmp_path / ".env")
    call_cli(tmp_path, *GIVEN, "--force")
    assert dotenv_values(tmp_path / ".env") == first
    assert len(first["PBX_TOKEN"] or "") == 32


def test_planfix_may_tell_its_address_and_token_itself(tmp_path: Path) -> None:
    done = call_cli(tmp_path, "init", "--public-url", "https://pbx.example.com")
    assert (done.returncode, done.stderr) == (0, "")
    assert not {"PLANFIX_URL", "PLANFIX_TOKEN"} & written(tmp_path / ".env").keys()
    assert "Planfix tells its own address and token (setup)" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80

    # and by a person who has typed them before
    call_cli(tmp_path, *GIVEN, "--force")
    assert written(tmp_path / ".env")["PLANFIX_URL"] == URL
    terminal = Terminal(tmp_path, "init", "--force")
    conversation(
        terminal,
        (rf"{ADDRESS} \[{URL}\]: ", "-"),
        (rf"{PUBLIC} \[https://pbx.example.com\]: ", ""),
        (SOCKET, ""),
        (PASSWORD, ""),
        (ANYWAY, "y"),
        *SAME,
        ("Write the new password into /etc/fs_cli.conf", "n"),
        ("Save it there while fsplanfix runs", None),
    )
    assert terminal.end() == 0
    assert not {"PLANFIX_URL", "PLANFIX_TOKEN"} & written(tmp_path / ".env").keys()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--planfix-url", "", "--planfix-token", "abc"), "PLANFIX_URL is missing"),
        (
            (*GIVEN[1:], "--public-url", "http://pbx.example.com"),
            "PUBLIC_URL: tokens would cross the network",
        ),
        ((*GIVEN[1:], "--freeswitch", "non:sense"), "write it like 127.0.0.1:8021"),
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
