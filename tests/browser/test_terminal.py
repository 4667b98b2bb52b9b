"""What commands print, as a terminal shows it: its pictures, and nothing beyond 80 columns."""

from __future__ import annotations

import html
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from playwright.sync_api import Page, expect

from fsplanfix.cli import cli
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.simulators.playback import write_tone

from ..support.commands import environment_of
from ..support.service import TOKENS, running

pytestmark = pytest.mark.browser

TOKEN = "0123456789abcdef"
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
STYLES = {
    "1": "font-weight: bold",
    "31": "color: #f2777a",
    "32": "color: #7fc97f",
    "33": "color: #f9c859",
    "90": "color: #8a949c",
}
PAGE = """<body style="margin: 0; background: #1d2329"><pre style="margin: 0; padding: 14px 18px;
color: #dde3e8; font: 15px/1.45 'DejaVu Sans Mono', monospace; width: max-content">{}</pre>"""


def printed(*words: str, **env: str) -> str:
    """Return what a command prints on a terminal of 80 columns, with its colours."""
    with environment_of(COLUMNS="80"):
        done = CliRunner().invoke(cli, words, env=env, color=True)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done.output


def show(page: Page, name: str, *sessions: tuple[str, str]) -> None:
    """Show commands with what they printed; take a picture of it where pictures are wanted."""
    text = "\n\n".join(f"$ {command}\n{said.rstrip()}" for command, said in sessions)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert max(map(len, plain.splitlines())) <= 80
    shown = html.escape(text).replace("\x1b[0m", "</span>")
    shown = re.sub(
        r"(?:\x1b\[[1-9]\d*m)+",
        lambda codes: (
            f'<span style="{"; ".join(STYLES[c] for c in re.findall(r"[0-9]+", codes[0]))}">'
        ),
        shown,
    )
    page.set_content(PAGE.format(shown))
    box = page.locator("pre")
    expect(box).to_contain_text(plain.splitlines()[-1].strip())
    if os.environ.get("PICTURES"):
        box.screenshot(path=PICTURES / name)


def test_check_fits_a_terminal(
    page: Page, switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    switch.users |= {"door"}
    switch.number_aliases = {"door": "107"}
    switch.gateways |= {"second": "FAIL_WAIT"}
    planfix.knows_ping, planfix.pbx_token = True, TOKEN
    (tmp_path / "own").mkdir()
    write_tone(tmp_path / "own" / "a.wav")
    settings = {
        "PBX_TOKEN": TOKEN,
        "OUTBOUND_CALLER_ID": "74950000001",
        "DIAL_STRINGS": "101:sofia/gateway/second/{number}",
        "RECORDINGS_DIR": str(tmp_path / "own"),
        "SECRET_KEY": "secret-key-of-links",
    }
    with running(switch, planfix, tmp_path, **settings) as service:
        planfix.pbx_url = f"{service.address}/planfix"
        there = {
            **TOKENS,
            **settings,
            "PLANFIX_URL": planfix.url,
            "FREESWITCH_ESL": f"esl://:ClueCon@127.0.0.1:{switch.port}",
            "STORE_URL": f"sqlite:///{tmp_path}/checked.db",
            "HTTP_LISTEN": service.address.removeprefix("http://"),
            "ESL_LISTEN": service.socket_app,
            "PUBLIC_URL": service.address,
        }
        said = printed("check", **there)
    usual = {
        there["HTTP_LISTEN"]: "127.0.0.1:8080",
        there["ESL_LISTEN"]: "127.0.0.1:8084",
        f"127.0.0.1:{switch.port}": "127.0.0.1:8021",
    }
    for taken, address in usual.items():
        said = said.replace(f"{taken:<17}", f"{address:<17}").replace(taken, address)
    folder = re.escape(settings["RECORDINGS_DIR"])
    said = re.sub(rf"{folder}\s+", "/var/lib/freeswitch/recordings ", said)
    show(page, "check.png", ("fsplanfix check", said))


def test_normalize_fits_a_terminal(page: Page) -> None:
    rules = {"AREA_CODE": "495", "NUMBER_RULES": r"9(8\d{10})=$1", "DIAL_RULES": r"7(\d{10})=98$1"}
    numbers = ["8 (916) 123-45-67", "989161234567", "000-00-01", "+7 495 000-00-01,12", "unknown"]
    said = printed("normalize", *numbers, FSPLANFIX_ENV=os.devnull, **rules)
    given = " ".join(f"'{number}'" for number in numbers[:3])
    more = " ".join(f"'{number}'" for number in numbers[3:])
    show(page, "normalize.png", (f"fsplanfix normalize {given} \\\n    {more}", said))
