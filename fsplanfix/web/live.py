"""The overview, which follows what happens while its page is open."""

from __future__ import annotations

import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import tzinfo
from typing import Any, Protocol

import gevent
from flask import Blueprint, Response, abort, g, request, stream_with_context
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import generate_csrf
from gevent.lock import BoundedSemaphore

from ..errors import StoreError
from .rendering import give_way, rendered
from .sessions import ADMIN, Sessions, parts_of
from .words import language, zone

REFRESH_EVERY = 1.0
"""Seconds between two readings of the overview."""

REPEAT_AFTER = 15.0
"""Seconds after which an unchanged overview is sent again, so that the connection stays open."""

MOST_OPEN = 50
"""Pages of one company that are kept up to date at once.

The web server has 500 connections, and each of these pages keeps one as long as it likes: without
them nobody's clicks would come through.
"""

MOST_KEPT = 20
"""Overviews of different time zones that are kept."""

TOKEN_PLACE = secrets.token_hex(16)
"""Stands in the shared HTML where each reader's own token belongs; no stranger can guess it."""


class OverviewDesk(Protocol):
    """Gives the overview; see admin/desk.py."""

    def overview(self, zone: tzinfo, is_wanted: Callable[[], bool]) -> Any:
        """Return the values of the home page, "today" by a time zone. Raises StoreError."""


class Look:
    """The overview, read once for all open pages of a time zone, and only if one asks for it.

    With 150,000 notices, reading it for each page took 52 ms a second. Its HTML is made once for
    all who read it in the same language.
    """

    def __init__(
        self, desk: OverviewDesk, zone: tzinfo, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._desk = desk
        self._zone = zone
        self._clock = clock
        self._read_at = -math.inf
        self._found: Any = None
        self._html: dict[tuple[str, str], str] = {}
        self._lock = BoundedSemaphore()

    def read_now(self) -> Any:
        """Return the overview of now, None if the store does not answer."""
        with self._lock:
            return self._read()

    def read_recent(self) -> Any:
        """Return the overview of the last second, None if the store did not answer."""
        # the time is compared inside the lock: a page that waited for another's reading uses it
        with self._lock:
            if self._clock() >= self._read_at + REFRESH_EVERY:
                return self._read()
            return self._found

    def html(self, overview: Any, role: str) -> str:
        """Return an overview as HTML for the current reader, with TOKEN_PLACE for the token."""
        key = (language(), role)
        if overview is self._found and key in self._html:
            return self._html[key]

        html = rendered("now.html", now=overview, may_act=role == ADMIN, token=TOKEN_PLACE)
        # a newer overview may have been read meanwhile
        if overview is self._found:
            self._html[key] = html
        return html

    def _read(self) -> Any:
        try:
            found = self._desk.overview(self._zone, lambda: True)
        except StoreError:
            found = None

        # unchanged: what was made of it stays good
        if found != self._found or found is None:
            self._found = found
            self._html = {}
        self._read_at = self._clock()
        return self._found


def add_overview(pages: Blueprint, desk: Callable[[], OverviewDesk], sessions: Sessions) -> None:
    """Add the overview and its changes. desk: returns that of the current request's sender."""
    looks: dict[tuple[str, str], Look] = {}
    opened: Counter[str] = Counter()

    def look() -> Look:
        key = str(zone()), g.account
        if key not in looks:
            # readers in so many time zones: the oldest begin anew
            while len(looks) >= MOST_KEPT:
                looks.pop(next(iter(looks)))
            looks[key] = Look(desk(), zone())
        return looks[key]

    def shown(html: str) -> str:
        return html.replace(TOKEN_PLACE, generate_csrf())

    @pages.get("/")
    def home() -> ResponseReturnValue:
        one = look()
        return rendered("home.html", now=shown(one.html(one.read_now(), g.role)))

    @pages.get("/live")
    def live() -> ResponseReturnValue:
        if g.account and opened[g.account] >= MOST_OPEN:
            abort(503)
        peer_is_gone = request.environ.get("fsplanfix.peer_is_gone", lambda: False)
        changes = _counted(_changes(look(), sessions, shown, peer_is_gone), opened, g.account)
        return Response(stream_with_context(changes), mimetype="text/event-stream")


def _counted(changes: Iterator[str], opened: Counter[str], account: str) -> Iterator[str]:
    """Yield what changes, and count the page as one of the account's meanwhile."""
    opened[account] += 1
    try:
        yield from changes
    finally:
        opened[account] -= 1


def _changes(
    look: Look,
    sessions: Sessions,
    shown: Callable[[str], str],
    peer_is_gone: Callable[[], bool],
) -> Iterator[str]:
    """Yield the overview as server-sent events, whenever it has changed."""
    sent = ""
    quiet = math.inf

    # checked every time: a page left open must not outlive its session
    while role := sessions.role():
        html = look.html(look.read_recent(), parts_of(role)[0])
        # all pages that are open wait for one reading, and have it at the same moment
        give_way()
        if html != sent or quiet > REPEAT_AFTER:
            sent = html
            quiet = 0.0
            yield "".join(f"data: {line}\n" for line in shown(html).splitlines()) + "\n"

        gevent.sleep(REFRESH_EVERY)
        quiet += REFRESH_EVERY

        # else a closed page would be noticed only when the next change is written to it
        if peer_is_gone():
            return

    yield "event: over\ndata:\n\n"
