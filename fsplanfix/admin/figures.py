"""Figures of a day, a week or a month: how many calls, how long they waited and talked, by whom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from typing import Any

import gevent

from ..calls.model import Direction, Status
from ..outbox.call_list import CallList, Unanswered
from ..outbox.reader import IsWanted

SPANS = ("day", "week", "month")
MOST_UNANSWERED = 100
"""Clients in the list to work off."""

HOURS = 24
ROWS_AT_ONCE = 50
"""Hours that are summed up, in half a millisecond, before others have their turn."""

HIGHEST_PRIORITY = 2
"""An idle watcher at this priority runs after one poll of sockets and timers, even under load."""


@dataclass(slots=True)
class Sums:
    """What some calls came to.

    incoming, answered, missed: calls of clients. outgoing, reached: calls to clients. waits: how
    many of those that were answered rang first. waited, talked: seconds, of all.
    """

    incoming: int = 0
    answered: int = 0
    missed: int = 0
    outgoing: int = 0
    reached: int = 0
    waits: int = 0
    waited: int = 0
    talked: int = 0

    def add(self, row: Any) -> None:
        """Add the sums of other calls, such as a row of CallList.hours."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + int(getattr(row, name)))

    @property
    def calls(self) -> int:
        """Return how many calls there were."""
        return self.incoming + self.outgoing

    @property
    def wait(self) -> int | None:
        """Return how long clients waited for an answer on average (seconds), None if none did."""
        return round(self.waited / self.waits) if self.waits else None

    @property
    def talk(self) -> int | None:
        """Return how long a talk took on average (seconds), None if there was none."""
        talks = self.answered + self.reached
        return round(self.talked / talks) if talks else None


@dataclass(slots=True)
class ExtSums:
    """What one ext had of some calls. talked: seconds. account: whose ext it is.

    answered, missed: calls of clients. reached, unreached: calls to clients.
    """

    ext: str
    answered: int = 0
    missed: int = 0
    reached: int = 0
    unreached: int = 0
    talked: int = 0
    account: str = ""

    @property
    def calls(self) -> int:
        """Return how many calls the ext had."""
        return self.answered + self.missed + self.reached + self.unreached


@dataclass(frozen=True, slots=True)
class Period:
    """Days that belong together. first, last: both included."""

    span: str
    first: date
    last: date

    @property
    def before(self) -> date:
        """Return a day of the period before this one."""
        return self.first - timedelta(days=1)

    @property
    def after(self) -> date:
        """Return a day of the period after this one."""
        return self.last + timedelta(days=1)

    def days(self) -> list[date]:
        """Return its days."""
        return [self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1)]

    def bounds(self, zone: tzinfo) -> tuple[float, float]:
        """Return when it begins and ends, in seconds since 1970."""
        return midnight(self.first, zone), midnight(self.after, zone)


@dataclass(slots=True)
class Figures:
    """What the calls of a period came to.

    hours: by the hour of the day. days: by day. exts: the busiest first. unanswered_count: clients
    who were missed and not called back, of whom `unanswered` are the latest.
    """

    period: Period
    sums: Sums
    hours: list[Sums]
    days: list[tuple[date, Sums]]
    exts: list[ExtSums] = field(default_factory=list)
    unanswered_count: int = 0
    unanswered: list[Unanswered] = field(default_factory=list)


def period_of(span: str, day: date) -> Period:
    """Return the day, week (from Monday) or month that a day is in."""
    if span == "week":
        first = day - timedelta(days=day.weekday())
        return Period(span, first, first + timedelta(days=6))
    if span == "month":
        first = day.replace(day=1)
        following = (first + timedelta(days=31)).replace(day=1)
        return Period(span, first, following - timedelta(days=1))
    return Period("day", day, day)


def midnight(day: date, zone: tzinfo) -> float:
    """Return when a day begins in a zone, in seconds since 1970."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


def figures(
    calls: CallList, period: Period, zone: tzinfo, hidden: str, is_wanted: IsWanted
) -> Figures:
    """Count the calls of a period. Raises StoreError.

    hidden: what stands for a number that is not shown.
    """
    since, until = period.bounds(zone)
    by_day = {day: Sums() for day in period.days()}
    found = Figures(period, Sums(), [Sums() for _ in range(HOURS)], list(by_day.items()))
    for start, end, offset in _steady_times(period, zone):
        for n, row in enumerate(calls.hours(start, end, offset, is_wanted)):
            # a month has 700 of them
            if not n % ROWS_AT_ONCE:
                gevent.idle(HIGHEST_PRIORITY)
            day, hour = divmod(int(row.hour), HOURS)
            found.sums.add(row)
            found.hours[hour].add(row)
            by_day[date(1970, 1, 1) + timedelta(days=day)].add(row)

    found.exts = _exts(calls.exts(since, until, is_wanted))
    found.unanswered_count, found.unanswered = calls.unanswered(
        since, until, hidden, MOST_UNANSWERED, is_wanted
    )
    return found


def _steady_times(period: Period, zone: tzinfo) -> Iterator[tuple[float, float, float]]:
    """Yield the times of a period in which the zone is equally far ahead of UTC.

    Each as its begin and end, and how far that is, all in seconds. Zones change their clocks at
    night, on a full hour.
    """
    since, until = period.bounds(zone)
    start, offset = since, _offset(since, zone)
    at = since
    while at < until:
        at = min(at + 3600, until)
        found = _offset(at, zone)
        if found != offset:
            yield start, at, offset
            start, offset = at, found

    if start < until:
        yield start, until, offset


def _offset(at: float, zone: tzinfo) -> float:
    ahead = datetime.fromtimestamp(at, zone).utcoffset()
    return ahead.total_seconds() if ahead is not None else 0.0


def _exts(rows: Sequence[Any]) -> list[ExtSums]:
    """Return the figures of each ext, the busiest first."""
    found: dict[tuple[str, str], ExtSums] = {}
    for row in rows:
        key = row.account, row.ext
        sums = found.setdefault(key, ExtSums(row.ext, account=row.account))
        is_talk = row.status == Status.SUCCESS.value
        if row.direction == Direction.IN.value:
            name = "answered" if is_talk else "missed"
        else:
            name = "reached" if is_talk else "unreached"
        setattr(sums, name, getattr(sums, name) + int(row.calls))
        sums.talked += int(row.talked)
    return sorted(found.values(), key=lambda sums: (-sums.calls, sums.ext))
