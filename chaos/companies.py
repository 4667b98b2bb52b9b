"""Twenty companies on one switch, a third of whose Planfixes fail, each in its own way.

The calls of the others must arrive as soon as in a run without failures; nothing may be lost,
doubled, or told to another company.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections import Counter  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import dataclass, field  # noqa: E402
from pathlib import Path  # noqa: E402
from random import Random  # noqa: E402

import gevent  # noqa: E402
from gevent.pool import Pool  # noqa: E402

from fsplanfix.outbox.queue import Queue  # noqa: E402
from fsplanfix.outbox.store import Store  # noqa: E402
from fsplanfix.simulators.freeswitch import Switch  # noqa: E402
from fsplanfix.simulators.planfix import Planfix  # noqa: E402
from tests.support import postgres  # noqa: E402
from tests.support.deliveries import told  # noqa: E402
from tests.support.service import Service  # noqa: E402
from tests.support.traces import path_of, wanted  # noqa: E402

COMPANIES = 20
CALLS_A_SECOND = 8.0
RECORDINGS = ("fusionpbx/did_answered", "fusionpbx/group_simultaneous", "fusionpbx/group_missed")
HANGS = 25.0
"""Seconds, longer than a request may take; then the connection is cut."""

RETRY_AFTER = "20"
MOST_TIMES = 1.2
"""How much longer the slowest hundredth of the others' calls may take."""

LONGEST_DRAIN = 180.0
"""Seconds: a probe after a 401 is sent once a minute."""

ACCOUNT = """
[company-{n}]
planfix_url = "{url}"
planfix_token = "token-of-{n}"
pbx_token = "pbx-token-of-{n}"
domains = ["company-{n}.example"]
popup_ttl = 0
"""


def _hang(planfix: Planfix) -> None:
    def hang(_: dict[str, str]) -> None:
        gevent.sleep(HANGS)
        raise ConnectionError

    planfix.before = hang


def _answer(planned: int | str) -> Callable[[Planfix], None]:
    def fail(planfix: Planfix) -> None:
        planfix.retry_after = RETRY_AFTER
        planfix.answers.extend([planned] * 100_000)

    return fail


def _forget_token(planfix: Planfix) -> None:
    planfix.token = "another"  # noqa: S105 - made up


def _dawdle(planfix: Planfix) -> None:
    planfix.delay = 3.0


FAULTS: dict[str, Callable[[Planfix], None]] = {
    "hangs": _hang,
    "500": _answer(500),
    "a web page": _answer("html"),
    "hangs up": _answer("drop"),
    "503, Retry-After": _answer(503),
    "401": _forget_token,
    "slow": _dawdle,
}


@dataclass
class Play:
    """A call that was played. ended: seconds since 1970."""

    company: int
    recording: str
    callid: str = ""
    ended: float = 0.0


@dataclass
class Pass:
    """What came of all calls. p99: seconds from a call's end until a healthy company had all."""

    plays: list[Play] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0
    leaked: int = 0
    p99: float = 0.0
    drained: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)


