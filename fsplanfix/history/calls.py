"""Which records belong to one call, and what the call rules make of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..calls.event_log import EventLog
from ..calls.model import Notice
from ..calls.tracker import Tracker
from ..calls.whose import AnyRules
from ..freeswitch.events import is_uuid
from .record import Record, uuids_of
from .story import events_of, parents_of


def legs_named(record: Record) -> set[str]:
    """Return the other legs that a record names, whatever they had to do with its own."""
    named = set(parents_of(record))
    named.update(*(profile.others for profile in record.profiles))
    named.update(uuids_of(record.variable("originated_legs")))
    for name in ("last_bridge_to", "bridge_uuid", "other_loopback_leg_uuid", "att_xfer_kill_uuid"):
        named.add(record.variable(name))
    return {uuid for uuid in named if is_uuid(uuid) and uuid != record.uuid}


def together(records: Iterable[Record]) -> list[list[Record]]:
    """Return the records call by call: legs that name each other, or the same third one.

    A leg that many calls share (a standing agent, a conference) makes one of them all. Each call's
    records, and the calls, are in the order in which they began.
    """
    group: dict[str, str] = {}

    def first_of(uuid: str) -> str:
        while group.setdefault(uuid, uuid) != uuid:
            group[uuid] = group[group[uuid]]
            uuid = group[uuid]
        return uuid

    known = sorted(records, key=lambda record: record.created)
    for record in known:
        for other in legs_named(record):
            group[first_of(other)] = first_of(record.uuid)

    calls: dict[str, list[Record]] = {}
    for record in known:
        calls.setdefault(first_of(record.uuid), []).append(record)
    return list(calls.values())


class Retold:
    """What Planfix must be told of legs that nobody heard.

    notices: in order, each marked as told afterwards. stories: the packed events of each call, by
    callid.
    """

    def __init__(self, records: Sequence[Record], rules: AnyRules) -> None:
        self.notices: list[Notice] = []
        self.stories: dict[str, bytes] = {}
        tracker, kept = Tracker(rules), EventLog()
        for event in events_of(records):
            notices = tracker.feed(event)
            self.notices += [replace(notice, afterwards=True) for notice in notices]
            kept.keep(event, tracker)
            for callid in tracker.changed - tracker.calls.keys():
                self.stories[callid] = kept.close(callid, tracker)
            tracker.changed = set()

    @property
    def callids(self) -> set[str]:
        """Return the callids of all these calls, also of those that Planfix is not told of."""
        return self.stories.keys() | {notice.callid for notice in self.notices}
