"""Group-ring calls per second of CPU: from the event socket's bytes to Planfix's answer to the last request.

The connector is a program of its own between two stand-ins that share this process. Its CPU time is counted (user and
system, all threads) from the first byte of the stream to the last answer; the database server's is not.
"""

from __future__ import annotations

from . import traffic
from .programs import connector

CALLS = 120
APART = 0.05
"""Seconds between the beginnings of two calls, as recorded: about 200 go on at the same time."""

REQUESTS = 8
"""Of a call: three INCOMING, ACCEPTED, two Canceled, Success, record."""


def per_second(name: str, store_url: str = "", count: int = CALLS) -> float:
    """Return the calls that one core of a connector ("plain" or "ours") carries in a second."""
    moments = traffic.calls(count, APART)
    with connector(name, store_url) as stage:
        begun = stage.program.cpu()
        stage.switch.send(moments)
        stage.planfix.wait_for(count * REQUESTS, 120)
        took = stage.program.cpu() - begun
        stage.check(count * REQUESTS)
    return count / took
