"""Events that the rules could not process: counted, logged, and set aside.

Such an event costs no other call, and its own as little as possible (docs/call-rules.md, rule 16).
"""

from __future__ import annotations

import json
from collections.abc import Collection

import structlog

from ..freeswitch.events import SwitchEvent

log = structlog.get_logger(__name__)

MOST_TROUBLES = 3
"""Events of one call that are set aside until the call is let go."""

MOST_CALLS = 10_000
"""Calls whose troubles are counted."""

LONGEST_REASON = 200
"""Characters."""


class SetAside:
    """The events of one FreeSWITCH that were set aside.

    count: how many. fact: what `fsplanfix check` shows of them, as JSON.
    """

    def __init__(self, server: str) -> None:
        self.count = 0
        self.fact = "{}"
        self._server = server
        self._troubles: dict[str, int] = {}

    def add(self, event: SwitchEvent, error: Exception, callids: Collection[str]) -> list[str]:
        """Log an event that could not be processed; return which of its calls must be let go."""
        self.count += 1
        log.error(
            "event_set_aside",
            server=self._server,
            event_name=event.name,
            leg=event.leg,
            exc_info=error,
        )

        let_go = []
        for callid in callids:
            self._troubles[callid] = self._troubles.get(callid, 0) + 1
            if self._troubles[callid] >= MOST_TROUBLES:
                let_go.append(callid)

        # a call that goes well after one trouble stays here: the oldest make room
        while len(self._troubles) > MOST_CALLS:
            self._troubles.pop(next(iter(self._troubles)))

        reason = f"{type(error).__name__}: {error}"[:LONGEST_REASON]
        self.fact = json.dumps(
            {"count": self.count, "event": event.name, "leg": event.leg, "reason": reason}
        )
        return let_go
