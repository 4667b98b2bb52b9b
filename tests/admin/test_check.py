"""Every line of `fsplanfix check`, made to fail; and the whole of it, in a terminal of 80 columns."""

import json
import shutil
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import gevent
import psutil
import pytest
import requests
import trustme
from gevent import pywsgi, socket

from fsplanfix.admin.findings import Finding, Grade
from fsplanfix.calls.model import Kind
from fsplanfix.outbox.archive import Archive
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.records import LOOKED_UP, Entry, Outcome, Places
from fsplanfix.outbox.schema import State
from fsplanfix.outbox.store import Store
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from ..support.commands import run_cli
from ..support.findings import TOKEN, says
from ..support.outbox import FIRST
from ..support.traces import events, told
from ..support.worker import SERVER


def test_when_all_is_well_every_line_says_so(
    look: Callable[..., list[Finding]], service: dict[str, str]
) -> None:
    findings = look(**service)
    assert [finding for finding in findings if finding.grade != Grade.OK] == []
    for what in (
        "complete",
        "can be written",
        "answers and accepts the password",
        "gateway trunk is up",
        "5 of 5 users have an ext",
        f"answers at {service['HTTP_LISTEN']}",
        f"answers at {service['ESL_LISTEN']}",
        "recordings can be read",
        "/planfix was reached",
        "a test recording was fetched",
        "reachable, token accepted",
    ):
        says(findings, Grade.OK, what)


def test_settings_that_work_but_should_not_stay(
    look: Callable[..., list[Finding]], tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("")
    (tmp_path / ".env").chmod(0o644)
    findings = look(PBX_TOKEN="pbx-token-1", FREESWITCH_ESL="esl://:ClueCon@127.0.0.1:9")
    assert "chmod 600" in says(findings, Grade.WARNING, "can be read by others").hint
    says(findings, Grade.WARNING, "short enough to be guessed")
    says(findings, Grade.WARNING, "default password (ClueCon)")
    says(findings, Grade.WARNING, "PUBLIC_URL is missing")


def test_a_store_that_cannot_be_used(look: Callable[..., list[Finding]]) -> None:
    says(look(STORE_URL="sqlite:////no/where/x.db"), Grade.BROKEN, "STORE_URL cannot be opened")


def test_windows_for_known_clients_need_the_dialplan(
    look: Callable[..., list[Finding]], tmp_path: Path
) -> None:
    where = f"sqlite:///{tmp_path}/known.db"
    store = Store(where)
    what = "the dialplan never asks who calls"
    assert not [found for found in look(STORE_URL=where, WINDOWS="known") if what in found.what]

    came_in = told(events("in_one_answered"))
    store.save(came_in, {came_in[0].callid: None}, SERVER, store.now())
    finding = says(look(STORE_URL=where, WINDOWS="known"), Grade.WARNING, what)
    assert "00_2_planfix_ring.xml" in finding.hint
    assert not [found for found in look(STORE_URL=where) if what in found.what]

    looked_up = Entry(store.now(), f"{LOOKED_UP} no name (asked, 9 ms)", "u-1", "", "79161234567")
    Archive(store).write_down(looked_up)
    store.close()
    assert not [found for found in look(STORE_URL=where, WINDOWS="known") if what in found.what]


def test_an_event_that_was_set_aside_is_named(
    look: Callable[..., list[Finding]], tmp_path: Path
) -> None:
    where = f"sqlite:///{tmp_path}/aside.db"
    store = Store(where)
    aside = {"count": 3, "last": "CHANNEL_BRIDGE", "reason": "KeyError: \x1b", "at": store.now()}
    store.facts.swap("set_aside", json.dumps(aside))
    finding = says(
        look(STORE_URL=where),
        Grade.WARNING,
        "3 events could not be processed, the last: CHANNEL_BRIDGE",
    )
    assert finding.hint == (
        f"please report it (KeyError: ) with {tmp_path}/aside.db.set-aside-*.jsonl.gz"
    )
    store.facts.swap("set_aside", json.dumps({**aside, "at": store.now() - 8 * 86400}))
    assert not [one for one in look(STORE_URL=where) if one.code == "events.set-aside"]
    store.close()


@pytest.mark.parametrize("setting", ["ESL_LISTEN", "HTTP_LISTEN"])
def test_a_port_that_somebody_else_has(look: Callable[..., list[Finding]], setting: str) -> None:
    for finding in [one for one in look() if one.code in ("web.nobody", "socket.nobody")]:
        assert finding.grade == Grade.WARNING
        assert "nothing listens at 127.0.0.1:9" in finding.what

    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            while True:
                with other.accept()[0] as sock:
                    sock.sendall(b"HTTP/1.1 400 no\r\n\r\n")

        answering = gevent.spawn(answer)
        address = f"127.0.0.1:{other.getsockname()[1]}"
        finding = says(look(**{setting: address}), Grade.BROKEN, f"listens at {address}")
        answering.kill()
    assert finding.what.endswith("and not fsplanfix")
    # root sees whose port it is, and here that is this test
    assert finding.what.startswith((psutil.Process().name(), "another program"))


def test_what_waits_and_what_was_rejected(
    look: Callable[..., list[Finding]], tmp_path: Path
) -> None:
    where = f"sqlite:///{tmp_path}/queue.db"
    store = Store(where)
    store.save([replace(FIRST, ordinal=n) for n in range(3)], {}, "s", now=store.now() - 3600)
    queue = Queue(store)
    (first, *_) = queue.settle_and_claim([], Places(1), store.now(), "owner").claimed
    queue.settle_and_claim([Outcome(first, State.REJECTED, "400")], Places(0), store.now(), "owner")
    store.close()
    findings = look(STORE_URL=where)
    assert "queue list" in says(findings, Grade.WARNING, "1 notices were rejected").hint
    says(findings, Grade.WARNING, "2 notices wait, the oldest for 60 minutes")


def test_recordings_that_were_not_sent(look: Callable[..., list[Finding]], tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path}/links.db"
    store = Store(where)
    records = [replace(FIRST, kind=Kind.RECORD, ext="", callid=f"c{n}") for n in range(3)]
    store.save(records, {}, "s", now=store.now())
    queue = Queue(store)
    claimed = queue.settle_and_claim([], Places(3), store.now(), "owner").claimed
    reasons = [
        "not sent: outside RECORDINGS_DIR",
        "not sent: the file is empty",
        "not linked: outside RECORDINGS_DIR",  # as older releases wrote it
    ]
    outcomes = [
        Outcome(queued, State.SKIPPED, reason, tried=False)
        for queued, reason in zip(claimed, reasons, strict=True)
    ]
    queue.settle_and_claim(outcomes, Places(0), store.now(), "owner")
    store.close()
    found = [finding for finding in look(STORE_URL=where) if "not-sent" in finding.code]
    assert [finding.what for finding in found] == [
        "2 recordings were not sent: outside RECORDINGS_DIR"
    ]
    assert "RECORDINGS_URL" in found[0].hint


def test_a_disk_that_is_nearly_full(
    look: Callable[..., list[Finding]], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    usage = type(shutil.disk_usage(folder))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 2_000_000, 2_000_000))
    says(look(), Grade.WARNING, f"2 MB are free at {folder} (recordings)")


