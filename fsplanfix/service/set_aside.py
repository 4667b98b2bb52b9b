"""What the rules could not process: counted, logged, and set aside.

Such an event costs no other call, and its own as little as possible (docs/call-rules.md, rule 16).
"""

from __future__ import annotations

import json
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
    fact: what `fsplanfix check` shows, as JSON. has_news: whether that has changed; whoever stores
    it clears this.
    """

    def __init__(self, server: str) -> None:
        self.count = 0
        self.events: deque[SwitchEvent] = deque(maxlen=MOST_EVENTS)
        self.fact = "{}"
        self.has_news = False
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
        self.fact = json.dumps({"count": self.count, "last": what, "reason": reason})
        self.has_news = True
