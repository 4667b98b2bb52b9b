"""Runs every measurement in rounds with its reference and prints one table.

Its columns: medians, ratios, bars.

Exits with 1 if a bar is missed. `--quick` takes one round of each, to see that everything still
measures.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import statistics  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import ExitStack, contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402

import click  # noqa: E402

from tests.support import postgres  # noqa: E402

from . import (  # noqa: E402
    accounts,
    burst,
    calls,
    last_talk,
    limits,
    open_calls,
    outbox,
    pages,
    records,
    sockets,
    starting,
    taken_up,
    windows,
    workers,
)
from .programs import connector  # noqa: E402
from .table import ROUNDS, Rounds, Row, alone  # noqa: E402


@contextmanager
def postgresql() -> Iterator[Callable[[], str]]:
    """Start a real PostgreSQL; give a function that makes an empty database and its address."""
    with (
        tempfile.TemporaryDirectory(prefix="fsplanfix-bench-") as folder,
        postgres.server(Path(folder)) as address,
    ):
        yield lambda: postgres.empty_database(address)


def events(rounds: Rounds) -> Iterator[Row]:
    """ESL events per second of CPU."""
    names = ("ours", "greenswitch", "framing", "leanest")
    rounds.take({name: lambda name=name: float(alone("esl", name)) for name in names})  # type: ignore[misc]
    ours = rounds.median("ours")
    for reference, bar in (("greenswitch", 8.0), ("framing", 0.6), ("leanest", None)):
        theirs = rounds.median(reference)
        yield Row(
            "events, socket to tracker",
            "/s",
            ours,
            reference,
            theirs,
            rounds.ratio("ours", reference),
            bar,
            True,
        )


def group_calls(rounds: Rounds, database: Callable[[], str]) -> Iterator[Row]:
    """Group-ring calls per second of CPU and of the clock: needless waiting is slow, not busy."""
    clock = Rounds(rounds.count)

    def rate(kind: str, name: str, store_url: str = "") -> float:
        a_core, a_second = calls.rates(name, store_url)
        clock.taken.setdefault(kind, []).append(a_second)
        return a_core

    rounds.take(
        {
            "SQLite": lambda: rate("SQLite", "ours"),
            "plain": lambda: rate("plain", "plain"),
            "PostgreSQL": lambda: rate("PostgreSQL", "ours", database()),
        }
    )
    for store, least, by_clock in (("SQLite", 3.0, 2.5), ("PostgreSQL", 2.2, 1.6)):
        for what, found, bar in (
            (f"group calls a core, {store}", rounds, least),
            ("the same by the clock", clock, by_clock),
        ):
            ratio = found.ratio(store, "plain")
            yield Row(
                what, "/s", found.median(store), "plain", found.median("plain"), ratio, bar, True
            )


def several_workers(rounds: Rounds, database: Callable[[], str]) -> Iterator[Row]:
    """Group calls a second of three workers on one PostgreSQL, against one."""
    rounds.take(
        {
            "three": lambda: workers.rate(3, database()),
            "one": lambda: workers.rate(1, database()),
        }
    )
    ours, theirs = rounds.median("three"), rounds.median("one")
    what = "three workers on one PostgreSQL"
    yield Row(what, "/s", ours, "one", theirs, rounds.ratio("three", "one"), 2, True)


def many_open(rounds: Rounds) -> Iterator[Row]:
    """What calls that go on cost."""
    few, many = open_calls.Holder(open_calls.FEW), open_calls.Holder(open_calls.MANY)
    for _ in range(2):  # rounds of a quarter of a second: twice as many
        rounds.take({"few": few.round, "many": many.round})
    few.end()
    many.end()
    ours, theirs = rounds.median("many") * 1e6, rounds.median("few") * 1e6
    yield Row(
        "CPU an event, 10,000 calls open",
        "us",
        ours,
        "100 open",
        theirs,
        rounds.ratio("many", "few"),
        1.15,
    )
    yield Row("memory an open call, at 10,000", "kB", many.per_call / 1000, "", None, None, 12)


def soon(rounds: Rounds) -> Iterator[Row]:
    """How soon windows open, and what calls cost that come evenly."""
    delays: list[float] = []

    def share() -> float:
        found = windows.even_calls()
        delays.extend(found.delays)
        return found.share * 100

    rounds.take({"share": share, "group": windows.group, "one": windows.one_by_one})
    yield Row("CPU at 20 group calls/s, paced", "%", rounds.median("share"), "", None, None, 15)
    p99 = statistics.quantiles(delays, n=100)[98] * 1000
    yield Row("event to first request, p99", "ms", p99, "", None, None, 15)
    ours, theirs = rounds.median("group") * 1000, rounds.median("one") * 1000
    yield Row(
        "20 windows, first to last",
        "ms",
        ours,
        "one by one",
        theirs,
        rounds.ratio("group", "one"),
        0.15,
    )


def health(rounds: Rounds) -> Iterator[Row]:
    """How long health answers take at worst."""
    for _ in range(2):  # what is rare is looked for in ten bursts
        rounds.take({"burst": burst.longest_answer})
    longest = max(rounds.taken["burst"]) * 1000
    yield Row("health in a burst of 20,000, worst", "ms", longest, "", None, None, 60)
    # once: it takes half a minute, and asks thousands of times
    longest = burst.longest_while_locked() * 1000
    yield Row("health, store locked for 30 s, worst", "ms", longest, "", None, None, 50)


def socket_application(rounds: Rounds) -> Iterator[Row]:
    """From FreeSWITCH's connection to our first word."""
    stock = sockets.Stock()
    with connector() as stage:
        port = int(stage.program.said(r"socket_app_listening address=\S+:(\d+)"))
        seeds = iter(range(1000))
        rounds.take(
            {
                "ours": lambda: sockets.median(port, next(seeds)),
                "stock": lambda: sockets.median(stock.port, next(seeds)),
            }
        )
    stock.end()
    ours, theirs = rounds.median("ours") * 1000, rounds.median("stock") * 1000
    yield Row(
        "socket: accept to connect",
        "ms",
        ours,
        "greenswitch",
        theirs,
        rounds.ratio("ours", "stock"),
        0.1,
    )
    yield Row("the same, in milliseconds", "ms", ours, "", None, None, 2)


