"""The list of calls that are over: searches it and counts it, for `fsplanfix calls` and the pages.

Each page begins after the last row of the one before (its time and callid), so the last page of a
million rows is as fast as the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Float,
    Integer,
    Select,
    Table,
    and_,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from ..calls.model import ACCOUNT, Direction, Status
from ..calls.result import Result, Share
from .call_rows import folded
from .reader import IsWanted, Reader
from .schema import calls, is_of_many, shares


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
    account: str = ACCOUNT

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


class whole(FunctionElement[int]):  # noqa: N801 - a function in SQL
    """SQL for a number of at least 0 without its fraction."""

    type = Integer()
    inherit_cache = True


@compiles(whole, "sqlite")
def _sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS INTEGER)"


@compiles(whole, "postgresql")
def _postgresql(element: Any, compiler: Any, **options: Any) -> str:
    return f"CAST(floor({compiler.process(element.clauses, **options)}) AS BIGINT)"


MOST_AT_ONCE = 101
"""Calls of one page at most."""

_ROW = (
    *(calls.c.callid, calls.c.began, calls.c.direction, calls.c.phone, calls.c.line),
    *(calls.c.name, calls.c.result, calls.c.waited, calls.c.talked, calls.c.recordings),
    calls.c.account,
)


class CallList:
    """Reads the calls of a store that are over. Raises StoreError.

    account: whose calls, "" for those of all. Times are seconds since 1970. is_wanted: see
    Reader.rows.
    """

    def __init__(self, reader: Reader, account: str = "") -> None:
        self._reader = reader
        self._account = account

    def page(
        self,
        search: Search,
        most: int,
        after: Place | None = None,
        is_wanted: IsWanted = lambda: True,
    ) -> list[ListedCall]:
        """Return the latest calls that are looked for, the latest first. after: older ones only.

        most: how many, MOST_AT_ONCE at most.
        """
        values = {**_values(search), "most": min(most, MOST_AT_ONCE)}
        if after is not None:
            values |= {"before": after.began, "before_callid": after.callid}
        given = frozenset(name for name, value in values.items() if value not in ("", None))
        query = _page(given, search.results)
        table = shares if search.ext else calls
        named = {name: values[name] for name in given}
        return self._with_shares(self._rows(query, table, named, is_wanted), is_wanted)

    def one(self, callid: str) -> ListedCall | None:
        """Return a call by its callid, None if it is unknown or not over."""
        found = self._rows(_one, calls, {"its_callid": callid})
        return next(iter(self._with_shares(found)), None)

    def _rows(
        self,
        query: Select[Any],
        table: Table,
        values: Mapping[str, Any],
        is_wanted: IsWanted = lambda: True,
    ) -> Sequence[Any]:
        """Return the rows of a query, those of our account alone. table: where they come from."""
        if not self._account:
            return self._reader.rows(query, values, is_wanted)
        named = {**values, "account": self._account}
        of_account = _of_account(query, table, self._account != ACCOUNT)
        return self._reader.rows(of_account, named, is_wanted)

    def _with_shares(
        self, rows: Sequence[Any], is_wanted: IsWanted = lambda: True
    ) -> list[ListedCall]:
        listed = {row.callid: _listed(row) for row in rows}
        if listed:
            # one statement for pages of any length
            callids = [*listed, *([""] * (MOST_AT_ONCE - len(listed)))]
            values = {f"callid_{n}": callid for n, callid in enumerate(callids)}
            for row in self._reader.rows(_shares_of, values, is_wanted):
                share = Share(row.ext, Status(row.status), row.talked)
                listed[row.callid].shares.append(share)
        return list(listed.values())

    def hours(
        self, since: float, until: float, offset: float, is_wanted: IsWanted = lambda: True
    ) -> Sequence[Any]:
        """Return the sums of each hour with calls: a row with the names of `_SUMS` and `hour`.

        offset: seconds that the local time is ahead of UTC in all of that time. hour: whole hours
        since 1970 by the local time.
        """
        values = {"since": since, "until": until, "offset": offset}
        return self._rows(_hours, calls, values, is_wanted)

    def exts(self, since: float, until: float, is_wanted: IsWanted = lambda: True) -> Sequence[Any]:
        """Return how many calls each ext had with each direction and status, and talked seconds.

        A row has its account, too.
        """
        return self._rows(_exts, shares, {"since": since, "until": until}, is_wanted)

    def unanswered(
        self,
        since: float,
        until: float,
        hidden: str,
        most: int,
        is_wanted: IsWanted = lambda: True,
    ) -> tuple[int, list[Unanswered]]:
        """Return how many clients were missed and not talked with since, and the latest of them.

        hidden: what stands for a number that is not shown; nobody can call it back. most: how many
        of them, MOST_AT_ONCE at most.
        """
        values = {"since": since, "until": until, "hidden": hidden}
        limited = {**values, "most": min(most, MOST_AT_ONCE)}
        rows = self._rows(_unanswered_rows, calls, limited, is_wanted)
        listed = self._with_shares(rows, is_wanted)
        found = [
            Unanswered(call, row.times, row.tried) for call, row in zip(listed, rows, strict=True)
        ]
        return self.unanswered_count(since, until, hidden, is_wanted), found

    def unanswered_count(
        self, since: float, until: float, hidden: str, is_wanted: IsWanted = lambda: True
    ) -> int:
        """Return how many clients were missed and not talked with since; see `unanswered`."""
        values = {"since": since, "until": until, "hidden": hidden}
        (row,) = self._rows(_unanswered_count, calls, values, is_wanted)
        return int(row.found)


_is_in = calls.c.direction == Direction.IN.value
_is_answered = calls.c.result == Result.ANSWERED.value
_rang = and_(_is_in, _is_answered, calls.c.waited.is_not(None))


def _sum(condition: ColumnElement[bool], value: Any = 1) -> ColumnElement[Any]:
    return func.sum(case((condition, value), else_=0))


_SUMS = (
    _sum(_is_in).label("incoming"),
    _sum(and_(_is_in, _is_answered)).label("answered"),
    _sum(calls.c.result == Result.MISSED.value).label("missed"),
    _sum(~_is_in).label("outgoing"),
    _sum(and_(~_is_in, _is_answered)).label("reached"),
    _sum(_rang).label("waits"),
    _sum(_rang, func.coalesce(calls.c.waited, 0)).label("waited"),
    _sum(_is_answered, calls.c.talked).label("talked"),
)


def _between(began: ColumnElement[float]) -> ColumnElement[bool]:
    return and_(began >= bindparam("since", type_=Float), began < bindparam("until", type_=Float))


_hour = whole((calls.c.began + bindparam("offset", type_=Float)) / 3600.0).label("hour")
_hours = select(_hour, *_SUMS).where(_between(calls.c.began)).group_by(_hour)

# an incoming call that a colleague took is none of this ext's
_is_elsewhere = and_(
    shares.c.direction == Direction.IN.value, shares.c.status == Status.CANCELED.value
)
# 101 of one company and 101 of another are two people
_key = (shares.c.account, shares.c.ext, shares.c.direction, shares.c.status)
_exts = (
    select(*_key, func.count().label("calls"), func.sum(shares.c.talked).label("talked"))
    .where(_between(shares.c.began), ~_is_elsewhere)
    .group_by(*_key)
)

_one = select(*_ROW).where(calls.c.callid == bindparam("its_callid"))
_shares_of = (
    select(shares.c.callid, shares.c.ext, shares.c.status, shares.c.talked)
    .where(shares.c.callid.in_([bindparam(f"callid_{n}") for n in range(MOST_AT_ONCE)]))
    .order_by(shares.c.place)
)


def _values(search: Search) -> dict[str, Any]:
    """Return the values of a search, by the names of the parameters in `_page`."""
    return {
        "number": search.number,
        "digits": _anywhere(search.digits),
        "name": _anywhere(folded(search.name)),
        "whole_name": folded(search.name),
        "ext": search.ext,
        "line": _anywhere(search.line),
        "direction": search.direction,
        "since": search.since,
        "until": search.until,
    }


def _anywhere(text: str) -> str:
    """Return the pattern of LIKE that finds a text anywhere, "" for no text."""
    for sign in ("/", "%", "_"):
        text = text.replace(sign, f"/{sign}")
    return f"%{text}%" if text else ""


@lru_cache(maxsize=128)
def _page(given: frozenset[str], results: tuple[str, ...]) -> Select[Any]:
    """Return the query for a page of the list, by the names of what is looked for."""
    query = select(*_ROW)
    # through the index that leaves the fewest rows
    began, callid = calls.c.began, calls.c.callid
    if "ext" in given:
        query = query.join(shares, shares.c.callid == calls.c.callid)
        began, callid = shares.c.began, shares.c.callid

    name = calls.c.name_folded.like(bindparam("name"), escape="/")
    before = bindparam("before", type_=Float)
    conditions = {
        "since": began >= bindparam("since", type_=Float),
        "until": began < bindparam("until", type_=Float),
        "ext": shares.c.ext == bindparam("ext"),
        "number": calls.c.phone == bindparam("number"),
        "digits": calls.c.phone.like(bindparam("digits"), escape="/"),
        "name": or_(name, calls.c.phone == bindparam("whole_name")),
        "line": calls.c.line.like(bindparam("line"), escape="/"),
        "direction": calls.c.direction == bindparam("direction"),
        "before": and_(began <= before, or_(began < before, callid < bindparam("before_callid"))),
    }
    query = query.where(*(condition for of, condition in conditions.items() if of in given))
    if results:
        query = query.where(or_(*(calls.c.result == result for result in results)))
    return query.order_by(began.desc(), callid.desc()).limit(bindparam("most"))


# the last missed call of each client with whom nobody has talked since
_later = calls.alias("later")
_same_client = and_(
    _later.c.phone == calls.c.phone,
    _later.c.began > calls.c.began,
    _later.c.account == calls.c.account,
)
_is_settled = exists().where(
    _same_client,
    or_(
        _later.c.result == Result.ANSWERED.value,
        and_(
            _later.c.result == Result.MISSED.value,
            _later.c.began < bindparam("until", type_=Float),
        ),
    ),
)
_unanswered = select(*_ROW).where(
    calls.c.result == Result.MISSED.value,
    _between(calls.c.began),
    calls.c.phone != bindparam("hidden"),
    ~_is_settled,
)
_unanswered_count = _unanswered.with_only_columns(func.count().label("found"))

_missed = calls.alias("missed")
_missed_times = select(func.count()).where(
    _missed.c.phone == calls.c.phone,
    _missed.c.account == calls.c.account,
    _missed.c.result == Result.MISSED.value,
    _between(_missed.c.began),
)
_is_try = and_(_same_client, _later.c.direction == Direction.OUT.value)
_tries = select(func.count()).select_from(_later).where(_is_try)
_unanswered_rows = (
    _unanswered.add_columns(
        _missed_times.scalar_subquery().label("times"), _tries.scalar_subquery().label("tried")
    )
    .order_by(calls.c.began.desc())
    .limit(bindparam("most"))
)


@lru_cache(maxsize=256)
def _of_account(query: Select[Any], table: Table, of_many: bool) -> Select[Any]:
    """Return a query for the rows of one account, the same object each time."""
    of_one = query.where(table.c.account == bindparam("account"))
    return of_one.where(is_of_many(table)) if of_many else of_one


def _listed(row: Any) -> ListedCall:
    return ListedCall(
        *(row.callid, row.began, row.direction, row.phone, row.line, row.name),
        *(row.result, row.waited, row.talked, row.recordings),
        account=row.account,
    )
