"""The lines of the table, and the rounds in which what stands in them is taken."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

ROUNDS = 5


@dataclass
class Row:
    """A line of the table.

    ours, theirs: as measured. bar: what the ratio, or without a reference ours, must keep to. None:
    nothing. at_least: whether the bar is a least value, or the most that is allowed.
    """

    what: str
    unit: str
    ours: float
    reference: str
    theirs: float | None
    ratio: float | None
    bar: float | None
    at_least: bool = False

    @property
    def missed(self) -> bool:
        """Tell whether the bar is missed."""
        if self.bar is None:
            return False
        value = self.ours if self.ratio is None else self.ratio
        return value < self.bar if self.at_least else value > self.bar

    def __str__(self) -> str:
        theirs = (
            f"{self.reference} {number(self.theirs)}" if self.theirs is not None else self.reference
        )
        ratio = f"{self.ratio:.2f}" if self.ratio is not None else ""
        bar = ""
        if self.bar is not None:
            sign = ">=" if self.at_least else "<="
            times = " x" if self.ratio is not None else ""
            bar = f"{sign} {self.bar:g}{times}"
        ours = f"{number(self.ours):>7} {self.unit:<5}"
        return f"{self.what:<38}{ours}{theirs:<20}{ratio:>6} {bar:>9}{' !' * self.missed}".rstrip()


def number(value: float) -> str:
    """Return a figure with three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


@dataclass
class Rounds:
    """Takes measurements in turn, round by round."""

    count: int
    taken: dict[str, list[float]] = field(default_factory=dict)

    def take(self, measures: Mapping[str, Callable[[], float]]) -> None:
        """Measure everything in every round, one after the other."""
        for _ in range(self.count):
            for name, measure in measures.items():
                self.taken.setdefault(name, []).append(measure())

    def median(self, name: str) -> float:
        """Return the median of what was measured."""
        return statistics.median(self.taken[name])

    def ratio(self, ours: str, theirs: str) -> float:
        """Return the median of the rounds' ratios."""
        return statistics.median(
            a / b for a, b in zip(self.taken[ours], self.taken[theirs], strict=True)
        )

    def added(self, more: str, less: str) -> float:
        """Return the median of the rounds' differences."""
        return statistics.median(
            a - b for a, b in zip(self.taken[more], self.taken[less], strict=True)
        )


def alone(module: str, *words: str) -> str:
    """Run a measurement in a process of its own; return what it prints."""
    command = [sys.executable, "-m", f"bench.{module}", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
