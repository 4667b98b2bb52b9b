"""The commands as a person meets them: in a terminal of 80 columns."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from fsplanfix.freeswitch.connection import Connection, Server
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.schema import State
from fsplanfix.outbox.store import Store
from fsplanfix.simulators import demo
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix, Received

from .support.commands import call_cli, run_cli, run_program
from .support.outbox import claim, settle
from .support.service import Service, environment, settings_for
from .support.service import started as running_with
from .support.terminal import Terminal
from .support.traces import TRACES, events, path_of, told

DEMO_CALLS = 7


@contextmanager
def started(folder: Path, *words: str) -> Iterator[Iterator[str]]:
    """A command that runs until it is interrupted; gives the lines it prints."""
    command = [sys.executable, "-m", "fsplanfix", *words]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield iter(process.stdout.readline, "")
        finally:
            process.terminate()


@pytest.mark.no_cover
@pytest.mark.parametrize("words", [["--version"], ["run"], ["nonsense"]], ids=str)
def test_what_tests_start_as_a_fork_says_and_ends_as_the_program_does(
    tmp_path: Path, words: list[str]
) -> None:
    whole = run_program(tmp_path, sys.executable, "-m", "fsplanfix", *words)
    forked = run_cli(tmp_path, *words)
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        whole.returncode,
        whole.stdout,
        whole.stderr,
    )


def test_the_demo_shows_each_call_and_what_planfix_was_told(tmp_path: Path) -> None:
    done = run_cli(tmp_path, "demo")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-4:-2] == ["42 requests, all accepted", ""]
    assert lines[-2].startswith("Next: `fsplanfix demo --serve` shows")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d, times in \S.*", lines[0])
    assert re.search(r"^  \d\d:\d\d:\d\d +101  INCOMING", done.stdout, re.MULTILINE)
    assert (
        len(re.findall(r"^Call (?:from|to) 79161234567", done.stdout, re.MULTILINE)) == DEMO_CALLS
    )
    assert len(re.findall(r"^79161234567 +(?:in|out) ", done.stdout, re.MULTILINE)) == DEMO_CALLS
    # the neighbour is told of its own call alone
    _, neighbour = done.stdout.split("The other company's Planfix:")
    assert len(re.findall(r"^Call from 79260000002 on line 74950000102", neighbour, re.M)) == 1
    assert done.stdout.count("79260000002") == 1
    assert done.stderr == ""
    assert "\x1b" not in done.stdout


def test_who_starts_the_demo_over_ssh_is_told_how_to_see_it(tmp_path: Path) -> None:
    terminal = Terminal(
        tmp_path, "demo", "--serve", "--port", "0", SSH_CONNECTION="192.0.2.1 5 192.0.2.2 22"
    )
    terminal.expect(r"as Planfix would show them: http://127\.0\.0\.1:\d+/\n")
    terminal.expect(r"Dashboard: http://127\.0\.0\.1:\d+/ \(password: demo\)\n")
    terminal.expect(r"ssh -L (\d+):127\.0\.0\.1:\1 -L (\d+):127\.0\.0\.1:\2 THIS-MACHINE")
    terminal.stop()
    ports = set(re.findall(r"http://127\.0\.0\.1:(\d+)/", terminal.shown))
    assert ports == set(re.findall(r"-L (\d+):", terminal.shown))


def test_requests_that_are_sent_together_are_told_in_one_order() -> None:
    planfix = Planfix()
    for at, ext, event, status in [
        (1.1, "103", "INCOMING", ""),
        (1.2, "101", "INCOMING", ""),
        (2.0, "102", "INCOMING", ""),
        (2.1, "102", "ACCEPTED", ""),
        (2.2, "103", "COMPLETED", "Canceled"),
        (2.3, "101", "COMPLETED", "Canceled"),
        (4.0, "102", "COMPLETED", "Success"),
    ]:
        fields = {"cmd": "event", "ext": ext, "event": event, "status": status}
        planfix.received.append(Received(fields, 200, at, at))
    said: list[str] = []
    voice = demo.Voice(
        said.append,
        said.append,
        lambda fields: "head",
        lambda fields, at: said.append(f"{fields['ext']} {fields['event']}"),
        lambda at: "day",
    )
    demo.tell(planfix, 0, voice)
    assert said == [
        *("head", "101 INCOMING", "103 INCOMING", "102 INCOMING", "102 ACCEPTED"),
        *("101 COMPLETED", "103 COMPLETED", "102 COMPLETED"),
    ]


def test_the_demo_can_be_left_running(tmp_path: Path) -> None:
    with started(tmp_path, "demo", "--serve", "--port", "0") as lines:
        found = re.search(r"http://\S+", next(lines))
        assert found
        assert "Click to call" in requests.get(found[0], timeout=60).text
        answer = requests.post(
            f"{found[0]}call", data={"ext": "101", "number": "}x"}, timeout=60
        ).json()
        dashboard = re.search(r"http://\S+", next(lines))
        assert dashboard
        assert "ADMIN_PASSWORD" in requests.get(dashboard[0], timeout=60).text
        # the addresses come once more, and nothing comes after them
        while not next(lines).startswith("The calls go on"):
            pass
        assert found[0] in next(lines)
        assert dashboard[0] in next(lines)
    assert answer["code"] == 400
    assert json.loads(answer["body"]) == {"error": "Invalid parameters"}


def test_the_demo_has_colours_in_a_terminal(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "demo")
    terminal.expect(r"\x1b\[1m\n1\. A client calls three employees, one answers\x1b")
    terminal.expect(r"\n  \d\d:\d\d:\d\d +101  INCOMING")
    terminal.expect(r"\x1b\[32m  \d\d:\d\d:\d\d +102  ACCEPTED")
    terminal.expect(r"\x1b\[32m  \d\d:\d\d:\d\d +102  COMPLETED  Success")
    terminal.stop()


@pytest.mark.parametrize(
    ("words", "colored"),
    [
        (["explain", "--last"], "\x1b[31m\x1b[1m✗\x1b[0m "),
        (["calls"], "\x1b[31m"),
        (["queue", "list"], "\x1b[31m          Planfix rejected it"),
    ],
)
def test_what_went_wrong_is_red_in_a_terminal_only_and_if_wanted(
    tmp_path: Path, words: list[str], colored: str
) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    store = Store(url)
    told_of_it = told(events("in_one_no_answer"))
    store.save(told_of_it, {told_of_it[0].callid: None}, "s", now=1.0)
    (queued,) = claim(store, 1, 2.0, "me")
    settle(store, queued, State.REJECTED, 2.0, "Planfix rejected it: 400 Invalid parameters")
    store.close()

    shown = dict[str, str]()
    for unwanted in ("", "1"):
        terminal = Terminal(tmp_path, *words, STORE_URL=url, NO_COLOR=unwanted)
        assert terminal.end() == 0
        shown[unwanted] = terminal.shown
    assert colored in shown[""]
    assert "\x1b" not in shown["1"]
    assert re.sub(r"\x1b\[\d+m", "", shown[""]) == shown["1"]
    assert call_cli(tmp_path, *words, STORE_URL=url).stdout == shown["1"]


def test_a_timeline_fits_a_terminal(tmp_path: Path) -> None:
    for trace in sorted(TRACES.glob("lab/*.gz")):
        done = (
            call_cli(tmp_path, "replay", str(trace))
            if "queue" in trace.name or "forwarded" in trace.name
            else None
        )
        if done is not None:
            assert max(map(len, done.stdout.splitlines())) <= 80
            assert done.returncode == 0


def test_a_call_nobody_is_told_of_says_so(tmp_path: Path) -> None:
    done = call_cli(tmp_path, "replay", str(path_of("internal_answered")))
    assert "Planfix is told nothing" in done.stdout


def test_numbers_are_shown_as_planfix_gets_them(tmp_path: Path) -> None:
    done = call_cli(tmp_path, "normalize", "8 (916) 123-45-67", "anonymous", "101")
    assert done.stdout.splitlines() == [
        "8 (916) 123-45-67 -> 79161234567",
        "anonymous -> anonymous",
        "101 -> 101",
    ]


def test_what_is_no_number_is_said_to_be_none(tmp_path: Path) -> None:
    done = call_cli(tmp_path, "normalize", "abc")
    assert done.stdout == "abc -> anonymous (not a phone number: a hidden caller)\n"
    done = call_cli(tmp_path, "normalize", "abc", HIDDEN_NUMBER="")
    assert "it is not reported" in done.stdout


def test_a_dry_run_says_so_first(switch: Switch, planfix: Planfix, tmp_path: Path) -> None:
    settings = settings_for(switch, planfix, tmp_path)
    with running_with(Service(tmp_path, settings, "--shadow")) as service:
        assert "shadow_mode" in service.log[0]


def test_the_version_has_a_short_option(tmp_path: Path) -> None:
    assert call_cli(tmp_path, "-V").stdout == call_cli(tmp_path, "--version").stdout


def test_completion_is_as_the_readme_says(tmp_path: Path) -> None:
    # its name is that of the program, so it is started as people start it
    program = Path(sys.executable).with_name("fsplanfix")
    done = run_program(tmp_path, program, _FSPLANFIX_COMPLETE="bash_source")
    assert "complete -o nosort -F _fsplanfix_completion fsplanfix" in done.stdout


def test_numbers_follow_the_country(tmp_path: Path) -> None:
    assert call_cli(tmp_path, "normalize", "0501234567", COUNTRY="UA").stdout.endswith(
        "-> 380501234567\n"
    )


def test_normalize_shows_the_rules_at_work(tmp_path: Path) -> None:
    numbers = ("989161234567", "0000001", "380501234567")
    rules = {"NUMBER_RULES": r"9(8\d{10})=$1", "AREA_CODE": "495", "DIAL_RULES": r"7(\d{10})=98$1"}
    done = call_cli(tmp_path, "normalize", *numbers, "8 (495) 000-00-01 доб. 12", **rules)
    assert done.stdout.splitlines() == [
        "989161234567 -> 79161234567",
        r"  by NUMBER_RULES: 9(8\d{10})=$1",
        "  dialled as 989161234567",
        "0000001 -> 74950000001",
        "  dialled as 984950000001",
        "380501234567 -> 380501234567",
        "8 (495) 000-00-01 доб. 12 -> 74950000001",
        "  dialled as 984950000001",
        "  then 12 after the answer",
    ]
    nobody = call_cli(tmp_path, "normalize", "nobody at all", HIDDEN_NUMBER="").stdout
    assert max(map(len, nobody.splitlines())) <= 80


def test_a_wrong_country_is_named(tmp_path: Path) -> None:
    done = call_cli(tmp_path, "normalize", "1", COUNTRY="Mars")
    assert (done.returncode, done.stderr) == (
        1,
        "Error: COUNTRY: 'Mars' is not a country code; use two letters, such as RU or KZ.\n",
    )


def test_the_simulated_switch_plays_to_whoever_follows(tmp_path: Path) -> None:
    words = (
        "simulate",
        "freeswitch",
        "--listen",
        "127.0.0.1:0",
        "--speed",
        "50",
        "--play",
        "in_one_answered",
    )
    with started(tmp_path, *words) as lines:
        first = next(lines)
        found = re.search(r"127\.0\.0\.1:(\d+)", first)
        assert found
        assert f"FREESWITCH_ESL=esl://:ClueCon@127.0.0.1:{found[1]} " in first
        seen: list[str] = []
        link = Connection(
            Server("127.0.0.1", int(found[1]), "ClueCon"), lambda event: seen.append(event.name)
        )
        link.connect()
        link.subscribe(["CHANNEL_CREATE"])
        assert next(lines) == "playing in_one_answered\n"
        assert next(lines) == "playing in_one_answered\n"
        link.stop()
    assert seen[:2] == ["CHANNEL_CREATE", "CHANNEL_CREATE"]


@pytest.mark.parametrize("command", ["freeswitch", "planfix"])
@pytest.mark.parametrize(
    ("listen", "words"),
    [("nonsense", "write it like 127.0.0.1"), ("192.0.2.1:80", "cannot be used")],
)
def test_a_stand_in_that_cannot_listen_says_why(
    tmp_path: Path, command: str, listen: str, words: str
) -> None:
    done = run_cli(tmp_path, "simulate", command, "--listen", listen)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_help_of_explain_says_where_the_rules_are_listed(tmp_path: Path) -> None:
    assert "docs/call-rules.md" in call_cli(tmp_path, "explain", "--help").stdout


def test_the_list_of_commands_shows_whole_sentences(tmp_path: Path) -> None:
    _, commands = call_cli(tmp_path, "--help").stdout.split("Commands:")
    assert "..." not in commands


def test_every_command_has_help(tmp_path: Path) -> None:
    for words in (
        [],
        ["run"],
        ["demo"],
        ["replay"],
        ["normalize"],
        ["simulate"],
        ["simulate", "freeswitch"],
    ):
        done = call_cli(tmp_path, *words, "--help")
        assert done.returncode == 0
        assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_queue_shows_what_planfix_refused_and_obeys(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    store = Store(url)
    store.save(told(events("in_one_no_answer")), {}, "s", now=1.0)
    (queued,) = claim(store, 1, 2.0, "me")
    settle(store, queued, State.REJECTED, 2.0, "Planfix rejected it: 400 Invalid parameters")
    zone = {"STORE_URL": url, "TZ": "Europe/Moscow"}
    listed = call_cli(tmp_path, "queue", "list", **zone)
    callid = queued.notice.callid
    assert listed.stdout.splitlines() == [
        "  number  when                client       ext   what",
        "       1  1970-01-01 03:00:01 79161234567  101   INCOMING",
        f"          call {callid}",
        "          Planfix rejected it: 400 Invalid parameters",
        "1 waiting, 1 rejected",
    ]
    everything = call_cli(tmp_path, "queue", "list", "--all", STORE_URL=url).stdout
    assert "COMPLETED Missed (waiting)" in everything
    assert "or --all" in call_cli(tmp_path, "queue", "retry", STORE_URL=url).stderr
    retried = call_cli(tmp_path, "queue", "retry", "1", STORE_URL=url)
    assert retried.stdout == "1 will be sent again.\n"
    assert call_cli(tmp_path, "queue", "drop", "--all", STORE_URL=url).stdout == "0 deleted.\n"
    assert Queue(store).counts() == {"waiting": 2}
    store.close()


def test_the_queue_deletes_only_what_is_known_and_confirmed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    store = Store(url)
    store.save(told(events("in_one_no_answer")), {}, "s", now=1.0)
    (queued,) = claim(store, 1, 2.0, "me")
    settle(store, queued, State.REJECTED, 2.0, "400")

    for command in ("retry", "drop"):
        unknown = call_cli(tmp_path, "queue", command, "1", "99", STORE_URL=url)
        assert unknown.returncode == 1
        assert "No rejected notice has the number 99." in unknown.stderr
    unasked = call_cli(tmp_path, "queue", "drop", "--all", STORE_URL=url)
    assert (unasked.returncode, "add --yes" in unasked.stderr) == (2, True)

    terminal = Terminal(tmp_path, "queue", "drop", "1", STORE_URL=url)
    terminal.expect("Delete 1 notices for good?")
    terminal.type("n")
    assert terminal.end() == 1
    assert Queue(store).counts() == {"rejected": 1, "waiting": 1}
    assert call_cli(tmp_path, "queue", "drop", "1", "--yes", STORE_URL=url).stdout == "1 deleted.\n"
    store.close()


def test_a_queue_that_cannot_be_opened_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"x" * 5000)
    done = call_cli(tmp_path, "queue", "list", STORE_URL=f"sqlite:///{tmp_path}/x.db")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_a_queue_in_the_wrong_folder_says_so_and_makes_no_store(tmp_path: Path) -> None:
    done = call_cli(tmp_path, "queue", "list")
    assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
    assert "There is no store at fsplanfix.db: go to the service's folder" in done.stderr
