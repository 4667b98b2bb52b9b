"""What FreeSWITCH said about the calls that go on, kept for `explain` until each is over.

Only what the call rules read of an event is kept: it can be played again, and nobody's name is
among it.
"""

from __future__ import annotations

import zlib
from itertools import count
from urllib.parse import quote

from ..freeswitch.events import OURS, SwitchEvent
from .tracker import Tracker

ALWAYS = (
    *("Event-Name", "Event-Date-Timestamp", "Event-Sequence", "Unique-ID"),
    "variable_att_xfer_kill_uuid",
)
OF_A_NEW_LEG = (
    *("Call-Direction", "Channel-Name", "Caller-Context", "Caller-Channel-Created-Time"),
    *("Caller-Caller-ID-Number", "Caller-Destination-Number", "Caller-Privacy-Hide-Number"),
    *("Other-Leg-Unique-ID", "variable_originating_leg_uuid", "variable_ent_originate_aleg_uuid"),
    *("variable_cc_member_session_uuid", "variable_fifo_bridge_uuid"),
    *("variable_other_loopback_leg_uuid", "variable_recovered"),
    *("variable_user_name", "variable_sip_auth_username", "variable_number_alias"),
    *("variable_dialed_user", "variable_presence_id", "variable_sip_gateway_name"),
    *("variable_sip_req_uri", "variable_sip_to_user"),
)
CAUSES = ("Hangup-Cause", "variable_sip_term_status", "variable_proto_specific_hangup_cause")
KEPT = {
    "CHANNEL_CREATE": OF_A_NEW_LEG,
    "CHANNEL_UUID": ("Old-Unique-ID",),
    "CHANNEL_BRIDGE": (
        *("Other-Leg-Unique-ID", "Bridge-B-Unique-ID"),
        *("Caller-Channel-Answered-Time", "Other-Leg-Channel-Answered-Time"),
    ),
    "CHANNEL_HANGUP": CAUSES,
    "CHANNEL_HANGUP_COMPLETE": (
        *CAUSES,
        *("variable_originate_disposition", "variable_dialed_user"),
        "variable_recording_follow_transfer",
    ),
    "RECORD_START": ("Record-File-Path",),
    "RECORD_STOP": ("Record-File-Path", "Record-Completion-Cause"),
    "CUSTOM": ("Event-Subclass", "Action", "Conference-Name"),
}
"""What is kept of an event beyond ALWAYS and the `planfix_` variables."""

UNHEARD, UNTIL = "UNHEARD", "Until-Timestamp"
"""What stands among the events of a call for a time in which nobody listened, and when that ended.

The call rules know no such event, so the call can be played again.
"""

MOST_GAPS = 20
"""Of one call; a link that comes and goes all night is told of in its first."""

MOST_EVENTS = 500
"""Of one leg; a leg that is held and resumed all day keeps its first."""


class Scribe:
    """Listens after the tracker. For each leg its events, and in how many open calls it has a part;
    the calls' legs, and when nobody listened to them."""

    def __init__(self) -> None:
        self._numbers = count()
        self._heard: dict[str, list[bytes]] = {}
        self._parts: dict[str, int] = {}
        self._legs: dict[str, list[str]] = {}
        self._gaps: dict[str, list[bytes]] = {}

    def hear(self, event: SwitchEvent, tracker: Tracker) -> None:
        """Keep an event the tracker has just been fed with."""
        uuid = event.leg
        if not uuid:
            return
        old = event.get("Old-Unique-ID") if event.name == "CHANNEL_UUID" else ""
        if old in self._heard and tracker.book.get(old) is None:
            self._rename(old, uuid)
        lines = self._heard.setdefault(uuid, [])
        if len(lines) < MOST_EVENTS:
            lines.append(self._written(event))
        leg = tracker.book.get(uuid)
        if leg is None:
            self._forget(uuid)
            return
        for callid in leg.calls:
            if call := tracker.calls.get(callid):
                self._note_legs(callid, call.legs)

    def _note_legs(self, callid: str, uuids: list[str]) -> None:
        """Note who has a part in a call; a leg may get one by another leg's event."""
        legs = self._legs.setdefault(callid, [])
        for uuid in uuids:
            if uuid not in legs:
                legs.append(uuid)
                self._parts[uuid] = self._parts.get(uuid, 0) + 1

    def _written(self, event: SwitchEvent) -> bytes:
        """Return what is kept of an event, behind its number among all."""
        names = (*ALWAYS, *KEPT.get(event.name, ()))
        lines = list(filter(None, map(event.line, names)))
        lines += [f"{OURS}{name}: {quote(value)}".encode() for name, value in event.ours().items()]
        return b"\n".join([b"%012d" % next(self._numbers), *lines])

    def note_gap(self, callid: str, since: int, until: int) -> None:
        """Note that nobody listened to a call for a time (microseconds since 1970)."""
        gaps = self._gaps.setdefault(callid, [])
        if len(gaps) < MOST_GAPS:
            headers = {
                "Event-Name": UNHEARD,
                "Event-Date-Timestamp": str(since),
                UNTIL: str(until),
            }
            body = SwitchEvent.made_of(headers).raw.strip(b"\n")
            gaps.append(b"%012d\n%b" % (next(self._numbers), body))

    def _rename(self, old: str, new: str) -> None:
        self._heard[new] = self._heard.pop(old)
        if old in self._parts:
            self._parts[new] = self._parts.pop(old)
            for legs in self._legs.values():
                legs[:] = [new if uuid == old else uuid for uuid in legs]

    def _forget(self, uuid: str) -> None:
        """A leg is gone; what it said is needed only by calls that are not over."""
        if uuid not in self._parts:
            self._heard.pop(uuid, None)

    def close(self, callid: str, tracker: Tracker) -> bytes:
        """Return what was said about a call that is over, packed; b"" if nothing is known."""
        lines = self._gaps.pop(callid, [])
        for uuid in self._legs.pop(callid, []):
            lines += self._heard.get(uuid, [])
            self._parts[uuid] -= 1
            if not self._parts[uuid]:
                del self._parts[uuid]
                if tracker.book.get(uuid) is None:
                    self._forget(uuid)
        return (
            zlib.compress(b"\n\n".join(line.partition(b"\n")[2] for line in sorted(lines)), 1)
            if lines
            else b""
        )


def unpacked(packed: bytes) -> list[SwitchEvent]:
    """Return the events of a call in their order."""
    return (
        [SwitchEvent(text + b"\n") for text in zlib.decompress(packed).split(b"\n\n")]
        if packed
        else []
    )
