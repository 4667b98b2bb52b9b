"""What the dashboard shows, asked of the store and of the links: plain values, ready for a page."""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from . import explain
from .calls.model import Kind, Notice, Rules
from .outbox.archive import Archive
from .outbox.queue import Queue
from .outbox.store import Store
from .outbox.tables import DEAD
from .printable import printable

SESSIONS = "dashboard_sessions"
"""The fact of the store that names the sessions that hold."""

MOST_RECENT = 30
MOST_DEAD = 50


@dataclass(frozen=True, slots=True)
class LiveCall:
    """A call that goes on. parts: each employee's ext and what they do: rings, calls or talks."""

    callid: str
    phone: str
    way: str
    since: float
    parts: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Dead:
    """A notice Planfix refused. at: seconds since 1970."""

    id: int
    callid: str
    ext: str
    what: str
    phone: str
    answer: str
    at: float


@dataclass(slots=True)
class Recent:
    """A call of late. parts: each employee's ext and status. at: seconds since 1970."""

    callid: str
    phone: str
    way: str
    at: float
    parts: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Overview:
    """How everything stands. today: ext to status to how many."""

    links: dict[str, bool]
    unauthorized: bool
    shadow: bool
    waiting: int
    dead: int
    oldest: float
    calls: list[LiveCall]
    letters: list[Dead]
    today: dict[str, dict[str, int]]
    recent: list[Recent]


class Desk:
    """Where an administrator looks, and what may be done from there."""

    def __init__(
        self,
        store: Store,
        rules: Rules,
        links: Callable[[], dict[str, bool]],
        link: Callable[[str, str], str],
        shadow: bool = False,
    ) -> None:
        self._store = store
        self._queue = Queue(store)
        self._archive = Archive(store)
        self._rules = rules
        self._links = links
        self._link = link
        self._shadow = shadow

    def overview(self) -> Overview:
        """Return how everything stands now. Raises StoreError."""
        standing = self._queue.backlog()
        said = self._archive.since(_midnight())
        return Overview(
            links=self._links(),
            unauthorized=standing.unauthorized,
            shadow=self._shadow,
            waiting=standing.waiting,
            dead=standing.dead,
            oldest=time.time() - standing.oldest if standing.oldest else 0.0,
            calls=[_live(json.loads(state)["call"]) for state in self._archive.open_calls()],
            letters=[_dead(item) for item in self._queue.listed([DEAD], MOST_DEAD)],
            today=_by_ext(said),
            recent=_recent(self._archive.latest(MOST_RECENT * 20)),
        )

    def story(self, callid: str) -> list[str]:
        """Return the timeline of a call, [] if nothing is kept of it."""
        return explain.story(self._archive, self._rules, callid)

    def recordings(self, callid: str) -> list[str]:
        """Return the links to a call's recordings."""
        said, _ = self._archive.about(callid)
        return [
            self._link(callid, item.notice.recording)
            for item in said
            if item.notice.kind is Kind.RECORD
        ]

    def send_again(self, ids: Collection[int]) -> int:
        """Send dead letters again; return how many."""
        return self._queue.send_again(ids, time.time())

    def drop(self, ids: Collection[int]) -> int:
        """Delete dead letters for good; return how many."""
        return self._queue.drop(ids)

    def sessions(self) -> str:
        """Return the name that the dashboard's sessions of now share, for all workers."""
        return self._store.known(SESSIONS) or self._store.fact(SESSIONS, secrets.token_urlsafe(16))

    def end_sessions(self) -> None:
        """Give the sessions of now another name, so that none of them holds any more."""
        self._store.replace_fact(SESSIONS, secrets.token_urlsafe(16))


def _midnight() -> float:
    return (
        datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    )


def _live(call: dict[str, Any]) -> LiveCall:
    parts = [(part["ext"], _doing(part)) for part in call["engagements"] if not part["ended_at"]]
    return LiveCall(call["callid"], call["phone"], call["type"], call["born"] / 1_000_000, parts)


def _doing(part: dict[str, Any]) -> str:
    if part["accepted_at"]:
        return "talks"
    return "rings" if part["type"] == "in" else "calls"


def _dead(item: Any) -> Dead:
    notice: Notice = item.notice
    return Dead(
        item.id,
        notice.callid,
        notice.ext,
        notice.what,
        notice.phone,
        printable(item.answer),
        notice.at / 1_000_000,
    )


def _by_ext(said: list[Notice]) -> dict[str, dict[str, int]]:
    counted = Counter((n.ext or "-", n.status.value) for n in said if n.status is not None)
    found: dict[str, dict[str, int]] = {}
    for (ext, status), count in sorted(counted.items()):
        found.setdefault(ext, {})[status] = count
    return found


def _recent(said: list[Notice]) -> list[Recent]:
    """Return the latest calls, the newest first; of each employee the last that is known."""
    calls: dict[str, Recent] = {}
    for notice in said:
        call = calls.setdefault(
            notice.callid, Recent(notice.callid, notice.phone, notice.type, notice.at / 1_000_000)
        )
        if notice.status is not None:
            call.parts.append((notice.ext or "-", notice.status.value))
    return sorted(calls.values(), key=lambda call: -call.at)[:MOST_RECENT]
