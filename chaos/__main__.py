"""Plays calls through three workers on SQLite and then PostgreSQL while parts fail at once.

Exit code 1 if anything was lost, doubled or out of order, or a worker ended unasked. Bounded, and
the same for the same seed up to what the machine's timing makes of it.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections import Counter  # noqa: E402
from collections.abc import Iterator, Sequence  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402
from random import Random  # noqa: E402

import gevent  # noqa: E402
from gevent.pool import Pool  # noqa: E402

from fsplanfix.errors import StoreError  # noqa: E402
from tests.support import postgres  # noqa: E402

from . import faults  # noqa: E402
from .stage import Stage  # noqa: E402

TRACES = (
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
"""Seconds in which something must arrive while anything waits."""

PAUSE = 3.0
"""Seconds between two faults of one group, on average."""

MUST_BE_ZERO = ("calls untold", "lost", "doubled", "out of order", "ended unasked")


@contextmanager
def databases(folder: Path) -> Iterator[dict[str, str]]:
    """Give the address of an empty SQLite file and of an empty, real PostgreSQL."""
    with postgres.server(folder) as address:
        yield {"SQLite": f"sqlite:///{folder}/store.db", "PostgreSQL": address}


class Run:
    """One database's share of the run.

    faults: how often each was done, by its group and name. delays: the longest after each, seconds.
    is_drained: whether nothing was on its way in the end.
    """

    def __init__(self, stage: Stage, seed: int, calls: int, with_slow: bool) -> None:
        self.stage = stage
        self.faults: Counter[tuple[str, str]] = Counter()
        self.delays: dict[str, float] = {}
        self._seed = f"{seed} {stage.database}"
        self._calls = calls
        self._is_over = False
        self.is_drained = False
        self._slow = faults.slow(stage.database) if with_slow else {}
        self._oldest: float | None = None
        self._watchers: list[gevent.Greenlet[..., None]] = []

    def perform(self) -> float:
        """Play every call while parts fail; return the seconds until nothing was on its way."""
        players, random = Pool(AT_ONCE), Random(f"{self._seed} calls")
        looker = gevent.spawn(self._look)
        breakers = [
            gevent.spawn(self._break_things, group, again)
            for group, again in faults.groups(self.stage.database).items()
        ]
        for _ in range(self._calls):
            switch, trace = random.choice(self.stage.switches), random.choice(TRACES)
            players.spawn(self.stage.play, switch, trace, SPEED)
        players.join()
        self._is_over = True
        gevent.joinall(breakers, raise_error=True)
        ended = time.monotonic()
        self.stage.wait_for_history()
        # what lies still for so long is stuck; a busy machine only takes longer
        while not self._is_drained() and self.stage.quiet_for() < LONGEST_DRAIN:
            gevent.sleep(0.2)
        self.is_drained = self._is_drained()
        self.stage.details.extend(self.stage.what_waits())
        gevent.joinall(self._watchers, timeout=5)
        looker.kill()
        return time.monotonic() - ended

    def _is_drained(self) -> bool:
        try:
            return self.stage.is_drained()
        except StoreError:
            return False

    def _break_things(self, group: str, again: Sequence[faults.Fault]) -> None:
        random = Random(f"{self._seed} {group}")
        order: list[faults.Fault] = []
        while not self._is_over:
            gevent.sleep(PAUSE * (0.5 + random.random()))
            if not order:
                order = random.sample(again, len(again))
            share, fault = self._slow.get(group, (1.0, order[0]))
            if group in self._slow and len(self.stage.plays) >= share * self._calls:
                del self._slow[group]
            else:
                fault = order.pop(0)
            if group in ("workers", "store"):
                # on a slow machine none would ever start otherwise
                self.stage.wait_for_workers()
            fault(self.stage, random)
            name = fault.__name__.replace("_", " ")
            self.faults[group, name] += 1
            self._watchers.append(gevent.spawn(self._watch, name, time.time()))

    def _look(self) -> None:
        """Keep an eye on when the oldest notice that waits was written."""
        while True:
            try:
                self._oldest = self.stage.queue.backlog().oldest
            except StoreError:
                self._oldest = 0.0
            gevent.sleep(0.25)

    def _watch(self, name: str, healed: float) -> None:
        """Measure how long what was written before a fault healed took to arrive."""
        gevent.sleep(0.5)
        while self._oldest is not None and self._oldest < healed:
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
    print("  faults by kind" + " " * 18 + "count   longest delay after it, s")
    for (group, fault), count in sorted(run.faults.items()):
        print(f"    {group:<10}{fault:<20}{count:>7}{run.delays.get(fault, LONGEST_DRAIN):>12.1f}")
    print(f"    {'all':<30}{run.faults.total():>7}", flush=True)
    return not any(figures[what] for what in MUST_BE_ZERO) and run.is_drained


def main() -> int:
    """Run the whole, print the figures, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=800, help="calls for each database")
    parser.add_argument("--seed", type=int, default=1, help="printed with the figures")
    parser.add_argument("--logs", type=Path, help="folder in which to leave the workers' logs")
    parser.add_argument("--database", choices=faults.STORE, help="one of them only")
    parser.add_argument(
        "--quick", action="store_true", help="leave out the faults that heal after 15 s and more"
    )
    options = parser.parse_args()
    fine = True
    print(f"seed {options.seed}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="fsplanfix-chaos-") as name,
        databases(Path(name)) as urls,
    ):
        for database, url in urls.items():
            if options.database not in (None, database):
                continue
            stage = Stage(Path(name), database, url, options.seed, options.logs)
            try:
                run = Run(stage, options.seed, options.calls, with_slow=not options.quick)
                fine = report(database, run, run.perform()) and fine
            finally:
                stage.close()
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
