"""Commands on a switch with several companies: what is each one's, and what is missing."""

import csv
import io
import json
import os
import re
import tomllib
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest

from fsplanfix.admin.check import check_all
from fsplanfix.admin.desk import Desk
from fsplanfix.admin.explain import story
from fsplanfix.admin.findings import Finding, Grade
from fsplanfix.calls.event_log import EventLog
from fsplanfix.calls.model import Missed, Rules
from fsplanfix.calls.number_rules import read_rules
from fsplanfix.calls.tracker import Tracker
from fsplanfix.calls.unclaimed import UNCLAIMED
from fsplanfix.calls.whose import AccountRules
from fsplanfix.outbox.archive import Archive
from fsplanfix.outbox.records import LOOKED_UP, Entry
from fsplanfix.outbox.schema import State
from fsplanfix.outbox.store import Store
from fsplanfix.planfix.pairing import stored_partner
from fsplanfix.settings import Settings
from fsplanfix.settings.accounts import COMPANY, load_accounts
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from ..support.commands import call_cli
from ..support.listed_calls import call
from ..support.outbox import claim, settle
from ..support.scene import Scene
from ..support.terminal import Terminal

KEYS = {"a": "0123456789abcdef", "b": "fedcba9876543210"}


def account(name: str, planfix: Planfix, token: str = "planfix-token", more: str = "") -> str:
    return (
        f'[{name}]\nplanfix_url = "{planfix.url}"\nplanfix_token = "{token}"\n'
        f'pbx_token = "{KEYS.get(name, f"key-of-{name}-0123456")}"\ndomains = "{name}.example"\n{more}\n'
    )


@pytest.fixture
def env(switch: Switch, tmp_path: Path) -> dict[str, str]:
    switch.password = "a-good-one"
    return {
        "ACCOUNTS_FILE": str(tmp_path / "accounts.toml"),
        "FREESWITCH_ESL": f"esl://:a-good-one@127.0.0.1:{switch.port}",
        "STORE_URL": f"sqlite:///{tmp_path}/store.db",
        "RECORDINGS_DIR": str(tmp_path),
        "ESL_LISTEN": "127.0.0.1:9",
        "HTTP_LISTEN": "127.0.0.1:9",
        "OUTBOUND_CALLER_ID": "74950000001",
    }


def look(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], text: str, only: str = ""
) -> list[Finding]:
    Path(env["ACCOUNTS_FILE"]).write_text(text)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return [*check_all(load_accounts(Settings), None, (), only)]


def codes(findings: list[Finding], account: str) -> dict[str, Grade]:
    return {found.code: found.grade for found in findings if found.account == account}


def test_the_check_goes_through_every_account(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], planfix: Planfix
) -> None:
    text = (
        account("a", planfix)
        + account("b", planfix, "wrong")
        + account("c", planfix, "x", "default_ext = 101")
    )
    text = text.replace("key-of-c-0123456", "short-key")
    findings = look(monkeypatch, env, text)
    assert codes(findings, "")["freeswitch.linked"] is Grade.OK
    assert not {code for code in codes(findings, "") if code.startswith(("planfix", "gateway"))}
    assert codes(findings, "a")["planfix.sound"] is Grade.OK
    assert codes(findings, "b")["planfix.token"] is Grade.BROKEN
    assert codes(findings, "c")["settings.short-token"] is Grade.WARNING
    assert "settings.short-token" not in codes(findings, "a")
    one = look(monkeypatch, env, text, "b")
    assert {found.account for found in one} == {"b"}


def test_a_finding_about_an_account_names_settings_as_its_file_does(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], planfix: Planfix
) -> None:
    env["PUBLIC_URL"] = "http://127.0.0.1:9"
    planfix.knows_ping, planfix.pbx_token = True, "another-key"
    of_calls = 'extension_pattern = "x"\ndial_context = "nowhere"\nvoicemail = "link"'
    of_b = 'windows = "known"\ndial_string = "sofia/gateway/no/{number}"'
    text = (
        account("a", planfix, more=of_calls)
        + account("b", planfix, "wrong", of_b)
        + account("c", planfix).replace("planfix_", "#").replace("key-of-c-0123456", "short-key")
        + account("d", planfix).replace(planfix.url, f"{planfix.url}/nowhere")
    )
    store = Store(env["STORE_URL"])
    said = [replace(notice, account="b") for notice in call("call-b", 1000.0, "101")]
    store.save(said, {"call-b": None}, "s", now=1.0)
    store.close()
    findings = look(monkeypatch, env, text)
    doubtful = [one for one in findings if one.account and one.grade is not Grade.OK]
    assert {one.code for one in doubtful} > {
        *("planfix.unreachable", "planfix.token", "planfix.unpaired", "planfix.pbx-key"),
        *("settings.short-token", "context.unknown", "gateway.unknown"),
        *("voicemail.no-folder", "windows.never-asked"),
    }
    names = {name.upper() for name in COMPANY}
    for one in doubtful:
        words = f"{one.part} {one.what} {one.hint}"
        assert not names & {*re.findall(r"\w+", words)}, words
    hints = " ".join(one.hint for one in doubtful)
    assert "put the token that Planfix shows into planfix_token" in hints
    assert 'set windows = "ring"' in hints


