"""The dashboard in a real browser: login, a call arriving live, its story, a rejected notice, two languages, a narrow screen."""

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import gevent
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from ..support.bucket import s3_server
from ..support.service import TOKENS, environment

pytestmark = pytest.mark.browser

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
PASSWORD = "a-good-password"


def started(stack: ExitStack, folder: Path, pattern: str, *words: str, **settings: str) -> str:
    """Start a command of ours; return what the first line that fits says."""
    process = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-m", "fsplanfix", *words],
            cwd=folder,
            env=environment(**settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    )
    stack.callback(process.terminate)
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(pattern, line):
            gevent.spawn(process.stdout.read)  # or the pipe fills up
            return found[1]
    raise AssertionError(f"{words} ended")


@pytest.fixture
def board(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path) as address:
        yield address


@contextmanager
def serving(tmp_path: Path, **more: str) -> Iterator[str]:
    """FreeSWITCH with a call that comes again and again, Planfix, the service; gives the dashboard's address."""
    with ExitStack() as stack:
        url = started(
            stack, tmp_path, r"PLANFIX_URL=(\S+)", "simulate", "planfix", "--listen", "127.0.0.1:0", "--token", "planfix-token"
        )  # fmt: skip
        port = started(
            stack, tmp_path, r"FREESWITCH_ESL=\S+:(\d+) ", "simulate", "freeswitch", "--listen", "127.0.0.1:0",
            "--play", "group_answered", "--recordings-dir", str(tmp_path),
        )  # fmt: skip
        settings = {
            **TOKENS,
            "PLANFIX_URL": url,
            "FREESWITCH_ESL": f"esl://:ClueCon@127.0.0.1:{port}",
            "HTTP_LISTEN": "127.0.0.1:0",
            "ESL_LISTEN": "127.0.0.1:0",
            "RECORDINGS_DIR": str(tmp_path),
            "ADMIN_PASSWORD": PASSWORD,
            **more,
        }
        yield started(stack, tmp_path, r"web_listening address=(\S+)", "run", **settings)


def picture(page: Page, name: str) -> None:
    if os.environ.get("PICTURES"):
        page.screenshot(path=PICTURES / name)


def log_in(page: Page, board: str) -> None:
    page.goto(board)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Today")).to_be_visible()


def serious(page: Page) -> list[str]:
    """What axe finds that keeps people out."""
    found = Axe().run(page)
    return [
        f"{v['id']}: {v['nodes'][0]['html'][:120]}"
        for v in found.response["violations"]
        if v["impact"] in ("serious", "critical")
    ]


def no_sideways_scrolling(page: Page) -> bool:
    width: int = page.evaluate("document.documentElement.scrollWidth")
    assert page.viewport_size is not None
    return width <= page.viewport_size["width"]


def test_a_call_arrives_live_and_its_story_is_told(page: Page, board: str, tmp_path: Path) -> None:
    errors: list[str] = []
    page.on(
        "console", lambda message: errors.append(message.text) if message.type == "error" else None
    )
    page.goto(board)
    assert serious(page) == []
    log_in(page, board)
    page.evaluate("document.body.dataset.same = 'yes'")
    card = page.locator(".card", has_text="+7 916 123-45-67")
    expect(card.get_by_text("102 talking")).to_be_visible()
    # the seconds run, and nothing is sent for that
    expect(card.locator(".talks .ticks")).to_have_text(re.compile(r"^0:0[1-9]$"))
    page.set_viewport_size({"width": 1000, "height": 720})
    latest = page.get_by_role("table", name="Latest calls")
    over = latest.get_by_role("row").filter(has_text="102").first
    expect(over).to_be_visible()
    assert page.evaluate("document.body.dataset.same") == "yes"  # nothing was loaded again
    assert serious(page) == []
    expect(card.get_by_text("102 talking")).to_be_visible()
    picture(page, "dashboard.png")
    over.get_by_role("link", name="+7 916").first.click()
    expect(page.get_by_text("rule 1: the phone rings").first).to_be_visible()
    assert serious(page) == []
    picture(page, "story.png")
    assert errors == []


def test_a_live_call_leads_to_its_story(page: Page, board: str) -> None:
    log_in(page, board)
    page.locator(".live a").first.click()
    expect(page.get_by_role("heading", name="What happened in this call")).to_be_visible()


def reject(folder: Path, notices: int) -> None:
    with sqlite3.connect(folder / "fsplanfix.db") as store:
        store.execute(
            "update notices set state='rejected', "
            'answer=\'Planfix rejected it: 400 {"error": "Invalid parameters"}\' where id in '
            "(select id from notices where kind='COMPLETED' order by id limit ?)",
            [notices],
        )
    store.close()


def test_a_rejected_notice_is_sent_again_by_keyboard(
    page: Page, board: str, tmp_path: Path
) -> None:
    log_in(page, board)
    expect(page.get_by_role("table", name="Latest calls")).to_be_visible()
    reject(tmp_path, 1)
    button = page.get_by_role("button", name="Send again")
    expect(button).to_be_visible()
    assert serious(page) == []
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Rejected by Planfix")).to_have_count(0)


