"""What a worker takes up when it starts: 10,000 calls that go on, in a store of a million notices.

Three phones rang in each call and one answered: FreeSWITCH has two live channels of each, and says
so.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import gevent
import requests
from sqlalchemy import select, update

from fsplanfix.calls import snapshot
from fsplanfix.calls.model import ACCOUNT, Notice, Rules
from fsplanfix.calls.tracker import Tracker
from fsplanfix.freeswitch.events import SwitchEvent
from fsplanfix.outbox.schema import State, notices, open_calls
from fsplanfix.outbox.store import Store

from . import accounts, pages, traffic
from .programs import connector
from .standins import Switch

OPEN = 10_000
AT_ONCE = 1000
"""Calls that are written at a time."""

EXTS = range(100_000, 200_000)
"""Of all who were ever rung."""

ACCOUNTS = 500

SERVER = "bench"
CORE = str(UUID(int=1 << 127))
PATIENCE = 120.0
"""Seconds a start may take."""


@dataclass(frozen=True)
class Start:
    """How long a start took, in seconds: until ready, until all calls were taken up, of CPU.

    memory: resident bytes after that.
    """

    ready: float
    taken_up: float
    cpu: float
    memory: int


class Taken:
    """A store with calls that are over and calls that go on, and a FreeSWITCH that has the latter.

    over: calls of four notices each.
    """

    def __init__(self, store_url: str, count: int = OPEN, over: int = pages.CALLS) -> None:
        self._url = store_url
        self._count = count
        store = Store(store_url)
        pages.fill(store, over, EXTS)
        _begin(store, count)
        with store.transaction() as connection:
            connection.execute(update(notices).values(state=State.DONE, settled=time.time()))
        store.close()
        self._live = dict(channels(count))

    def start_for_accounts(self, count: int = ACCOUNTS) -> Start:
        """Give the calls that go on to so many companies in turn, and start a worker for these."""
        store = Store(self._url)
        with store.transaction() as connection:
            query = select(open_calls.c.callid, open_calls.c.state).where(open_calls.c.closed == 0)
            for n, (callid, state) in enumerate([*connection.execute(query)]):
                own = state.replace(f'"account":"{ACCOUNT}"', f'"account":"company-{n % count}"')
                one = open_calls.c.callid == callid
                connection.execute(update(open_calls).where(one).values(state=own))
        store.close()
        with tempfile.TemporaryDirectory(prefix="fsplanfix-bench-") as folder:
            return self.start(str(accounts.write(Path(folder), count)))

    def start(self, accounts_file: str = "") -> Start:
        """Start a worker; return how long that took. Raises RuntimeError if a call is missed."""
        begun = time.monotonic()
        switch = Switch(CORE, self._live)
        with (
            connector(
                store_url=self._url, keep_days=365, switch=switch, ACCOUNTS_FILE=accounts_file
            ) as stage,
            requests.Session() as session,
        ):
            session.trust_env = False
            address = stage.program.said(r"web_listening address=(\S+)")
            while session.get(f"{address}/health/ready", timeout=PATIENCE).status_code != 200:
                gevent.sleep(0.005)
            ready = time.monotonic() - begun
            found = stage.program.said(r"reconciled .*?(channels=\d+ .*missed=\d+)", PATIENCE)
            taken_up, cpu = time.monotonic() - begun, stage.program.cpu()
            memory = stage.program.memory()
        if found != f"channels={len(self._live)} missed=0":
            raise RuntimeError(f"taken up: {found}")
        return Start(ready, taken_up, cpu, memory)


def _begin(store: Store, count: int) -> None:
    """Write calls that go on, as a worker does that follows their FreeSWITCH."""
    tracker, talking = Tracker(Rules()), traffic.talking()
    for first in range(0, count, AT_ONCE):
        said = list[Notice]()
        for n in range(first, min(first + AT_ONCE, count)):
            for moment in traffic.call(n, talking):
                said += tracker.feed(SwitchEvent(moment.body))
        states = {callid: snapshot.dump(tracker, callid) for callid in tracker.changed}
        tracker.changed = set()
        alive = tracker.last_at
        store.save(said, states, SERVER, time.time(), alive=alive, core=CORE)


def channels(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield the live channels of so many calls: the UUID, and what `uuid_dump` says."""
    events = traffic.talking()
    dumps = [(0.0, dump) for dump in _dumps([SwitchEvent(body) for _, body in events])]
    for n in range(count):
        for moment in traffic.call(n, [*events, *dumps])[len(events) :]:
            yield json.loads(moment.body)["Unique-ID"], moment.body


def _dumps(events: list[SwitchEvent]) -> list[bytes]:
    """Return what `uuid_dump` says of the two legs that talk after these events."""
    bridge = next(event for event in events if event.name == "CHANNEL_BRIDGE")
    pair = bridge.leg, bridge.get("Other-Leg-Unique-ID")
    made = []
    for uuid, peer in (pair, pair[::-1]):
        last = [event for event in events if event.leg == uuid and event.get("variable_uuid")][-1]
        names = (line.partition(b": ")[0].decode() for line in last.raw.splitlines() if line)
        headers = {name: last.get(name) for name in names}
        headers["variable_signal_bond"] = peer
        headers["Caller-Channel-Bridged-Time"] = bridge.get("Caller-Channel-Bridged-Time")
        made.append(json.dumps(headers).encode())
    return made