def test_that_our_own_address_is_missing_is_said_once(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], planfix: Planfix
) -> None:
    planfix.knows_ping, planfix.pbx_url = True, "https://pbx.example.com/planfix"
    text = account("a", planfix) + account("b", planfix).replace("127.0.0.1", "localhost")
    findings = look(monkeypatch, env, text)
    assert [one.account for one in findings if "PUBLIC_URL" in f"{one.what} {one.hint}"] == [""]
    env["PUBLIC_URL"] = "http://127.0.0.1:9"
    findings = look(monkeypatch, env, text)
    differing = [one.account for one in findings if one.code == "planfix.pbx-url"]
    assert differing == ["a", "b"]


def test_each_account_that_must_know_its_clients_needs_the_dialplan(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], planfix: Planfix
) -> None:
    store = Store(env["STORE_URL"])
    for name in ("a", "b", "c"):
        store.save(
            [replace(notice, account=name) for notice in call(f"call-{name}", 1000.0, "101")],
            {f"call-{name}": None},
            "s",
            now=1.0,
        )
    asked = f"{LOOKED_UP} no name (asked, 9 ms)"
    Archive(store).write_down(Entry(1.0, asked, "call-b", "", "79161234567", "b"))
    store.close()
    known = 'windows = "known"'
    text = account("a", planfix, "1", known) + account("b", planfix, "2", known)
    findings = look(monkeypatch, env, text + account("c", planfix, "3"))
    named = [found.account for found in findings if found.code == "windows.never-asked"]
    assert named == ["a"]


def test_of_many_accounts_only_those_with_a_finding_are_shown(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], planfix: Planfix
) -> None:
    tokens = "".join(
        account(f"a{n}", planfix).replace("[", "[").replace(planfix.url, f"{planfix.url}/{n}")
        for n in range(25)
    )
    findings = look(monkeypatch, env, tokens + account("b", planfix, "wrong"))
    shown = {found.account for found in findings if found.account}
    assert "b" in shown
    assert all(found.grade is not Grade.OK for found in findings if found.account)
    assert findings[-1].code == "accounts.sound"


def test_a_terminal_shows_a_heading_for_each_account(
    env: dict[str, str], planfix: Planfix, tmp_path: Path
) -> None:
    Path(env["ACCOUNTS_FILE"]).write_text(account("a", planfix) + account("b", planfix, "wrong"))
    lines = call_cli(tmp_path, "check", **env).stdout.splitlines()
    assert lines.index("[a]") < lines.index("[b]")
    one = call_cli(tmp_path, "check", "--account", "b", **env).stdout
    assert "[b]" in one
    assert "[a]" not in one
    said = call_cli(tmp_path, "check", "--account", "b", "--json", **env).stdout.splitlines()
    assert {json.loads(line).get("account") for line in said[:-1]} == {"b"}
    unknown = call_cli(tmp_path, "check", "--account", "x", **env)
    assert "There is no account x; there are a, b." in unknown.stderr


