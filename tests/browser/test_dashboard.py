"""The dashboard in a real browser: login, a call arriving live, its story, a rejected notice, two languages, a narrow screen."""

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import gevent
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

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
    """FreeSWITCH with a call that comes again and again, Planfix, the service; gives the dashboard's address."""
    with ExitStack() as stack:
        url = started(
            stack, tmp_path, r"PLANFIX_URL=(\S+)", "simulate", "planfix", "--listen", "127.0.0.1:0", "--token", "planfix-token"
        )  # fmt: skip
        port = started(
            stack, tmp_path, r"Event socket on 127.0.0.1:(\d+)", "simulate", "freeswitch", "--listen", "127.0.0.1:0",
            "--play", "group_answered",
        )  # fmt: skip
        settings = {
            **TOKENS,
            "PLANFIX_URL": url,
            "FREESWITCH_ESL": f"esl://:ClueCon@127.0.0.1:{port}",
            "HTTP_LISTEN": "127.0.0.1:0",
            "ESL_LISTEN": "127.0.0.1:0",
            "RECORDINGS_DIR": str(tmp_path),
            "ADMIN_PASSWORD": PASSWORD,
        }
        yield started(stack, tmp_path, r"web_listening address=(\S+)", "run", **settings)


def picture(page: Page, name: str) -> None:
    if os.environ.get("PICTURES"):
        page.screenshot(path=PICTURES / name)


def log_in(page: Page, board: str) -> None:
    page.goto(board)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def serious(page: Page) -> list[str]:
    """What axe finds that keeps people out."""
    found = Axe().run(page)
    return [
        f"{v['id']}: {v['nodes'][0]['html'][:120]}"
        for v in found.response["violations"]
        if v["impact"] in ("serious", "critical")
    ]


def test_a_call_arrives_live_and_its_story_is_told(page: Page, board: str, tmp_path: Path) -> None:
    errors: list[str] = []
    page.on(
        "console", lambda message: errors.append(message.text) if message.type == "error" else None
    )
    page.goto(board)
    assert serious(page) == []
    log_in(page, board)
    page.evaluate("document.body.dataset.same = 'yes'")
    card = page.locator(".card", has_text="79161234567")
    expect(card.get_by_text("102 talking")).to_be_visible()
    page.set_viewport_size({"width": 1000, "height": 620})
    picture(page, "dashboard.png")
    latest = page.get_by_role("region", name="Latest calls")
    over = latest.get_by_role("row").filter(has_text="102 talked").first
    expect(over).to_be_visible()
    assert page.evaluate("document.body.dataset.same") == "yes"  # nothing was loaded again
    assert serious(page) == []
    over.get_by_role("link").click()
    expect(page.get_by_text("rule 1: the phone rings").first).to_be_visible()
    assert serious(page) == []
    picture(page, "story.png")
    assert errors == []


def test_a_rejected_notice_is_sent_again_by_keyboard(
    page: Page, board: str, tmp_path: Path
) -> None:
    log_in(page, board)
    expect(page.get_by_text("102 talked").first).to_be_visible()
    with sqlite3.connect(tmp_path / "fsplanfix.db") as store:
        store.execute(
            "update notices set state='rejected', answer='400 {\"error\": \"Invalid parameters\"}' "
            "where id = (select min(id) from notices where kind='COMPLETED')"
        )
    store.close()
    button = page.get_by_role("button", name="Send again")
    expect(button).to_be_visible()
    assert serious(page) == []
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Rejected: 0")).to_be_visible()


def test_it_speaks_russian_on_a_narrow_dark_screen(page: Page, board: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme="dark")
    log_in(page, board)
    page.get_by_role("button", name="Русский").click()
    expect(page.get_by_role("heading", name="Обзор")).to_be_visible()
    expect(page.get_by_text("102 разговаривает").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("html").get_attribute("lang") == "ru"
    assert serious(page) == []
    picture(page, "dashboard-ru.png")


def test_a_service_that_is_gone_is_said(page: Page, tmp_path: Path, board: str) -> None:
    log_in(page, board)
    page.route("**/live", lambda route: route.abort())
    page.reload()
    expect(page.get_by_text("This page is out of date")).to_be_visible()
