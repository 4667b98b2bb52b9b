"""Hostile values, requests, conversations from a seed: the same seed, the same inputs."""

from __future__ import annotations

import json
import random
import time
from base64 import b64encode
from typing import Any
from urllib.parse import quote, quote_plus

from fsplanfix.simulators.playback import freshen, load
from fsplanfix.simulators.records import Records

PIECES = [
    "101", "79161234567", "+7 916 123-45-67", "0", "-1", "9" * 40,
    "\n", "\r\n", "%0A", "%0d%0a", "{", "}", "[", "]",
    ",", "|", "&", ":_:", "^^", "^^|", "${x}", "${system(reboot)}", "$1", "\\", "'", '"', "`",
    ";", "<", ">", "=", ":", " ", "\t",
    "\0", "\x1b[31m", "\u0661\u0660\u0661", "\u202e", "\u2028", "\u0085", "\uff11\uff10\uff11",
    "\U0001f600", "e\u0301", "\ud800", "\udfff", "\ud83d", "\x7f", "\x9b31m", "\x1b]0;x\x07",
    "\x08", "%00", "\u2066", "\ufeff", "\U000e0001",
    "../", "..%2f", "/etc/passwd", "/dev/zero", "sip:", "@evil.example",
    "user/102", "&park()", "sofia/gateway/trunk/1",
    "Unique-ID: x", "Content-Length: 99999", "Reply-Text: +OK", "resume", "exit", "connect",
    "a" * 300,
]  # fmt: skip
HALVES = "surrogatepass"
"""Halves of a surrogate pair are sent as they are, which is no UTF-8."""

CALLS = ("group_answered", "in_one_no_answer", "blind_transfer_answered", "out_answered")
CORES = ("", "00000000-0000-4000-8000-000000000001")
SPOKEN_BY_FREESWITCH = ("Event-Name", "Event-Sequence", "Core-UUID")
"""What no caller, phone or dialplan has a say in, and without which an event is none."""

COMMANDS = ["makeCall", "setup", "event", "contact", "record", "ping", "", "makecall"]
BEFORE_EXTENSION = [
    *(",", ",,", ";ext=", " доб. ", "доб", " ext. ", "x", "#", ";", ""),
    *(", доб. ", "\u00a0доб.\u202f", " (доб. ", "\u202f(ext ", ",(", " \u2013 "),
]
"""What stands, or nearly stands, between a number and its extension."""

DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212 \u00a0\u202f"

FIELDS = [
    "cmd",
    "from",
    "to",
    "token",
    "planfix_token",
    "planfix_url",
    "callid",
    "phone",
    "__proto__",
    "a[]",
    "",
]


def _quoted(text: str) -> str:
    return quote(text, safe="", errors=HALVES)


