"""What open pages of the dashboard cost calls, in a store of a month of a large company.

250,000 calls of four notices each. Ten pages are open: overviews that follow what happens, lists of
calls and figures of the whole month that are loaded again and again.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
import random  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections import Counter  # noqa: E402
from collections.abc import Iterator, Sequence  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from itertools import islice  # noqa: E402

import gevent  # noqa: E402
import requests  # noqa: E402
from sqlalchemy import Connection  # noqa: E402

from fsplanfix.calls.model import Direction, Kind, Notice, Status  # noqa: E402
from fsplanfix.calls.result import result_of  # noqa: E402
from fsplanfix.outbox.call_rows import write_results  # noqa: E402
from fsplanfix.outbox.records import notice_json  # noqa: E402
from fsplanfix.outbox.schema import State, notices, open_calls  # noqa: E402
from fsplanfix.outbox.store import Store  # noqa: E402

from . import traffic  # noqa: E402
from .programs import Stage, connector  # noqa: E402
from .windows import A_SECOND, ANSWER, WARM  # noqa: E402

CALLS = 250_000
DAYS = 30
SECONDS = 5
"""How long calls come in a round."""

PASSWORD = "a-good-password"  # noqa: S105 - of a service that lives for seconds
LOADED_AGAIN = 1.0
"""Seconds until a list or figures are loaded once more."""

NICE = 19
"""The lowest priority."""

EXTS = range(101, 141)
OVERVIEWS = 4
LISTS = (
    "/calls",
    "/calls?client=7916123&result=missed",
    "/calls?client=nobody+has+this+name",
)
FIGURES = ("/figures?span=month", "/figures?span=week", "/figures?span=day")


def fill(store: Store, count: int = CALLS, exts: Sequence[int] = EXTS) -> None:
    """Write calls of the last DAYS into a store, all of them delivered.

    exts: of those who are rung, each as often as another.
    """
    chance = random.Random(1)  # noqa: S311 - the same store each time
    now = time.time()
    every = iter(range(count))
    while numbers := list(islice(every, 1000)):
        told = {n: _call(n, now - DAYS * 86400 * (1 - n / count), exts, chance) for n in numbers}
        with store.transaction() as connection:
            _write(connection, list(told.values()))


def _call(
    number: int, began: float, all_exts: Sequence[int], chance: random.Random
) -> list[Notice]:
    """Return the notices of a call of two phones, answered three times in four."""
    at = int(began * 1_000_000)
    exts = chance.sample(all_exts, 2)
    phone = f"7916{chance.randrange(40_000):07}"
    base = Notice(f"bench-{number}", Kind.INCOMING, 1, at, Direction.IN, phone, "74950000001")
    taken = chance.random() < 0.75
    talked = chance.randrange(10, 600)
    name = f"Client {chance.randrange(40_000)}"
    said = [_changed(base, position=n + 1, ext=str(ext)) for n, ext in enumerate(exts)]
    for n, ext in enumerate(exts):
        status = Status.CANCELED if taken else Status.MISSED
        if taken and not n:
            status = Status.SUCCESS
        said.append(
            _changed(
                base,
                kind=Kind.COMPLETED,
                position=n + 3,
                at=at + (8 + talked) * 1_000_000,
                ext=str(ext),
                status=status,
                duration=talked if status is Status.SUCCESS else 0,
                contact=name,
                rule="4",
            )
        )
    return said


def _changed(notice: Notice, **values: object) -> Notice:
    fields = {name: getattr(notice, name) for name in Notice.__slots__}
    return Notice(**{**fields, **values})


def _write(connection: Connection, told: list[list[Notice]]) -> None:
    ended = {said[0].callid: said[-1].at / 1_000_000 for said in told}
    connection.execute(
        notices.insert(),
        [
            {
                "callid": notice.callid,
                "ext": notice.ext,
                "kind": notice.kind.value,
                "ordinal": 1,
                "position": notice.position,
                "barrier": False,
                "body": notice_json.dump_json(notice).decode(),
                "state": State.DONE,
                "created": notice.at / 1_000_000,
                "due": 0.0,
                "settled": notice.at / 1_000_000,
            }
            for said in told
            for notice in said
        ],
    )
    connection.execute(
        open_calls.insert(),
        [
            {"callid": callid, "server": "bench", "state": "", "closed": at}
            for callid, at in ended.items()
        ],
    )
    results = [result_of(said) for said in told]
    known = [result for result in results if result is not None]
    write_results(connection, known, max(ended.values()))


class Worst:
    """The longest delays from an event to its first request, with pages open and without."""

    def __init__(self, store_url: str, count: int = CALLS, calls: int = A_SECOND * SECONDS) -> None:
        self._url = store_url
        self._calls = calls
        self._first = 10_000
        store = Store(store_url)
        fill(store, count)
        store.close()

    def without_pages(self) -> float:
        """Return the seconds of the longest delay while nobody looks."""
        with self._running() as stage:
            return self._longest(stage)

    def with_pages(self) -> float:
        """Return the seconds of the longest delay while ten pages are open."""
        with self._running() as stage:
            address = stage.program.said(r"web_listening address=(\S+)")
            with opened(address):
                return self._longest(stage)

    @contextmanager
    def _running(self) -> Iterator[Stage]:
        # PUBLIC_URL: behind https the cookie of a session would not be sent to this address
        with connector(
            store_url=self._url,
            delay=ANSWER,
            keep_days=365,
            ADMIN_PASSWORD=PASSWORD,
            PUBLIC_URL="http://127.0.0.1",
        ) as stage:
            yield stage

    def _longest(self, stage: Stage) -> float:
        calls = self._calls + WARM
        # calls that the store does not know yet
        moments = traffic.calls(calls, 1 / A_SECOND, first=self._first)
        self._first += calls
        sent: dict[str, float] = {}
        came: dict[str, float] = {}
        seen: dict[str, int] = {}

        def note(moment: traffic.Moment) -> None:
            seen[moment.callid] = seen.get(moment.callid, -1) + 1
            if seen[moment.callid] == traffic.first_notice():
                sent[moment.callid] = time.monotonic()

        def arrived(fields: dict[str, str]) -> None:
            came.setdefault(fields["callid"], time.monotonic())

        stage.planfix.came = arrived
        stage.switch.send(moments, before=note, paced=True)
        stage.planfix.wait_for(calls * traffic.REQUESTS, 60)
        # no count: the run before was killed, and what it had not settled is sent once more
        if stage.switch.wrong or stage.planfix.wrong:
            raise RuntimeError(f"wrong: {[*stage.switch.wrong, *stage.planfix.wrong][:3]}")
        return max(came[callid] - sent[callid] for callid in list(sent)[WARM:])


@contextmanager
def opened(
    address: str, overviews: int = OVERVIEWS, paths: Sequence[str] = (*LISTS, *FIGURES)
) -> Iterator[None]:
    """Keep pages of the dashboard at an address open, by a process of their own.

    The one that measures would be late for its own events otherwise. overviews: how many are open
    and follow what happens. paths: what is loaded again and again. Raises RuntimeError if a page
    cannot be loaded.
    """
    command = [sys.executable, "-m", "bench.pages", address, str(overviews), *paths]
    with subprocess.Popen(  # noqa: S603 - our own program
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as browser:
        if browser.stdout is None or browser.stdout.readline() != "open\n":
            raise RuntimeError("the pages cannot be loaded")
        try:
            yield
        finally:
            browser.terminate()


def keep_open(address: str, overviews: int, paths: Sequence[str]) -> None:
    """Log in, load the pages again and again, and say `open` once each was loaded."""
    # readers have machines of their own: here they must not take the cores from what is measured
    os.nice(NICE)
    with requests.Session() as visitor:
        visitor.trust_env = False
        page = visitor.get(f"{address}/login", timeout=60).text
        token = page.partition('name="csrf_token" value="')[2].partition('"')[0]
        form = {"csrf_token": token, "password": PASSWORD}
        visitor.post(f"{address}/login", data=form, timeout=60).raise_for_status()
        cookies = visitor.cookies.get_dict()

    loaded = Counter[str]()

    def follow(n: int) -> None:
        requests.get(address, cookies=cookies, timeout=60).raise_for_status()
        # a browser opens a stream again that has ended
        while True:
            with requests.get(
                f"{address}/live", cookies=cookies, stream=True, timeout=60
            ) as stream:
                for _ in stream.iter_lines():
                    loaded[f"/live {n}"] += 1
            gevent.sleep(LOADED_AGAIN)

    def load(path: str) -> None:
        while True:
            requests.get(f"{address}{path}", cookies=cookies, timeout=60).raise_for_status()
            loaded[path] += 1
            gevent.sleep(LOADED_AGAIN)

    pages: list[gevent.Greenlet[..., None]] = []
    pages += [gevent.spawn(follow, n) for n in range(overviews)]
    pages += [gevent.spawn(load, path) for path in paths]
    while len(loaded) < len(pages):
        gevent.sleep(0.05)

    print("open", flush=True)
    gevent.joinall(pages, raise_error=True)


if __name__ == "__main__":
    keep_open(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
