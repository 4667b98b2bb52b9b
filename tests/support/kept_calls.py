"""Recorded calls with the events that a store keeps of them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from fsplanfix.calls.event_log import EventLog
from fsplanfix.calls.model import Notice, Rules
from fsplanfix.calls.tracker import Tracker
from fsplanfix.freeswitch.events import SwitchEvent

from .traces import events, rules_of

Kept = tuple[list[Notice], dict[str, bytes], EventLog]
"""What was said of calls, and what was kept of each."""


@cache
def kept(name: str) -> Kept:
    return kept_of(events(name), rules_of(name))


def kept_of(stream: Iterable[SwitchEvent], rules: Rules) -> Kept:
    """Play events as the pipeline does."""
    tracker, log = Tracker(rules), EventLog()
    said: list[Notice] = []
    packed: dict[str, bytes] = {}
    for event in stream:
        said += tracker.feed(event)
        log.keep(event, tracker)
        for callid in tracker.changed - set(tracker.calls):
            packed[callid] = log.close(callid, tracker) or packed.get(callid, b"")
        tracker.changed.clear()
    return said, packed, log
