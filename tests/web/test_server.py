"""The web server over real sockets: every wait has an end, strangers cannot take every place."""

import resource
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import gevent
import phonenumbers
import pytest
from gevent import socket
from gevent.event import Event
from structlog.testing import capture_logs

from fsplanfix.calls import numbers
from fsplanfix.service import file_limits
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.web import server as web_server
from fsplanfix.web.server import Bounds, WebServer

from ..support.deliveries import told
from ..support.service import PATIENCE, Service, settings_for, started

HALF = b"POST /planfix HTTP/1.1\r\nHost: x\r\nContent-"
WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HALF_A_BODY = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"


def echo(environ: dict[str, Any], start: Any) -> list[bytes]:
    body = environ["wsgi.input"].read()
    start("200 OK", [("Content-Length", str(len(body) + 2))])
    return [b"ok" + body]


@contextmanager
def serving(application: Any = echo, host: str = "127.0.0.1", **bounds: float) -> Iterator[Any]:
    """A server; gives what connects to it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family)
    server = WebServer(listener, application, Bounds(**bounds))  # type: ignore[arg-type]
    server.start()
    address = listener.getsockname()[:2]
    with ExitStack() as held:

        def connect(says: bytes = b"", source: str = "") -> socket.socket:
            mine = (source, 0) if source else None
            sock = socket.create_connection(address, timeout=PATIENCE, source_address=mine)
            held.callback(sock.close)
            sock.sendall(says)
            return sock

        yield connect
        server.stop(timeout=0)


def all_of(sock: socket.socket) -> bytes:
    """Everything until the server ends the connection."""
    said = b""
    with suppress(ConnectionError):
        while received := sock.recv(65536):
            said += received
    return said


def code(sock: socket.socket) -> bytes:
    return sock.recv(65536)[9:12]


def test_two_thousand_half_open_connections_change_nothing(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    service = Service(tmp_path, settings_for(switch, planfix, tmp_path), files=1024)
    with started(service), ExitStack() as held:
        host, _, port = service.address.removeprefix("http://").rpartition(":")
        for _ in range(2000):
            sock = held.enter_context(socket.create_connection((host, int(port)), PATIENCE))
            with suppress(ConnectionError):  # others came after it
                sock.sendall(HALF)
        assert service.get("/health/ready").status_code == 200
        callid = switch.play("in_one_no_answer", speed=0)
        planfix.wait_for(lambda crm: told(crm, callid) == ["I101", "M101"])
        assert service.click(token="pbx-token-1").status_code == 400


@pytest.mark.parametrize("says", [HALF, WHOLE[:7], WHOLE[:-2], HALF_A_BODY])
def test_a_request_that_never_ends_is_ended(says: bytes) -> None:
    with serving(request=0.05) as connect:
        assert b" 200 " not in all_of(connect(says))


def test_a_chunk_that_never_ends_is_ended() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for body in (b"FFFFFFFF\r\nabc", b"1\r\na\r\n0\r\nTrailer", b"3;" + b"x" * 100):
        with serving(request=0.05) as connect:
            assert b" 200 " not in all_of(connect(head + body))


def test_a_silent_connection_is_ended() -> None:
    with serving(quiet=0.05) as connect:
        assert all_of(connect()) == b""
        assert all_of(connect(WHOLE)).endswith(b"ok")


def test_an_answer_that_nobody_takes_is_ended() -> None:
    ended = Event()

    def endless(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
        start("200 OK", [])
        try:
            while True:
                yield b"x" * 65536
        finally:
            ended.set()

    with serving(endless, quiet=0.05) as connect:
        connect(WHOLE)
        assert ended.wait(PATIENCE)


def test_an_answer_may_take_as_long_as_it_wants() -> None:
    go_on = Event()

    def slow(environ: dict[str, Any], start: Any) -> list[bytes]:
        go_on.wait()
        return echo(environ, start)

    with serving(slow, request=0.02) as connect:
        sock = connect(WHOLE)
        gevent.spawn_later(0.1, go_on.set)
        assert code(sock) == b"200"
        sock.sendall(WHOLE)
        assert code(sock) == b"200"


def test_who_waits_longest_makes_room_for_who_comes() -> None:
    with serving(in_all=3) as connect:
        first, second, third = connect(HALF), connect(HALF_A_BODY), connect()
        fourth = connect(WHOLE)
        assert code(fourth) == b"200"
        assert all_of(first) == b""
        second.sendall(b"defghi")
        assert code(second) == b"200"
        third.sendall(WHOLE)
        assert code(third) == b"200"


def test_a_stranger_keeps_only_his_own_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "is_loopback", lambda peer: peer == "127.0.0.1")
    with serving(in_all=10, per_peer=2) as connect:
        proxied = [connect(HALF) for _ in range(4)]
        mine = [connect(HALF, source="127.0.0.2") for _ in range(3)]
        assert all_of(mine[0]) == b""
        for sock in [*proxied, *mine[1:]]:
            sock.sendall(b"Length: 0\r\n\r\n")
            assert code(sock) == b"200"


def test_where_all_are_being_answered_one_more_is_turned_away() -> None:
    go_on = Event()

    def slow(environ: dict[str, Any], start: Any) -> list[bytes]:
        go_on.wait()
        return echo(environ, start)

    with serving(slow, in_all=2) as connect:
        held = [connect(WHOLE), connect(WHOLE)]
        assert all_of(connect(WHOLE)) == b""
        go_on.set()
        assert [code(sock) for sock in held] == [b"200"] * 2


@pytest.mark.parametrize(
    "says",
    [
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n",
        b"GET / HTTP/1\r\n\r\n",
        b"GET / HTTP/x.y\r\n\r\n",
        b"GET / HTTP/\r\n\r\n",
        b"\r\n\r\n",
        b"\0\x1b[2J\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"no colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n: empty\r\n\r\n",
        b"GET / HTTP/1.1\r\n\xff\x00: \x0b\x85\r\n\r\n",
    ],
)
def test_a_bent_request_is_answered_without_a_word_in_the_log(
    says: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(request=5) as connect:
        sock = connect(says)
        sock.shutdown(socket.SHUT_WR)
        assert all_of(sock)[9:10] in (b"4", b"2")
        assert code(connect(WHOLE)) == b"200"
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_a_reader_that_goes_is_no_mistake_of_ours_and_a_mistake_is_one_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    left = Event()

    def endless(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
        start("200 OK", [])
        try:
            while True:
                yield b"x" * 65536
                gevent.sleep(0)
        finally:
            left.set()

    def wrong(environ: dict[str, Any], start: Any) -> list[bytes]:
        raise KeyError("a mistake")

    with serving(endless) as connect:
        sock = connect(WHOLE)
        sock.recv(10)
        sock.close()
        assert left.wait(PATIENCE)
    with serving(wrong) as connect, capture_logs() as logged:
        assert code(connect(WHOLE)) == b"500"
    assert [(line["event"], line["component"]) for line in logged] == [("crashed", "web")]
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err


def test_a_kept_connection_answers_again_and_again() -> None:
    with serving() as connect:
        sock = connect()
        for _ in range(3):
            sock.sendall(WHOLE)
            assert code(sock) == b"200"
        sock.sendall(WHOLE * 2)
        assert all_of_length(sock, 2)


def all_of_length(sock: socket.socket, answers: int) -> bool:
    said = b""
    while said.count(b"HTTP/1.1 200") < answers:
        said += sock.recv(65536)
    return True


def test_files_are_asked_for_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(1024, 1024)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, given: limits.append(given))
    infinite = resource.RLIM_INFINITY
    for found, asked, spare in [
        ((1024, 1024), (1024, 1024), 768),
        ((256, 256), (256, 256), 128),
        ((1024, 1_000_000), (8192, 1_000_000), 7936),
        ((1024, infinite), (8192, infinite), 7936),
        ((20_000, 30_000), (20_000, 30_000), 19_744),
        ((infinite, infinite), (infinite, infinite), 7936),
    ]:
        limits.append(found)
        assert file_limits.spare() == spare
        assert limits[-1] == asked


def test_what_is_known_of_the_countries_is_read_at_the_start() -> None:
    numbers.load()
    data = Path(phonenumbers.__file__).parent
    for folder in ("data", "shortdata"):
        wanted = {f"phonenumbers.{folder}.{path.stem}" for path in (data / folder).glob("region_*")}
        assert wanted
        assert wanted <= set(sys.modules)
