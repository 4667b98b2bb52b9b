"""The stand-in's page in a real browser: windows open, change and close while a call is going on."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.browser

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "call-windows.png"
TOKEN = "planfix-demo-token"
GROUP = {"type": "in", "phone": "79161234567", "diversion": "74950000002", "callid": "demo-1"}


@pytest.fixture
def crm() -> Iterator[str]:
    """The stand-in as a program of its own; gives the address of its page."""
    command = [sys.executable, "-m", "fsplanfix", "simulate", "planfix", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found
        yield found[0]
        process.terminate()


def tell(crm: str, **fields: str) -> None:
    answer = requests.post(
        f"{crm}tel/api", data={"cmd": "event", **fields, "planfix_token": TOKEN}, timeout=60
    )
    assert answer.status_code == 200


def test_windows_open_change_and_close(crm: str, page: Page) -> None:
    page.goto(crm)
    expect(page.get_by_text("No phone rings.")).to_be_visible()
    for ext in ("101", "102", "103"):
        tell(crm, event="INCOMING", ext=ext, **GROUP)
    windows = page.locator(".window")
    expect(windows).to_have_count(3)
    expect(windows.first).to_contain_text("+79161234567")
    tell(crm, event="ACCEPTED", ext="102", **GROUP)
    expect(page.locator(".window.talking")).to_contain_text("ext 102")
    for ext in ("101", "103"):
        tell(
            crm,
            event="COMPLETED",
            ext=ext,
            status="Canceled",
            duration="0",
            is_recorded="0",
            **GROUP,
        )
    expect(windows).to_have_count(1)
    tell(
        crm,
        event="COMPLETED",
        ext="102",
        status="Success",
        duration="124",
        is_recorded="1",
        **GROUP,
    )
    expect(page.get_by_text("No phone rings.")).to_be_visible()
    expect(page.locator("#history tr")).to_contain_text("102: Success 124 s")
    again = GROUP | {"phone": "79261112233", "callid": "demo-2"}
    for ext in ("101", "102", "103"):
        tell(crm, event="INCOMING", ext=ext, **again)
    expect(windows).to_have_count(3)
    if os.environ.get("PICTURES"):
        page.screenshot(path=PICTURE)


def test_a_hidden_number_and_a_hostile_one_are_shown_as_text(crm: str, page: Page) -> None:
    page.goto(crm)
    tell(
        crm,
        type="in",
        event="INCOMING",
        phone="anonymous",
        ext="101",
        callid="<img src=x onerror=alert(1)>",
    )
    expect(page.locator(".window")).to_contain_text("hidden number")
    assert page.locator("img").count() == 0


def test_it_speaks_russian_and_has_a_dark_mode(crm: str, browser: Browser) -> None:
    with browser.new_context(locale="ru-RU", color_scheme="dark") as context:
        page = context.new_page()
        page.goto(crm)
        expect(page.get_by_text("Ни один телефон не звонит.")).to_be_visible()
        for ext in ("101", "102"):
            tell(crm, event="INCOMING", ext=ext, **GROUP)
        ending = {"event": "COMPLETED", "duration": "0", "is_recorded": "0"}
        tell(crm, ext="101", status="Missed", **ending, **GROUP)
        expect(page.locator(".window")).to_contain_text("Входящий звонок")
        expect(page.locator(".window")).to_contain_text("доб. 102")
        row = page.locator("#history tr")
        expect(row).to_contain_text("101: пропущен")
        expect(row).to_contain_text("102: телефон звонит")
        shown = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert shown == "rgb(20, 26, 32)"
        assert Axe().run(page).response["violations"] == []


def test_a_narrow_screen_needs_no_sideways_scrolling(crm: str, page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 640})
    page.goto(crm)
    tell(crm, event="INCOMING", ext="101", **GROUP)
    expect(page.locator(".window")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_no_column_of_the_history_is_cut_off(crm: str, page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(crm)
    for ext in ("101", "102", "103", "104", "105", "106"):
        ending = {"event": "COMPLETED", "status": "Canceled", "duration": "0", "is_recorded": "0"}
        tell(crm, event="INCOMING", ext=ext, **GROUP)
        tell(crm, ext=ext, **ending, **GROUP)
    expect(page.locator("#history .part")).to_have_count(6)
    assert page.evaluate(
        "(box => box.scrollWidth <= box.clientWidth)(document.querySelector('.scroll'))"
    )
