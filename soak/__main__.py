"""Plays 20 group calls a second through the real service and watches it from outside.

Memory, open files, greenlets and the size of the store must be flat once the time is over for which
delivered notices are kept (KEEP_DAYS, here a minute): what is compared is the mean of the first and
of the last fifth after that.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import statistics  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from dataclasses import astuple, dataclass  # noqa: E402

import click  # noqa: E402
import gevent  # noqa: E402

from bench import traffic  # noqa: E402
from bench.programs import Stage, connector  # noqa: E402

from .watched import COUNTED_IN  # noqa: E402

ANSWER = 0.05
"""Seconds Planfix takes to answer."""

MAY_GROW = {
    "memory, MB": (0.05, 3.0),
    "open files": (0.0, 3.0),
    "greenlets": (0.1, 5.0),
    "store, MB": (0.1, 2.0),
}
"""By what part, and by how much on top, the last fifth may be above the first."""


@dataclass(frozen=True)
class Sample:
    """How the service stands, in the order of MAY_GROW."""

    memory: float
    files: float
    greenlets: float
    store: float


def look(stage: Stage) -> Sample:
    """Return how the service stands now."""
    store = sum(file.stat().st_size for file in stage.program.folder.glob("store.db*"))
    greenlets = float((stage.program.folder / COUNTED_IN).read_text() or "0")
    return Sample(stage.program.memory() / 1e6, stage.program.files(), greenlets, store / 1e6)


def play(stage: Stage, rate: float, seconds: float) -> int:
    """Send calls at an even pace; return how many."""
    count = int(rate * seconds)
    piece = max(
        int(rate), 1
    )  # a second's calls at a time: all of them at once would fill this process
    begun = time.monotonic()
    jobs = []
    for first in range(0, count, piece):
        gevent.sleep(max(begun + first / rate - time.monotonic(), 0))
        moments = traffic.calls(min(piece, count - first), 1 / rate, first=first)
        jobs.append(gevent.spawn(stage.switch.send, moments, None, True))
    gevent.joinall(jobs, raise_error=True)
    return count


def report(samples: list[Sample]) -> int:
    """Print the figures; return how many of them grew."""
    fifth = max(len(samples) // 5, 1)
    grown = 0
    print(f"{'':<14}{'first fifth':>12}{'last fifth':>12}{'highest':>10}{'may reach':>11}")
    for (name, (part, more)), values in zip(
        MAY_GROW.items(), zip(*map(astuple, samples), strict=True), strict=True
    ):
        first, last = statistics.mean(values[:fifth]), statistics.mean(values[-fifth:])
        limit = first * (1 + part) + more
        grown += last > limit
        mark = "  grew" if last > limit else ""
        print(f"{name:<14}{first:>12.1f}{last:>12.1f}{max(values):>10.1f}{limit:>11.1f}{mark}")
    return grown


@click.command()
@click.option("--minutes", default=10.0, show_default=True)
@click.option("--rate", default=20.0, show_default=True, help="Group calls a second.")
@click.option("--keep", default=60.0, show_default=True, help="Seconds delivered notices are kept.")
def main(minutes: float, rate: float, keep: float) -> None:
    """Print what the service holds at first and at the end; exit 1 if it grows or loses."""
    seconds, samples = minutes * 60, list[Sample]()
    every = min(2.0, seconds / 60)
    with connector("watched", delay=ANSWER, keep_days=keep / 86400, watch_every=every) as stage:
        before = stage.program.cpu()
        player = gevent.spawn(play, stage, rate, seconds)
        settled = time.monotonic() + min(keep * 2, seconds / 3)
        while not player.ready():
            gevent.sleep(every)
            if time.monotonic() > settled:
                samples.append(look(stage))
        calls = player.get()
        used = stage.program.cpu() - before
        stage.planfix.wait_for(calls * traffic.REQUESTS, 60)
        stage.check(calls * traffic.REQUESTS)
    print(
        f"{calls} calls, {stage.planfix.taken} requests, "
        f"{used / seconds:.0%} of a core, {len(samples)} looks"
    )
    sys.exit(1 if report(samples) else 0)


if __name__ == "__main__":
    main()
