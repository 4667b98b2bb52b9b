"""The list of calls that are over: searches it and counts it, for `fsplanfix calls` and the pages.

Each page begins after the last row of the one before (its time and callid), so the last page of a
million rows is as fast as the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Float,
    Integer,
    Select,
    and_,
    case,
    exists,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from ..calls.model import Direction, Status
from ..calls.result import Result, Share
from .call_rows import folded
from .reader import IsWanted, Reader
from .schema import calls, shares


class Place(NamedTuple):
    """A row's place in the list. began: seconds since 1970."""

    began: float
    callid: str


@dataclass(frozen=True, slots=True)
class Search:
    """What calls are looked for; "" and None leave a field out.

    number: a whole number (E.164 digits). digits: a part of one. name: any part of the client's
    name. since, until: seconds since 1970, the end left out.
    """

    number: str = ""
    digits: str = ""
    name: str = ""
    ext: str = ""
    line: str = ""
    direction: str = ""
    results: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class ListedCall:
    """A call that is over; see calls/result.py. began: seconds since 1970."""

    callid: str
    began: float
    direction: str
    phone: str
    line: str
    name: str
    result: str
    waited: int | None
    talked: int
    recordings: int
    shares: list[Share] = field(default_factory=list)

    @property
    def place(self) -> Place:
        """Return its place in the list."""
        return Place(self.began, self.callid)


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A client whose last call was missed, with whom nobody has talked since.

    times: how often they were missed in the time asked for. tried: how often we have called since.
    """

    call: ListedCall
    times: int
    tried: int


class whole(FunctionElement[int]):
    """SQL for a number of at least 0 without its fraction."""

    type = Integer()
    inherit_cache = True


@compiles(whole, "sqlite")
def _sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS INTEGER)"


@compiles(whole, "postgresql")
def _postgresql(element: Any, compiler: Any, **options: Any) -> str:
    return f"CAST(floor({compiler.process(element.clauses, **options)}) AS BIGINT)"


_ROW = (
    *(calls.c.callid, calls.c.began, calls.c.direction, calls.c.phone, calls.c.line),
    *(calls.c.name, calls.c.result, calls.c.waited, calls.c.talked, calls.c.recordings),
)


class CallList:
    """Reads the calls of a store that are over. Raises StoreError."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def page(
        self,
        search: Search,
        most: int,
        after: Place | None = None,
        is_wanted: IsWanted = lambda: True,
    ) -> list[ListedCall]:
        """Return the latest calls that are looked for, the latest first. after: older ones only."""
        found = self._reader.rows(_page(search, most, after), is_wanted)
        return self._with_shares(found, is_wanted)

    def one(self, callid: str) -> ListedCall | None:
        """Return a call by its callid, None if it is unknown or not over."""
        found = self._reader.rows(select(*_ROW).where(calls.c.callid == callid))
        return next(iter(self._with_shares(found)), None)

    def _with_shares(
        self, rows: Sequence[Any], is_wanted: IsWanted = lambda: True
    ) -> list[ListedCall]:
        listed = {row.callid: _listed(row) for row in rows}
        if listed:
            query = select(shares.c.callid, shares.c.ext, shares.c.status, shares.c.talked)
            query = query.where(shares.c.callid.in_(listed)).order_by(shares.c.place)
            for row in self._reader.rows(query, is_wanted):
                share = Share(row.ext, Status(row.status), row.talked)
                listed[row.callid].shares.append(share)
        return list(listed.values())

    def hours(
        self, since: float, until: float, offset: float, is_wanted: IsWanted = lambda: True
    ) -> Sequence[Any]:
        """Return the sums of each hour with calls: a row with the names of `_SUMS` and `hour`.

        since, until: seconds since 1970. offset: seconds that the local time is ahead of UTC in all
        of that time. hour: whole hours since 1970 by the local time.
        """
        hour = whole((calls.c.began + literal(offset, Float)) / 3600.0).label("hour")
        query = select(hour, *_SUMS).where(*_between(calls.c.began, since, until)).group_by(hour)
        return self._reader.rows(query, is_wanted)

    def exts(self, since: float, until: float, is_wanted: IsWanted = lambda: True) -> Sequence[Any]:
        """Return how many calls each ext had with each direction and status, and talked seconds."""
        # an incoming call that a colleague took is none of this ext's
        is_elsewhere = and_(
            shares.c.direction == Direction.IN.value, shares.c.status == Status.CANCELED.value
        )
        keys = (shares.c.ext, shares.c.direction, shares.c.status)
        query = (
            select(*keys, func.count().label("calls"), func.sum(shares.c.talked).label("talked"))
            .where(*_between(shares.c.began, since, until), ~is_elsewhere)
            .group_by(*keys)
        )
        return self._reader.rows(query, is_wanted)

    def unanswered(
        self,
        since: float,
        until: float,
        hidden: str,
        most: int,
        is_wanted: IsWanted = lambda: True,
    ) -> tuple[int, list[Unanswered]]:
        """Return how many clients were missed and not talked with since, and the latest of them.

        hidden: what stands for a number that is not shown; nobody can call it back.
        """
        query = _unanswered(since, until, hidden)
        times, tried = _missed_times(since, until), _tried_since()
        rows = self._reader.rows(
            query.add_columns(times, tried).order_by(calls.c.began.desc()).limit(most), is_wanted
        )
        listed = self._with_shares(rows, is_wanted)
        found = [
            Unanswered(call, row.times, row.tried) for call, row in zip(listed, rows, strict=True)
        ]
        return self.unanswered_count(since, until, hidden, is_wanted), found

    def unanswered_count(
        self, since: float, until: float, hidden: str, is_wanted: IsWanted = lambda: True
    ) -> int:
        """Return how many clients were missed and not talked with since; see `unanswered`."""
        query = _unanswered(since, until, hidden).with_only_columns(func.count().label("found"))
        (row,) = self._reader.rows(query, is_wanted)
        return int(row.found)


