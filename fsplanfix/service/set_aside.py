"""What the rules could not process: counted, logged, and set aside.

Such an event costs no other call, and its own as little as possible (docs/call-rules.md, rule 16).
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Collection

import structlog

from ..freeswitch.events import SwitchEvent

log = structlog.get_logger(__name__)

MOST_TROUBLES = 3
"""Events of one call that are set aside until the call is let go."""

MOST_CALLS = 10_000
"""Calls whose troubles are counted."""

MOST_EVENTS = 20
"""Events that are kept for a report, the latest."""

LONGEST_REASON = 200
"""Characters."""


class SetAside:
    """What was set aside of one FreeSWITCH.

    count: how many events and other pieces of work. events: the latest events among them.
    has_news: whether `fsplanfix check` should show more; whoever stores `fact_after` clears this.
    """

    def __init__(self, server: str) -> None:
        self.count = 0
        self.events: deque[SwitchEvent] = deque(maxlen=MOST_EVENTS)
        self.has_news = False
        self._last: dict[str, object] = {}
        self._counted = 0
        self._server = server
        self._troubles: dict[str, int] = {}

    def note(self, what: str, error: Exception) -> None:
        """Count and log a piece of work that failed and was left out."""
        log.error("work_set_aside", server=self._server, work=what, exc_info=error)
        self._count(what, error)

    def add(self, event: SwitchEvent, error: Exception, callids: Collection[str]) -> list[str]:
        """Keep an event that could not be processed; return which of its calls must be let go."""
        log.error(
            "event_set_aside",
            server=self._server,
            event_name=event.name,
            leg=event.leg,
            exc_info=error,
        )
        self.events.append(event)
        self._count(event.name, error)

        let_go = []
        for callid in callids:
            self._troubles[callid] = self._troubles.get(callid, 0) + 1
            if self._troubles[callid] >= MOST_TROUBLES:
                let_go.append(callid)

        # a call that goes well after one trouble stays here: the oldest make room
        while len(self._troubles) > MOST_CALLS:
            self._troubles.pop(next(iter(self._troubles)))

        return let_go

    def _count(self, what: str, error: Exception) -> None:
        self.count += 1
        reason = f"{type(error).__name__}: {error}"[:LONGEST_REASON]
        self._last = {"last": what, "reason": reason, "at": time.time()}
        self.has_news = True

    def fact_after(self, known: str) -> str:
        """Return what `fsplanfix check` shows, as JSON.

        known: what stands in the store, from before our start and from other workers.
        """
        news, self._counted = self.count - self._counted, self.count
        before = int(json.loads(known or "{}").get("count", 0))
        return json.dumps({"count": before + news, **self._last})
