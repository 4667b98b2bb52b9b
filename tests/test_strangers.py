"""What strangers try at each border, and what goes on all the same."""

import gzip
import json
import wave
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import gevent
import pytest
import requests
from gevent import socket
from gevent.server import StreamServer

from fsplanfix.errors import TransportError
from fsplanfix.planfix.client import Client
from fsplanfix.recordings.links import Links
from fsplanfix.simulators.crm import Planfix
from fsplanfix.simulators.switch import Switch

from .service import PATIENCE, running
from .test_service import told

GOOD = "cmd=makeCall&token=pbx-token-1&from=101&to=79161234567"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

# commands over HTTP


def test_bent_commands_ring_nobody(switch: Switch, planfix: Planfix, tmp_path: Path) -> None:
    bent: list[tuple[str, str, bytes, dict[str, str]]] = [
        ("GET", f"/planfix?{GOOD}", b"", {}),
        ("HEAD", f"/planfix?{GOOD}", b"", {}),
        ("POST", f"/planfix?{GOOD}", b"", FORM),
        ("PUT", "/planfix", GOOD.encode(), FORM),
        ("GET", f"/planfix?{GOOD}", b"", {"X-HTTP-Method-Override": "POST"}),
        ("POST", "/planfix", json.dumps({"cmd": "makeCall"}).encode(), {}),
        ("POST", "/planfix", GOOD.encode(), {"Content-Type": "multipart/form-data; boundary=x"}),
        ("POST", "/planfix", GOOD.encode("utf-16"), FORM),
        ("POST", "/planfix", b"from=%00101&" + GOOD.encode(), FORM),
        ("POST", "/planfix", b"from=101%0A&" + GOOD.encode(), FORM),
        ("POST", "/planfix", b"to=%ED%A0%80&" + GOOD.encode(), FORM),
        ("POST", "/planfix", b"token=x&" + GOOD.encode(), FORM),
        ("POST", "/planfix", b"&".join([b"a=b"] * 5000), FORM),
        ("POST", "/planfix/", GOOD.encode(), FORM),
        ("POST", "/planfix%00", GOOD.encode(), FORM),
    ]
    with running(switch, planfix, tmp_path) as service:
        for method, path, body, headers in bent:
            answer = requests.request(
                method,
                service.address + path,
                data=body,
                headers=headers,
                timeout=PATIENCE,
                allow_redirects=False,
            )
            assert answer.status_code < 500, (method, path, body)
            assert switch.originated == [], (method, path, body)
        honest = requests.post(
            service.address + "/planfix", data=GOOD, headers=FORM, timeout=PATIENCE
        )
        assert honest.status_code == 200
    assert len(switch.originated) == 1


# recordings


def test_downloads_that_nobody_reads_hold_up_nobody(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with wave.open(str(tmp_path / "long.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16_000_000))
    link = Links("", ["key"]).link("c1", str(tmp_path / "long.wav"))
    with running(switch, planfix, tmp_path, SECRET_KEY="key") as service, ExitStack() as held:
        host, _, port = service.address.removeprefix("http://").rpartition(":")
        for _ in range(30):
            sock = held.enter_context(socket.create_connection((host, int(port)), PATIENCE))
            sock.sendall(f"GET {link} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert sock.recv(12) == b"HTTP/1.1 200"
        assert service.get("/health/ready").status_code == 200
        assert len(service.get(link).content) > 16_000_000
        callid = switch.play("in_one_no_answer", speed=0)
        planfix.wait_for(lambda crm: told(crm, callid) == ["I101", "M101"])


# the dialplan's socket


def test_a_crowd_at_the_dialplans_socket_harms_no_call(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path, CONTACT_DEADLINE="0.5") as service, ExitStack() as held:
        host, _, port = service.socket_app.rpartition(":")

        def come() -> socket.socket:
            return held.enter_context(socket.create_connection((host, int(port)), PATIENCE))

        crowd = [come() for _ in range(2000)]
        for number, sock in enumerate(crowd):
            with suppress(ConnectionError):
                sock.sendall([b"rubbish\n", b"a" * 1000, b"\0" * 9, b""][number % 4])
        callid = switch.play("in_one_no_answer", speed=0)
        planfix.wait_for(lambda crm: told(crm, callid) == ["I101", "M101"])
        with gevent.Timeout(PATIENCE):
            while True:  # who comes while all places are taken goes on without a name
                with suppress(ConnectionError):
                    if come().recv(64) == b"connect\n\n":
                        break
        assert service.get("/health/ready").status_code == 200


# Planfix's answers

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def whole(body: bytes, more: bytes = b"") -> bytes:
    return HEAD + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


def endless(_: Any) -> Iterator[bytes]:
    yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"10000\r\n" + b"x" * 65536 + b"\r\n"
        gevent.sleep(0)


def drip(_: Any) -> Iterator[bytes]:
    yield HEAD + b"Content-Length: 100000\r\n\r\n{"
    while True:
        yield b" "
        gevent.sleep(0.01)


@contextmanager
def answering(says: Callable[[Any], Iterator[bytes]]) -> Iterator[Client]:
    def serve(sock: socket.socket, peer: Any) -> None:
        with suppress(OSError):
            sock.recv(65536)
            for piece in says(sock):
                sock.sendall(piece)

    server = StreamServer(("127.0.0.1", 0), serve)
    server.start()
    client = Client(f"http://127.0.0.1:{server.server_port}/tel/api", "t", 2)
    yield client
    client.close()
    server.stop(timeout=0)


ANSWERS: dict[str, Callable[[Any], Iterator[bytes]]] = {
    "endless": endless,
    "drip": drip,
    "ten megabytes": lambda _: iter([whole(b'{"contact_name":"' + b"x" * 10_000_000 + b'"}')]),
    "many headers": lambda _: iter([HEAD + b"X: y\r\n" * 100_000 + b"\r\n"]),
    "gzip bomb": lambda _: iter(
        [whole(gzip.compress(b" " * 50_000_000), b"Content-Encoding: gzip\r\n")]
    ),
    "no gzip": lambda _: iter([whole(b"rubbish", b"Content-Encoding: gzip\r\n")]),
    "deep": lambda _: iter([whole(b"[" * 100_000)]),
    "a list": lambda _: iter([whole(b"[]")]),
    "no text": lambda _: iter([whole(b"\xff\xfe\x00")]),
    "not http": lambda _: iter([b"\x00\x1b[2J\r\n\r\n"]),
    "nothing": lambda _: iter([b""]),
    "redirect": lambda _: iter(
        [b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"]
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_no_answer_of_planfix_breaks_or_keeps_who_asks(name: str) -> None:
    with answering(ANSWERS[name]) as client, suppress(TransportError):
        assert client.ask({"cmd": "contact", "phone": "79161234567"}, 1.0) == {}


def test_an_answer_with_odd_signs_is_read(planfix: Planfix) -> None:
    body = b'{"contact_name": "\\u0000\\ud800\\u202e\\u001b[2J", "manager": "101\\n"}'
    with answering(lambda _: iter([whole(body)])) as client:
        assert client.ask({"cmd": "contact"}, PATIENCE)["manager"] == "101\n"