class Inputs:
    """Makes inputs.

    token, cdr_secret: the right ones, so that what lies behind them is reached.
    """

    def __init__(self, seed: int, token: str, link: str, cdr_secret: str = "") -> None:
        self._random = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self._token = token
        self._link = link
        self._cdr_secret = cdr_secret
        self._written: list[str] = []

    def text(self) -> str:
        """Return a hostile value."""
        pieces = self._random.choices(PIECES, k=self._random.randrange(5))
        if self._random.random() < 0.2:
            pieces.append(
                "".join(
                    chr(self._random.randrange(0xE000)) for _ in range(self._random.randrange(20))
                )
            )
        return "".join(pieces)

    def exts(self) -> str:
        """Return what may pass for a list of exts, sometimes thousands of them."""
        names = [self._random.choice(["101", "105", "999", self.text()]) for _ in range(5)]
        return ",".join(names * self._random.choice([1, 1, 1, 2000]))

    def setting(self) -> str:
        """Return the value of a setting: a pattern that takes others for ever, or anything."""
        return self._random.choice(
            [
                *(self.text(), self.text() * 100, f"{self.text()}={self.text()}"),
                *(r"(\d+)+x=1;(\d*)*(\d*)*#=$1", r"(((a*)*)*)*=1", r"7(\d{10})=9*#$1", "(" * 500),
                *(
                    "7(.*)=$1$1$1$1$1$1$1$1",
                    f"101:sofia/gateway/{self.text()}/{{number}}",
                    "1;" * 99,
                ),
            ]
        )

    def handshake(self, greeting: bytes) -> bytes:
        """Return how a peer of an https port begins. greeting: how an honest one does."""
        cut = greeting[: self._random.randrange(len(greeting))]
        wrong = [cut, self._mutated(greeting), self.request(), self._mutated(self.request())]
        return self._random.choice([*wrong, b"", self.text().encode("utf-8", HALVES)])

    def request(self) -> bytes:
        """Return an HTTP request to /planfix, most of them well formed with hostile fields."""
        fields = {
            "cmd": self._random.choice(COMMANDS[:2]),
            "token": self._token,
            "from": str(self._random.randrange(10, 1000)),
            "to": self.clicked(),
        }
        for _ in range(self._random.randrange(1, 4)):
            fields[self._random.choice(FIELDS)] = self.text()
        if self._random.random() < 0.9:
            fields["token"] = self._token
        body = "&".join(
            f"{quote_plus(name)}={quote_plus(value, errors=HALVES)}"
            for name, value in fields.items()
        ).encode()
        if self._random.random() < 0.1:
            body = self._mutated(body)
        return self._http("POST", "/planfix", body)

    def clicked(self) -> str:
        """Return the number of a click, half of them with an extension, honest or hostile."""
        number = f"7916{self._random.randrange(10**7):07}"
        if self._random.random() < 0.3:
            number = self._random.choice(DASHES).join((number[:4], number[4:7], number[7:]))
        if self._random.random() < 0.5:
            return number
        extensions = ["123", "1", "*1#", "9" * 10, "9" * 11, "1,2", "\u0661", self.text()]
        before, digits = self._random.choice(BEFORE_EXTENSION), self._random.choice(extensions)
        # now and then the bracket is missing, or one too many
        closing = ")" if ("(" in before) == (self._random.random() < 0.9) else ""
        return f"{number}{before}{digits}{closing}"

    def listen(self) -> bytes:
        """Return an HTTP request for a recording: a real link, changed."""
        target = self._mutated(self._link.encode()).decode("latin-1")
        if self._random.random() < 0.3:
            target = f"/recordings/{_quoted(self.text())}/{_quoted(self.text())}"
        ranges = ["0-3", "-1", "99-1", "9999999-", "0-,1-", "x", "0-0,1-1,2-2", "-" + "9" * 30]
        wanted = f"Range: bytes={self._random.choice(ranges)}"
        return self._http(self._random.choice(["GET", "HEAD"]), target, b"", wanted)

    def record(self) -> bytes:
        """Return an HTTP request with a call detail record: a real one, with hostile values."""
        made = self._random.choice(self._records())
        self._spoil(made)
        body = json.dumps(made).encode(errors="replace")
        if self._random.random() < 0.2:
            body = self._mutated(body)
        if self._random.random() < 0.2:
            body = b"cdr=" + quote_plus(body).encode()
        secret = self.text() if self._random.random() < 0.05 else self._cdr_secret
        credentials = b64encode(f"fsplanfix:{secret}".encode(errors="replace")).decode()
        return self._http("POST", "/cdr", body, f"Authorization: Basic {credentials}")

    def _records(self) -> list[dict[str, Any]]:
        """Return the records of a recorded call that has just ended."""
        if not self._written or self._random.random() < 0.05:
            writer = Records()
            # by a FreeSWITCH that nobody knows, or none
            core = self._random.choice(CORES)
            steps = freshen(load(self._random.choice(CALLS)), time.time(), core)
            written = [file for file in map(writer.follow, steps) if file is not None]
            self._written = [text for _, text in written]
        return [json.loads(text) for text in self._written]

    def _spoil(self, made: dict[str, Any]) -> None:
        """Put hostile values, and values of wrong types, into a record."""
        for _ in range(self._random.randrange(1, 8)):
            place: Any = made
            while self._random.random() < 0.8:
                inner = list(place.values()) if isinstance(place, dict) else place
                inner = [one for one in inner if isinstance(one, dict | list) and one]
                if not inner:
                    break
                place = self._random.choice(inner)
            value: Any = self._random.choice(
                [self.text(), "9" * 30, "-1", None, [], {}, 1e300, ["x"]]
            )
            if isinstance(place, list):
                place[self._random.randrange(len(place))] = value
            elif self._random.random() < 0.2:
                place[self.text()] = value
            elif place:
                place[self._random.choice(list(place))] = value

    def _http(self, method: str, target: str, body: bytes, *headers: str) -> bytes:
        kinds = ["application/x-www-form-urlencoded"] * 18 + [
            "application/json",
            "multipart/form-data; boundary=x",
        ]
        address = f"198.51.100.{self._random.randrange(1, 255)}"
        clean = "".join(c for c in target if "!" <= c <= "~") or "/"
        lines = [
            f"{method} {clean if clean.startswith('/') else '/' + clean} HTTP/1.1",
            "Host: pbx.example.com",
            f"X-Forwarded-For: {address}",
            f"Content-Type: {self._random.choice(kinds)}",
            f"Content-Length: {len(body)}",
            *headers,
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def _mutated(self, data: bytes) -> bytes:
        """Change, cut, repeat or add some bytes."""
        changed = bytearray(data)
        for _ in range(self._random.randrange(1, 5)):
            at = self._random.randrange(len(changed) + 1)
            what = self._random.randrange(4)
            if what == 0:
                changed[at:at] = self._random.choice(PIECES).encode("utf-8", HALVES)
            elif what == 1:
                del changed[at : at + self._random.randrange(1, 20)]
            elif what == 2 and at < len(changed):
                changed[at] = self._random.randrange(256)
            else:
                changed[at:at] = changed[at : at + 8]
        return bytes(changed)

    def channel(self) -> bytes:
        """Return channel data as FreeSWITCH sends it for a hostile caller, sometimes broken."""
        raw, number = self.text().replace("\n", ""), f"7916{self._random.randrange(10**7):07}"
        fields = {
            "Event-Name": "CHANNEL_DATA",
            "Unique-ID": _quoted(self.text()) or "u",
            "Call-Direction": "inbound",
            "Caller-Caller-ID-Number": self._random.choice([number, _quoted(self.text()), "", raw]),
            "Caller-Destination-Number": _quoted(self.text()),
            "Caller-Caller-ID-Name": _quoted(self.text()),
            "variable_sip_h_X-Evil": raw,
            "variable_planfix_group": _quoted(self.exts()),
            "variable_domain_name": self._random.choice(["pbx.example.com", _quoted(self.text())]),
        }
        data = (
            "".join(f"{name}: {value}\n" for name, value in fields.items()).encode("utf-8", HALVES)
            + b"\n"
        )
        return self._mutated(data) if self._random.random() < 0.3 else data

    def events(self, core: str) -> list[str]:
        """Return the events of a recorded call on the switch `core`, with hostile values in them.

        As FreeSWITCH quotes them, and sometimes as it never would.
        """
        steps = freshen(load(self._random.choice(CALLS)), time.time(), core)
        uuids = sorted({step.get("Unique-ID") for step in steps} - {""})
        renamed = {}
        if self._random.random() < 0.3:
            renamed = {uuid: _quoted(self.text()) + uuid for uuid in uuids}
        bodies = [step.body for step in steps]
        for uuid, name in renamed.items():
            bodies = [body.replace(uuid, name) for body in bodies]
        return [self._with_hostile_values(body) for body in bodies]

    def _with_hostile_values(self, body: str) -> str:
        lines = body.rstrip("\n").split("\n")
        for at in self._random.sample(range(len(lines)), min(len(lines), 12)):
            name, colon, _ = lines[at].partition(": ")
            if name in SPOKEN_BY_FREESWITCH or not colon:
                continue
            value = _quoted(self.text())
            if self._random.random() < 0.2:
                value = self.text().replace("\n", "").encode("utf-8", "replace").decode()
            lines[at] = f"{name}: {value}"
        return "\n".join(lines) + "\n\n"

    def reply(self) -> bytes:
        """Return what FreeSWITCH says to a command, or something else."""
        good = b"Content-Type: command/reply\nReply-Text: +OK\n\n"
        return self._mutated(good) if self._random.random() < 0.1 else good

    def leaves(self) -> bool:
        """Tell whether the caller hangs up now."""
        return self._random.random() < 0.05

    def answer(self) -> dict[str, object]:
        """Return what Planfix says about a contact."""
        said: dict[str, object] = {
            "contact_name": self._random.choice([self.text(), self.text() * 50, None, 7])
        }
        # the editions of Planfix's page call him by two names
        for name in self._random.choice([["manager"], ["responsible"], ["manager", "responsible"]]):
            said[name] = self._employees()
        return said

    def _employees(self) -> object:
        """Return what Planfix says of who looks after a contact."""
        values = [
            *("102", 103, None, ["101"], {"x": 1}, self.text(), -5, 1.5, True),
            *(self.exts(), self.exts().split(","), [101, self.text(), ["102"]]),
        ]
        return self._random.choice(values)

    def verdict(self) -> tuple[int, bytes]:
        """Return the code and the words with which Planfix answers a notice; 200 has none."""
        code = self._random.choice([200] * 6 + [400, 400, 500])
        said: str = self.text() * self._random.choice([1, 1, 40])
        if self._random.random() < 0.5:
            return code, json.dumps({"error": said}).encode()
        return code, said.encode("utf-8", HALVES)