def claims(rounds: Rounds, database: Callable[[], str]) -> Iterator[Row]:
    """What a claim costs beside a great backlog."""
    with tempfile.TemporaryDirectory(prefix="fsplanfix-bench-") as folder, ExitStack() as stack:
        found: dict[str, Callable[[], float]] = {}
        for kind in ("SQLite", "PostgreSQL"):
            for outage in (False, True):
                for count in (outbox.FEW, outbox.MANY):
                    name = f"{kind}, {'outage' if outage else 'due'} {count}"
                    url = f"sqlite:///{folder}/{len(found)}.db" if kind == "SQLite" else database()
                    full = outbox.Full(url, count, outage)
                    stack.callback(full.close)
                    found[name] = full.turns
        rounds.take(found)
    for state in ("SQLite, due", "SQLite, outage", "PostgreSQL, due", "PostgreSQL, outage"):
        many, few = f"{state} {outbox.MANY}", f"{state} {outbox.FEW}"
        ours, theirs = rounds.median(many) * 1e6, rounds.median(few) * 1e6
        yield Row(
            f"claim of 100,000: {state}", "us", ours, "of 100", theirs, rounds.ratio(many, few), 1.2
        )


def start_up(rounds: Rounds) -> Iterator[Row]:
    """From the program's start to ready."""
    rounds.take({"ours": starting.ready, "imports": starting.imported})
    ours, theirs = rounds.median("ours"), rounds.median("imports")
    yield Row(
        "start to ready", "s", ours, "the imports", theirs, rounds.ratio("ours", "imports"), 1.5
    )


def full_start(rounds: Rounds) -> Iterator[Row]:
    """From the program's start to ready with 10,000 calls to take up, and the memory these take."""
    later: list[float] = []

    def start() -> float:
        found = taken.start()
        later.append(found.taken_up)
        return found.ready

    with tempfile.TemporaryDirectory(prefix="fsplanfix-bench-") as folder:
        taken = taken_up.Taken(f"sqlite:///{folder}/large.db")
        rounds.take({"ready": start})
        memory = taken.start_for_accounts().memory / 1e6
    what = "start, 10,000 open calls, 1 M notices"
    yield Row(what, "s", rounds.median("ready"), "", None, None, 2)
    yield Row("the same, all calls taken up", "s", statistics.median(later), "", None, None, None)
    # once: memory is not a matter of chance
    yield Row("memory: 100,000 exts, 500 accounts", "MB", memory, "", None, None, 350)


def companies() -> Iterator[Row]:
    """What 50 and 500 companies cost at rest, beside one."""
    # once: it is said by the clock and by the system, not by chance
    found = {count: accounts.at_rest(count) for count in accounts.COUNTS}
    one = found[1]
    for count in accounts.COUNTS:
        share, memory = found[count].share * 100, (found[count].memory - one.memory) / 1e6
        most = 1.0 if count > 1 else None
        yield Row(f"CPU at rest, accounts: {count}", "%", share, "", None, None, most)
        if count > 1:
            yield Row(f"memory more than one, accounts: {count}", "MB", memory, "", None, None, 60)


def told_afterwards(rounds: Rounds) -> Iterator[Row]:
    """What FreeSWITCH's records cost a start, and the calls that live beside it."""
    with records.many_old() as folder:
        records.start_beside(folder)
        rounds.take({"beside": lambda: records.start_beside(folder), "without": starting.ready})
    ours, theirs = rounds.median("beside"), rounds.median("without")
    yield Row("start beside 100,000 records", "s", ours, "without", theirs, None, 2)

    delays: dict[str, list[float]] = {"beside": [], "alone": []}
    with records.untold() as folder:
        for _ in range(rounds.count):
            delays["beside"] += records.delays(folder)
            delays["alone"] += records.delays()
    ours, theirs = (
        statistics.quantiles(delays[name], n=100)[98] * 1000 for name in ("beside", "alone")
    )
    what = "event to request, p99, 10,000 told"
    yield Row(what, "ms", ours, "none told", theirs, ours / theirs, 1.2)


