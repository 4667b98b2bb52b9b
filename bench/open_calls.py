"""What 10,000 calls that go on cost: memory each, and CPU for the events beside them.

The pipeline is driven as the service drives it: from an event's bytes to the commit of what it led
to, on SQLite. Each number of open calls has a process of its own; rounds alternate between the two.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import gc  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterable  # noqa: E402

import psutil  # noqa: E402

from fsplanfix.calls.model import Rules  # noqa: E402
from fsplanfix.freeswitch.events import SwitchEvent  # noqa: E402
from fsplanfix.outbox.store import Store  # noqa: E402
from fsplanfix.service import logs  # noqa: E402
from fsplanfix.service.inbox import BATCH  # noqa: E402
from fsplanfix.service.pipeline import Pipeline  # noqa: E402

from . import traffic  # noqa: E402

FEW, MANY = 100, 10_000
CALLS = 120
"""Calls that come and go in a round."""


def feed(pipeline: Pipeline, bodies: Iterable[bytes]) -> int:
    """Let the pipeline take what may share a commit; return how many events that were."""
    count = 0
    for count, body in enumerate(bodies, 1):
        pipeline.inbox.on_event(SwitchEvent(body))
        if count % BATCH == 0:
            pipeline.step()
    if count % BATCH:
        pipeline.step()
    return count


def resident() -> int:
    """Return the resident bytes of this process."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def hold(count: int) -> None:
    """Open calls, print the bytes each takes, then CPU seconds per event for each round."""
    with tempfile.TemporaryDirectory(prefix="fsplanfix-bench-") as folder:
        store = Store(f"sqlite:///{folder}/store.db")
        pipeline = Pipeline("bench", Rules(), store, on_saved=lambda: None)
        feed(pipeline, (moment.body for moment in traffic.calls(CALLS, 0.05, first=0)))
        before = resident()
        feed(pipeline, (moment.body for moment in traffic.ringing(count, first=CALLS)))
        print((resident() - before) / count, flush=True)
        first = CALLS + count
        for _ in sys.stdin:
            bodies = [moment.body for moment in traffic.calls(CALLS, 0.05, first=first)]
            first += CALLS
            begun = time.process_time()
            events = feed(pipeline, bodies)
            print((time.process_time() - begun) / events, flush=True)
        store.close()


class Holder:
    """A process that holds calls open. per_call: bytes of memory."""

    def __init__(self, count: int) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "bench.open_calls", str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.per_call = self._read()

    def _read(self) -> float:
        assert self._process.stdout is not None  # noqa: S101
        return float(self._process.stdout.readline())

    def round(self) -> float:
        """Return the seconds of CPU per event of calls that come and go."""
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


if __name__ == "__main__":
    logs.set_up("INFO")  # as the service does
    hold(int(sys.argv[1]))
