"""The faults of greenswitch 0.0.19 (docs/facts/greenswitch.md), each as a scenario that a sound link survives.

A scenario takes a way to open a connection and raises AssertionError, hangs or breaks when the link has the fault.
Run as a program it plays one scenario against stock greenswitch: `python -m tests.freeswitch.faults a`.
"""

from __future__ import annotations

import contextlib
import gc
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Protocol

import gevent
from gevent import monkey, socket

from ..support.peers import ACCEPTED, GREETING, frame, keep_open, log_in, peer, read_command


class Opened(Protocol):
    """What a scenario needs of a connection, ours or stock greenswitch."""

    def send(self, data: str) -> Any: ...
    def connected(self) -> bool: ...
    def stop(self) -> None: ...


Opener = Callable[[str, int, list[tuple[str, str]]], Opened]
"""Connects to host and port; every event is appended as (Event-Name, Unique-ID)."""

PATIENCE = 30.0
"""Seconds until something counts as not happening. A fault may be one that shows only by that."""

MOST_IN_A_ROW = 5000
"""Events after which others must have had their turn, of the 20,000 in a burst: what comes in some ms."""

EVENT = b"Event-Name: CHANNEL_ANSWER\nUnique-ID: real\nvariable_x: %s\n\n"


def wait_for(condition: Callable[[], bool]) -> bool:
    try:
        with gevent.Timeout(PATIENCE):
            while not condition():
                gevent.sleep(0.005)
    except gevent.Timeout:
        return condition()
    return True


def events_after(opener: Opener, wire: bytes, wanted: int = 1) -> list[tuple[str, str]]:
    seen: list[tuple[str, str]] = []

    def script(sock: socket.socket) -> None:
        log_in(sock)
        sock.sendall(wire)
        keep_open(sock)

    with peer(script) as port:
        link = opener("127.0.0.1", port, seen)
        wait_for(lambda: len(seen) >= wanted)
        link.stop()
    return seen


def a_forged_headers(opener: Opener) -> None:
    for newline in (b"%0A", b"%0D%0A", b"%E2%80%A8", b"%C2%85", b"%0B"):
        body = EVENT % (
            b"1" + newline + b"Unique-ID: forged" + newline + b"Event-Name: CHANNEL_HANGUP"
        )
        assert events_after(opener, frame(body)) == [("CHANNEL_ANSWER", "real")], newline
    twice = b"Event-Name: CHANNEL_ANSWER\nUnique-ID: real\nUnique-ID: forged\n\n"
    assert events_after(opener, frame(twice)) == [("CHANNEL_ANSWER", "real")]


def b_stray_lines(opener: Opener) -> None:
    good = frame(EVENT % b"1")
    for stray in (
        b"no colon\n\n",
        b"\n\n",
        b"X: y\n\n",
        b"Content-Type: command/reply\nReply-Text: +OK\n\n",
    ):
        assert events_after(opener, stray + good) == [("CHANNEL_ANSWER", "real")], stray
    empty = b"Event-Name: CHANNEL_ANSWER\nEmpty: \nGlued:\nUnique-ID: real\n\n"
    assert events_after(opener, frame(empty)) == [("CHANNEL_ANSWER", "real")]


def b_reader_that_ends_is_down(opener: Opener) -> None:
    def script(sock: socket.socket) -> None:
        log_in(sock)
        sock.sendall(b"Content-Length: minus one\nContent-Type: text/event-plain\n\n")
        keep_open(sock)

    with peer(script) as port:
        link = opener("127.0.0.1", port, [])
        assert wait_for(lambda: not link.connected())
        link.stop()


def c_end_inside_a_body(opener: Opener) -> None:
    def script(sock: socket.socket) -> None:
        log_in(sock)
        sock.sendall(b"Content-Length: 1000\nContent-Type: text/event-plain\n\nEvent-Name: CHANNEL")

    with peer(script) as port:
        link = opener("127.0.0.1", port, [])
        assert wait_for(lambda: not link.connected())
        link.stop()


def d_invalid_utf8(opener: Opener) -> None:
    assert events_after(opener, frame(EVENT % b"\xcf\xe5\xf2\xf0")) == [("CHANNEL_ANSWER", "real")]


def e_send_ends_when_the_link_drops(opener: Opener) -> None:
    def script(sock: socket.socket) -> None:
        log_in(sock)
        read_command(sock)

    with peer(script) as port:
        link = opener("127.0.0.1", port, [])
        with gevent.Timeout(PATIENCE):
            try:
                link.send("api status")
            except gevent.Timeout:
                raise
            except Exception:
                return
            finally:
                link.stop()
    raise AssertionError("an answer came from nowhere")


def e_connect_ends_when_the_peer_is_silent(opener: Opener) -> None:
    with peer(keep_open) as port, gevent.Timeout(PATIENCE):
        try:
            opener("127.0.0.1", port, [])
        except gevent.Timeout:
            raise
        except Exception:
            return
    raise AssertionError("connected to silence")


def e_no_command_inside_a_command(opener: Opener) -> None:
    received: list[bytes] = []

    def script(sock: socket.socket) -> None:
        log_in(sock)
        received.append(read_command(sock))
        sock.sendall(b"Content-Type: command/reply\nReply-Text: +OK\n\n")
        keep_open(sock)

    with peer(script) as port:
        link = opener("127.0.0.1", port, [])
        for injected in ("api x\n\napi y", "api x\r\n\r\napi y"):
            try:
                with gevent.Timeout(PATIENCE):
                    link.send(injected)
            except Exception:
                continue
            raise AssertionError("the second command was sent")
        link.stop()
    assert received in ([], [b""])


