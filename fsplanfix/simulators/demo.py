"""The demonstration: simulated FreeSWITCH, real service, stand-in Planfix, real sockets.

The service runs as a program of its own, as it would beside a real FreeSWITCH.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import gevent

from .freeswitch import Switch
from .planfix import CallCard, Part, Planfix, Received

TITLES = {
    "group_answered": "A client calls three employees, one answers",
    "in_one_no_answer": "A client calls, nobody answers",
    "blind_transfer_answered": "An employee hands the client on to a colleague",
    "out_answered": "An employee calls a client",
    "queue_answered": "A client waits in a queue",
    "click to call": "An employee clicks a number in Planfix",
    "two companies": "Two companies with the same exts are called at the same moment",
}
NEIGHBOUR = {
    "127.0.0.1": "vasilek.example",
    "79161234567": "79260000002",
    "74950000002": "74950000102",
}
"""What makes a recorded call the neighbour's: the domain of its users, its client and its line."""

ACCOUNTS = """
[default]
planfix_url = "{ours.url}"
planfix_token = "{ours.token}"
pbx_token = "{key}"
domains = ["127.0.0.1"]

[vasilek]
planfix_url = "{neighbour.url}"
planfix_token = "{neighbour.token}"
pbx_token = "{key}-of-vasilek"
domains = ["vasilek.example"]
"""
SPEED = 1.5
INHERITED = ("PATH", "HOME", "LANG", "TZ")
ADMIN_PASSWORD = "demo"  # noqa: S105 - for this run on loopback only
PBX_TOKEN = "pbx-demo-token"  # noqa: S105 - for this run on loopback only
STARTED = re.compile(r"web_listening.*127\.0\.0\.1:(\d+)")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Voice:
    """How the demonstration is told.

    say, title: print a line. header: introduces a call by the fields of a request. request: prints
    a request and its time, day: a day in words (both seconds since 1970).
    """

    say: Say
    title: Say
    header: Callable[[Mapping[str, str]], str]
    request: Callable[[Mapping[str, str], float], None]
    day: Callable[[float], str]


NEXT = """
Next: `fsplanfix demo --serve` shows the call windows and the dashboard in a
browser. To install it: README.md, "Installation"."""


class Stage:
    """Everything the demonstration consists of. neighbour: the Planfix of the second company."""

    def __init__(self, switch: Switch, planfix: Planfix, neighbour: Planfix) -> None:
        self.switch = switch
        self.planfix = planfix
        self.neighbour = neighbour

    def play(self, call: str) -> None:
        """Play one call to its end and wait until Planfix has all of it."""
        known = {crm: set(crm.history.cards) for crm in (self.planfix, self.neighbour)}
        told = [self.planfix]
        if call == "click to call":
            fields = {"ext": "101", "number": "79161234567"}
            answer = self.planfix.click(**fields)
            if answer[0] != 200:
                raise RuntimeError(f"makeCall was refused: {answer}")
        elif call == "two companies":
            told.append(self.neighbour)
            gevent.spawn(self.switch.play, "group_answered")
            gevent.spawn(self.switch.play, "group_answered", swap=NEIGHBOUR)
        else:
            gevent.spawn(self.switch.play, call)

        for crm in told:
            before = known[crm]
            crm.wait_for(
                lambda crm: any(is_complete(card) for card in new_cards(crm, before)),  # noqa: B023
                timeout=20,
            )


def new_cards(planfix: Planfix, known: set[str]) -> list[CallCard]:
    """Return the calls whose callid is not in `known`."""
    return [card for callid, card in planfix.history.cards.items() if callid not in known]


def is_complete(card: CallCard) -> bool:
    """Return whether a call is over for everybody and Planfix has its recording, if any."""
    over = all(part.state == "done" for part in card.parts)
    return over and (bool(card.links) or not any(part.is_recorded for part in card.parts))