def test_calls_of_no_account_are_shown_with_what_to_add(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], planfix: Planfix
) -> None:
    store = Store(env["STORE_URL"])
    rows = [
        ["74950000009", "c.example", "", 7],
        ["74950000008", "", "", 2],
        ["1", "a.example", "", 3],
    ]
    store.facts.set(UNCLAIMED, json.dumps(rows))
    store.close()
    (found,) = [
        found
        for found in look(monkeypatch, env, account("a", planfix))
        if found.code == "calls.unclaimed"
    ]
    assert found.grade is Grade.WARNING
    assert found.what == (
        "9 calls were of no account: line 74950000009, 74950000008; domain c.example"
    )
    assert found.hint.endswith('accounts.toml: domains = ["c.example"]')
    text = account("a", planfix, more='lines = ["7495000000*"]')
    findings = look(monkeypatch, env, text)
    assert "calls.unclaimed" not in codes(findings, "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = Store(f"sqlite:///{tmp_path}/fsplanfix.db")
    for n, name in enumerate(("a", "b")):
        said = [replace(notice, account=name) for notice in call(f"{name}1", 1e9 + n, "101")]
        store.save(said, {f"{name}1": None}, "s", now=1.0)
    Archive(store).write_down(Entry(2.0, "refused", phone="79161234567", account="b"))
    for name in ("a", "b"):
        (queued,) = claim(store, 2, 3.0, "me", name)
        settle(store, queued, State.REJECTED, 3.0, "Planfix rejected it: 400")
    store.close()
    (tmp_path / "accounts.toml").write_text(
        '[a]\ndomains = "a.example"\n[b]\ndomains = "b.example"\n'
    )
    return tmp_path


def test_calls_are_listed_for_one_account(folder: Path) -> None:
    for name in ("a", "b"):
        text = call_cli(folder, "calls", "--csv", "--account", name).stdout
        assert f"{name}1" in text
        assert len(text.splitlines()) == 2
    assert len(call_cli(folder, "calls", "--csv").stdout.splitlines()) == 3


def test_the_csv_of_several_accounts_says_whose_each_call_is(folder: Path) -> None:
    def table(*words: str, **settings: str) -> list[dict[str, str]]:
        text = call_cli(folder, "calls", "--csv", *words, **settings).stdout
        return [*csv.DictReader(io.StringIO(text))]

    file = {"ACCOUNTS_FILE": str(folder / "accounts.toml")}
    assert {row["callid"]: row["account"] for row in table(**file)} == {"a1": "a", "b1": "b"}
    assert "account" not in table("--account", "a", **file)[0]
    assert "account" not in table()[0]


def test_a_number_is_explained_for_one_account(folder: Path) -> None:
    env = {"ACCOUNTS_FILE": str(folder / "accounts.toml")}
    for name, is_refused in (("a", False), ("b", True)):
        done = call_cli(folder, "explain", "89161234567", "--account", name, **env)
        assert done.returncode == 0, done.stderr
        assert ("refused" in done.stdout) is is_refused
        assert f"account {name}" in done.stdout
        last = call_cli(folder, "explain", "--last", "--account", name, **env)
        assert f"callid {name}1" in last.stdout
    other = call_cli(folder, "explain", "a1", "--account", "b", **env)
    assert other.returncode == 1
    assert "No record of call or number a1." in other.stderr


def test_what_another_planfix_said_of_the_caller_is_not_told(folder: Path) -> None:
    """Its company was asked before the call turned out to be this one's."""
    store = Store(f"sqlite:///{folder}/fsplanfix.db")
    archive = Archive(store)
    asked = f"{LOOKED_UP} Client of b (asked, 9 ms)"
    archive.write_down(Entry(1e9, asked, "a1", "", "79161234567", "b"))
    rules = AccountRules({name: Rules() for name in ("a", "b")}, Rules())
    desk = Desk(store, rules, dict)

    def told(desk: Desk) -> str:
        found = desk.story("a1", str, str)
        assert found is not None
        return "\n".join(step.text for step in found.steps)

    assert "Client of b" in told(desk)
    assert "Client of b" not in told(desk.of("a"))
    assert desk.of("b").story("a1", str, str) is None
    env = {"ACCOUNTS_FILE": str(folder / "accounts.toml")}
    assert "Client of b" in call_cli(folder, "explain", "a1", **env).stdout
    assert "Client of b" not in call_cli(folder, "explain", "a1", "--account", "a", **env).stdout
    other = call_cli(folder, "explain", "a1", "--account", "b", **env)
    assert "No record of call or number a1." in other.stderr
    store.close()


def test_the_dashboard_finds_a_number_as_the_accounts_switch_shows_it(folder: Path) -> None:
    store = Store(f"sqlite:///{folder}/fsplanfix.db")
    own = Rules(number_rules=read_rules(r"9(8\d{10})=$1"))
    desk = Desk(store, AccountRules({"a": own, "b": Rules()}, Rules()), dict)

    def found(name: str, **asked: str) -> list[str]:
        page = desk.of(name).calls(asked, UTC, lambda: True)
        return [call.callid for call in page.calls]

    assert found("a", client="9 8 916 123-45-67") == ["a1"]
    assert found("a", line="984950000001") == ["a1"]
    assert found("a", line="84950000001") == ["a1"]
    assert found("b", client="9 8 916 123-45-67") == []
    store.close()


def test_the_queue_is_each_accounts_own(folder: Path) -> None:
    listed = call_cli(folder, "queue", "list", "--account", "a").stdout
    assert "call a1" in listed
    assert "call b1" not in listed
    assert listed.endswith("1 waiting, 1 rejected\n")
    assert "call b1 of b" in call_cli(folder, "queue", "list").stdout
    wrong = call_cli(folder, "queue", "retry", "1", "--account", "b")
    assert "No rejected notice has the number 1." in wrong.stderr
    assert call_cli(folder, "queue", "retry", "--all", "--account", "a").stdout.startswith("1 ")
    dropped = call_cli(folder, "queue", "drop", "--all", "--yes", "--account", "b").stdout
    assert dropped == "1 deleted.\n"


@pytest.mark.parametrize(
    "words",
    ["calls", "explain --last", "queue list", "queue retry --all", "queue drop --all", "unpair"],
)
def test_a_company_that_nobody_knows_is_an_error(folder: Path, words: str) -> None:
    file = str(folder / "accounts.toml")
    done = call_cli(folder, *words.split(), "--account", "c", ACCOUNTS_FILE=file)
    assert done.returncode == 2
    assert "There is no account c; there are a, b." in done.stderr
    alone = call_cli(folder, *words.split(), "--account", "c")
    assert "There is no account c: ACCOUNTS_FILE is not set." in alone.stderr


def test_a_company_that_is_gone_from_the_file_is_still_known(folder: Path) -> None:
    (folder / "accounts.toml").write_text('[a]\ndomains = "a.example"\n')
    file = str(folder / "accounts.toml")
    done = call_cli(folder, "queue", "list", "--account", "b", ACCOUNTS_FILE=file)
    assert "call b1" in done.stdout


def test_init_adds_an_account_and_keeps_every_other_line(tmp_path: Path) -> None:
    file = tmp_path / "accounts.toml"
    file.write_text(
        '# ours\n[a]  # the first\npbx_token = "0123456789abcdef"\ndomains = "a.example"'
    )
    before, env = (
        file.read_text(),
        {"ACCOUNTS_FILE": str(file), "PUBLIC_URL": "https://pbx.example.com"},
    )
    words = ["--planfix-url", "https://b.planfix.com/tel/api", "--planfix-token", "t"]
    added = ["init", "--account", "b", *words, "--domains", "b.example, b2.example"]
    done = call_cli(tmp_path, *added, "--lines", "74950000001,7495000010*", **env)
    assert done.returncode == 0, done.stderr
    text = file.read_text()
    assert text.startswith(before)
    assert file.stat().st_mode & 0o077 == 0
    made = tomllib.loads(text)["b"]
    assert made["domains"] == ["b.example", "b2.example"]
    assert made["lines"] == ["74950000001", "7495000010*"]
    assert made["pbx_token"] in done.stdout
    assert "https://pbx.example.com/planfix" in done.stdout
    assert "fsplanfix check --account b" in done.stdout
    again = call_cli(tmp_path, *added, **env)
    assert "There is an account b" in again.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--account", "B"], "[B] is not a name for an account"),
        (["--account", "b"], "[b] needs domains or lines"),
        (["--account", "b", "--domains", "a.example"], "have the same domain a.example"),
        (["--account", "b", "--domains", "b.example", "--country", "Mars"], "[b] country: "),
        (["--account", 'b"]\n[c', "--domains", "b.example"], "is not a name for an account"),
    ],
    ids=str,
)
def test_an_account_that_would_not_do_changes_nothing(
    tmp_path: Path, words: list[str], sentence: str
) -> None:
    file = tmp_path / "accounts.toml"
    file.write_text('[a]\npbx_token = "0123456789abcdef"\ndomains = "a.example"\n')
    before = file.read_text()
    done = call_cli(tmp_path, "init", *words, ACCOUNTS_FILE=str(file))
    assert done.returncode == 1
    assert sentence in done.stderr
    assert ".new" not in done.stderr
    assert file.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["accounts.toml"]