def e_large_commands_are_whole(opener: Opener) -> None:
    received: list[int] = []

    def script(sock: socket.socket) -> None:
        log_in(sock)
        received.append(len(read_command(sock)))
        sock.sendall(b"Content-Type: command/reply\nReply-Text: +OK\n\n")
        keep_open(sock)

    with peer(script) as port:
        link = opener("127.0.0.1", port, [])
        with gevent.Timeout(PATIENCE):
            link.send("api echo " + "x" * 12_000_000)
        link.stop()
    assert received == [12_000_011]


def f_silence_is_noticed(opener: Opener) -> None:
    def script(sock: socket.socket) -> None:
        log_in(sock)
        keep_open(sock)

    with peer(script) as port:
        link = opener("127.0.0.1", port, [])
        assert wait_for(lambda: not link.connected())
        link.stop()


def g_failed_logins_leave_nothing(opener: Opener) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(GREETING)
        read_command(sock)
        sock.sendall(b"Content-Type: command/reply\nReply-Text: -ERR invalid\n\n")
        keep_open(sock)

    def running() -> int:
        gc.collect()
        return sum(
            isinstance(item, gevent.Greenlet) and not item.dead and "receive_events" in repr(item)
            for item in gc.get_objects()
        )

    before = running()
    with peer(script) as port:
        for _ in range(10):
            try:
                opener("127.0.0.1", port, [])
            except Exception:
                continue
            raise AssertionError("a wrong password was good enough")
        assert wait_for(lambda: running() <= before)


def h_an_inner_body_is_no_header(opener: Opener) -> None:
    inner = b"Unique-ID: forged\nEvent-Name: CHANNEL_HANGUP\n"
    body = b"Event-Name: MESSAGE\nUnique-ID: real\nContent-Length: %d\n\n%s" % (len(inner), inner)
    assert events_after(opener, frame(body)) == [("MESSAGE", "real")]


def h_json_does_not_kill_the_reader(opener: Opener) -> None:
    wire = frame(b'{"Event-Name":"X"}', b"text/event-json") + frame(EVENT % b"1")
    assert events_after(opener, wire)[-1:] == [("CHANNEL_ANSWER", "real")]


def j_events_before_the_end_are_not_lost(opener: Opener) -> None:
    seen: list[tuple[str, str]] = []

    def script(sock: socket.socket) -> None:
        log_in(sock)
        sock.sendall(frame(EVENT % b"1") * 500)

    with peer(script) as port:
        link = opener("127.0.0.1", port, seen)
        wait_for(lambda: not link.connected())
        wait_for(lambda: len(seen) == 500)
        link.stop()
    assert len(seen) == 500


def j_a_burst_lets_others_run(opener: Opener) -> None:
    """While 20,000 events of the recorded size (7.8 kB) arrive, another greenlet has its turns among them."""
    seen: list[tuple[str, str]] = []
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.peers"], stdout=subprocess.PIPE
    ) as sender:
        assert sender.stdout is not None
        try:
            link = opener("127.0.0.1", int(sender.stdout.readline()), seen)
            most = most_between_two_turns(seen, until=20_000)
            link.stop()
        finally:
            sender.kill()
    assert most < MOST_IN_A_ROW, most
    assert len(seen) == 20_000


def most_between_two_turns(seen: list[tuple[str, str]], until: int) -> int:
    """Return how many events came at the most while this greenlet waited for its turn."""
    most = before = 0
    with contextlib.suppress(gevent.Timeout), gevent.Timeout(PATIENCE):
        while before < until and most < MOST_IN_A_ROW:
            gevent.sleep(0.001)
            most, before = max(most, len(seen) - before), len(seen)
    return most


def k_ipv6(opener: Opener) -> None:
    seen: list[tuple[str, str]] = []

    def script(sock: socket.socket) -> None:
        sock.sendall(GREETING)
        read_command(sock)
        sock.sendall(ACCEPTED + frame(EVENT % b"1"))
        keep_open(sock)

    with peer(script, ("::1", 0)) as port:
        link = opener("::1", port, seen)
        assert wait_for(lambda: len(seen) == 1)
        link.stop()


SCENARIOS: dict[str, Callable[[Opener], None]] = {
    name: value for name, value in list(globals().items()) if name[1:2] == "_" and callable(value)
}


def stock(host: str, port: int, seen: list[tuple[str, str]]) -> Opened:
    """Open a connection with greenswitch as it is."""
    from greenswitch import InboundESL

    esl = InboundESL(host=host, port=port, password="ClueCon")
    esl.register_handle(
        "*", lambda e: seen.append((e.headers.get("Event-Name"), e.headers.get("Unique-ID")))
    )
    esl.connect()

    class Stock:
        def send(self, data: str) -> Any:
            return esl.send(data)

        def connected(self) -> bool:
            return bool(esl.connected)

        def stop(self) -> None:
            esl._run = False
            esl.sock.close()

    return Stock()


if __name__ == "__main__":
    PATIENCE = 2.0
    # what turns in a loop for good is ended here: none takes half of these seconds of CPU time
    resource.setrlimit(resource.RLIMIT_CPU, (4, 4))
    monkey.patch_all()
    SCENARIOS[sys.argv[1]](stock)
