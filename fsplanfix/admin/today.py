"""What was said today and of late, kept up by reading only what is new.

To read a busy day anew for each look stopped all calls for 50 ms and more, every second.
"""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import gevent
from gevent.lock import BoundedSemaphore

from ..calls.model import Kind
from ..outbox.history import Archive, Written

BITE = 200
"""Notices read at once: about a millisecond."""

PAUSE = 0.001
"""Seconds for everything else between two bites."""

LATE = 200
"""Notices before the newest that are looked at again: another worker's transaction may have taken
its numbers earlier and ended later.
"""


@dataclass(frozen=True, slots=True)
class Said:
    """A notice, as far as it is shown. at: seconds since 1970. status: "" unless it is an end."""

    callid: str
    phone: str
    way: str
    ext: str
    status: str
    at: float


class Today:
    """Follows what an archive holds. keep: how many of the latest notices are wanted."""

    def __init__(self, archive: Archive, keep: int, clock: Callable[[], float] = time.time) -> None:
        self.ends: Counter[tuple[str, str]] = Counter()
        self.latest: deque[Said] = deque(maxlen=keep)
        self._archive = archive
        self._clock = clock
        self._day = 0.0
        self._newest = 0
        self._seen: set[tuple[int, float]] = set()
        self._lock = BoundedSemaphore()

    def catch_up(self) -> None:
        """Read what is new. Raises StoreError."""
        with self._lock:
            day = _midnight(self._clock())
            if day != self._day:
                self._day = day
                self.ends.clear()
            if not self._newest or not self._read_on():
                self._begin()

    def _read_on(self) -> bool:
        """Read what was written since; tell whether the store is still the one we know."""
        after = self._newest - LATE
        found = False
        while bite := self._archive.after(after, BITE + LATE):
            found = True
            self._take([one for one in bite if (one.id, one.created) not in self._seen])
            after = bite[-1].id
            if len(bite) < BITE + LATE:
                break
            gevent.sleep(PAUSE)

        self._seen = {(number, at) for number, at in self._seen if number > self._newest - LATE}
        return found

    def _begin(self) -> None:
        """Read back from the newest notice to the beginning of the day."""
        self.ends.clear()
        self.latest.clear()
        self._seen.clear()
        self._newest = 0
        wanted = max(self.latest.maxlen or 0, LATE)
        read: list[Written] = self._archive.before(None, wanted)
        self._take(list(reversed(read)))

        while read and read[-1].created >= self._day:
            gevent.sleep(PAUSE)
            read = self._archive.before(read[-1].id, BITE, Kind.COMPLETED)
            for one in read:
                self._count(one, _said(one))

    def _take(self, written: Sequence[Written]) -> None:
        for one in written:
            self._newest = max(self._newest, one.id)
            self._seen.add((one.id, one.created))
            said = _said(one)
            self.latest.append(said)
            self._count(one, said)

    def _count(self, one: Written, said: Said) -> None:
        if said.status and one.created >= self._day:
            self.ends[said.ext or "-", said.status] += 1


def _said(one: Written) -> Said:
    body = json.loads(one.body)
    return Said(
        body["callid"],
        body["phone"],
        body["type"],
        body.get("ext") or "",
        body.get("status") or "",
        body["at"] / 1_000_000,
    )


def _midnight(now: float) -> float:
    begun = datetime.fromtimestamp(now).astimezone()
    return begun.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
