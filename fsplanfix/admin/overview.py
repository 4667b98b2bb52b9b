"""What the dashboard shows of now: links, Planfix, active calls, today, what was rejected."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

import gevent
import structlog

from ..calls import snapshot
from ..calls.model import ACCOUNT, MICROSECONDS, Call, Direction, Part
from ..calls.numbers import written
from ..calls.unclaimed import Named
from ..outbox.call_list import CallList, ListedCall, Search
from ..outbox.reader import IsWanted
from ..outbox.records import Queued
from ..outbox.standing import Standing, StandingReader
from ..printable import printable
from .figures import Sums, midnight

log = structlog.get_logger(__name__)

DELIVERED_WITHIN = 5.0
"""Seconds that a delivery may take: a notice that has waited for less is on its way."""

MOST_RECENT = 10
MOST_REJECTED = 200
MOST_LIVE = 60
"""Active calls that are shown; the others are counted."""


@dataclass(frozen=True, slots=True)
class LiveCall:
    """A call that is not over.

    name: the client's, "" if unknown. parts: each employee's ext, what they do (rings, calls or
    talks), and since when. since: when the call began. Times are seconds since 1970. account: whose
    call it is.
    """

    callid: str
    phone: str
    name: str
    line: str
    way: str
    since: float
    parts: list[tuple[str, str, float]]
    account: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The notices of one call that Planfix rejected.

    ids: the notices' numbers. whats: for each, its kind or status, and its ext. answers: without
    repetition. at: when the first of them happened, seconds since 1970.
    """

    callid: str
    phone: str
    at: float
    ids: list[int]
    whats: list[tuple[str, str]]
    answers: list[str]


@dataclass(frozen=True, slots=True)
class Overview:
    """How everything stands.

    linked: whether each FreeSWITCH is. paired: whether it is known which Planfix we belong to.
    is_late: notices wait, and the oldest longer than a delivery takes. today: since midnight, by
    the reader's time zone.
    unclaimed: calls that belong to no account, and how many, for whoever sees those of all.
    unanswered: clients who were missed today and not called back. recent: the latest calls that are
    over.
    """

    linked: dict[str, bool]
    paired: bool
    shadow: bool
    standing: Standing
    is_late: bool
    calls: list[LiveCall]
    more_calls: int
    rejected: list[Rejected]
    today: Sums
    unanswered: int
    recent: list[ListedCall]
    unclaimed: tuple[tuple[Named, int], ...] = ()


class Lookout:
    """Reads the overview.

    name_of: the client's name behind a number, for an account; "" if it was not looked up lately.
    """

    def __init__(
        self,
        standing: StandingReader,
        calls: CallList,
        hidden: str,
        is_linked: Callable[[], dict[str, bool]],
        name_of: Callable[[str, str], str],
        is_paired: Callable[[], bool],
        shadow: bool,
        account: str = "",
        unclaimed: Callable[[], tuple[tuple[Named, int], ...]] = tuple,
    ) -> None:
        self._standing = standing
        self._calls = calls
        self._hidden = hidden
        self._is_linked = is_linked
        self._name_of = name_of
        self._is_paired = is_paired
        self._shadow = shadow
        self._account = account
        self._unclaimed = unclaimed
        self._read: dict[str, tuple[str, LiveCall | None]] = {}

    def overview(self, now: float, zone: tzinfo, is_wanted: IsWanted) -> Overview:
        """Return how everything stands now. Raises StoreError."""
        since = midnight(datetime.fromtimestamp(now, zone).date(), zone)
        until = now + 86400
        today = Sums()
        for row in self._calls.hours(since, until, 0.0, is_wanted):
            today.add(row)

        live = self._live(self._standing.open_calls(is_wanted))
        standing = self._standing.standing(is_wanted)
        since_when = standing.waiting_since
        return Overview(
            linked=self._is_linked(),
            paired=self._is_paired(),
            shadow=self._shadow,
            standing=standing,
            is_late=since_when is not None and now - since_when >= DELIVERED_WITHIN,
            calls=live[:MOST_LIVE],
            more_calls=max(len(live) - MOST_LIVE, 0),
            rejected=_by_call(self._standing.rejected(MOST_REJECTED, is_wanted)),
            today=today,
            unanswered=self._calls.unanswered_count(since, until, self._hidden, is_wanted),
            recent=self._calls.page(Search(), MOST_RECENT, None, is_wanted),
            unclaimed=self._unclaimed(),
        )

    def _live(self, states: dict[str, str]) -> list[LiveCall]:
        """Return the active calls, the latest first."""
        read: dict[str, tuple[str, LiveCall | None]] = {}
        for callid, state in states.items():
            known = self._read.get(callid)
            if known is not None and known[0] == state:
                read[callid] = known
                continue

            read[callid] = state, self._live_call(state)
            # each takes a fraction of a millisecond, and there may be thousands
            gevent.sleep(0)

        self._read = read
        found = [call for _, call in read.values() if call is not None]
        return sorted(found, key=lambda call: -call.since)

    def _live_call(self, state: str) -> LiveCall | None:
        try:
            call = snapshot.read(state).call
        except (ValueError, KeyError, TypeError):
            # of another release; the pipeline has logged it
            return None

        # Planfix is told nothing of it, or nothing yet
        account = call.account or ACCOUNT
        if call.ignored or not call.position or self._account not in ("", account):
            return None
        parts = [
            (part.ext, _doing(part), _since(part, call)) for part in call.parts if not part.ended_at
        ]
        name = call.contact or self._name_of(call.phone, account)
        began = call.born / MICROSECONDS
        return LiveCall(
            call.callid, call.phone, name, call.diversion, call.type.value, began, parts, account
        )


def _doing(part: Part) -> str:
    if part.accepted_at is not None:
        return "talks"
    return "rings" if part.type is Direction.IN else "calls"


def _since(part: Part, call: Call) -> float:
    """Return when a part began to be what it is, in seconds since 1970."""
    began = call.born
    if part.accepted_at is not None:
        began = part.accepted_at
    return began / MICROSECONDS


def _by_call(queued: Sequence[Queued]) -> list[Rejected]:
    """Return rejected notices by call, the latest call first."""
    calls: dict[str, Rejected] = {}
    for item in sorted(queued, key=lambda item: item.id):
        notice = item.notice
        found = calls.setdefault(
            notice.callid,
            Rejected(notice.callid, notice.phone, notice.at / MICROSECONDS, [], [], []),
        )
        found.ids.append(item.id)
        found.whats.append((notice.status or notice.kind, notice.ext))
        answer = printable(readable(item.answer))
        if answer not in found.answers:
            found.answers.append(answer)
    return sorted(calls.values(), key=lambda call: -call.ids[-1])


def readable(answer: str) -> str:
    """Return Planfix's answer with the words of its JSON in place of the JSON."""
    before, brace, rest = answer.partition("{")
    if not brace:
        return answer
    try:
        found = json.loads(brace + rest)
    except ValueError:
        return answer
    words = [value for value in found.values() if isinstance(value, str)]
    return before + ", ".join(words) if words else answer


def formatted(number: str) -> str:
    """Return a number as people write it."""
    return printable(written(number))