_is_in = calls.c.direction == Direction.IN.value
_is_answered = calls.c.result == Result.ANSWERED.value


def _sum(condition: ColumnElement[bool], value: Any = 1) -> ColumnElement[Any]:
    return func.sum(case((condition, value), else_=0))


_SUMS = (
    _sum(_is_in).label("incoming"),
    _sum(and_(_is_in, _is_answered)).label("answered"),
    _sum(calls.c.result == Result.MISSED.value).label("missed"),
    _sum(~_is_in).label("outgoing"),
    _sum(and_(~_is_in, _is_answered)).label("reached"),
    _sum(and_(_is_in, _is_answered, calls.c.waited.is_not(None))).label("waits"),
    _sum(
        and_(_is_in, _is_answered, calls.c.waited.is_not(None)), func.coalesce(calls.c.waited, 0)
    ).label("waited"),
    _sum(_is_answered, calls.c.talked).label("talked"),
)


def _between(
    began: ColumnElement[float], since: float | None, until: float | None
) -> list[ColumnElement[bool]]:
    conditions = []
    if since is not None:
        conditions.append(began >= since)
    if until is not None:
        conditions.append(began < until)
    return conditions


def _page(search: Search, most: int, after: Place | None) -> Select[Any]:
    """Return the query for a page of the list."""
    query = select(*_ROW)
    # through the index that leaves the fewest rows
    began, callid = calls.c.began, calls.c.callid
    if search.ext:
        query = query.join(shares, shares.c.callid == calls.c.callid)
        query = query.where(shares.c.ext == search.ext)
        began, callid = shares.c.began, shares.c.callid

    conditions = _between(began, search.since, search.until)
    if search.number:
        conditions.append(calls.c.phone == search.number)
    if search.digits:
        conditions.append(calls.c.phone.contains(search.digits, autoescape=True))
    if search.name:
        name = folded(search.name)
        conditions.append(
            or_(calls.c.name_folded.contains(name, autoescape=True), calls.c.phone == name)
        )
    if search.line:
        conditions.append(calls.c.line.contains(search.line, autoescape=True))
    if search.direction:
        conditions.append(calls.c.direction == search.direction)
    if search.results:
        conditions.append(calls.c.result.in_(search.results))
    if after is not None:
        conditions.append(began <= after.began)
        conditions.append(or_(began < after.began, callid < after.callid))

    return query.where(*conditions).order_by(began.desc(), callid.desc()).limit(most)


_later = calls.alias("later")
_same_client = and_(_later.c.phone == calls.c.phone, _later.c.began > calls.c.began)


def _unanswered(since: float, until: float, hidden: str) -> Select[Any]:
    """Return the query for the last missed call of each client nobody has talked with since."""
    is_talked_with = _later.c.result == Result.ANSWERED.value
    is_missed_again = and_(_later.c.result == Result.MISSED.value, _later.c.began < until)
    settled = exists().where(_same_client, or_(is_talked_with, is_missed_again))
    return select(*_ROW).where(
        calls.c.result == Result.MISSED.value,
        *_between(calls.c.began, since, until),
        calls.c.phone != hidden,
        ~settled,
    )


def _missed_times(since: float, until: float) -> ColumnElement[int]:
    missed = calls.alias("missed")
    return (
        select(func.count())
        .where(
            missed.c.phone == calls.c.phone,
            missed.c.result == Result.MISSED.value,
            *_between(missed.c.began, since, until),
        )
        .scalar_subquery()
        .label("times")
    )


def _tried_since() -> ColumnElement[int]:
    tries = _same_client & (_later.c.direction == Direction.OUT.value)
    return select(func.count()).select_from(_later).where(tries).scalar_subquery().label("tried")


def _listed(row: Any) -> ListedCall:
    return ListedCall(
        *(row.callid, row.began, row.direction, row.phone, row.line, row.name),
        *(row.result, row.waited, row.talked, row.recordings),
    )