def test_a_wrong_answer_about_a_company_is_asked_for_again(
    tmp_path: Path, planfix: Planfix
) -> None:
    terminal = Terminal(tmp_path, "init", "--account", "B")
    assert terminal.end() == 1
    assert "[B] is not a name for an account" in terminal.shown

    terminal = Terminal(tmp_path, "init", "--account", "b")
    for pattern, answer in [
        (r"Address .*: ", "romashka"),
        ("'romashka' is not a web address", None),
        (r"Address .*: ", planfix.url),
        (r"Token.*: ", ""),
        ("PLANFIX_TOKEN", None),
        (r"Token.*: ", "wrong"),
        (r"Write it anyway\? \[y/N\]: ", "n"),
        (r"Address .*: ", planfix.url),
        (r"Token.*: ", "planfix-token"),
        ("Planfix: reachable, token accepted", None),
        (r"Domains .*: ", ""),
        (r"Numbers .*: ", ""),
        ("Name domains or lines", None),
        (r"Domains .*: ", "b.example"),
        (r"Numbers .*: ", ""),
    ]:
        terminal.expect(pattern)
        if answer is not None:
            terminal.type(answer)
    assert terminal.end() == 0
    made = tomllib.loads((tmp_path / "accounts.toml").read_text())["b"]
    assert (made["planfix_url"], made["domains"]) == (planfix.url, ["b.example"])


