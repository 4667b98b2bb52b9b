"""Plays calls through two workers on SQLite and then PostgreSQL while parts fail.

Exit code 1 if anything was lost, doubled or out of order. Bounded, and the same for the same seed
up to what the machine's timing makes of it.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402
from random import Random  # noqa: E402

import gevent  # noqa: E402
from gevent.pool import Pool  # noqa: E402

from fsplanfix.errors import StoreError  # noqa: E402
from tests import postgres  # noqa: E402

from . import faults  # noqa: E402
from .stage import Stage  # noqa: E402

RECORDINGS = (
    "group_answered",
    "in_one_answered",
    "in_one_no_answer",
    "blind_transfer_answered",
    "out_answered",
    "queue_answered",
)
SPEED = 4.0
AT_ONCE = 12
LONGEST_DRAIN = 150.0
MUST_BE_ZERO = ("lost", "doubled", "out of order")


@contextmanager
def databases(folder: Path) -> Iterator[dict[str, str]]:
    """Give the address of an empty SQLite file and of an empty, real PostgreSQL."""
    with postgres.server(folder) as address:
        yield {"SQLite": f"sqlite:///{folder}/store.db", "PostgreSQL": address}


class Run:
    """One database's share of the run."""

    def __init__(self, stage: Stage, random: Random, calls: int, slow: bool) -> None:
        self.stage = stage
        self.delays: dict[str, float] = {}
        self._random = random
        self._calls = calls
        self._slow = list(faults.SLOW) if slow else []
        self._watchers: list[gevent.Greenlet[..., None]] = []

    def perform(self) -> float:
        """Play every call while parts fail; return the seconds until nothing was on its way."""
        players = Pool(AT_ONCE)
        breaker = gevent.spawn(self._break_things)
        for _ in range(self._calls):
            switch, recording = (
                self._random.choice(self.stage.switches),
                self._random.choice(RECORDINGS),
            )
            players.spawn(self.stage.play, switch, recording, SPEED)
        players.join()
        self._calls = 0
        breaker.join()
        ended = time.monotonic()
        while not self._is_drained() and time.monotonic() - ended < LONGEST_DRAIN:
            gevent.sleep(0.2)
        gevent.joinall(self._watchers, timeout=5)
        return time.monotonic() - ended

    def _is_drained(self) -> bool:
        try:
            return self.stage.is_drained()
        except StoreError:
            return False

    def _break_things(self) -> None:
        order: list[faults.Fault] = []
        while self._calls:
            if not order:
                order = [*self._random.sample(faults.QUICK, len(faults.QUICK)), *self._slow]
                self._slow = []
            fault = order.pop(0)
            fault(self.stage, self._random)
            self._watchers.append(gevent.spawn(self._watch, fault.__name__, time.time()))
            gevent.sleep(0.5 + self._random.random())

    def _watch(self, name: str, healed: float) -> None:
        """Measure how long what was written before a fault healed took to arrive."""
        while True:
            try:
                oldest = self.stage.queue.backlog().oldest
            except StoreError:
                oldest = 0.0
            if oldest is None or oldest >= healed:
                break
            gevent.sleep(0.1)
        self.delays[name] = max(self.delays.get(name, 0.0), time.time() - healed)


def report(name: str, run: Run, drained: float) -> bool:
    """Print one database's figures; tell whether all that must be zero is."""
    figures = run.stage.figures()
    print(f"\n{name}")
    for what, count in figures.items():
        print(f"  {what:<26}{count:>7}{'   must be 0' if what in MUST_BE_ZERO and count else ''}")
    print(f"  {'drained after the end, s':<26}{drained:>7.1f}")
    for text in run.stage.details:
        print(f"  {text}")
    for fault, delay in sorted(run.delays.items()):
        print(f"  longest delay after {fault.replace('_', ' '):<20}{delay:>6.1f} s")
    return not any(figures[what] for what in MUST_BE_ZERO) and drained < LONGEST_DRAIN


def main() -> int:
    """Run the whole, print the figures, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1000, help="calls for each database")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--quick", action="store_true", help="leave out the faults that heal after 45 s and more"
    )
    options = parser.parse_args()
    fine = True
    with (
        tempfile.TemporaryDirectory(prefix="fsplanfix-chaos-") as name,
        databases(Path(name)) as urls,
    ):
        for database, url in urls.items():
            stage = Stage(Path(name), url)
            try:
                run = Run(stage, Random(options.seed), options.calls, slow=not options.quick)
                fine = report(database, run, run.perform()) and fine
            finally:
                stage.close()
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
