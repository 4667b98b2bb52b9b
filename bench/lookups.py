"""Calls held by the socket application: 200 a second, while Planfix takes 200 ms to say who calls.

Each gets a ring: our history and FreeSWITCH are asked, too.

The service runs as a program of its own; the stand-ins for FreeSWITCH and Planfix share this
process. A call's added delay is the time from its connection to the moment the service lets it go.
Planfix's own time is taken at the stand-in, from the request's arrival to its answer.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import gc  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import gevent  # noqa: E402

from fsplanfix.simulators.channel import Channel, Phones  # noqa: E402
from fsplanfix.simulators.dialplan import Dialplan  # noqa: E402
from fsplanfix.simulators.freeswitch import Switch  # noqa: E402
from fsplanfix.simulators.planfix import Planfix  # noqa: E402
from tests.support.service import running  # noqa: E402

A_SECOND = 200
SECONDS = 10
PLANFIX_TAKES = 0.2
OF_THE_DIALPLAN = {"socket_resume": "true", "planfix_group": "101,102,103"}


def p99(values: list[float]) -> float:
    """Return the value that 99 of 100 do not exceed."""
    return statistics.quantiles(values, n=100)[98]


def load(switch: Switch, address: str, first: int, count: int) -> list[Channel]:
    """Send calls of different clients at an even pace; return them when all are over."""
    begun, jobs, calls = time.monotonic(), [], []
    for n in range(count):
        gevent.sleep(max(begun + n / A_SECOND - time.monotonic(), 0))
        caller = f"7916{first + n:07}"
        calls.append(
            Channel(switch, Dialplan([], {}), Phones(), caller, "74950000001", **OF_THE_DIALPLAN)
        )
        jobs.append(gevent.spawn(calls[-1]._socket, f"{address} async full"))
    gevent.joinall(jobs, raise_error=True)
    return calls


def measure(seconds: float = SECONDS) -> tuple[float, float, float]:
    """Return three p99 in ms: Planfix's own time, the delay of a call, and of a known number.

    Raises RuntimeError if a caller did not get the name and a ring.
    """
    count = int(A_SECOND * seconds)
    switch, planfix = Switch(), Planfix(token="planfix-token")  # noqa: S106 - a stand-in's
    planfix.delay = PLANFIX_TAKES
    planfix.contacts = {
        f"7916{n:07}": {"contact_name": f"Client {n}", "manager": "102"} for n in range(2 * count)
    }
    planfix.start()
    switch.start()
    with (
        tempfile.TemporaryDirectory(prefix="fsplanfix-bench-") as folder,
        running(switch, planfix, Path(folder)) as service,
    ):
        load(
            switch, service.socket_app, count, A_SECOND // 2
        )  # a service that has run for a minute is connected
        planfix.received.clear()
        asked = load(switch, service.socket_app, 0, count)
        theirs = [item.at - item.came for item in planfix.received]
        cached = load(switch, service.socket_app, 0, count)
    switch.stop()
    planfix.stop()
    wanted = {"planfix_contact_name", "planfix_ring"}
    named = [call for call in asked + cached if wanted <= set(call.variables)]
    if len(named) != 2 * count or len(theirs) != count:
        raise RuntimeError(
            f"{len(named)} of {2 * count} callers got their names and a ring, "
            f"Planfix was asked {len(theirs)} times"
        )
    return (
        p99(theirs) * 1000,
        p99([call.held for call in asked]) * 1000,
        p99([call.held for call in cached]) * 1000,
    )


if __name__ == "__main__":
    gc.disable()  # the stand-ins' collections are not the service's
    print(*measure(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS))
