"""Plays 20 group calls a second through the real service and watches it from outside.

The calls are those of two companies in turn. Somebody has the dashboard's overview open, and calls
that nobody heard are told from FreeSWITCH's records, one a second.

Memory, open files, greenlets and the size of the store must be flat once as many calls are over as
a tracker remembers (10,000, after 500 s), and the time for which delivered notices are kept
(KEEP_DAYS, here a minute): what is compared is the mean of the first and of the last fifth after
that.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import statistics  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections import Counter  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from dataclasses import astuple, dataclass, replace  # noqa: E402
from pathlib import Path  # noqa: E402
from uuid import UUID  # noqa: E402

import click  # noqa: E402
import gevent  # noqa: E402

from bench import pages, records, traffic  # noqa: E402
from bench.programs import Stage, connector  # noqa: E402
from bench.standins import Planfix  # noqa: E402
from fsplanfix.calls.identity import REMEMBERED_CALLS  # noqa: E402

from .watched import COUNTED_IN  # noqa: E402

ANSWER = 0.05
"""Seconds Planfix takes to answer."""

TOLD_A_SECOND = 1.0
"""Calls that are told from records."""

TOLD_REQUESTS = 2
"""Of such a call; see records.py."""

LINES = {"north": ("74950000001", "74950000002"), "south": ("74950000003",)}
"""The companies, and their numbers: the recorded calls are for the first company's."""

ACCOUNT = """
[{name}]
planfix_url = "{url}"
planfix_token = "planfix-token-of-{name}"
pbx_token = "pbx-token-of-{name}"
lines = {lines}
"""

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


def of_company(moment: traffic.Moment) -> traffic.Moment:
    """Return an event of every other call as one of the second company's."""
    if number_of(moment.callid) % 2:
        return moment
    first, second = LINES["north"][1].encode(), LINES["south"][0].encode()
    return replace(moment, body=moment.body.replace(first, second))


def number_of(callid: str) -> int:
    """Return which of the calls that are played this is, counted from 1; see traffic.py."""
    return UUID(callid).int >> 32


class Taken:
    """Which requests Planfix got.

    by_company: how many of calls that were played, by token. told: how many of each call that was
    told from records, by callid. others: how many that are about no call.
    """

    def __init__(self, calls: int) -> None:
        self.by_company = Counter[str]()
        self.told = Counter[str]()
        self.others = 0
        self._calls = calls

    def __call__(self, fields: dict[str, str]) -> None:
        """Take a request."""
        if "callid" not in fields:
            self.others += 1
        elif number_of(fields["callid"]) <= self._calls:
            self.by_company[fields["planfix_token"]] += 1
        else:
            self.told[fields["callid"]] += 1


@contextmanager
def scene(calls: int, untold: int, keep: float, every: float) -> Iterator[tuple[Stage, Taken]]:
    """Run the service for two companies, with records of calls to tell and a page that is open."""
    tokens = {f"planfix-token-of-{name}" for name in LINES}
    planfix, taken = Planfix(ANSWER, tokens), Taken(calls)
    planfix.came = taken
    with (
        tempfile.TemporaryDirectory(prefix="fsplanfix-soak-") as folder,
        records.untold(untold) as cdr_dir,
    ):
        accounts = Path(folder, "accounts.toml")
        accounts.write_text(
            "".join(
                ACCOUNT.format(name=name, url=planfix.url, lines=[*lines])
                for name, lines in LINES.items()
            )
        )
        with (
            connector(
                "watched",
                planfix=planfix,
                keep_days=keep / 86400,
                watch_every=every,
                ACCOUNTS_FILE=str(accounts),
                CDR_DIR=cdr_dir,
                HISTORY_RATE=str(TOLD_A_SECOND),
                ADMIN_PASSWORD=pages.PASSWORD,
                # behind https the cookie of a session would not be sent to this address
                PUBLIC_URL="http://127.0.0.1",
            ) as stage,
            pages.opened(stage.program.said(r"web_listening address=(\S+)"), 1, ()),
        ):
            yield stage, taken
    planfix.stop()


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
        moments = [
            of_company(moment)
            for moment in traffic.calls(min(piece, count - first), 1 / rate, first=first)
        ]
        jobs.append(gevent.spawn(stage.switch.send, moments, None, True))
    gevent.joinall(jobs, raise_error=True)
    return count


def settling(seconds: float, rate: float, keep: float) -> float:
    """Return the seconds after which nothing may grow any more, most of `seconds` at most."""
    return min(max(keep * 2, REMEMBERED_CALLS / rate), seconds * 5 / 6)


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


def check(taken: Taken, calls: int, untold: int) -> None:
    """Raise RuntimeError unless each company got its calls, and each other call was told once."""
    each = {"planfix-token-of-north": calls - calls // 2, "planfix-token-of-south": calls // 2}
    wanted = {token: count * traffic.REQUESTS for token, count in each.items()}
    if taken.by_company != wanted:
        raise RuntimeError(f"{taken.by_company} of {wanted}")
    if len(taken.told) != untold or {*taken.told.values()} != {TOLD_REQUESTS}:
        raise RuntimeError(f"{len(taken.told)} of {untold} told; {taken.told.most_common(3)}")


@click.command()
@click.option("--minutes", default=10.0, show_default=True)
@click.option("--rate", default=20.0, show_default=True, help="Group calls a second.")
@click.option("--keep", default=60.0, show_default=True, help="Seconds delivered notices are kept.")
def main(minutes: float, rate: float, keep: float) -> None:
    """Print what the service holds at first and at the end; exit 1 if it grows or loses."""
    seconds, samples = minutes * 60, list[Sample]()
    every = min(2.0, seconds / 60)
    calls, untold = int(rate * seconds), int(TOLD_A_SECOND * seconds)
    with scene(calls, untold, keep, every) as (stage, taken):
        before = stage.program.cpu()
        player = gevent.spawn(play, stage, rate, seconds)
        settled = time.monotonic() + settling(seconds, rate, keep)
        while not player.ready():
            gevent.sleep(every)
            if time.monotonic() > settled:
                samples.append(look(stage))
        player.get()
        used = stage.program.cpu() - before
        due = calls * traffic.REQUESTS + untold * TOLD_REQUESTS
        print(
            f"{calls} calls, {untold} calls told from records, "
            f"{used / seconds:.0%} of a core, {len(samples)} looks"
        )
        grown = report(samples)
        # those that are told may begin late, and come one after the other; Planfix is also asked
        # about the agreement now and then
        while stage.planfix.taken < due + taken.others:
            stage.planfix.wait_for(due + taken.others, 60 + untold / TOLD_A_SECOND)
        stage.check(due + taken.others)
    check(taken, calls, untold)
    print(f"{due} requests of calls, each once")
    sys.exit(1 if grown else 0)


if __name__ == "__main__":
    main()
