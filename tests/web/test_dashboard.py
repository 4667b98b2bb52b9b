"""The dashboard over real HTTP: who gets in, what is shown, what may be changed."""

import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, tzinfo
from pathlib import Path

import gevent
import pytest
import requests
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from flask import Flask
from flask.sessions import SecureCookieSessionInterface

from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.web import app as web_app
from fsplanfix.web.dashboard import DashboardConfig
from fsplanfix.web.health import Health
from fsplanfix.web.live import REFRESH_EVERY, Look

from ..support.deliveries import count, told
from ..support.service import PATIENCE, Halt, Service, running
from ..support.visitor import PASSWORD, Visitor, rejected_ids, token

WEB = Path(__file__).parents[2] / "fsplanfix" / "web"
CALL = "group_answered"


@pytest.fixture
def service(switch: Switch, planfix: Planfix, tmp_path: Path):  # type: ignore[no-untyped-def]
    with running(switch, planfix, tmp_path, ADMIN_PASSWORD=PASSWORD) as one:
        yield one


def test_nobody_sees_anything_without_the_password(service: Service) -> None:
    visitor = Visitor(service)
    pages = ("/", "/live", "/calls", "/calls.csv", "/figures", "/calls/x", "/recording/1/x")
    for path in pages:
        answer = visitor.get(service.address + path, timeout=60, allow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (302, "/login")
    assert visitor.press("/rejected/drop", ids="1").headers["Location"] == "/login"
    assert visitor.log_in("wrong").status_code == 401
    assert visitor.log_in("").status_code == 401
    assert "Log in" in visitor.see("/")
    entered = visitor.log_in()
    assert (entered.status_code, entered.headers["Location"]) == (302, "/")
    assert "No active calls." in visitor.see("/")
    assert visitor.press("/logout", visitor.see("/")).headers["Location"] == "/login"
    assert "No active calls." not in visitor.see("/")


def test_five_wrong_passwords_a_minute_and_no_more(service: Service) -> None:
    visitor = Visitor(service)
    assert [visitor.log_in("wrong").status_code for _ in range(6)] == [401] * 5 + [429]
    answer = visitor.log_in()
    assert (answer.status_code, "Too many failed attempts" in answer.text) == (429, True)
    service.wait_for("wrong_password address=127.0.0.1")
    assert PASSWORD not in "\n".join(service.log)


def test_the_cookie_and_the_page_are_hardened(service: Service) -> None:
    visitor = Visitor(service)
    cookie = visitor.log_in().headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Secure" not in cookie
    answer = visitor.get(service.address + "/", timeout=60)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    page = answer.text + visitor.see("/login")
    assert not re.search(r"<script(?![^>]*src=\"/static/)|\son\w+=|style=|https?://(?!127)", page)


def test_behind_https_the_cookie_is_secure(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    more = {"ADMIN_PASSWORD": PASSWORD, "PUBLIC_URL": "https://pbx.example.com"}
    with running(switch, planfix, tmp_path, **more) as service:
        assert (
            "; Secure" in requests.get(service.address + "/login", timeout=60).headers["Set-Cookie"]
        )


def test_without_a_password_the_dashboard_is_off(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path) as service:
        visitor = Visitor(service)
        assert "set ADMIN_PASSWORD" in visitor.see("/")
        assert visitor.press("/login", password="").status_code == 401


@pytest.mark.parametrize("forged", ["", "x", "IjEi.x.y"])
def test_a_forged_token_changes_nothing(
    service: Service, planfix: Planfix, switch: Switch, forged: str
) -> None:
    visitor = Visitor(service)
    visitor.log_in()
    planfix.answers.append(400)
    switch.play("in_one_no_answer", speed=0)
    service.wait_for("notice_rejected")
    (ids,) = rejected_ids(visitor.see_rejected(1))
    fields = {"csrf_token": forged, "language": "ru", "ids": ids, "sure": "yes"}
    for path in ("/rejected/drop", "/rejected/retry", "/logout", "/language"):
        answer = visitor.post(service.address + path, data=fields, timeout=60)
        assert (answer.status_code, "out of date" in answer.text) == (400, True)
    assert ids in visitor.see("/")
    other = Visitor(service)
    other.log_in()
    stolen = visitor.post(
        service.address + "/logout", data={"csrf_token": token(other.see("/"))}, timeout=60
    )
    assert stolen.status_code == 400


def test_whatever_takes_a_form_asks_for_the_token() -> None:
    """Also what is added one day; Planfix has a token of its own."""
    guessed: list[str] = []
    app = web_app.make(
        lambda fields, account: (400, {}),
        Health({}),
        lambda signed, name: pytest.fail("nothing is looked for"),
        lambda: b"",
        DashboardConfig(
            Desk(),  # type: ignore[arg-type]
            {"admin": PASSWORD},
            "key",
            "",
            lambda path, account: pytest.fail("nothing is looked for"),
        ),
        guessed.append,
    )
    changing = {"POST", "PUT", "PATCH", "DELETE"}
    at = app.url_map.bind("localhost")
    found = 0
    for rule in app.url_map.iter_rules():
        for method in changing & set(rule.methods or ()):
            fitting = {name: "retry" if name == "what" else 1 for name in rule.arguments}
            path = at.build(rule.endpoint, fitting, method=method)
            answer = app.test_client().open(path, method=method, data={"password": PASSWORD})
            assert answer.status_code == 400, rule
            found += not rule.rule.startswith("/planfix")
    assert (found, guessed) == (4, [])


def signed(session: dict[str, object]) -> str:
    """A session cookie as our own service would have made it."""
    app = Flask("signed")
    app.secret_key = "secret-key-of-ours"
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    made = serializer.dumps(session)
    return made if isinstance(made, str) else made.decode()


def read(cookie: str) -> dict[str, object]:
    app = Flask("signed")
    app.secret_key = "secret-key-of-ours"
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    found: dict[str, object] = serializer.loads(cookie)
    return found


def test_a_session_that_is_not_ours_or_too_old_is_none(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    more = {"ADMIN_PASSWORD": PASSWORD, "SECRET_KEY": "secret-key-of-ours"}
    with running(switch, planfix, tmp_path, **more, VIEW_PASSWORD="look-only") as service:
        first, viewer = Visitor(service), Visitor(service)
        first.log_in()
        viewer.log_in("look-only")
        ours = read(first.cookies["session"])
        theirs = read(viewer.cookies["session"])
        assert isinstance(ours["until"], float)
        assert ours["until"] < time.time() + 12 * 3600
        for cookie, inside in [
            ("eyJpbnNpZGUiOnRydWV9.aaaa.bbbb", False),
            (signed({**ours, "until": time.time() - 1}), False),
            (signed({**ours, "until": "9" * 20}), False),
            (signed({**ours, "inside": True}), False),
            (signed({**ours, "role": "nobody"}), False),
            (signed({**ours, "role": ["admin"]}), False),
            (signed({**theirs, "role": "admin"}), False),
            (signed(theirs), True),
            (signed({**ours, "inside": "ä"}), False),
            (signed({"inside": True, "_permanent": True}), False),
            (signed(ours), True),
        ]:
            visitor = Visitor(service)
            visitor.cookies.set("session", cookie)
            assert ("No active calls." in visitor.see("/")) == inside


def test_logging_out_ends_every_session_and_every_open_page(service: Service) -> None:
    owner, thief = Visitor(service), Visitor(service)
    owner.log_in()
    thief.cookies.set("session", owner.cookies["session"])
    with thief.get(service.address + "/live", stream=True, timeout=60) as stream:
        lines = stream.iter_lines()
        assert b"No active calls." in b"".join(next(lines) for _ in range(40))
        owner.press("/logout", owner.see("/"))
        assert b"event: over" in list(lines)
    assert "No active calls." not in thief.see("/")
    owner.log_in()
    assert "No active calls." in owner.see("/")
    assert "No active calls." not in thief.see("/")


def test_another_password_ends_every_session(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path, ADMIN_PASSWORD=PASSWORD) as service:
        visitor = Visitor(service)
        visitor.log_in()
    for password, inside in ((PASSWORD, True), ("another-password", False), (PASSWORD, True)):
        with running(switch, planfix, tmp_path, ADMIN_PASSWORD=password) as service:
            visitor.at = service.address
            assert ("No active calls." in visitor.see("/")) == inside


def test_a_rejected_notice_is_sent_again_or_deleted(
    service: Service, planfix: Planfix, switch: Switch
) -> None:
    visitor = Visitor(service)
    visitor.log_in()
    planfix.answers.extend([400, 400, 400])
    first = switch.play("in_one_no_answer", speed=0)
    for _ in range(2):
        service.wait_for("notice_rejected.*kind=COMPLETED")
    second = switch.play("out_answered", speed=0)
    page = visitor.see_rejected(2)
    assert "Invalid parameters" in page or "Planned failure" in page
    # one entry for each call, however many of its notices were rejected
    one, two = rejected_ids(page)
    assert (one.count(","), two.count(",")) == (0, 1)
    sure = visitor.press("/rejected/drop", page, ids=one)
    assert (sure.status_code, "Delete for good?" in sure.text) == (200, True)
    assert one in visitor.see("/")
    assert visitor.press("/rejected/drop", page, ids=one, sure="yes").status_code == 302
    assert rejected_ids(visitor.see("/")) == [two]

    assert visitor.press("/rejected/retry", page, all="yes").status_code == 302
    planfix.wait_for(lambda crm: told(crm, first) == ["I101", "M101"])
    assert told(planfix, second) != []
    assert rejected_ids(visitor.see("/")) == []
    for wrong in ("", "x", "1,", "-1", "9" * 30, "²", ",".join(["1"] * 20_000)):
        assert visitor.press("/rejected/drop", page, ids=wrong, sure="yes").status_code in (
            302,
            413,
        )
    assert visitor.press("/rejected/explode", page, ids="1").status_code in (404, 405)
    service.wait_for("dashboard_rejected what=retry")


def test_a_call_is_shown_live_then_in_the_history_with_its_story(
    service: Service, planfix: Planfix, switch: Switch
) -> None:
    visitor = Visitor(service)
    visitor.log_in()
    seen: list[str] = []

    def follow() -> None:
        with visitor.get(service.address + "/live", stream=True, timeout=60) as stream:
            for line in stream.iter_lines():
                seen.append(line.decode())

    def until_shown(text: str) -> None:
        with gevent.Timeout(PATIENCE):
            while not any(text in line for line in seen):
                gevent.sleep(0.01)

    following = gevent.spawn(follow)
    talking = Halt(switch, lambda step: step.get("Hangup-Cause") == "NORMAL_CLEARING")
    playing = gevent.spawn(switch.play, CALL, 0)
    until_shown("102 talking")
    talking.go_on()
    until_shown('<span class="result answered">102</span>')
    following.kill()
    callid = playing.get()
    page = visitor.see("/")
    assert f"/calls/{callid}" in page
    story = visitor.see(f"/calls/{callid}")
    assert "rule 2: connected with the client" in story
    assert "hangs up: another phone was faster" in story
    assert f'<audio controls preload="none" src="/recording/1/{callid}"' in story
    assert "There is no record of this call." in visitor.see("/calls/unknown", 404)


def test_what_strangers_sent_is_shown_as_text(
    service: Service, switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    visitor = Visitor(service)
    visitor.log_in()
    callid = switch.play("in_one_no_answer", speed=0)
    planfix.wait_for(lambda crm: len(told(crm, callid)) == 2)
    with sqlite3.connect(tmp_path / "store.db") as store:
        store.execute(
            "update notices set state='rejected', answer='<script>alert(1)</script>', callid='<b>x</b>'"
        )
    store.close()
    page = visitor.see("/")
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "<b>x" not in page


def test_nobody_is_sent_elsewhere(service: Service) -> None:
    visitor = Visitor(service)
    page = visitor.see("/login?next=https://evil.example")
    for path in ("/login?next=https://evil.example", "/login?url=//evil.example"):
        entered = visitor.press(path, page, password=PASSWORD)
        assert entered.headers["Location"] == "/"
        page = visitor.see("/")
    for name in ("Host", "X-Forwarded-Host"):
        answer = visitor.get(
            service.address + "/calls/x/..", headers={name: "evil.example"}, allow_redirects=False
        )
        assert "evil.example" not in answer.headers.get("Location", "")


def test_what_strangers_sent_forges_no_line_of_the_stream(
    service: Service, switch: Switch, planfix: Planfix
) -> None:
    planfix.refusal = "x\n\nevent: over\ndata: forged\n\n\r\rdata: forged\x0b\x85\u2028data: forged"
    planfix.answers.extend([400, 400])
    switch.play("in_one_no_answer", speed=0)
    service.wait_for("notice_rejected.*kind=COMPLETED")
    visitor = Visitor(service)
    visitor.log_in()
    visitor.see_rejected(1)
    with visitor.get(service.address + "/live", stream=True, timeout=60) as stream:
        lines = stream.iter_lines()
        seen = [next(lines).decode()]
        while "Latest calls" not in seen[-1]:
            seen.append(next(lines).decode())
    assert any("forged" in line for line in seen)
    assert all(line.startswith("data: ") for line in seen)
    assert not any(line.startswith("data: forged") for line in seen)


def test_a_callid_that_no_call_can_have_is_unknown(
    switch: Switch, planfix: Planfix, tmp_path: Path, store_url: str
) -> None:
    more = {"ADMIN_PASSWORD": PASSWORD, "STORE_URL": store_url}
    with running(switch, planfix, tmp_path, **more) as service:
        visitor = Visitor(service)
        visitor.log_in()
        for callid in ("a%00b", "%ED%A0%80", "%1B%5B2J", "%E2%80%AE", "x" * 5000):
            assert "There is no record of this call." in visitor.see(f"/calls/{callid}", 404)


def test_a_store_that_does_not_answer_is_said(service: Service, tmp_path: Path) -> None:
    visitor = Visitor(service)
    visitor.log_in()
    with sqlite3.connect(tmp_path / "store.db") as store:
        store.execute("alter table notices rename to gone")
    store.close()
    assert "The database does not respond." in visitor.see("/")
    assert "The database does not respond." in visitor.see("/calls/x", 503)


class Desk:
    """Stands where the store is asked."""

    looks = 0

    def number(self, number: str) -> str:
        return number

    def overview(self, zone: tzinfo, is_wanted: Callable[[], bool]) -> int:
        self.looks += 1
        gevent.sleep(0)  # as a store that is read in bites does
        return self.looks


def test_all_open_pages_share_one_look() -> None:
    desk, now = Desk(), [100.0]
    look = Look(desk, UTC, lambda: now[0])
    for seen in (1, 2):
        pages = [gevent.spawn(look.read_recent) for _ in range(20)]
        gevent.joinall(pages, timeout=PATIENCE)
        assert {page.value for page in pages} == {seen}
        now[0] += REFRESH_EVERY
    assert look.read_now() == 3  # who changed something sees it at once
    assert look.read_recent() == 3


def test_a_closed_page_is_looked_at_no_more(service: Service) -> None:
    visitor = Visitor(service)
    visitor.log_in()
    files = Path(f"/proc/{service.process.pid}/fd")
    visitor.see("/")
    before = len(list(files.iterdir()))
    pages = [visitor.get(service.address + "/live", stream=True, timeout=60) for _ in range(5)]
    assert len(list(files.iterdir())) >= before + 4
    for page in pages:
        page.raw._fp.close()  # type: ignore[union-attr]
        page.close()
    visitor.close()
    with gevent.Timeout(PATIENCE):
        while len(list(files.iterdir())) > before:
            gevent.sleep(0.01)


# languages


def test_the_page_speaks_the_language_of_the_browser_or_the_one_chosen(service: Service) -> None:
    visitor = Visitor(service)
    visitor.headers["Accept-Language"] = "ru,en;q=0.5"
    page = visitor.see("/login")
    assert '<html lang="ru">' in page
    assert "Пароль" in page
    visitor.press("/language", page, language="en")
    assert '<html lang="en">' in visitor.see("/login")
    visitor.press("/language", visitor.see("/login"), language="../../etc")
    assert '<html lang="en">' in visitor.see("/login")


def test_every_word_is_translated_and_compiled(tmp_path: Path) -> None:
    mapping = tmp_path / "babel.cfg"
    mapping.write_text(
        "[python: web/**.py]\n[python: admin/story.py]\n[jinja2: web/templates/**.html]\n"
    )
    found = tmp_path / "found.pot"
    babel = [sys.executable, "-m", "babel.messages.frontend", "-q"]
    subprocess.run([*babel, "extract", "-F", mapping, "-o", found, WEB.parent], check=True)
    folder = WEB / "translations" / "ru" / "LC_MESSAGES"
    with found.open("rb") as file:
        used = {message.id for message in read_po(file) if message.id}
    with (folder / "messages.po").open("rb") as file:
        russian = {message.id: message.string for message in read_po(file) if message.id}
    assert set(russian) == used
    assert all(russian.values())
    with (folder / "messages.mo").open("rb") as file:
        assert {message.id: message.string for message in read_mo(file) if message.id} == russian


def test_the_overview_shows_the_latest_of_a_busy_day(
    service: Service, switch: Switch, planfix: Planfix
) -> None:
    visitor = Visitor(service)
    visitor.log_in()
    calls = [switch.play(CALL, speed=0) for _ in range(40)]
    planfix.wait_for(lambda crm: count(crm) >= 8 * len(calls), timeout=120)
    with gevent.Timeout(PATIENCE):
        while "<b>40</b><span>answered</span>" not in (page := visitor.see("/")):
            gevent.sleep(0.01)
    assert len(set(re.findall(r'"/calls/([^"]+)"', page)) & set(calls)) == 10
