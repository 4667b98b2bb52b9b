"""Where people look on the dashboard, and what they may do from there; see web/dashboard.py."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, tzinfo
from functools import partial

import gevent

from ..calls.model import Kind
from ..calls.result import Result
from ..calls.unclaimed import UNCLAIMED, Named
from ..calls.whose import AnyRules, all_rules, unclaimed_by
from ..outbox.archive import Archive
from ..outbox.call_list import CallList, ListedCall, Place, Search
from ..outbox.queue import Queue
from ..outbox.reader import IsWanted, Reader
from ..outbox.schema import State
from ..outbox.standing import StandingReader
from ..outbox.store import Store
from ..printable import printable
from . import figures, story
from .call_csv import CALLS_AT_ONCE, csv_text
from .call_search import client_search, line_digits
from .figures import Figures, Period
from .overview import Lookout, Overview, formatted, readable
from .shared import Shared

SESSIONS = "dashboard_sessions"
"""The fact of the store that names the valid sessions; those of a viewer have one of their own."""

CALLS_A_PAGE = 50
FIGURES_LAST = 10.0
"""Seconds that figures are shown again, to whoever asks for the same."""

RESULTS = {
    "answered": (Result.ANSWERED.value,),
    "missed": (Result.MISSED.value,),
    "unreached": tuple(
        result.value
        for result in (
            *(Result.BUSY, Result.NO_ANSWER, Result.NOT_AVAILABLE),
            *(Result.NOT_ALLOWED, Result.CANCELED),
        )
    ),
}
"""What may be searched for as the result of a call."""


@dataclass(frozen=True, slots=True)
class CallPage:
    """A page of the list of calls. after: where the next page begins, "" if there is none."""

    calls: list[ListedCall]
    after: str


@dataclass(frozen=True, slots=True)
class Told:
    """A notice in a story.

    what: its status or else its kind. seconds: of the talk. state: as in the store. sent: when it
    was settled (seconds since 1970), 0 while it waits. answer: of Planfix.
    """

    what: str
    recorded: bool
    seconds: int
    state: str
    sent: float
    tries: int
    answer: str


@dataclass(frozen=True, slots=True)
class StoryStep:
    """A step of a story. at: seconds since 1970. told: the notice, None for an event."""

    at: float
    who: str
    text: str
    kind: str
    reason: str = ""
    told: Told | None = None


@dataclass(frozen=True, slots=True)
class CallStory:
    """What is known of a call. call: None while it is not over."""

    callid: str
    phone: str
    line: str
    way: str
    call: ListedCall | None
    steps: list[StoryStep]
    recordings: int


class Desk:
    """Where an administrator or a manager looks. Raises StoreError if the database is away.

    wake: called when something is to be sent again.
    """

    def __init__(
        self,
        store: Store,
        rules: AnyRules,
        is_linked: Callable[[], dict[str, bool]],
        name_of: Callable[[str, str], str] = lambda *_: "",
        shadow: bool = False,
        is_paired: Callable[[str], bool] = lambda _: True,
        account: str = "",
        reader: Reader | None = None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._wake = wake
        self._queue = Queue(store)
        self._archive = Archive(store)
        self._all_rules = all_rules(rules)
        self._rules = self._all_rules.of(account)
        self._account = account
        self._reader = reader or Reader(store)
        self._calls = CallList(self._reader, account)
        self._known_of = is_linked, name_of, shadow, is_paired
        # what phonenumbers builds for its first number takes 5 ms
        formatted("74950000001")
        self._figures: Shared[Figures] = Shared(FIGURES_LAST)
        self._lookout = Lookout(
            StandingReader(self._reader, account),
            self._calls,
            self._rules.hidden_number,
            is_linked,
            name_of,
            partial(is_paired, account),
            shadow,
            account,
            self._unclaimed,
        )

    def of(self, account: str) -> Desk:
        """Return the desk where one company looks."""
        known_of = self._known_of
        return Desk(self._store, self._all_rules, *known_of, account, self._reader, self._wake)

    def _unclaimed(self) -> tuple[tuple[Named, int], ...]:
        if self._account or self._all_rules.is_one:
            return ()
        return tuple(unclaimed_by(self._all_rules, self._store.facts.get(UNCLAIMED)))

    def _has(self, account: str) -> bool:
        return self._account in ("", account)

    def number(self, number: str) -> str:
        """Return a number as people write it, "" if it stands for a hidden one."""
        return "" if number == self._rules.hidden_number else formatted(number)

    def overview(self, zone: tzinfo, is_wanted: IsWanted) -> Overview:
        """Return how everything stands now."""
        return self._lookout.overview(self._store.now(), zone, is_wanted)

    # calls that are over

    def calls(self, asked: Mapping[str, str], zone: tzinfo, is_wanted: IsWanted) -> CallPage:
        """Return a page of the calls that are asked for.

        asked: client, ext, line, since, until (days, both included), way, result, after: as text
        from outside. What cannot be read is left out.
        """
        search = self._search(asked, zone)
        after = _place(asked.get("after", ""))
        found = self._calls.page(search, CALLS_A_PAGE + 1, after, is_wanted)
        shown = found[:CALLS_A_PAGE]
        more = f"{shown[-1].began!r}~{shown[-1].callid}" if len(found) > CALLS_A_PAGE else ""
        self._prepare_numbers(shown)
        return CallPage(shown, more)

    def csv(self, asked: Mapping[str, str], zone: tzinfo, separator: str) -> Iterator[str]:
        """Yield all calls that are asked for as CSV, a piece at a time."""
        search = self._search(asked, zone)
        of_several = not self._account and not self._all_rules.is_one
        yield csv_text([], zone, True, separator, of_several)

        after: Place | None = None
        while page := self._calls.page(search, CALLS_AT_ONCE, after):
            after = page[-1].place
            yield csv_text(page, zone, False, separator, of_several)
            gevent.sleep(0)

    def _search(self, asked: Mapping[str, str], zone: tzinfo) -> Search:
        since, until = _day(asked.get("since", "")), _day(asked.get("until", ""))
        way = asked.get("way", "")
        return replace(
            client_search(asked.get("client", ""), self._rules.numbering),
            ext=asked.get("ext", "").strip(),
            line=line_digits(asked.get("line", ""), self._rules.numbering),
            direction=way if way in ("in", "out") else "",
            results=RESULTS.get(asked.get("result", ""), ()),
            since=figures.midnight(since, zone) if since else None,
            until=figures.midnight(until + timedelta(days=1), zone) if until else None,
        )

    @staticmethod
    def _prepare_numbers(calls: Collection[ListedCall]) -> None:
        """Format numbers now, with pauses: a page is made without any."""
        for call in calls:
            formatted(call.phone)
            formatted(call.line)
            gevent.sleep(0)

    def figures(self, span: str, day: str, zone: tzinfo, is_wanted: IsWanted) -> Figures:
        """Return what the calls of a day, week or month came to.

        span, day: as text from outside; today where there is no such day.
        """
        today = datetime.fromtimestamp(self._store.now(), zone).date()
        period: Period = figures.period_of(span, _day(day) or today)

        def count() -> Figures:
            return figures.figures(self._calls, period, zone, self._rules.hidden_number, is_wanted)

        found = self._figures.get((period, str(zone)), count)
        self._prepare_numbers([one.call for one in found.unanswered])
        return found

    # one call

    def story(
        self, callid: str, say: Callable[[str], str], clock: Callable[[float], str]
    ) -> CallStory | None:
        """Return what is known of a call, None if nothing is.

        say: translates. clock: returns a time of day; its argument is in seconds since 1970.
        """
        voice = story.Voice(say, clock, lambda cause: say(story.CAUSES.get(cause, cause)))
        steps = story.steps(self._archive, self._all_rules, callid, voice, self._account)
        if not steps or not self._is_ours(callid):
            return None

        said = [step.queued.notice for step in steps if step.queued is not None]
        phone = line = way = ""
        if said:
            phone, line, way = said[0].phone, said[0].diversion, said[0].type.value

        return CallStory(
            callid,
            phone,
            line,
            way,
            self._calls.one(callid),
            [_shown(step) for step in steps],
            sum(notice.kind is Kind.RECORD for notice in said),
        )

    def _is_ours(self, callid: str) -> bool:
        """Tell whether a call may be looked at here."""
        if not self._account:
            return True
        said, noted = self._archive.about(callid)
        whose = {item.notice.account for item in said} or {entry.account for entry in noted}
        return whose == {self._account}

    def recording(self, callid: str, number: int) -> str:
        """Return the path of a call's recording as FreeSWITCH names it, "" if there is none.

        number: 1 for the first.
        """
        said, _ = self._archive.about(callid)
        paths = [
            item.notice.recording
            for item in said
            if item.notice.kind is Kind.RECORD and self._has(item.notice.account)
        ]
        return paths[number - 1] if 1 <= number <= len(paths) else ""

    # rejected notices

    def rejected_ids(self) -> list[int]:
        """Return the numbers of all rejected notices."""
        return [item.id for item in self._queue.listed([State.REJECTED], 1_000_000, self._account)]

    def send_again(self, ids: Collection[int]) -> int:
        """Send rejected notices again; return how many."""
        count = self._queue.send_again(self._own(ids), self._store.now())
        self._wake()
        return count

    def drop(self, ids: Collection[int]) -> int:
        """Delete rejected notices; return how many."""
        return self._queue.drop(self._own(ids))

    def _own(self, ids: Collection[int]) -> Collection[int]:
        """Return those notices that may be changed here."""
        return set(ids) & set(self.rejected_ids()) if self._account else ids

    # sessions

    def sessions(self, role: str) -> str:
        """Return the name that the valid sessions of a role share, the same for all workers."""
        facts = self._store.facts
        fact = _fact_of(role)
        return facts.get(fact) or facts.set_if_absent(fact, secrets.token_urlsafe(16))

    def end_sessions(self, role: str) -> None:
        """End all sessions of a role, by giving the next ones another name."""
        self._store.facts.set(_fact_of(role), secrets.token_urlsafe(16))


def _fact_of(role: str) -> str:
    return SESSIONS if role == "admin" else f"{SESSIONS}_{role}"


def _day(text: str) -> date | None:
    """Return a day that was sent by a form, None if it is none that a store can hold."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if 1971 <= day.year <= 2999 else None


def _place(text: str) -> Place | None:
    """Return a place in the list that was sent by a link, None if it is none."""
    began, mark, callid = text.partition("~")
    try:
        at = float(began)
    except ValueError:
        return None
    return Place(at, callid) if mark and math.isfinite(at) else None


def _shown(step: story.Step) -> StoryStep:
    if step.queued is None:
        kind = "gap" if step.is_gap else "event"
        if step.is_trouble:
            kind = "note"
        text = readable(step.text) if step.is_note else step.text
        return StoryStep(step.at, printable(step.who), printable(text), kind)

    queued = step.queued
    notice = queued.notice
    told = Told(
        notice.status or notice.kind.value,
        notice.is_recorded,
        notice.duration,
        queued.state.value,
        queued.settled,
        queued.attempts,
        printable(readable(queued.answer)),
    )
    return StoryStep(step.at, printable(step.who), "", "notice", step.reason, told)