def test_deleting_asks_first(page: Page, board: str, tmp_path: Path) -> None:
    log_in(page, board)
    expect(page.get_by_role("table", name="Latest calls")).to_be_visible()
    reject(tmp_path, 2)
    expect(page.get_by_role("button", name="Send all again: 2")).to_be_visible()
    for answer, left in (("Keep", 1), ("Delete", 0)):
        page.get_by_role("button", name="Delete").first.click()
        expect(page.get_by_role("heading", name="Delete for good?")).to_be_visible()
        assert serious(page) == []
        page.locator("main").get_by_text(answer, exact=True).click()
        expect(page.locator(".states")).to_be_visible()
        expect(page.get_by_role("button", name="Delete")).to_have_count(left)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_is_readable_in_both_languages(
    page: Page, board: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    errors: list[str] = []
    page.on(
        "console", lambda message: errors.append(message.text) if message.type == "error" else None
    )
    page.set_viewport_size({"width": width, "height": 860})
    page.emulate_media(color_scheme=scheme)
    log_in(page, board)
    expect(page.get_by_role("table", name="Latest calls")).to_be_visible()
    for language, words in (
        ("en", ("Today", "Calls by hour", "Number or name")),
        ("ru", ("Сегодня", "Звонки по часам", "Номер или имя")),
    ):
        for path, word in zip(("/", "/figures?span=week", "/calls"), words, strict=True):
            page.goto(board + path)
            expect(page.get_by_text(word).first).to_be_visible()
            assert page.locator("html").get_attribute("lang") == language
            assert no_sideways_scrolling(page)
            assert serious(page) == []
            name = path.split("?")[0].strip("/") or "home"
            look_at(page, f"{name}-{language}-{width}-{scheme}.png")
        page.get_by_role("link", name="+7 916").first.click()
        expect(page.locator(".timeline")).to_be_visible()
        assert no_sideways_scrolling(page)
        assert serious(page) == []
        look_at(page, f"story-{language}-{width}-{scheme}.png")
        if language == "en":
            page.get_by_role("button", name="Русский").click()
            # where one was
            expect(page.locator(".timeline")).to_be_visible()
    assert errors == []
    if (width, scheme) == (390, "dark"):
        page.goto(board)
        picture(page, "dashboard-ru.png")


def look_at(page: Page, name: str) -> None:
    """Keep a picture for whoever wants to look, in the folder that LOOK_AT names."""
    folder = os.environ.get("LOOK_AT")
    if folder:
        page.screenshot(path=Path(folder) / name, full_page=True)


def test_charts_are_drawn_from_the_tables(page: Page, board: str) -> None:
    log_in(page, board)
    expect(page.get_by_role("table", name="Latest calls")).to_be_visible()
    page.goto(board + "/figures?span=month")
    expect(page.locator(".chart canvas")).to_have_count(2)
    drawn = page.locator(".chart canvas").first.evaluate(
        "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)"
        ".data.some(value => value)"
    )
    assert drawn
    page.get_by_text("As a table").first.press("Enter")
    expect(page.locator("#hours-table")).to_be_visible()


def test_a_recording_is_played_in_its_row(page: Page, board: str) -> None:
    log_in(page, board)
    expect(page.get_by_role("link", name="Listen").first).to_be_visible()
    page.goto(board + "/calls")
    play = page.get_by_role("link", name="Listen").first
    play.press("Enter")
    expect(page.locator("audio")).to_be_visible()
    expect(page.locator("audio")).to_have_js_property("readyState", 4)
    assert "/recording/1/" in str(page.locator("audio").get_attribute("src"))
    play.press("Enter")
    expect(page.locator("audio")).to_have_count(0)


def test_a_recording_is_played_out_of_a_bucket(page: Page, tmp_path: Path) -> None:
    with s3_server() as server, serving(tmp_path, **server.settings) as board:
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text))
        codes: dict[str, int] = {}
        page.on("response", lambda answer: codes.update({answer.url: answer.status}))
        log_in(page, board)
        expect(page.get_by_role("link", name="Listen").first).to_be_visible()
        while not server.stored():
            page.wait_for_timeout(50)
        # else the service plays it itself
        for file in tmp_path.rglob("*.wav"):
            file.unlink(missing_ok=True)
        page.goto(f"{board}/calls")
        page.get_by_role("link", name="Listen").last.press("Enter")
        expect(page.locator("audio")).to_have_js_property("readyState", 4)
        assert {code for url, code in codes.items() if "/recording/1/" in url} == {302}
        assert [code for url, code in codes.items() if url.startswith(server.url)] == [206]
        assert errors == []


def test_times_are_those_of_the_browser(browser: Browser, board: str) -> None:
    shown = []
    for zone in ("Asia/Vladivostok", "America/New_York"):
        context = browser.new_context(timezone_id=zone)
        page = context.new_page()
        log_in(page, board)
        expect(page.get_by_role("table", name="Latest calls")).to_be_visible()
        page.goto(board + "/calls")
        shown.append(page.locator("td.time").last.inner_text())
        context.close()
    assert shown[0] != shown[1]


def test_a_service_that_is_gone_is_said(page: Page, tmp_path: Path, board: str) -> None:
    log_in(page, board)
    page.route("**/live", lambda route: route.abort())
    page.reload()
    expect(page.get_by_text("This page is out of date")).to_be_visible()
