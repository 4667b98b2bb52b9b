"""How long health answers take while 20,000 events arrive at once.

Run as `python -m bench.burst ADDRESS` it asks over and over, in a process of its own, until its
input ends; then it prints the longest answer in seconds and how many there were.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time
from functools import cache
from itertools import cycle

from . import traffic

EVENTS = 20_000
PATHS = ("/health/live", "/health/ready")
WARM = 20


def ask(address: str) -> None:
    """Ask until the input ends, a connection for each answer, as a load balancer does.

    The first answers are not counted.
    """
    ended = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    longest, count = 0.0, -WARM
    for path in cycle(PATHS):
        if count == 0:
            longest = 0.0
            print("asking", flush=True)
        begun = time.monotonic()
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("GET", path)
        if connection.getresponse().status != 200:
            raise RuntimeError(f"{path} does not answer 200")
        connection.close()
        longest, count = max(longest, time.monotonic() - begun), count + 1
        if ended.wait(0.01):
            break
    print(longest, count)


@cache
def burst() -> list[traffic.Moment]:
    """Return the events, made once: that takes longer than most rounds."""
    return traffic.calls(EVENTS // len(traffic.recorded(traffic.GROUP)), 0.01)


def longest_answer() -> float:
    """Return the longest answer (s), from the burst's first byte to its last request."""
    from .programs import connector

    moments = burst()
    calls = len({moment.callid for moment in moments})
    with connector() as stage:
        address = stage.program.said(r"web_listening address=http://(\S+)")
        with subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "bench.burst", address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as asker:
            assert asker.stdout is not None  # noqa: S101
            asker.stdout.readline()
            stage.switch.send(moments)
            stage.planfix.wait_for(calls * traffic.REQUESTS, 120)
            longest, count = map(float, asker.communicate()[0].split())
        stage.check(calls * traffic.REQUESTS)
    if count < 100:
        raise RuntimeError(f"only {count:.0f} answers in the whole burst")
    return longest


if __name__ == "__main__":
    ask(sys.argv[1])
