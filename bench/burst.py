"""How long health answers take while 20,000 events arrive at once, and while the store is locked.

Run as `python -m bench.burst ADDRESS` it asks over and over, in a process of its own, until its
input ends; then it prints the longest answer in seconds and how many there were. With `unready` as
a second word /health/ready may answer 503.
"""

from __future__ import annotations

import http.client
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import cycle

import gevent

from . import traffic
from .programs import Stage, connector

EVENTS = 20_000
LIVE, READY = "/health/live", "/health/ready"
WARM = 20
A_SECOND = 20
"""Calls, while the store is locked."""

LOCKED = 30.0
"""Seconds another process keeps the store locked."""


def ask(address: str, may_be_unready: bool) -> None:
    """Ask until the input ends, a connection for each answer, as a load balancer does.

    The first answers are not counted. may_be_unready: the store cannot be written.
    """
    allowed = {LIVE: (200,), READY: (200, 503) if may_be_unready else (200,)}
    ended = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    longest, count = 0.0, -WARM
    for path in cycle(allowed):
        if count == 0:
            longest = 0.0
            print("asking", flush=True)
        begun = time.monotonic()
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("GET", path)
        if (status := connection.getresponse().status) not in allowed[path]:
            raise RuntimeError(f"{path} answers {status}")
        connection.close()
        longest, count = max(longest, time.monotonic() - begun), count + 1
        if ended.wait(0.01):
            break
    print(longest, count)


@cache
def burst() -> list[traffic.Moment]:
    """Return the events, made once: that takes longer than most rounds."""
    return traffic.calls(EVENTS // len(traffic.recorded(traffic.GROUP)), 0.01)


@dataclass
class Answers:
    """What health answered. longest: in seconds."""

    longest: float = 0.0
    count: int = 0


@contextmanager
def asked(stage: Stage, *words: str) -> Iterator[Answers]:
    """Ask a service for its health meanwhile, from another process."""
    address = stage.program.said(r"web_listening address=http://(\S+)")
    found = Answers()
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "bench.burst", address, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as asker:
        assert asker.stdout is not None  # noqa: S101
        asker.stdout.readline()
        yield found
        longest, count = asker.communicate()[0].split()
        found.longest, found.count = float(longest), int(count)
    if found.count < 100:
        raise RuntimeError(f"only {found.count} answers")


def longest_answer() -> float:
    """Return the longest answer (s), from the burst's first byte to its last request."""
    moments = burst()
    calls = len({moment.callid for moment in moments})
    with connector() as stage:
        with asked(stage) as found:
            stage.switch.send(moments)
            stage.planfix.wait_for(calls * traffic.REQUESTS, 120)
        stage.check(calls * traffic.REQUESTS)
    return found.longest


def longest_while_locked(seconds: float = LOCKED) -> float:
    """Return the longest answer (s) while another process keeps the store locked.

    Calls go on meanwhile. Raises RuntimeError unless each of their requests comes once afterwards.
    """
    calls = int(A_SECOND * seconds)
    with connector() as stage:
        file = stage.program.folder / "store.db"
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with asked(stage, "unready") as found:
                ends = gevent.spawn(gevent.sleep, seconds)
                sending = gevent.spawn(
                    stage.switch.send, traffic.calls(calls, 1 / A_SECOND), None, True
                )
                ends.get()
            if stage.planfix.taken:
                raise RuntimeError("the store was not locked")
            other.execute("ROLLBACK")
        sending.get()
        stage.planfix.wait_for(calls * traffic.REQUESTS, 120)
        stage.check(calls * traffic.REQUESTS)
    return found.longest


if __name__ == "__main__":
    ask(sys.argv[1], "unready" in sys.argv[2:])