@contextmanager
def service(switch: Switch, planfix: Planfix, neighbour: Planfix) -> Iterator[int]:
    """Run the real service between the stand-ins; yield the port of its web server."""
    with tempfile.TemporaryDirectory(prefix="fsplanfix-demo-") as folder:
        accounts = Path(folder, "accounts.toml")
        accounts.write_text(ACCOUNTS.format(ours=planfix, neighbour=neighbour, key=PBX_TOKEN))
        switch.recordings_dir = folder
        # settings of the shell that starts the demo, or of this machine, must not reach its service
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environment = {
            **inherited,
            "FSPLANFIX_ENV": os.devnull,
            "ACCOUNTS_FILE": str(accounts),
            "ADMIN_PASSWORD": ADMIN_PASSWORD,
            "FREESWITCH_ESL": f"esl://:{switch.password}@127.0.0.1:{switch.port}",
            "HTTP_LISTEN": "127.0.0.1:0",
            "ESL_LISTEN": "127.0.0.1:0",
            "STORE_URL": f"sqlite:///{folder}/demo.db",
            "OUTBOUND_CALLER_ID": "74950000000",
            "DIAL_STRING": "sofia/gateway/trunk/{number}",
            "RECORDINGS_DIR": switch.recordings_dir,
        }
        command = [sys.executable, "-m", "fsplanfix", "run"]
        with subprocess.Popen(  # noqa: S603 - our own program
            command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                yield wait_for_port(process)
            finally:
                process.terminate()


def wait_for_port(process: subprocess.Popen[str]) -> int:
    """Read the service's log until it names its port, and then in the background."""
    log: list[str] = []
    assert process.stderr is not None  # noqa: S101 - for the type checker
    for line in process.stderr:
        log.append(line)
        if found := STARTED.search(line):
            # a pipe that nobody reads fills up; the service would lose log lines
            gevent.spawn(process.stderr.read)
            return int(found[1])

    raise RuntimeError("The service did not start: " + "".join(log))


def tunnel(*ports: int) -> str:
    """Return the ssh command that makes ports of this machine's loopback reachable from another."""
    return f"ssh {' '.join(f'-L {port}:127.0.0.1:{port}' for port in ports)} THIS-MACHINE"


def tell(planfix: Planfix, known: int, voice: Voice) -> None:
    """Print what Planfix was told of a call: all requests after the first `known`."""
    # a question about the client is asked before his call begins
    told = [item for item in planfix.received[known:] if item.fields["cmd"] != "contact"]
    if told:
        voice.say(voice.header(told[0].fields))

    # requests that are sent at the same time arrive in any order; times are shown to the second
    for _, together in groupby(told, _kind_of_request):
        for item in sorted(together, key=lambda item: (int(item.at), item.fields.get("ext", ""))):
            if item.code == 200:
                voice.request(item.fields, item.at)
            else:
                voice.say(f"  refused with {item.code}")


def _kind_of_request(item: Received) -> tuple[int, str | None, str | None]:
    return item.code, item.fields.get("event"), item.fields.get("status")


def table(planfix: Planfix) -> list[str]:
    """Return the call history as lines of at most 80 characters."""
    lines = [f"{'client':<13}{'way':<5}{'recorded':<10}employees"]
    for card in planfix.history.cards.values():
        parts = [_part_in_words(part) for part in sorted(card.parts, key=lambda part: part.ext)]
        recorded = "yes" if card.links else "-"
        lines.append(f"{card.phone:<13}{card.type:<5}{recorded:<10}{', '.join(parts)}")

    return lines


def _part_in_words(part: Part) -> str:
    text = f"{part.ext or '-'} {part.status}"
    if part.duration:
        text += f" {part.duration} s"
    return text


def run(serve: bool, planfix: Planfix, voice: Voice) -> int:
    """Play the calls; return the exit code: 0 if each Planfix accepted what it was sent.

    serve: play them again and again, until somebody interrupts. planfix: has been started, and is
    stopped at the end.
    """
    switch, neighbour = Switch(speed=SPEED), Planfix(token="neighbour-demo-token")  # noqa: S106
    gevent.signal_handler(signal.SIGTERM, gevent.getcurrent().throw, KeyboardInterrupt)
    switch.start()
    neighbour.start()

    try:
        with service(switch, planfix, neighbour) as web:
            planfix.pbx_url, planfix.pbx_token = f"http://127.0.0.1:{web}/planfix", PBX_TOKEN
            switch.wait_for_subscriber()
            pages = (
                f"Call windows and history, as Planfix would show them: {planfix.page}\n"
                f"Dashboard: http://127.0.0.1:{web}/ (password: {ADMIN_PASSWORD})"
            )
            if os.environ.get("SSH_CONNECTION"):
                pages += f"\nFrom your own computer, first: {tunnel(planfix.port, web)}"
            if serve:
                voice.say(pages)
            stage = Stage(switch, planfix, neighbour)
            code = perform(stage, voice)
            if not serve:
                voice.say(NEXT)
                return code

            # whatever is printed now would push the addresses away
            voice.say(f"\nThe calls go on, and nothing more is printed. Ctrl-C ends it.\n{pages}")
            while True:
                for call in TITLES:
                    stage.play(call)
    except KeyboardInterrupt:
        return 0
    finally:
        switch.stop()
        planfix.stop()
        neighbour.stop()


def perform(stage: Stage, voice: Voice) -> int:
    """Play every call once, print a summary and return the exit code."""
    voice.say(voice.day(time.time()))
    for number, (call, title) in enumerate(TITLES.items(), 1):
        known = len(stage.planfix.received)
        voice.title(f"\n{number}. {title}")
        stage.play(call)
        gevent.sleep(0.2)
        tell(stage.planfix, known, voice)

    voice.say("\nThe other company's Planfix:")
    tell(stage.neighbour, 0, voice)

    crms = (stage.planfix, stage.neighbour)
    received = [item for crm in crms for item in crm.received]
    surprises = [text for crm in crms for text in crm.history.surprises]
    both = set(stage.planfix.history.cards) & set(stage.neighbour.history.cards)
    surprises += [f"both companies were told of call {callid}" for callid in both]
    refused = sum(item.code != 200 for item in received)
    voice.say("\n" + "\n".join(table(stage.planfix)))
    verdict = f"{refused} refused" if refused else "all accepted"
    voice.say(
        f"\n{len(received)} requests, {verdict}"
        + "".join(f"\n  surprising: {text}" for text in surprises)
    )

    return 1 if refused or surprises else 0
