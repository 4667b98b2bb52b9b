"""What FreeSWITCH said about the calls that go on, kept for `explain` until each is over.

Only the headers the call rules read are kept: the events can be played again, and nobody's name is among them.
"""

from __future__ import annotations

import zlib
from itertools import count

from .calls.tracker import Tracker
from .freeswitch.events import SwitchEvent

KEPT = frozenset(
    (
        *("Event-Name", "Core-UUID", "Event-Date-Timestamp", "Event-Sequence", "Unique-ID", "Old-Unique-ID"),
        *("Other-Leg-Unique-ID", "Bridge-B-Unique-ID", "Call-Direction", "Channel-Name", "Caller-Context"),
        *("Caller-Caller-ID-Number", "Caller-Orig-Caller-ID-Number", "Caller-Destination-Number"),
        *("Caller-Privacy-Hide-Number", "Hangup-Cause", "Record-File-Path", "Record-Completion-Cause"),
        *("variable_other_loopback_leg_uuid", "variable_originating_leg_uuid", "variable_ent_originate_aleg_uuid"),
        *("variable_cc_member_session_uuid", "variable_user_name", "variable_sip_auth_username"),
        *("variable_dialed_user", "variable_sip_gateway_name", "variable_sip_req_user", "variable_signal_bond"),
        *("variable_sip_term_status", "variable_proto_specific_hangup_cause"),
    )
)
PREFIX = "variable_planfix_"

MOST_EVENTS = 500
"""Of one leg; a leg that is held and resumed all day keeps its first."""

Line = tuple[int, bytes]


class Scribe:
    """Listens after the tracker. For each leg its events, for each call its legs."""

    def __init__(self) -> None:
        self._numbers = count()
        self._heard: dict[str, list[Line]] = {}
        self._legs: dict[str, set[str]] = {}
        self._calls: dict[str, set[str]] = {}

    def hear(self, event: SwitchEvent, tracker: Tracker) -> None:
        """Keep an event the tracker has just been fed with."""
        uuid = event.leg
        if not uuid:
            return
        if event.name == "CHANNEL_UUID":
            self._rename(event.get("Old-Unique-ID"), uuid)
        lines = self._heard.setdefault(uuid, [])
        if len(lines) < MOST_EVENTS:
            lines.append((next(self._numbers), event.only(KEPT, PREFIX)))
        leg = tracker.book.get(uuid)
        if leg is None:
            self._forget(uuid)
        for callid in tracker.calls.keys() & set(leg.calls if leg is not None else ()):
            self._legs.setdefault(callid, set()).add(uuid)
            self._calls.setdefault(uuid, set()).add(callid)

    def _rename(self, old: str, new: str) -> None:
        self._heard[new] = self._heard.pop(old, [])
        for callid in self._calls.pop(old, set()):
            self._legs[callid].discard(old)
            self._legs[callid].add(new)
            self._calls.setdefault(new, set()).add(callid)

    def _forget(self, uuid: str) -> None:
        """A leg is gone; what it said is needed only by calls that are not over."""
        if uuid not in self._calls:
            self._heard.pop(uuid, None)

    def close(self, callid: str, tracker: Tracker) -> bytes:
        """Return what was said about a call that is over, packed; b"" if nothing is known."""
        lines: list[Line] = []
        for uuid in self._legs.pop(callid, set()):
            lines += self._heard.get(uuid, [])
            self._calls[uuid].discard(callid)
            if not self._calls[uuid]:
                del self._calls[uuid]
                if tracker.book.get(uuid) is None:
                    self._forget(uuid)
        return zlib.compress(b"\n\n".join(text for _, text in sorted(lines))) if lines else b""


def unpacked(packed: bytes) -> list[SwitchEvent]:
    """Return the events of a call in their order."""
    return [SwitchEvent(text + b"\n") for text in zlib.decompress(packed).split(b"\n\n")] if packed else []
