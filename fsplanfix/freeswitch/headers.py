"""Which headers of an event are read, and where they stand in it.

An event has about 180 headers, 7 kB, and the call rules read about ten of them: one pass over the
bytes finds those, whatever it is that comes between them (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Iterable

from ahocorasick_rs import BytesAhoCorasick, MatchKind

OURS = "variable_planfix_"
"""What channel variables set for us in the dialplan begin with."""

ALWAYS = (
    *("Event-Name", "Event-Date-Timestamp", "Event-Sequence", "Unique-ID"),
    "variable_att_xfer_kill_uuid",
    *("Caller-Context", "variable_domain_name", "variable_dialed_domain", "variable_presence_id"),
)
_CAUSES = ("Hangup-Cause", "variable_sip_term_status", "variable_proto_specific_hangup_cause")

READ_OF = {
    "CHANNEL_CREATE": (
        *("Call-Direction", "Channel-Name", "Caller-Channel-Created-Time"),
        *("Caller-Caller-ID-Number", "Caller-Destination-Number", "Caller-Privacy-Hide-Number"),
        *("Other-Leg-Unique-ID", "variable_originating_leg_uuid"),
        *("variable_ent_originate_aleg_uuid", "variable_cc_member_session_uuid"),
        *("variable_fifo_bridge_uuid", "variable_other_loopback_leg_uuid", "variable_recovered"),
        *("variable_user_name", "variable_sip_auth_username", "variable_number_alias"),
        *("variable_dialed_user", "variable_sip_gateway_name"),
        *("variable_sip_req_uri", "variable_sip_to_user"),
    ),
    "CHANNEL_UUID": ("Old-Unique-ID",),
    "CHANNEL_BRIDGE": (
        *("Other-Leg-Unique-ID", "Bridge-B-Unique-ID"),
        *("Caller-Channel-Answered-Time", "Other-Leg-Channel-Answered-Time"),
    ),
    "CHANNEL_HANGUP": _CAUSES,
    "CHANNEL_HANGUP_COMPLETE": (
        *_CAUSES,
        *("variable_originate_disposition", "variable_dialed_user"),
        "variable_recording_follow_transfer",
    ),
    "RECORD_START": ("Record-File-Path",),
    "RECORD_STOP": ("Record-File-Path", "Record-Completion-Cause"),
    "CUSTOM": ("Event-Subclass", "Action", "Conference-Name", "VM-Action", "VM-File-Path"),
}
"""What the call rules read of an event beyond ALWAYS and the variables that begin with OURS."""

KNOWN = frozenset((*ALWAYS, *(header for headers in READ_OF.values() for header in headers), OURS))
"""Whatever is read of some event; OURS stands for all that begin with it."""

_BEGINNING = b"\nvariable_"

_NAMED, _OF_A_MODULE = b"\nEvent-Name: ", b"\nEvent-Subclass: "
"""How FreeSWITCH begins its events, and those of class CUSTOM (switch_event.c)."""


class Finder:
    """Finds headers by name in one pass over an event's bytes.

    names: those it looks for.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        headers = [name for name in self.names if not name.startswith("variable_")]
        variables = [name for name in self.names if name.startswith("variable_")]
        self._by_pattern = (*headers, *variables)
        self._first_variable = len(headers)
        # All variables begin alike: their names are looked for without that, and what stands before
        # is compared afterwards. OURS is the beginning of many names, so no colon follows it.
        patterns = [f"\n{name}:" for name in headers]
        for name in variables:
            end = "" if name == OURS else ":"
            patterns.append(name.removeprefix("variable_") + end)

        self._find = BytesAhoCorasick(
            [pattern.encode() for pattern in patterns], matchkind=MatchKind.LeftmostFirst
        ).find_matches_as_indexes

    def places(self, lines: bytes) -> dict[str, int]:
        """Return where each value begins, by the name of its header, from the last to the first."""
        names, first_variable, before = self._by_pattern, self._first_variable, len(_BEGINNING)
        # backwards, so that the first of two headers wins (docs/facts/greenswitch.md, fault a)
        return {
            names[which]: end
            for which, start, end in reversed(self._find(lines))
            if which < first_variable or lines[start - before : start] == _BEGINNING
        }


# an inner body must be known of (docs/facts/greenswitch.md, fault h)
_BESIDES = (*ALWAYS, OURS, "Content-Length")
_OF = {name.encode(): Finder((*_BESIDES, *headers)) for name, headers in READ_OF.items()}
_OF_THE_OTHERS, _OF_ANY = Finder(_BESIDES), Finder((*KNOWN, "Content-Length"))


def finder_for(lines: bytes) -> Finder:
    """Return what finds the headers that are read of an event. lines: it, a line feed before it."""
    if lines.startswith(_NAMED):
        begin = len(_NAMED)
        return _OF.get(lines[begin : lines.find(b"\n", begin)], _OF_THE_OTHERS)
    return _OF[b"CUSTOM"] if lines.startswith(_OF_A_MODULE) else _OF_ANY
