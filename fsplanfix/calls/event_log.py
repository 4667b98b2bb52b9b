"""The events of the calls that go on, kept for `explain` until each is over.

Only the headers that the call rules read (freeswitch/headers.py) are kept, so that the call can be
played again. Nobody's name is among them, but for the client's that the dialplan has set
(`planfix_contact_name`).
"""

from __future__ import annotations

import zlib
from itertools import count
from urllib.parse import quote

from ..freeswitch.events import SwitchEvent
from ..freeswitch.headers import OURS
from .tracker import Tracker

BY_RECORD = "By-Record"
"""A header of events that FreeSWITCH's call detail records tell, and nobody heard."""

UNHEARD, UNTIL = "UNHEARD", "Until-Timestamp"
"""What stands among the events of a call for a time in which nobody listened, and when that ended.

The call rules know no such event, so the call can be played again.
"""

MOST_GAPS = 20
"""Of one call; a link that comes and goes all night is told of in its first."""

Numbered = tuple[int, bytes]
"""The body of an event, behind its number among all that were kept."""

FASTEST = 1
"""zlib's level. Every call is packed when it ends, while other calls wait for their windows."""

MOST_EVENTS = 500
"""Of one leg; a leg that is held and resumed all day keeps its first."""


class EventLog:
    """Keeps each leg's events until every call the leg belongs to is over.

    It listens after the tracker, which knows which legs belong to which call.
    """

    def __init__(self) -> None:
        self._sequence = count()
        self._events_by_leg: dict[str, list[Numbered]] = {}
        self._open_calls_of_leg: dict[str, int] = {}
        self._legs_by_call: dict[str, list[str]] = {}
        self._gaps_by_call: dict[str, list[Numbered]] = {}

    def keep(self, event: SwitchEvent, tracker: Tracker) -> None:
        """Keep an event that the tracker has just been fed with."""
        uuid = event.leg
        if not uuid:
            return

        old = event.get("Old-Unique-ID") if event.name == "CHANNEL_UUID" else ""
        if old in self._events_by_leg and tracker.book.get(old) is None:
            self._rename(old, uuid)

        kept = self._events_by_leg.setdefault(uuid, [])
        if len(kept) < MOST_EVENTS:
            kept.append((next(self._sequence), _reduced(event)))

        leg = tracker.book.get(uuid)
        if leg is None:
            self._forget(uuid)
            return
        for callid in leg.calls:
            if call := tracker.calls.get(callid):
                self._note_legs(callid, call.legs)

    def _note_legs(self, callid: str, uuids: list[str]) -> None:
        """Count the call for each of its legs; a leg may join a call by another leg's event."""
        legs = self._legs_by_call.setdefault(callid, [])
        for uuid in uuids:
            if uuid not in legs:
                legs.append(uuid)
                self._open_calls_of_leg[uuid] = self._open_calls_of_leg.get(uuid, 0) + 1

    def note_gap(self, callid: str, since: int, until: int) -> None:
        """Note that nobody listened to a call for a time (microseconds since 1970)."""
        gaps = self._gaps_by_call.setdefault(callid, [])
        if len(gaps) < MOST_GAPS:
            headers = {
                "Event-Name": UNHEARD,
                "Event-Date-Timestamp": str(since),
                UNTIL: str(until),
            }
            body = SwitchEvent.made_of(headers).raw.strip(b"\n")
            gaps.append((next(self._sequence), body))

    def _rename(self, old: str, new: str) -> None:
        self._events_by_leg[new] = self._events_by_leg.pop(old)
        if old in self._open_calls_of_leg:
            self._open_calls_of_leg[new] = self._open_calls_of_leg.pop(old)
            for legs in self._legs_by_call.values():
                legs[:] = [new if uuid == old else uuid for uuid in legs]

    def _forget(self, uuid: str) -> None:
        """Drop the events of a leg that is gone, unless a call that goes on needs them."""
        if uuid not in self._open_calls_of_leg:
            self._events_by_leg.pop(uuid, None)

    def close(self, callid: str, tracker: Tracker) -> bytes:
        """Return the events of a call that is over, packed; b"" if there are none."""
        kept = self._gaps_by_call.pop(callid, [])
        for uuid in self._legs_by_call.pop(callid, []):
            kept += self._events_by_leg.get(uuid, [])
            self._open_calls_of_leg[uuid] -= 1
            if not self._open_calls_of_leg[uuid]:
                del self._open_calls_of_leg[uuid]
                if tracker.book.get(uuid) is None:
                    self._forget(uuid)

        # they were kept leg by leg; their numbers tell in which order they came
        bodies = [body for _, body in sorted(kept)]
        if not bodies:
            return b""
        return zlib.compress(b"\n\n".join(bodies), FASTEST)


def _reduced(event: SwitchEvent) -> bytes:
    """Return the headers of an event that are kept."""
    lines = event.lines()
    # FreeSWITCH numbers its events: only one that was made up is searched once more
    if not event.get("Event-Sequence") and (by_record := event.get(BY_RECORD)):
        lines.append(f"{BY_RECORD}: {quote(by_record)}".encode())
    lines += [f"{OURS}{name}: {quote(value)}".encode() for name, value in event.ours().items()]
    return b"\n".join(lines)


def unpacked(packed: bytes) -> list[SwitchEvent]:
    """Return the events that `close` packed, in their order."""
    if not packed:
        return []
    return [SwitchEvent(body + b"\n") for body in zlib.decompress(packed).split(b"\n\n")]