def test_recordings_that_are_not_there(
    look: Callable[..., list[Finding]],
    service: dict[str, str],
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    says(
        look(RECORDINGS_DIR=str(tmp_path / "missing")),
        Grade.BROKEN,
        "cannot be read (No such file or directory)",
    )
    monkeypatch.setattr("fsplanfix.admin.check_machine.LARGEST_RECORDING", 100)
    says(look(), Grade.WARNING, "1 have more than 100 MB, such as a.wav")
    # on the first day
    (folder / "a.wav").unlink()
    findings = look(**service)
    says(findings, Grade.OK, "holds none yet")
    says(findings, Grade.OK, "a test recording was fetched")
    assert max(finding.grade for finding in findings) == Grade.OK


def test_messages_that_could_not_be_linked(
    look: Callable[..., list[Finding]], tmp_path: Path
) -> None:
    says(look(VOICEMAIL="link"), Grade.WARNING, "VOICEMAIL_DIR is not set")
    there, missing = str(tmp_path), str(tmp_path / "missing")
    says(look(VOICEMAIL="link", VOICEMAIL_DIR=missing), Grade.BROKEN, "cannot be read")
    found = look(VOICEMAIL="link", VOICEMAIL_DIR=there)
    assert [finding.code for finding in found if finding.part == "voicemail"] == [
        "voicemail.readable"
    ]
    assert not [finding for finding in look(VOICEMAIL_DIR=there) if finding.part == "voicemail"]


def test_an_address_that_does_not_lead_to_us(
    look: Callable[..., list[Finding]], service: dict[str, str], planfix: Planfix
) -> None:
    finding = says(look(PUBLIC_URL="http://127.0.0.1:9"), Grade.BROKEN, "it cannot be reached")
    assert "(Connection refused)" in finding.what
    unknown = look(PUBLIC_URL="https://pbx.invalid")
    assert "its name is not in the DNS" in says(unknown, Grade.BROKEN, "cannot be reached").what

    elsewhere = f"{service['PUBLIC_URL']}/elsewhere"
    says(look(**{**service, "PUBLIC_URL": elsewhere}), Grade.BROKEN, "/planfix answers 404")
    finding = says(
        look(**{**service, "PUBLIC_URL": planfix.url.removesuffix("/tel/api")}),
        Grade.BROKEN,
        "and not from fsplanfix",
    )
    assert service["HTTP_LISTEN"] in finding.hint

    other_key = look(**service, SECRET_KEY="another-secret-key")
    says(other_key, Grade.BROKEN, "/recordings/ answers 404")


def test_planfix_that_does_not_know_us(
    look: Callable[..., list[Finding]], planfix: Planfix
) -> None:
    for knows_ping in (True, False):
        planfix.knows_ping = knows_ping
        hint = says(look(PLANFIX_TOKEN="wrong"), Grade.BROKEN, "does not know our token: 401").hint
        assert "PLANFIX_TOKEN" in hint
    planfix.answers.append("html")
    says(look(), Grade.BROKEN, "a web page came back")
    planfix.stop()
    says(look(), Grade.BROKEN, "Planfix cannot be reached")


def test_a_planfix_that_does_not_know_ping_is_asked_otherwise(
    look: Callable[..., list[Finding]], planfix: Planfix
) -> None:
    planfix.knows_ping = False
    says(look(), Grade.OK, "it does not know `ping`")
    assert [item.fields["cmd"] for item in planfix.received] == ["ping", "contact"]


def test_what_planfix_knows_of_us_is_compared(
    look: Callable[..., list[Finding]], planfix: Planfix
) -> None:
    planfix.pbx_token, planfix.pbx_url = "another-secret", "https://old.example.com/planfix\n"
    findings = look(PUBLIC_URL="http://127.0.0.1:9")
    says(findings, Grade.BROKEN, "holds another PBX key")
    hint = says(findings, Grade.WARNING, "sends clicks to https://old.example.com/planfix").hint
    assert "enter http://127.0.0.1:9/planfix in Planfix" in hint
    assert "another-secret" not in str(findings)

    planfix.pbx_token = "key-of-before"
    former = look(PUBLIC_URL="http://127.0.0.1:9", PBX_TOKEN_OLD="key-of-before")
    says(former, Grade.WARNING, "still holds the PBX key of PBX_TOKEN_OLD")


def test_a_store_that_others_can_read_is_reported(
    look: Callable[..., list[Finding]], tmp_path: Path
) -> None:
    assert not [one for one in look() if one.code == "store.readable-by-others"]
    (tmp_path / "store.db").chmod(0o644)
    assert "chmod 600" in says(look(), Grade.WARNING, "store.db can be read by others").hint


@pytest.mark.parametrize(("days", "grade"), [(5, Grade.WARNING), (60, Grade.OK)])
def test_how_long_a_certificate_lasts_is_said(
    look: Callable[..., list[Finding]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    days: int,
    grade: int,
) -> None:
    authority = trustme.CA()
    ends = datetime.now(UTC) + timedelta(days=days, hours=1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", not_after=ends).configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setattr(requests.utils, "DEFAULT_CA_BUNDLE_PATH", str(tmp_path / "ca.pem"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = pywsgi.WSGIServer(
            listener, lambda environ, start: [b""], log=None, error_log=None, ssl_context=context
        )
        server.start()
        findings = look(PUBLIC_URL=f"https://localhost:{listener.getsockname()[1]}")
        server.stop(timeout=0.1)
    assert (
        says(findings, grade, f"its certificate is valid for {days} more days").part == "PUBLIC_URL"
    )


# the command


def check(folder: Path, settings: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return run_cli(folder, "check", *words, **settings)


def test_everything_broken_at_once_is_a_page_of_sentences(
    settings: dict[str, str], switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    switch.stop()
    planfix.stop()
    broken = {
        "STORE_URL": "sqlite:////no/where/x.db",
        "RECORDINGS_DIR": "/no/where",
        "PUBLIC_URL": "http://127.0.0.1:9",
    }
    done = check(tmp_path, {**settings, **broken})
    assert done.returncode == 2
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("✗") for line in lines) == 5
    assert lines[-1] == "2 passed, 2 with a warning (!), 5 broken (✗)."
    assert "Traceback" not in done.stdout
    assert not any(
        secret in done.stdout for secret in (TOKEN, "planfix-token", "a-good-one", "secret-key")
    )


def test_settings_that_are_missing_are_all_named(tmp_path: Path) -> None:
    # without PLANFIX_TOKEN as well, `setup` would tell the address
    done = check(tmp_path, {"PLANFIX_TOKEN": "planfix-token"})
    assert (done.returncode, done.stdout.count("✗ settings")) == (2, 2)
    assert "PLANFIX_URL is missing" in done.stdout


def test_the_exit_code_tells_odd_from_broken(
    settings: dict[str, str], planfix: Planfix, tmp_path: Path
) -> None:
    planfix.pbx_url = "http://127.0.0.1:9/planfix"
    done = check(tmp_path, settings)
    assert done.returncode == 1, done.stdout
    lines = [json.loads(line) for line in check(tmp_path, settings, "--json").stdout.splitlines()]
    *findings, last = lines
    assert {line["mark"] for line in findings} == {"✓", "i", "!"}
    fields = {"mark", "code", "grade", "part", "what", "hint"}
    assert all(set(line) == fields for line in findings)
    marks = [line["mark"] for line in findings]
    passed = marks.count("✓") + marks.count("i")
    assert last == {"summary": {"ok": passed, "warning": marks.count("!"), "broken": 0}}
