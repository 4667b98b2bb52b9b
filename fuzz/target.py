"""The real service between its stand-ins, and what it must never do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import gevent
from click.testing import CliRunner

from fsplanfix.cli.installing import check_command
from fsplanfix.recordings.urls import RecordingUrls
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.simulators.playback import write_tone
from tests.support import service as program

from .answers import HostileSwitch

TOKEN, KEY = program.TOKENS["PBX_TOKEN"], "fuzz-secret-key-of-the-links"
CDR_SECRET = "fuzz-secret-of-the-records"
CALLER_ID = r"origination_caller_id_number=(\+?[0-9]{3,15}|anonymous|[0-9]{2,5})"
NAME = r"""(?:[^'"\\,={}$\s\x00-\x1f\x7f<>&|;/@]|\\s)*"""
PAIR = (
    rf"(?:(?:origination|effective)_caller_id_name={NAME}|"
    r"[A-Za-z0-9_]+=(?:[A-Za-z0-9_.+-]|%\(800\\,3200\\,425\))+)"
)
EMPLOYEE = rf"originate \{{{PAIR}(?:,{PAIR})*\}}user/[0-9]{{2,5}} "
_USER_AT = r"[0-9]{2,5}@(?:[A-Za-z0-9_.:-]{1,255}|\$\{domain\})"
_QUESTION = (
    rf"\$\{{(?:(?:sofia|verto)_contact\({_USER_AT}\)|user_data\({_USER_AT} param dial-string\))\}}"
)
ALLOWED_IN_ESL = re.compile(
    r"(?:show (?:channels|registrations) as json|global_getvar (?:domain|core_uuid)|uptime|"
    r"uuid_dump [!#-&(-\[\]-~]{1,256} json|"
    r"user_exists id [0-9]{2,5} [A-Za-z0-9_.:\[\]-]{1,255}|"
    r"sofia_contact [0-9]{2,5}(?:@[A-Za-z0-9_.:\[\]-]{1,255})?|"
    r"user_data [A-Za-z0-9_.-]{1,255}@[A-Za-z0-9_.:\[\]-]{1,255} "
    r"(?:attr number-alias|var outbound_caller_id_number)|"
    # asked for a ring, several at once, which the simulated FreeSWITCH then asks itself
    rf"expand echo {_QUESTION}(?:[0-9a-f]{{32}}{_QUESTION})*|"
    r"verto_contact [0-9]{2,5}@[A-Za-z0-9_.:-]{1,255}|"
    r"user_data [0-9]{2,5}@[A-Za-z0-9_.:-]{1,255} param dial-string|"
    # asked by `fsplanfix check`
    r"status|sofia status gateway trunk|list_users|strftime %s|"
    rf"{EMPLOYEE}&bridge\(\{{ignore_early_media=false,bridge_answer_timeout=60,"
    rf"{CALLER_ID},origination_caller_id_name=\1"
    r"(?:,execute_on_answer_2=send_dtmf\\sWW[0-9*#]{1,10})?\}"
    r"(?:sofia/gateway/trunk/[0-9]{3,15}|user/[0-9]{2,5})\))"
)
"""Everything FreeSWITCH may hear.

An ext that fits the pattern, digits, a name without signs that mean anything, and of its own
answers a domain, a user or a UUID without quotes and blanks: nowhere anything else.
"""

HONEST = "in_one_no_answer"
HONEST_EVENTS = ["INCOMING", "COMPLETED"]
HONEST_WITHIN = 120.0
"""Seconds; what waits for another try may stand before it."""

LISTED = re.compile(
    r" *number  when .*| *\d+  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d .*| {10}.*|\d+ waiting, .*|"
)
MOST_SHOWN = 20


def steers(line: str) -> bool:
    """Tell whether a line holds a sign that moves a terminal's cursor or turns letters round."""
    return any(unicodedata.category(sign)[0] == "C" for sign in line)


@dataclass
class Target:
    """The running service.

    count: how often it did what it must not; problems: the first few. hang: after how many seconds
    without an answer that is one. listed: what `queue list` showed.
    """

    service: program.Service
    http: tuple[str, int]
    socket_app: tuple[str, int]
    link: str
    switch: HostileSwitch
    planfix: Planfix
    problems: list[str] = field(default_factory=list)
    count: int = 0
    hang: float = 60.0
    folder: Path = Path()
    store_url: str = ""
    listed: list[str] = field(default_factory=list)

    def problem(self, text: str) -> None:
        """Note what must not be."""
        self.count += 1
        if self.count <= MOST_SHOWN:
            self.problems.append(text[:300])

    def memory(self) -> int:
        """Return the service's resident memory in kB."""
        status = Path(f"/proc/{self.service.process.pid}/status").read_text()
        return int(re.findall(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)[0])

    def descriptors(self) -> int:
        """Return how many files and sockets the service has open."""
        return len(os.listdir(f"/proc/{self.service.process.pid}/fd"))

    def wait_for_link(self) -> None:
        """Wait until FreeSWITCH can be told to place calls again."""
        with gevent.Timeout(program.PATIENCE):
            while not self.service.get("/health/ready").json()["freeswitch"]:
                gevent.sleep(0.1)

    def check_honest_call(self) -> None:
        """See that a call after all that is told of as if nothing had been."""
        self.planfix.answers = deque()
        self.switch.answers = None
        callid = self.switch.play(HONEST, speed=0)
        ends = time.monotonic() + HONEST_WITHIN
        while [told["event"] for told in self._told(callid)] != HONEST_EVENTS:
            if time.monotonic() > ends:
                self.problem(f"Planfix was told of an honest call: {self._told(callid)}")
                break
            gevent.sleep(0.1)

    def _told(self, callid: str) -> list[dict[str, str]]:
        return [fields for fields in self.planfix.accepted if fields.get("callid") == callid]

    def check_records(self) -> None:
        """See that records were kept."""
        # PostgreSQL's are in the service's folder
        places = [self.folder, Path(self.store_url.removeprefix("sqlite:///")).parent]
        if not any(file for place in places for file in place.glob("*.records/*.cdr.json")):
            self.problem("no call detail record was kept")

    def check_commands(self) -> None:
        """Look at everything FreeSWITCH was asked."""
        for command in self.switch.commands:
            if not ALLOWED_IN_ESL.fullmatch(command):
                self.problem(f"FreeSWITCH was asked: {command!r}")

    def check_log(self) -> None:
        """Look for tracebacks and secrets in the log."""
        for line in self.service.log:
            if any(word in line for word in ("Traceback", "crashed", TOKEN, KEY, CDR_SECRET)):
                self.problem(f"the log has: {line}")
            if not line.startswith("timestamp=") or steers(line):
                self.problem(f"the log has a forged line, or one that steers: {line!r}")

    def ask_check(self) -> None:
        """See that `fsplanfix check` gets on with FreeSWITCH's answers."""
        settings = program.settings_for(self.switch, self.planfix, self.folder)
        settings |= {"STORE_URL": self.store_url, "ESL_LISTEN": "127.0.0.1:9"}
        done = CliRunner(env=settings).invoke(check_command)
        if not isinstance(done.exception, SystemExit | None):
            self.problem(f"check failed: {done.exception!r}")
        for line in done.output.split("\n"):
            if steers(line):
                self.problem(f"check shows: {line!r}")

    def check_shown(self) -> None:
        """Look at what an administrator is shown of Planfix's answers."""
        shown = subprocess.run(
            [sys.executable, "-m", "fsplanfix", "queue", "list", "--limit", "1000"],
            env=program.environment(STORE_URL=self.store_url),
            cwd=self.folder,
            check=True,
            capture_output=True,
        )
        self.listed = shown.stdout.decode().split("\n")
        for line in self.listed:
            if steers(line) or not LISTED.fullmatch(line):
                self.problem(f"queue list shows: {line!r}")


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("http://").rpartition(":")
    return host, int(port)


@contextmanager
def running(store_url: str) -> Iterator[Target]:
    """Start everything; end it. store_url: the address of an empty database."""
    switch, planfix = HostileSwitch(speed=1000), Planfix(token=program.TOKENS["PLANFIX_TOKEN"])
    switch.users = {str(n) for n in range(10, 1000)}
    switch.registered = {
        str(n) for n in range(10, 60)
    }  # each of their calls is twenty events: not too many
    switch.makecall = "makecall_manager_declines"
    switch.start()
    planfix.start()
    with tempfile.TemporaryDirectory(prefix="fsplanfix-fuzz-") as name:
        folder = Path(name)
        write_tone(folder / "recordings" / "a.wav")
        (folder / "secret.wav").write_bytes(b"secret")
        more = {
            "RECORDINGS_DIR": str(folder / "recordings"),
            "NUMBER_RULES": r"(\d+)+x=1;(\d*)*(\d*)*#=$1;9(8\d{10})=$1",
            "DIAL_RULES": r"(\d+)+x=1;7(\d{10})=98$1",
            "PBX_TOKEN_OLD": "pbx-token-of-before",
            "SECRET_KEY": KEY,
            "CDR_SECRET": CDR_SECRET,
            # the addresses that inputs.py makes up, and the dialplan's
            "ESL_ALLOW": "127.0.0.0/8,198.51.100.0/24",
            "HISTORY_RATE": "1000",
            "CONTACT_DEADLINE": "0.3",
            "STORE_URL": store_url,
        }
        limits = {"DIAL_LIMIT": "100000", "DIAL_LIMIT_PER_EXT": "100000"}
        with program.running(switch, planfix, folder, **more, **limits) as service:
            link = RecordingUrls("", [KEY]).url("c1", str(folder / "recordings" / "a.wav"))
            yield Target(
                service,
                _parts(service.address),
                _parts(service.socket_app),
                link,
                switch,
                planfix,
                folder=folder,
                store_url=store_url,
            )
    switch.stop()
    planfix.stop()
