"""ESL events per second of CPU, from socket to an event ready for the tracker.

The stream is made of the recorded calls, subscribed events only. It is sent by a process of its own
over loopback; what is measured is the CPU time of the receiving process.

Ours: all headers that the tracker reads are found in each event, and those it asks of this one are
read. References: stock greenswitch handing a parsed event to an empty handler; framing only
(framing.py); and the leanest framing we know, without a bar.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from itertools import cycle

import gevent
from gevent import monkey, socket

from . import traffic
from .framing import PlainFramer

EVENTS = {"ours": 30_000, "greenswitch": 4_000, "framing": 30_000, "leanest": 30_000}
"""How many are received: about half a second each."""


def asked_by_the_tracker() -> list[tuple[str, ...]]:
    """Return what the tracker asks of each recorded event: it follows all of them, and we look."""
    from fsplanfix.calls.model import Rules
    from fsplanfix.calls.tracker import Tracker
    from fsplanfix.freeswitch.events import SwitchEvent

    class Asked(SwitchEvent):
        def get(self, header: str) -> str:
            if tracking:
                asked[-1].append(header)
            return super().get(header)

    asked: list[list[str]] = []
    tracker = Tracker(Rules())
    for body in traffic.every_trace():
        tracking = False
        event = Asked(body)
        tracking = True
        asked.append([])
        tracker.feed(event)
    return [tuple(names) for names in asked]


def send(count: int) -> None:
    """Send traces, one after the other and again, to whoever logs in; print the port first."""
    frames = [traffic.frame(body) for body in traffic.every_trace()]
    whole, rest = divmod(count, len(frames))
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        sock, _ = server.accept()
        with sock:
            sock.sendall(b"Content-Type: auth/request\n\n")
            sock.recv(4096)
            sock.sendall(b"Content-Type: command/reply\nReply-Text: +OK accepted\n\n")
            for _ in range(whole):
                sock.sendall(b"".join(frames))
            sock.sendall(b"".join(frames[:rest]))
            while sock.recv(4096):
                pass


def ours(count: Callable[[], bool]) -> Callable[[int], None]:
    """Read of each event what the tracker reads of it."""
    from fsplanfix.freeswitch.connection import Connection, Server
    from fsplanfix.freeswitch.events import SwitchEvent

    names = cycle(asked_by_the_tracker())

    def handle(event: SwitchEvent) -> None:
        for name in next(names):
            event.get(name)
        event.ours()
        if count():
            link.down.set()

    link: Connection

    def run(port: int) -> None:
        nonlocal link
        link = Connection(Server("127.0.0.1", port, "ClueCon"), handle)
        link.connect()
        link.down.wait()
        link.sock.close()

    return run


def greenswitch(count: Callable[[], bool]) -> Callable[[int], None]:
    """Do nothing with an event that greenswitch has parsed."""
    from gevent.event import Event
    from greenswitch import InboundESL

    def run(port: int) -> None:
        done = Event()
        esl = InboundESL("127.0.0.1", port, "ClueCon")
        esl.register_handle("*", lambda _: done.set() if count() else None)
        esl.connect()
        done.wait()
        esl._run = False
        esl.sock.close()

    return run


def framing(count: Callable[[], bool]) -> Callable[[int], None]:
    """Read the bytes and cut the frames, their heads read into dicts."""

    def run(port: int) -> None:
        framer = PlainFramer()
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"auth ClueCon\n\n")
            while data := sock.recv(65536):
                for frame in framer.feed(data):
                    if frame.kind == "text/event-plain" and count():
                        return

    return run


def leanest(count: Callable[[], bool]) -> Callable[[int], None]:
    """Read the bytes and cut the frames, nothing more."""

    def run(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"auth ClueCon\n\n")
            file = sock.makefile("rb")
            while True:
                length = 0
                while (line := file.readline()) != b"\n":
                    if line.startswith(b"Content-Length:"):
                        length = int(line[15:])
                if length and file.read(length) and count():
                    return

    return run


RECEIVERS = {"ours": ours, "greenswitch": greenswitch, "framing": framing, "leanest": leanest}


def measure(name: str) -> float:
    """Return events per second of CPU time for one receiver, in this process."""
    left = EVENTS[name]

    def count() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    run = RECEIVERS[name](count)
    command = [sys.executable, "-m", "bench.esl", "send", str(EVENTS[name])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as sender:  # noqa: S603
        assert sender.stdout is not None  # noqa: S101
        port = int(sender.stdout.readline())
        before = time.process_time()
        run(port)
        used = time.process_time() - before
        sender.kill()
    gevent.sleep(0)
    return EVENTS[name] / used


if __name__ == "__main__":
    monkey.patch_all()
    if sys.argv[1] == "send":
        send(int(sys.argv[2]))
    else:
        print(measure(sys.argv[1]))
