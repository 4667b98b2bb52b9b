"""ESL events per second of CPU, from socket to handler.

The stream is made of the recorded calls, subscribed events only. It is sent by a process of its own over loopback;
what is measured is the CPU time of the receiving process. References: stock greenswitch handing a parsed event to an
empty handler, and framing only (read the bytes, cut the frames).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import gevent
from gevent import monkey, socket

EVENTS = 6000
TRACES = Path(__file__).parent.parent / "tests" / "traces"


def stream() -> bytes:
    """Return EVENTS frames made of the recorded calls."""
    from fsplanfix.calls.model import Rules
    from fsplanfix.calls.tracker import Tracker
    from fsplanfix.freeswitch.events import SwitchEvent
    from fsplanfix.replay import read_trace

    wanted = set(Tracker(Rules()).event_names)
    bodies = [
        body.encode()
        for path in sorted(TRACES.glob("*.jsonl.gz"))
        for _, body in read_trace(path)
        if SwitchEvent(body.encode()).name in wanted
    ]
    frames = [b"Content-Length: %d\nContent-Type: text/event-plain\n\n%s" % (len(body), body) for body in bodies]
    return b"".join(frames[n % len(frames)] for n in range(EVENTS))


def send() -> None:
    """Send the stream to whoever logs in; print the port first."""
    data = stream()
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        sock, _ = server.accept()
        with sock:
            sock.sendall(b"Content-Type: auth/request\n\n")
            sock.recv(4096)
            sock.sendall(b"Content-Type: command/reply\nReply-Text: +OK accepted\n\n" + data)
            while sock.recv(4096):
                pass


def ours(port: int, count: Callable[[], bool]) -> None:
    """Hand each event, cut off and named, to a handler that does nothing more."""
    from fsplanfix.freeswitch.events import SwitchEvent
    from fsplanfix.freeswitch.link import Connection, Server

    def handle(event: SwitchEvent) -> None:
        if event.name and count():
            link.down.set()

    link = Connection(Server("127.0.0.1", port, "ClueCon"), handle)
    link.connect()
    link.down.wait()
    link.sock.close()


def stock(port: int, count: Callable[[], bool]) -> None:
    """Do nothing with an event that greenswitch has parsed."""
    from gevent.event import Event
    from greenswitch import InboundESL

    done = Event()
    esl = InboundESL("127.0.0.1", port, "ClueCon")
    esl.register_handle("*", lambda _: done.set() if count() else None)
    esl.connect()
    done.wait()
    esl._run = False
    esl.sock.close()


def framing(port: int, count: Callable[[], bool]) -> None:
    """Read the bytes and cut the frames."""
    from fsplanfix.freeswitch.frames import Framer

    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"auth ClueCon\n\n")
        framer = Framer()
        while data := sock.recv(65536):
            for frame in framer.feed(data):
                if frame.kind == "text/event-plain" and count():
                    return


RECEIVERS = {"ours": ours, "greenswitch": stock, "framing": framing}


def measure(name: str) -> float:
    """Return events per second of CPU time for one receiver, in this process."""
    with subprocess.Popen([sys.executable, "-m", "bench.esl", "send"], stdout=subprocess.PIPE) as sender:
        assert sender.stdout is not None  # noqa: S101
        port = int(sender.stdout.readline())
        left = EVENTS

        def count() -> bool:
            nonlocal left
            left -= 1
            return left == 0

        before = time.process_time()
        RECEIVERS[name](port, count)
        used = time.process_time() - before
        sender.kill()
    gevent.sleep(0)
    return EVENTS / used


if __name__ == "__main__":
    monkey.patch_all()
    if sys.argv[1] == "send":
        send()
    else:
        print(measure(sys.argv[1]))
