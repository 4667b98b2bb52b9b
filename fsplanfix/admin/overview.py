"""What the dashboard shows, from the store and the links: plain values, ready for a page."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from ..calls import snapshot
from ..calls.model import Call, Direction, Kind, Notice, Part, Rules
from ..outbox.history import Archive
from ..outbox.queue import Queue
from ..outbox.records import Queued
from ..outbox.schema import State
from ..outbox.store import Store
from ..printable import printable
from . import explain
from .today import NoticeLine, Today

SESSIONS = "dashboard_sessions"
"""The fact of the store that names the valid sessions."""

MOST_RECENT = 30
MOST_REJECTED = 50


@dataclass(frozen=True, slots=True)
class LiveCall:
    """A call that is not over.

    parts: each employee's ext and what they do: rings, calls or talks.
    since: seconds since 1970.
    """

    callid: str
    phone: str
    way: str
    since: float
    parts: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A notice that Planfix rejected. at: seconds since 1970."""

    id: int
    callid: str
    ext: str
    what: str
    phone: str
    answer: str
    at: float


@dataclass(slots=True)
class Recent:
    """One of the latest calls.

    parts: each employee's ext and status. at: seconds since 1970.
    """

    callid: str
    phone: str
    way: str
    at: float
    parts: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Overview:
    """How everything stands.

    oldest: seconds the oldest notice has waited, 0 if none waits.
    today: how many calls each ext had today with each status.
    """

    linked: dict[str, bool]
    unauthorized: bool
    shadow: bool
    waiting: int
    rejected_count: int
    oldest: int
    calls: list[LiveCall]
    rejected: list[Rejected]
    today: dict[str, dict[str, int]]
    recent: list[Recent]


class Desk:
    """Where an administrator looks, and what may be done from there."""

    def __init__(
        self,
        store: Store,
        rules: Rules,
        is_linked: Callable[[], dict[str, bool]],
        make_url: Callable[[str, str], str],
        shadow: bool = False,
    ) -> None:
        self._store = store
        self._queue = Queue(store)
        self._now = store.now
        self._archive = Archive(store)
        self._today = Today(self._archive, MOST_RECENT * 20)
        self._rules = rules
        self._is_linked = is_linked
        self._make_url = make_url
        self._shadow = shadow

    def overview(self) -> Overview:
        """Return how everything stands now. Raises StoreError."""
        self._today.catch_up()
        standing = self._queue.backlog()
        rejected = self._queue.listed([State.REJECTED], MOST_REJECTED)
        return Overview(
            linked=self._is_linked(),
            unauthorized=standing.unauthorized,
            shadow=self._shadow,
            waiting=standing.waiting,
            rejected_count=standing.rejected,
            oldest=int(time.time() - standing.oldest) if standing.oldest else 0,
            calls=[_live(snapshot.read(state).call) for state in self._archive.open_calls()],
            rejected=[_rejected(item) for item in rejected],
            today=_by_ext(self._today.ends),
            recent=_recent(self._today.latest),
        )

    def story(self, callid: str) -> list[str]:
        """Return the timeline of a call, [] if nothing is stored of it."""
        return explain.story(self._archive, self._rules, callid)

    def recordings(self, callid: str) -> list[str]:
        """Return the URLs of a call's recordings."""
        said, _ = self._archive.about(callid)
        return [
            self._make_url(callid, item.notice.recording)
            for item in said
            if item.notice.kind is Kind.RECORD
        ]

    def send_again(self, ids: Collection[int]) -> int:
        """Send rejected notices again; return how many."""
        return self._queue.send_again(ids, self._now())

    def drop(self, ids: Collection[int]) -> int:
        """Delete rejected notices; return how many."""
        return self._queue.drop(ids)

    def sessions(self) -> str:
        """Return the name that the valid sessions share, the same for all workers."""
        facts = self._store.facts
        return facts.get(SESSIONS) or facts.set_if_absent(SESSIONS, secrets.token_urlsafe(16))

    def end_sessions(self) -> None:
        """End all sessions, by giving the next ones another name."""
        self._store.facts.swap(SESSIONS, secrets.token_urlsafe(16))


def _live(call: Call) -> LiveCall:
    parts = [(part.ext, _doing(part)) for part in call.parts if part.ended_at is None]
    return LiveCall(call.callid, call.phone, call.type.value, call.born / 1_000_000, parts)


def _doing(part: Part) -> str:
    if part.accepted_at is not None:
        return "talks"
    return "rings" if part.type is Direction.IN else "calls"


def _rejected(item: Queued) -> Rejected:
    notice: Notice = item.notice
    return Rejected(
        item.id,
        notice.callid,
        notice.ext,
        notice.what,
        notice.phone,
        printable(item.answer),
        notice.at / 1_000_000,
    )


def _by_ext(ends: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (ext, status), count in sorted(ends.items()):
        found.setdefault(ext, {})[status] = count
    return found


def _recent(latest: Iterable[NoticeLine]) -> list[Recent]:
    """Return the latest calls, the newest first, with their employees' statuses."""
    calls: dict[str, Recent] = {}
    for said in latest:
        call = calls.setdefault(said.callid, Recent(said.callid, said.phone, said.way, said.at))
        if said.status:
            call.parts.append((said.ext or "-", said.status))
    return sorted(calls.values(), key=lambda call: -call.at)[:MOST_RECENT]
