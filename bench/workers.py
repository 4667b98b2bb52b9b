"""Group calls a second that several workers carry on one PostgreSQL, each with a FreeSWITCH.

The stand-ins share this process. It gets a core of its own, so that what they do is not taken from
the workers; the workers and the database share the other cores.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import gevent
import psutil
import psycopg

from . import traffic
from .calls import APART
from .programs import Stage, connector
from .standins import Planfix

CALLS = 240
"""Of all workers together."""


def rate(count: int, store_url: str, calls: int = CALLS) -> float:
    """Return the calls that so many workers carry in a second of the clock."""
    each = calls // count
    planfix = Planfix()
    with ExitStack() as stack:
        stages = [
            stack.enter_context(connector(store_url=store_url, planfix=planfix))
            for _ in range(count)
        ]
        stack.callback(planfix.stop)
        stack.enter_context(apart(stages, store_url))
        streams = [traffic.calls(each, APART, first=n * each) for n in range(count)]
        begun = time.monotonic()
        sending = [
            gevent.spawn(stage.switch.send, stream)
            for stage, stream in zip(stages, streams, strict=True)
        ]
        planfix.wait_for(count * each * traffic.REQUESTS, 120)
        took = time.monotonic() - begun
        gevent.joinall(sending, raise_error=True)
        for stage in stages:
            stage.check(count * each * traffic.REQUESTS)
    return count * each / took


@contextmanager
def apart(stages: Iterable[Stage], store_url: str) -> Iterator[None]:
    """Keep this process on a core of its own, if there are several."""
    cores = os.sched_getaffinity(0)
    own, others = {min(cores)}, cores - {min(cores)}
    if not others:
        yield
        return

    with psycopg.connect(store_url) as connection:
        # connections that are open and those to come: the server begins each
        server = psutil.Process(connection.info.backend_pid).parent()
        beside = [stage.program.seen for stage in stages]
        beside += [server, *server.children()] if server is not None else []
        for process in beside:
            with suppress(psutil.NoSuchProcess):  # a helper of the server's that ended meanwhile
                process.cpu_affinity(list(others))
    os.sched_setaffinity(0, own)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        if server is not None and server.is_running():
            server.cpu_affinity(list(cores))