def test_the_first_account_is_told_how_to_be_used(tmp_path: Path) -> None:
    done = call_cli(tmp_path, "init", "--account", "a", "--domains", "a.example")
    assert done.returncode == 0, done.stderr
    assert "The settings do not name " in done.stdout
    assert f"set ACCOUNTS_FILE={tmp_path}/accounts.toml" in done.stdout
    assert tomllib.loads((tmp_path / "accounts.toml").read_text())["a"]["domains"] == ["a.example"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_new_file_of_accounts_belongs_to_the_service(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("COUNTRY=KZ\n")
    os.chown(tmp_path / ".env", 65534, 65534)
    done = call_cli(tmp_path, "init", "--account", "a", "--domains", "a.example")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "accounts.toml").stat().st_uid == 65534


def test_a_number_is_written_as_the_account_writes_it(tmp_path: Path) -> None:
    file = tmp_path / "accounts.toml"
    file.write_text(
        '[a]\ndomains = "a.example"\narea_code = "495"\n[b]\ndomains = "b.example"\narea_code = "812"\n'
    )
    for name, number in (("a", "74950000001"), ("b", "78120000001")):
        done = call_cli(
            tmp_path, "normalize", "0000001", "--account", name, ACCOUNTS_FILE=str(file)
        )
        assert done.stdout == f"0000001 -> {number}\n"


def test_one_company_is_unpaired_and_no_other(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/fsplanfix.db")
    for name in ("a", "b"):
        partner = {"url": f"https://{name}.planfix.com/tel/api", "token": "t"}
        store.facts.set(f"planfix_pairing {name}", json.dumps(partner))
    done = call_cli(tmp_path, "unpair", "--yes", "--account", "a")
    assert "https://a.planfix.com/tel/api is forgotten." in done.stdout
    assert stored_partner(store, "a") is None
    assert stored_partner(store, "b") is not None
    store.close()


def test_a_story_names_nobody_of_another_company(store: Store) -> None:
    accounts = {name: Rules(domains=frozenset({f"{name}.example"})) for name in ("a", "b")}
    rules = AccountRules(accounts, Rules())
    scene = Scene(rules).client().phone("B", "101", parent="A", variable_dialed_domain="a.example")
    scene.rings("B").phone("C", "207", parent="A", variable_dialed_domain="b.example").rings("C")
    scene.answers("A").answers("C").bridge("A", "C").gone("C").gone("B").gone("A")
    log, tracker = EventLog(), Tracker(rules)
    said = []
    for event in scene.heard:
        said += tracker.feed(event)
        log.keep(event, tracker)
    packed = log.close("A", tracker)
    store.save(said, {"A": None}, "s", now=1.0, events={"A": packed})
    told = "\n".join(story(Archive(store), rules, "A"))
    assert "101" in told
    assert "207" not in told
    assert "outside" in told


def test_a_story_names_settings_as_the_file_of_accounts_does(store: Store) -> None:
    none = Rules(domains=frozenset({"a.example"}), missed=Missed.NONE)
    rules = AccountRules({"a": none}, Rules())
    scene = Scene(rules).client().phone("B", "101", parent="A", variable_dialed_domain="a.example")
    scene.rings("B").gone("A").gone("B")
    store.save(scene.notices, {"A": None}, "s", now=1.0)
    told = " ".join("\n".join(story(Archive(store), rules, "A")).split())
    assert "rule 6: missed counts the call for a colleague" in told
