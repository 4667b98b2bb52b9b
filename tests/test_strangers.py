"""What strangers try at each border, and what goes on all the same."""

import gzip
import json
import re
import time
import wave
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gevent
import pytest
import requests
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

from fsplanfix.errors import TransportError
from fsplanfix.planfix.api import PlanfixApi
from fsplanfix.recordings.urls import RecordingUrls
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.simulators.playback import freshen, load

from .support.deliveries import told
from .support.peers import frame, log_in, peer, read_command
from .support.service import PATIENCE, running
from .support.traces import by_ext, wanted
from .support.visitor import Visitor

GOOD = "cmd=makeCall&token=pbx-token-1&from=101&to=79161234567"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

# commands over HTTP

LABELS = {'what="token"}', 'outcome="REFUSED"}', 'key="PBX_TOKEN"}'}
"""Of the metrics that bent commands may raise."""


def names_of(numbers: str) -> set[str]:
    """Return the numbers there are, with their labels: what strangers send makes no label."""
    return {line.rpartition(" ")[0] for line in numbers.splitlines() if not line.startswith("#")}


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
        numbers = names_of(service.get("/metrics").text)
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
        more = names_of(service.get("/metrics").text) - numbers
        assert {name.partition("{")[2] for name in more} <= LABELS
        honest = requests.post(
            service.address + "/planfix", data=GOOD, headers=FORM, timeout=PATIENCE
        )
        assert honest.status_code == 200
        service.wait_for("click_to_call")
    assert len(switch.originated) == 1


# recordings