def held(rounds: Rounds) -> Iterator[Row]:
    """How long calls wait for the caller's name."""
    theirs, asked, cached = map(float, alone("lookups", "4").split())
    yield Row("call held, p99 above Planfix's own", "ms", asked - theirs, "", None, None, 20)
    yield Row("the same, number known", "ms", cached, "", None, None, 10)
    again: list[float] = []

    def silence() -> float:
        first, second = limits.held_for_silence()
        again.append(second)
        return first

    measures = {
        "500 calls at once greeted, p99": (lambda: float(alone("sockets", "greeted")), 5),
        "over the deadline, hostile peer": (lambda: float(alone("sockets", "held")), 300),
        "over the deadline, silent Planfix": (silence, 200),
        "call held by a service that is killed": (limits.held_by_the_dead, 500),
    }
    rounds.take({what: measure for what, (measure, _) in measures.items()})
    for what, (_, most) in measures.items():
        yield Row(what, "ms", rounds.median(what) * 1000, "", None, None, most)
    yield Row("the next call, silent Planfix", "ms", max(again) * 1000, "", None, None, 300)


def last_talks(rounds: Rounds, database: Callable[[], str]) -> Iterator[Row]:
    """How long a call waits for who talked with its client last, at a million calls."""
    with tempfile.TemporaryDirectory(prefix="fsplanfix-bench-") as folder, ExitStack() as stack:
        found: dict[str, Callable[[], float]] = {}
        for kind, url in (("SQLite", f"sqlite:///{folder}/large.db"), ("PostgreSQL", database())):
            store = last_talk.Million(url)
            stack.callback(store.close)
            found[kind] = store.find
        rounds.take(found)
    for kind in found:
        what = f"last talk, 1,000,000 calls: {kind}"
        yield Row(what, "ms", rounds.median(kind) * 1000, "", None, None, 2)


def in_time(rounds: Rounds, database: Callable[[], str]) -> Iterator[Row]:
    """What people and other workers wait for."""
    measures: dict[str, tuple[Callable[[], float], float]] = {
        "click answered while the phone rings": (limits.click, 1),
        "dashboard after a busy day": (limits.overview, 2),
        "`fsplanfix check`": (limits.check, 30),
        "split roles, call to last request": (lambda: limits.split_roles(""), 3),
        "the same, PostgreSQL": (lambda: limits.split_roles(database()), 3),
        "a killed courier's work taken over": (lambda: limits.take_over(""), 15),
        "the same on PostgreSQL": (lambda: limits.take_over(database()), 15),
    }
    one = Rounds(1)  # of what takes ten seconds and is counted in seconds
    one.take({what: measure for what, (measure, most) in measures.items() if most >= 15})
    rounds.take({what: measure for what, (measure, most) in measures.items() if most < 15})
    for what, (_, most) in measures.items():
        found = one if most >= 15 else rounds
        yield Row(what, "s", found.median(what), "", None, None, most)


def open_pages(rounds: Rounds) -> Iterator[Row]:
    """What ten open pages cost calls, in a store of a million notices."""
    with tempfile.TemporaryDirectory(prefix="fsplanfix-bench-") as folder:
        worst = pages.Worst(f"sqlite:///{folder}/large.db")
        rounds.take({"open": worst.with_pages, "closed": worst.without_pages})
    opened, closed = rounds.median("open") * 1000, rounds.median("closed") * 1000
    yield Row("event to request, worst, ten pages", "ms", opened, "no page", closed, None, None)
    added = rounds.added("open", "closed") * 1000
    yield Row("what the pages add", "ms", added, "", None, None, 5)


@click.command()
@click.option("--quick", is_flag=True, help="One round of each.")
@click.option("--only", default="", help="Only the measurements whose name has this in it.")
def main(quick: bool, only: str) -> None:
    """Print the table; exit with 1 if a bar is missed."""
    begun, missed = time.monotonic(), 0
    print(f"{'what':<38}{'ours':>7} {'':<5}{'reference':<20}{'ratio':>6} {'bar':>9}")
    with postgresql() as database:
        parts: dict[str, Callable[[Rounds], Iterator[Row]]] = {
            "events": events,
            "group_calls": lambda rounds: group_calls(rounds, database),
            "several_workers": lambda rounds: several_workers(rounds, database),
            "many_open": many_open,
            "soon": soon,
            "health": health,
            "socket_application": socket_application,
            "claims": lambda rounds: claims(rounds, database),
            "start_up": start_up,
            "full_start": full_start,
            "accounts": lambda _: companies(),
            "told_afterwards": told_afterwards,
            "held": held,
            "last_talks": lambda rounds: last_talks(rounds, database),
            "pages": open_pages,
            "in_time": lambda rounds: in_time(rounds, database),
        }
        for name, part in parts.items():
            if only in name:
                for row in part(Rounds(1 if quick else ROUNDS)):
                    print(row, flush=True)
                    missed += row.missed
    print(f"{missed} missed, {time.monotonic() - begun:.0f} s")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
