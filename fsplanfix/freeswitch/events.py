"""One event of the event socket, read without ever trusting it.

docs/facts/freeswitch.md, "The header encoding is not injective", and docs/facts/greenswitch.md,
faults a, b, d and h. Headers end where a line ends, and each value is decoded by itself, so an
encoded newline in a SIP header can never become a header of its own. An event has about 200 headers
and the rules know about 40: one pass over the bytes finds those, whatever it is that comes between
them (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from urllib.parse import quote, unquote_to_bytes

from ahocorasick_rs import BytesAhoCorasick, MatchKind

LONGEST_VALUE = 4096
"""Bytes of one header value that are looked at; nothing the rules read comes near it."""

PERCENT = ord("%")

OURS = "variable_planfix_"
"""What channel variables set for us in the dialplan begin with."""

_BEGINNING, _OURS = b"\nvariable_", f"\n{OURS}".encode()

_NEVER_IN_A_NAME = str.maketrans({":": "%3A", "\n": "%0A"})
"""What would end a header's name or its line. All other letters of a name stand as they are."""


class _Finder:
    """Finds headers by name in one pass over an event's bytes."""

    def __init__(self, *names: str) -> None:
        headers = [name for name in names if not name.startswith("variable_")]
        variables = [name for name in names if name.startswith("variable_")]
        self.names = (*headers, *variables)
        self.known = frozenset(names)
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
        """Return where each value begins, by the name of its header."""
        names, first_variable, before = self.names, self._first_variable, len(_BEGINNING)
        # backwards, so that the first of two headers wins (docs/facts/greenswitch.md, fault a)
        return {
            names[which]: end
            for which, start, end in reversed(self._find(lines))
            if which < first_variable or lines[start - before : start] == _BEGINNING
        }


_OF_EVERY_EVENT = _Finder(
    *("Event-Name", "Event-Date-Timestamp", "Event-Sequence", "Unique-ID", "Content-Length"),
    *("Old-Unique-ID", "Other-Leg-Unique-ID", "Bridge-B-Unique-ID"),
    *("Caller-Channel-Answered-Time", "Other-Leg-Channel-Answered-Time", "Hangup-Cause"),
    *("Record-File-Path", "Record-Completion-Cause"),
    *("Event-Subclass", "Action", "Conference-Name", "VM-Action", "VM-File-Path"),
    *("variable_sip_term_status", "variable_proto_specific_hangup_cause"),
    *("variable_originate_disposition", "variable_recording_follow_transfer"),
    *("Caller-Context", "variable_domain_name", "variable_dialed_domain", "variable_presence_id"),
    *("variable_att_xfer_kill_uuid", OURS),
)
_OF_A_NEW_LEG = _Finder(
    *("Call-Direction", "Channel-Name", "Caller-Channel-Created-Time"),
    *("Caller-Caller-ID-Number", "Caller-Destination-Number", "Caller-Privacy-Hide-Number"),
    *("variable_originating_leg_uuid", "variable_ent_originate_aleg_uuid"),
    *("variable_cc_member_session_uuid", "variable_fifo_bridge_uuid"),
    *("variable_other_loopback_leg_uuid", "variable_recovered"),
    *("variable_user_name", "variable_sip_auth_username", "variable_number_alias"),
    *("variable_dialed_user", "variable_sip_gateway_name"),
    *("variable_sip_req_uri", "variable_sip_to_user"),
)
"""Every event carries these, and one in ten is asked for them: they are looked for when asked."""

KNOWN = _OF_EVERY_EVENT.known | _OF_A_NEW_LEG.known
"""The headers that the rules read; OURS stands for all that begin with it."""

LONGEST_UUID = 256
"""Characters. FreeSWITCH's own have 36; a Call-ID may become one (`inbound-use-callid-as-uuid`)."""


CONFERENCE = "conference::maintenance"
"""The subclass of the events about conferences."""


def is_uuid(text: str) -> bool:
    """Tell whether a leg can be known by this text: printable, without blanks, not too long."""
    return 0 < len(text) <= LONGEST_UUID and text.isprintable() and " " not in text


def is_membership(event: SwitchEvent) -> bool:
    """Tell whether a CUSTOM event says that somebody joins or leaves a conference."""
    is_action = event.get("Action") in ("add-member", "del-member")
    return is_action and event.get("Event-Subclass") == CONFERENCE


def hanging_up(uuid: str) -> dict[str, str]:
    """Return the headers of a leg that `show channels` lists and `uuid_dump` does not know.

    It has hung up (switch_core_session_read_lock), but its application may run on for long.
    """
    return {"Unique-ID": uuid, "Answer-State": "hangup"}