def test_downloads_that_nobody_reads_hold_up_nobody(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with wave.open(str(tmp_path / "long.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16_000_000))
    link = RecordingUrls("", ["key"]).url("c1", str(tmp_path / "long.wav"))
    more = {"SECRET_KEY": "key", "RECORDINGS_DIR": str(tmp_path)}
    with running(switch, planfix, tmp_path, **more) as service, ExitStack() as held:
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
def answering(says: Callable[[Any], Iterator[bytes]]) -> Iterator[PlanfixApi]:
    def serve(sock: socket.socket, peer: Any) -> None:
        with suppress(OSError):
            sock.recv(65536)
            for piece in says(sock):
                sock.sendall(piece)

    server = StreamServer(("127.0.0.1", 0), serve)
    server.start()
    client = PlanfixApi(f"http://127.0.0.1:{server.server_port}/tel/api", "t", 2)
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


def test_no_redirect_of_planfix_is_followed(planfix: Planfix) -> None:
    for code in (301, 302, 303, 307, 308):
        head = b"HTTP/1.1 %d Go\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n"
        elsewhere = head % (code, planfix.url.encode())
        with answering(lambda _, says=elsewhere: iter([says])) as client:  # type: ignore[misc]
            with pytest.raises(TransportError, match=str(code)):
                client.ask({"cmd": "contact", "phone": "79161234567"}, PATIENCE)
            with pytest.raises(TransportError, match=str(code)):
                client.post({"cmd": "event"})
    assert planfix.asked == 0


def test_of_an_answer_without_end_only_the_beginning_is_read() -> None:
    """No time limit ends it here."""
    with (
        answering(endless) as client,
        gevent.Timeout(PATIENCE),
        pytest.raises(TransportError, match="not a JSON object"),
    ):
        client.ask({"cmd": "contact", "phone": "79161234567"}, 10 * PATIENCE)


# event sockets

SUBSCRIBED = b"Content-Type: command/reply\nReply-Text: +OK event listener enabled plain\n\n"


def followed(sock: socket.socket, channels: bytes = b'{"row_count":0}') -> None:
    """Play FreeSWITCH's part until we follow its events."""
    log_in(sock)
    read_command(sock)
    sock.sendall(SUBSCRIBED)
    read_command(sock)
    sock.sendall(frame(channels, b"api/response"))


def odd_events(sock: socket.socket) -> None:
    followed(sock)
    for head in (
        b"Event-Name: CHANNEL_CREATE\nUnique-ID: x\nCall-Direction: inbound\n"
        b"Caller-Caller-ID-Number: 79260000001\nCaller-Destination-Number: 74950000001\n"
        b"Event-Date-Timestamp: 99999999999999999999\n",
        b"Event-Name: CHANNEL_UUID\nOld-Unique-ID: x\nUnique-ID: y\n",
        b"Event-Name: CHANNEL_UUID\nOld-Unique-ID: y\nUnique-ID: x\n",
        b"Event-Name: CHANNEL_BRIDGE\nUnique-ID: x\nOther-Leg-Unique-ID: x\n",
        b"Event-Name: CHANNEL_ANSWER\nUnique-ID: \0\n",
        b"Event-Name: CHANNEL_HANGUP\nUnique-ID: %0A%00\nEvent-Sequence: -1\n",
        b"Event-Name: RECORD_STOP\nUnique-ID: x\nRecord-File-Path: ../../etc/passwd\n",
        b"Event-Name: HEARTBEAT\nEvent-Date-Timestamp: -5\n",
    ):
        sock.sendall(frame(head + b"\n") * 50)


def hostile_head(head: bytes) -> Callable[[socket.socket], None]:
    def script(sock: socket.socket) -> None:
        followed(sock)
        sock.sendall(head)

    return script


SWITCHES: dict[str, Callable[[socket.socket], None]] = {
    "silent": lambda _: None,
    "garbage": lambda sock: sock.sendall(bytes(range(256)) * 4000),
    "a head without end": hostile_head(b"a" * 5_000_000),
    "a length below nothing": hostile_head(
        b"Content-Length: -1\nContent-Type: text/event-plain\n\n"
    ),
    "a length beyond measure": hostile_head(
        b"Content-Length: 999999999999\nContent-Type: text/event-plain\n\n" + b"x" * 1_000_000
    ),
    "channels too deep": lambda sock: followed(sock, b"[" * 100_000),
    "channels of nonsense": lambda sock: followed(sock, b'{"rows": [{"uuid": ["x"]}, 5]}'),
    "answers nobody asked for": hostile_head(
        b"Content-Type: command/reply\nReply-Text: +OK\n\n" * 10_000
    ),
    "odd events": odd_events,
}


def test_an_honest_switch_is_followed_beside_hostile_ones(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    has_come: dict[str, Event] = {name: Event() for name in SWITCHES}
    connected: Counter[str] = Counter()

    def misbehaving(name: str) -> Callable[[socket.socket], None]:
        def script(sock: socket.socket) -> None:
            connected[name] += 1
            try:
                SWITCHES[name](sock)
                has_come[name].set()
                while sock.recv(65536):
                    pass
            finally:
                has_come[name].set()
                connected[name] -= 1

        return script

    with ExitStack() as peers:
        ports = [switch.port]
        ports += [peers.enter_context(peer(misbehaving(name))) for name in SWITCHES]
        all_of_them = ",".join(f"esl://:ClueCon@127.0.0.1:{port}" for port in ports)
        with running(switch, planfix, tmp_path, FREESWITCH_ESL=all_of_them) as service:
            service.wait_for(f"freeswitch_linked server=127.0.0.1:{switch.port}")
            for name, event in has_come.items():
                assert event.wait(PATIENCE), name
            callid = switch.play("group_answered", speed=0)
            planfix.wait_for(lambda crm: len(told(crm, callid)) == len(wanted("group_answered")))
            assert by_ext(told(planfix, callid)) == by_ext(wanted("group_answered"))
            with gevent.Timeout(PATIENCE):
                while max(connected.values()) > 1:  # who is left is left at once
                    gevent.sleep(0.01)
            assert service.get("/health/live").status_code == 200
            assert not re.search("Traceback|crashed", "\n".join(service.log))


# Call-IDs, where FreeSWITCH takes them as UUIDs

CALL_IDS = [
    "1-2@192.0.2.1",
    "<script>alert(1)</script>",
    "'; drop table notices; --",
    "../../etc/passwd",
    "${system(reboot)}",
    "a%2F%0Ab",
    "\x1b[2J\x07",
    "\u202e\u2066x",
    '{"callid":1}',
    "A" * 250,
    "Иванов",
    "x?y=1#z&t",
]


def test_hostile_call_ids_spoil_neither_the_dashboard_nor_the_next_call(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    steps = load("in_one_no_answer")
    first = steps[0].get("Unique-ID")
    with running(switch, planfix, tmp_path, ADMIN_PASSWORD="a-good-password") as service:
        switch.wait_for_subscriber(PATIENCE)
        for callid in CALL_IDS:
            keep = {first: quote(callid, safe="")}
            switch._play(freshen(steps, time.time(), switch.core, keep), 0)
        honest = switch.play("in_one_no_answer", speed=0)
        planfix.wait_for(lambda crm: told(crm, honest) == ["I101", "M101"])
        visitor = Visitor(service)
        visitor.log_in()
        page = visitor.see("/")
        assert f"/calls/{honest}" in page
        assert "<script>alert" not in page
        assert "\x1b" not in page
        for card in planfix.history.cards.values():
            story = visitor.get(f"{service.address}/calls/{quote(card.callid, safe='')}")
            assert story.status_code in (200, 404), card.callid
            assert "<script>alert" not in story.text
        assert "\x1b" not in "\n".join(service.log)
        assert not re.search("Traceback|crashed", "\n".join(service.log))
    assert {"1-2@192.0.2.1", "<script>alert(1)</script>", "A" * 250} <= set(planfix.history.cards)
    assert planfix.history.surprises == []
