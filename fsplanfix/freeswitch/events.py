"""One event of the event socket, read without ever trusting it.

Facts: shared/freeswitch-facts.md ("the header encoding is not injective") and greenswitch-facts.md
a, b, d, h. Headers end where a line ends, and each value is decoded by itself, so an encoded
newline in a SIP header can never become a header of its own. An event has about 200 headers and the
rules know about 30: one pass over the bytes finds those, whatever it is that comes between them
(docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, unquote_to_bytes

from ahocorasick_rs import BytesAhoCorasick, MatchKind

LONGEST_VALUE = 4096
"""Bytes of one header value that are looked at; nothing the rules read comes near it."""

PERCENT = ord("%")

HEADERS = (
    *("Event-Name", "Event-Date-Timestamp", "Event-Sequence", "Unique-ID", "Old-Unique-ID"),
    *(
        "Other-Leg-Unique-ID",
        "Bridge-B-Unique-ID",
        "Call-Direction",
        "Channel-Name",
        "Caller-Context",
    ),
    *("Caller-Caller-ID-Number", "Caller-Destination-Number", "Caller-Privacy-Hide-Number"),
    *("Hangup-Cause", "Record-File-Path", "Record-Completion-Cause", "Content-Length"),
)
VARIABLES = (
    *(
        "other_loopback_leg_uuid",
        "originating_leg_uuid",
        "ent_originate_aleg_uuid",
        "cc_member_session_uuid",
    ),
    *("user_name", "sip_auth_username", "dialed_user", "sip_gateway_name"),
    *("sip_term_status", "proto_specific_hangup_cause"),
)
"""Channel variables: headers that begin with `variable_`."""

OURS = "variable_planfix_"
"""What the dialplan tells us begins with this."""

_NAMES = (*HEADERS, *(f"variable_{name}" for name in VARIABLES), OURS)
_KNOWN = frozenset(_NAMES)
_BEGINNING, _OURS = b"\nvariable_", f"\n{OURS}".encode()
_FIRST_VARIABLE = len(HEADERS)
# All variables begin alike: their names are looked for without that, and what stands before is
# compared afterwards.
_find = BytesAhoCorasick(
    [
        *(f"\n{name}:".encode() for name in HEADERS),
        *(f"{name}:".encode() for name in VARIABLES),
        b"planfix_",
    ],
    matchkind=MatchKind.LeftmostFirst,
).find_matches_as_indexes


def decode(value: bytes) -> str:
    """Return a header value as text: percent-decoded, invalid UTF-8 replaced, surrounding blanks
    cut."""
    value = value[:LONGEST_VALUE]
    if PERCENT in value:
        value = unquote_to_bytes(value)
    return value.decode("utf-8", "replace").strip()


def _places(lines: bytes) -> dict[str, int]:
    """Return where the values of the known headers begin, by name. Read backwards: the first of two
    wins."""
    return {
        _NAMES[which]: end
        for which, start, end in reversed(_find(lines))
        if which < _FIRST_VARIABLE or lines[start - len(_BEGINNING) : start] == _BEGINNING
    }


class SwitchEvent:
    """An event as FreeSWITCH sent it (text/event-plain without its frame)."""

    __slots__ = ("_body", "_head", "_places", "name")

    def __init__(self, raw: bytes) -> None:
        """Take the raw bytes of an event body: header lines, a blank line, maybe an inner body."""
        self._body = b""
        self._read(raw)
        if (
            "Content-Length" in self._places
        ):  # only what stands before the event's own body (h) is headers
            head, _, self._body = raw.partition(b"\n\n")
            self._read(head)
        self.name = self.get("Event-Name")

    def _read(self, lines: bytes) -> None:
        self._head = b"".join(
            (b"\n", lines, b"\n")
        )  # each line has a line feed before it and after it
        self._places = _places(self._head)

    @classmethod
    def made_of(cls, headers: Mapping[str, str]) -> SwitchEvent:
        """Make an event of decoded headers, as if FreeSWITCH had sent it."""
        return cls(
            "".join(f"{name}: {quote(value)}\n" for name, value in headers.items()).encode() + b"\n"
        )

    @property
    def body(self) -> str:
        """The event's own body (BACKGROUND_JOB, MESSAGE), by its Content-Length; it is never
        parsed."""
        return self._body[: self.number("Content-Length")].decode("utf-8", "replace")

    def get(self, header: str) -> str:
        """Return the first value of `header`, decoded, or an empty string."""
        start = self._places.get(header)
        if start is None:
            return "" if header in _KNOWN else self._search(header)
        return decode(self._head[start : self._head.find(b"\n", start)])

    def _search(self, header: str) -> str:
        """Look for a header that no rule knows."""
        line = f"\n{header}:".encode()
        start = self._head.find(line)
        return (
            decode(self._head[start + len(line) : self._head.find(b"\n", start + 1)])
            if start >= 0
            else ""
        )

    def line(self, header: str) -> bytes:
        """Return the line of a known header as it came, or nothing."""
        start = self._places.get(header, -1)
        return (
            b"%b:%b" % (header.encode(), self._head[start : self._head.find(b"\n", start)])
            if start >= 0
            else b""
        )

    def number(self, header: str) -> int:
        """Return `header` as a whole number that is not negative; anything else is 0."""
        text = self.get(header)
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 0

    def ours(self) -> dict[str, str]:
        """Return the channel variables that begin with OURS, decoded, by the rest of the name."""
        found: dict[str, str] = {}
        start = self._places.get(OURS, -1)
        while start >= 0:
            name, colon, value = self._head[start : self._head.find(b"\n", start)].partition(b":")
            if colon:
                found.setdefault(name.decode("utf-8", "replace"), decode(value))
            start = self._head.find(_OURS, start)
            start += len(_OURS) if start >= 0 else 0
        return found

    @property
    def raw(self) -> bytes:
        """The header lines as they came."""
        return self._head[1:-1]

    @property
    def leg(self) -> str:
        """The channel the event is about (`Unique-ID`)."""
        return self.get("Unique-ID")

    @property
    def at(self) -> int:
        """When it happened, in microseconds since 1970 (`Event-Date-Timestamp`)."""
        return self.number("Event-Date-Timestamp")
