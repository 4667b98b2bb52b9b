"""The notices of today and the latest ones, kept up to date by reading only what is new.

Reading a busy day anew for each request stopped all calls for 50 ms and more, every second.
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

MOST_AT_ONCE = 200
"""Notices read at once, which takes about a millisecond."""

PAUSE = 0.001
"""Seconds that everything else gets between two reads."""

OVERLAP = 200
"""Notices before the newest that are read again.

Another worker's transaction may have taken its numbers earlier and ended later.
"""


@dataclass(frozen=True, slots=True)
class NoticeLine:
    """A notice, as far as it is shown.

    at: seconds since 1970. status: "" unless it is a COMPLETED.
    """

    callid: str
    phone: str
    way: str
    ext: str
    status: str
    at: float


class Today:
    """Follows what an archive holds.

    keep: how many of the latest notices are kept.
    ends: how often each ext had each status today.
    """

    def __init__(self, archive: Archive, keep: int, clock: Callable[[], float] = time.time) -> None:
        self.ends: Counter[tuple[str, str]] = Counter()
        self.latest: deque[NoticeLine] = deque(maxlen=keep)
        self._archive = archive
        self._clock = clock
        self._day = 0.0
        self._newest = 0
        self._seen: set[tuple[int, float]] = set()
        self._lock = BoundedSemaphore()

    def catch_up(self) -> None:
        """Read what is new. Raises StoreError."""
        # several browsers may ask at once, and a read gives way to other greenlets
        with self._lock:
            day = _midnight(self._clock())
            if day != self._day:
                self._day = day
                self.ends.clear()
            # a store that has none of the last notices was emptied or replaced
            if not self._newest or not self._read_new():
                self._read_all()

    def _read_new(self) -> bool:
        """Read what was written since; return whether the store still has what was seen last."""
        after = self._newest - OVERLAP
        found = False
        while read := self._archive.after(after, MOST_AT_ONCE + OVERLAP):
            found = True
            self._take([one for one in read if (one.id, one.created) not in self._seen])
            after = read[-1].id
            if len(read) < MOST_AT_ONCE + OVERLAP:
                break
            gevent.sleep(PAUSE)

        self._seen = {(number, at) for number, at in self._seen if number > self._newest - OVERLAP}
        return found

    def _read_all(self) -> None:
        """Read back from the newest notice to the beginning of the day."""
        self.ends.clear()
        self.latest.clear()
        self._seen.clear()
        self._newest = 0
        wanted = max(self.latest.maxlen or 0, OVERLAP)
        read: list[Written] = self._archive.before(None, wanted)
        self._take(list(reversed(read)))

        # of the notices before those only the COMPLETED count

        while read and read[-1].created >= self._day:
            gevent.sleep(PAUSE)
            read = self._archive.before(read[-1].id, MOST_AT_ONCE, Kind.COMPLETED)
            for one in read:
                self._count(one, _line(one))

    def _take(self, written: Sequence[Written]) -> None:
        for one in written:
            self._newest = max(self._newest, one.id)
            self._seen.add((one.id, one.created))
            line = _line(one)
            self.latest.append(line)
            self._count(one, line)

    def _count(self, one: Written, line: NoticeLine) -> None:
        if line.status and one.created >= self._day:
            self.ends[line.ext or "-", line.status] += 1


def _line(one: Written) -> NoticeLine:
    body = json.loads(one.body)
    return NoticeLine(
        body["callid"],
        body["phone"],
        body["type"],
        body.get("ext") or "",
        body.get("status") or "",
        body["at"] / 1_000_000,
    )


def _midnight(now: float) -> float:
    """Return when the day began by the machine's own time zone, in seconds since 1970."""
    begun = datetime.fromtimestamp(now).astimezone()
    return begun.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
