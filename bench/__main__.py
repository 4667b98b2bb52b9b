"""Runs every measurement in rounds, interleaved, and prints the medians."""

from __future__ import annotations

import statistics
import subprocess
import sys

ROUNDS = 5
BARS = (("events/s, socket to handler", "greenswitch", 8.0), ("events/s, socket to handler", "framing", 0.4))


def once(name: str) -> float:
    """Measure one receiver in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "bench.esl", name], check=True, capture_output=True, text=True)  # noqa: S603
    return float(done.stdout)


def main() -> int:
    """Print the table; return 1 if a bar is missed."""
    names = ("ours", "greenswitch", "framing")
    rounds = [{name: once(name) for name in names} for _ in range(ROUNDS)]
    median = {name: statistics.median(found[name] for found in rounds) for name in names}
    print(f"{'what':<34}{'ours':>9}  {'reference':<20}{'ratio':>6}  {'bar':>6}")
    missed = 0
    for what, reference, bar in BARS:
        ratio = statistics.median(found["ours"] / found[reference] for found in rounds)
        missed += ratio < bar
        label = f"{reference} {median[reference]:.0f}"
        print(f"{what:<34}{median['ours']:>9.0f}  {label:<20}{ratio:>6.2f}  {'>= ' + format(bar, 'g'):>6}")
    return 1 if missed + waiting() else 0


def waiting() -> int:
    """Print how long calls wait for the caller's name, 200 calls a second; return how many bars are missed."""
    done = subprocess.run([sys.executable, "-m", "bench.lookups"], check=True, capture_output=True, text=True)
    theirs, asked, cached = map(float, done.stdout.split())
    print(f"{'call held, p99 ms, 200 a second':<34}{asked:>9.1f}  {f'Planfix {theirs:.1f}':<20}{'':>6}  <= +20")
    print(f"{'the same, number known':<34}{cached:>9.1f}  {'':<20}{'':>6}  <= 10")
    return (asked > theirs + 20) + (cached > 10)


if __name__ == "__main__":
    sys.exit(main())
