"""Hostile settings, `setup`s, answers to `ping`, and peers of our own https; in this process."""

from __future__ import annotations

import re
import ssl
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import trustme
from gevent import socket
from pydantic import ValidationError

from fsplanfix.calls.model import Rules
from fsplanfix.errors import SettingsError
from fsplanfix.outbox.store import Store
from fsplanfix.planfix.agreement import differences
from fsplanfix.planfix.api import PlanfixApi
from fsplanfix.planfix.commands import Commands, DialLimits
from fsplanfix.planfix.keys import PbxKeys
from fsplanfix.planfix.pairing import Pairing, drop, stored_partner
from fsplanfix.settings import Settings
from fsplanfix.web.server import Bounds, WebServer
from fsplanfix.web.tls import certificate

from .inputs import Inputs

NEW_SETTINGS = (
    *("area_code", "number_rules", "dial_rules", "dial_strings", "ring_first", "ring_seconds"),
    *("ring_last_days", "click_timeout", "client_timeout", "record_clicks", "record_stereo"),
    *("windows", "outbound_caller_id", "planfix_url", "pbx_token_old", "http_cert", "http_key"),
)
LONGEST = 2.0
"""Seconds that a rule may take for a number, or a setting to be read."""

KEYS = PbxKeys("the-present-key", "the-former-key")
OnProblem = Callable[[str], None]


def read_settings(inputs: Inputs, count: int, on_problem: OnProblem) -> None:
    """Read hostile settings, and use the rules that were accepted on hostile numbers."""
    for n in range(count):
        name = NEW_SETTINGS[n % len(NEW_SETTINGS)]
        # `load` refuses what is no text
        value = inputs.setting().encode("utf-8", "replace").decode()
        given: Any = {"pbx_token": "0123456789abcdef", name: value}
        begun = time.monotonic()
        try:
            rules = Settings(_env_file=None, **given).rules()  # type: ignore[call-arg]
        except ValidationError:
            continue
        except Exception as error:
            on_problem(f"{name}={value!r}: {error!r}")
            continue
        for number in (inputs.text(), "9" * 10_000, "79161234567"):
            rules.numbering.normalize(number)
            if not re.fullmatch("[0-9*#]+", rules.numbering.dialled("79161234567")):
                on_problem(f"{name}={value!r} dials something else than digits")
        if time.monotonic() - begun > LONGEST:
            on_problem(f"{name}={value!r} took {time.monotonic() - begun:.1f} s")


def set_up(inputs: Inputs, count: int, on_problem: OnProblem) -> None:
    """Send setups while nothing is configured, and others to whoever was paired by one."""
    store = Store("sqlite://")
    for n in range(count):
        limits = DialLimits()
        ours = Commands(
            Pairing(store, "", ""), KEYS, Rules(), limits, lambda *_: None, lambda *_: None
        )
        url = f"https://example.planfix.com/{inputs.text()}" if n % 2 else inputs.text()
        fields = {
            "cmd": "setup",
            "token": KEYS.present,
            "planfix_url": url,
            "planfix_token": inputs.text() if n % 3 else "token",
        }
        code, body = ours.answer(fields)
        paired = stored_partner(store)
        if code not in (200, 400) or (code == 200) != (paired is not None) or len(str(body)) > 300:
            on_problem(f"{code} {body} to {fields!r}, paired with {paired}")
        if paired is not None:
            # it can be sent to, and nobody else gets in its place
            PlanfixApi(paired.url, paired.token, 1).close()
            other = ours.answer({**fields, "planfix_url": "https://evil.example/" + inputs.text()})
            if other[0] != 400 or stored_partner(store) != paired:
                on_problem(f"a running pairing was redirected by {fields!r}")
            drop(store)

        answer = {"pbxToken": inputs.text(), "pbxUrl": inputs.text()}
        for sentence in differences(answer, KEYS, "https://pbx.example.com").values():
            if len(sentence) > 200 or not sentence.isprintable():
                on_problem(f"{answer!r} is told as {sentence!r}")


def speak_tls(inputs: Inputs, count: int, on_problem: OnProblem) -> None:
    """Send noise, plain http and broken handshakes to an https port, and an honest request."""

    def hello(_: Any, start: Any) -> list[bytes]:
        start("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    errors: list[object] = []
    hub = gevent.get_hub()
    before = hub.handle_error
    hub.handle_error = lambda *about: errors.append(about)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory(prefix="fsplanfix-fuzz-") as name:
        folder, authority = Path(name), trustme.CA()
        issued = authority.issue_cert("localhost")
        issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "both.pem"))
        listener = socket.create_server(("127.0.0.1", 0))
        made = certificate(folder / "both.pem", None)
        server = WebServer(listener, hello, Bounds(handshake=0.05), made)
        server.start()
        address = listener.getsockname()
        greeting = client_hello()
        for n in range(count):
            if n % 50 == 0:
                _spoil(folder / "both.pem", inputs)
            with suppress(OSError), socket.create_connection(address, timeout=5) as peer:
                peer.sendall(inputs.handshake(greeting))
                if b"HTTP/" in peer.recv(65536):
                    on_problem("an https port answered in clear text")

        context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
        try:
            with (
                socket.create_connection(address, timeout=5) as bare,
                context.wrap_socket(bare, server_hostname="localhost") as peer,
            ):
                peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                if not peer.recv(65536).startswith(b"HTTP/1.1 200"):
                    on_problem("an honest request by https was not answered")
        except OSError as error:
            on_problem(f"an honest request by https: {error!r}")
        server.stop(timeout=1)
    hub.handle_error = before  # type: ignore[method-assign]
    for one in errors:
        on_problem(f"https: {one!r}")


def _spoil(file: Path, inputs: Inputs) -> None:
    """Write wrong files; the server goes on with those of before."""
    file.write_bytes(inputs.text().encode("utf-8", "replace"))
    with suppress(SettingsError):
        certificate(file, None)


def client_hello() -> bytes:
    """Return how a client begins."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(into, out, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()