LATEST = 4_102_444_800_000_000
"""The year 2100 in microseconds since 1970. A later time counts as none."""


def moment(text: str) -> int:
    """Return a time in microseconds since 1970, 0 if the text is not one."""
    at = whole_number(text)
    return at if at < LATEST else 0


def whole_number(text: str) -> int:
    """Return a whole number that is not negative; anything else is 0."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 0


def decode(value: bytes) -> str:
    """Return a header value as text.

    It is percent-decoded, invalid UTF-8 is replaced, and blanks around it are cut off.
    """
    if len(value) > LONGEST_VALUE:
        value = value[:LONGEST_VALUE]
    if PERCENT in value:
        value = unquote_to_bytes(value)
    return value.decode("utf-8", "replace").strip()


class SwitchEvent:
    """An event as FreeSWITCH sent it (text/event-plain without its frame).

    name: `Event-Name`. leg: the channel it is about (`Unique-ID`). at: when it happened, in
    microseconds since 1970 (`Event-Date-Timestamp`).
    """

    __slots__ = ("_body", "_head", "_is_searched", "_places", "at", "leg", "name")

    def __init__(self, raw: bytes) -> None:
        """Take the raw bytes of an event body: header lines, a blank line, maybe an inner body."""
        self._body = b""
        self._read(raw)
        if "Content-Length" in self._places:
            # only what stands before the event's own body is headers (fault h)
            head, _, self._body = raw.partition(b"\n\n")
            self._read(head)

        self.name = self.get("Event-Name")
        self.leg = self.get("Unique-ID")
        self.at = moment(self.get("Event-Date-Timestamp"))

    def _read(self, lines: bytes) -> None:
        # each line has a line feed before it and after it
        self._head = b"".join((b"\n", lines, b"\n"))
        self._places = _OF_EVERY_EVENT.places(self._head)
        self._is_searched = False

    @classmethod
    def made_of(cls, headers: Mapping[str, str]) -> SwitchEvent:
        """Make an event of decoded headers, as if FreeSWITCH had sent it.

        Headers from JSON may hold anything: halves of surrogate pairs, line breaks in names.
        """
        lines = [
            f"{name.translate(_NEVER_IN_A_NAME)}: {quote(value, errors='replace')}\n"
            for name, value in headers.items()
        ]
        return cls("".join(lines).encode(errors="replace") + b"\n")

    @property
    def body(self) -> str:
        """The event's own body (BACKGROUND_JOB, MESSAGE), by its Content-Length.

        It is never parsed: a SIP MESSAGE could forge an event (fault h).
        """
        return self._body[: self.number("Content-Length")].decode("utf-8", "replace")

    def get(self, header: str) -> str:
        """Return the first value of `header`, decoded, or an empty string."""
        start = self._places.get(header, -1)
        if start < 0:
            start = self._place_of(header)
            if start < 0:
                return ""
        head = self._head
        return decode(head[start : head.find(b"\n", start)])

    def _place_of(self, header: str) -> int:
        """Return where the value of a header begins that was not looked for at first, or -1."""
        if header in _OF_EVERY_EVENT.known:
            return -1
        if header in _OF_A_NEW_LEG.known:
            self._find_the_rest()
            return self._places.get(header, -1)

        line = f"\n{header}:".encode()
        start = self._head.find(line)
        return -1 if start < 0 else start + len(line)

    def _find_the_rest(self) -> None:
        if not self._is_searched:
            self._is_searched = True
            self._places = _OF_A_NEW_LEG.places(self._head) | self._places

    def lines(self, wanted: Set[str]) -> list[bytes]:
        """Return the lines of some headers as they came, of those in KNOWN; Event-Name first."""
        if not wanted <= _OF_EVERY_EVENT.known:
            self._find_the_rest()
        head = self._head
        return [
            head[start - len(header) - 1 : head.find(b"\n", start)]
            for header, start in reversed(self._places.items())
            if header in wanted
        ]

    def number(self, header: str) -> int:
        """Return `header` as a whole number that is not negative; anything else is 0."""
        return whole_number(self.get(header))

    def ours(self) -> dict[str, str]:
        """Return the channel variables that begin with OURS, decoded, by the rest of the name."""
        found: dict[str, str] = {}
        start = self._places.get(OURS, -1)
        while start >= 0:
            name, colon, value = self._head[start : self._head.find(b"\n", start)].partition(b":")
            if colon:
                found.setdefault(name.decode("utf-8", "replace"), decode(value))
            start = self._head.find(_OURS, start)
            if start >= 0:
                start += len(_OURS)

        return found

    @property
    def raw(self) -> bytes:
        """The header lines as they came."""
        return self._head[1:-1]
