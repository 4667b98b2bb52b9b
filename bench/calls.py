"""Group-ring calls per second, from the event socket's bytes to Planfix's last answer.

The connector is a program of its own between two stand-ins that share this process. Its CPU time is
counted (user and system, all threads) from the first byte of the stream to the last answer; the
database server's is not.
"""

from __future__ import annotations

import time

from . import traffic
from .programs import connector

CALLS = 120
APART = 0.05
"""Seconds between the beginnings of two calls, as recorded: about 200 go on at the same time."""


def rates(name: str, store_url: str = "", count: int = CALLS) -> tuple[float, float]:
    """Return the calls a connector ("plain", "ours") carries in a second of CPU, of the clock."""
    moments = traffic.calls(count, APART)
    with connector(name, store_url) as stage:
        begun, used = time.monotonic(), stage.program.cpu()
        stage.switch.send(moments)
        stage.planfix.wait_for(count * traffic.REQUESTS, 120)
        took, used = time.monotonic() - begun, stage.program.cpu() - used
        stage.check(count * traffic.REQUESTS)
    return count / used, count / took