class Companies:
    """The switch, the companies' Planfixes, and one service for all."""

    def __init__(self, folder: Path, store_url: str) -> None:
        self._switch = Switch()
        self._switch.start()
        self._planfixes = [Planfix(token=f"token-of-{n}") for n in range(COMPANIES)]
        for planfix in self._planfixes:
            planfix.start()
        file = folder / "accounts.toml"
        file.write_text(
            "".join(
                ACCOUNT.format(n=n, url=planfix.url) for n, planfix in enumerate(self._planfixes)
            )
        )
        self._store = Store(store_url)
        self._service = Service(
            folder,
            {
                "ACCOUNTS_FILE": str(file),
                "FREESWITCH_ESL": f"esl://:ClueCon@127.0.0.1:{self._switch.port}",
                "HTTP_LISTEN": "127.0.0.1:0",
                "ESL_LISTEN": "127.0.0.1:0",
                "STORE_URL": store_url,
                "STATE_DIRECTORY": str(folder),
            },
        )
        self._service.wait_for("freeswitch_linked")

    def close(self) -> None:
        """End everything."""
        self._service.end()
        self._store.close()
        self._switch.stop()
        for planfix in self._planfixes:
            planfix.stop()

    def perform(self, calls: int, seed: int, failing: int) -> Pass:
        """Play calls; until the last is over, the first `failing` companies have no Planfix."""
        done, random, players = Pass(), Random(seed), Pool()
        for n, (name, fail) in zip(range(failing), list(FAULTS.items()) * COMPANIES, strict=False):
            fail(self._planfixes[n])
            done.faults[name] += 1
        for n in range(calls):
            play = Play(n % COMPANIES, random.choice(RECORDINGS))
            done.plays.append(play)
            players.spawn(self._play, play)
            gevent.sleep(random.expovariate(CALLS_A_SECOND))
        players.join()

        healed = time.monotonic()
        for planfix, n in zip(self._planfixes, range(failing), strict=False):
            planfix.before, planfix.delay, planfix.token = lambda _: None, 0.0, f"token-of-{n}"
            planfix.answers.clear()
        while self._waits() and time.monotonic() - healed < LONGEST_DRAIN:
            gevent.sleep(0.2)
        done.drained = time.monotonic() - healed
        self._count(done, failing)
        return done

    def _play(self, play: Play) -> None:
        swap = {"a.example": f"company-{play.company}.example"}
        play.callid = self._switch.play(path_of(play.recording), 0, swap=swap)
        play.ended = time.time()

    def _waits(self) -> bool:
        found = Queue(self._store).backlog()
        return bool(found.waiting or found.open_calls)

    def _count(self, done: Pass, failing: int) -> None:
        took = []
        for play in done.plays:
            planfix = self._planfixes[play.company]
            came = told(planfix, play.callid)
            due = Counter(wanted(play.recording))
            done.lost += (due - Counter(came)).total()
            done.doubled += (Counter(came) - due).total()
            if play.company >= failing:
                ours = [it.at for it in planfix.received if it.fields["callid"] == play.callid]
                took.append(max(max(ours, default=0.0) - play.ended, 0.0))
        whose = {play.callid: play.company for play in done.plays}
        done.leaked = sum(
            whose.get(fields["callid"]) != n
            for n, planfix in enumerate(self._planfixes)
            for fields in planfix.accepted
        )
        done.p99 = statistics.quantiles(took, n=100)[98]


def report(name: str, done: Pass, seconds: float | None = None) -> bool:
    """Print a pass; tell whether all that must be zero is. seconds: the p99 without failures."""
    print(f"\n{name}")
    wrong = {"lost": done.lost, "doubled": done.doubled, "leaked": done.leaked}
    print(f"  {'calls':<34}{len(done.plays):>7}")
    for what, count in wrong.items():
        print(f"  {what:<34}{count:>7}{'   must be 0' if count else ''}")
    print(f"  {'healthy: end to last request, p99':<34}{done.p99 * 1000:>7.0f} ms")
    is_slow = seconds is not None and done.p99 > seconds * MOST_TIMES
    if seconds is not None:
        bar = f"   must be at most {MOST_TIMES:g}" if is_slow else ""
        print(f"  {'the same, times that without':<34}{done.p99 / seconds:>7.2f}{bar}")
        print(f"  {'drained after the end, s':<34}{done.drained:>7.1f}")
    for fault, count in done.faults.items():
        print(f"    {fault:<20}{count:>3}")
    print(end="", flush=True)
    return not any(wrong.values()) and not is_slow


def run(folder: Path, database: str, url: Callable[[], str], calls: int, seed: int) -> bool:
    """Play the calls without failures and then with them; tell whether all is well."""
    passes, failing = [], round(COMPANIES / 3)
    for name, count in (("calm", 0), ("failing", failing)):
        place = folder / f"{database}-{name}"
        place.mkdir()
        stage = Companies(place, url() or f"sqlite:///{place}/store.db")
        try:
            passes.append(stage.perform(calls, seed, count))
        finally:
            stage.close()
    calm, failed = passes
    fine = report(f"{database}, {COMPANIES} companies", calm)
    return report(f"{database}, {failing} of them fail", failed, calm.p99) and fine


def main() -> int:
    """Run the whole, print the figures, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=400, help="calls of each pass")
    parser.add_argument("--seed", type=int, default=1, help="printed with the figures")
    parser.add_argument("--database", choices=("SQLite", "PostgreSQL"), help="one of them only")
    options = parser.parse_args()
    fine = True
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="fsplanfix-chaos-") as name:
        folder = Path(name)
        with postgres.server(folder) as address:
            urls: dict[str, Callable[[], str]] = {
                "SQLite": lambda: "",
                "PostgreSQL": lambda: postgres.empty_database(address),
            }
            for database, url in urls.items():
                if options.database in (None, database):
                    fine = run(folder, database, url, options.calls, options.seed) and fine
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
