"""One event of the event socket, read without ever trusting it.

docs/facts/freeswitch.md, "The header encoding is not injective", and docs/facts/greenswitch.md,
faults a, b, d and h. Headers end where a line ends, and each value is decoded by itself, so an
encoded newline in a SIP header can never become a header of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, unquote_to_bytes

from .headers import OURS, finder_for

LONGEST_VALUE = 4096
"""Bytes of one header value that are looked at; nothing the rules read comes near it."""

PERCENT = ord("%")

_OURS = f"\n{OURS}".encode()

_NO_LINES = frozenset({OURS, "Content-Length"})
"""What is found in an event and is no header of its own, or none that is read."""

_NEVER_IN_A_NAME = str.maketrans({":": "%3A", "\n": "%0A"})
"""What would end a header's name or its line. All other letters of a name stand as they are."""

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

    __slots__ = ("_body", "_finder", "_head", "_places", "at", "leg", "name")

    def __init__(self, raw: bytes) -> None:
        """Take the raw bytes of an event body: header lines, a blank line, maybe an inner body."""
        self._body = b""
        self._read(raw)
        if "Content-Length" in self._places:
            # only what stands before the event's own body is headers (fault h)
            head, _, self._body = raw.lstrip(b"\n").partition(b"\n\n")
            self._read(head)

        self.name = self.get("Event-Name")
        self.leg = self.get("Unique-ID")
        self.at = moment(self.get("Event-Date-Timestamp"))

    def _read(self, lines: bytes) -> None:
        # each line has a line feed before it and after it, as those that a framer has cut
        if not lines.startswith(b"\n"):
            lines = b"\n" + lines
        if not lines.endswith(b"\n"):
            lines += b"\n"
        self._head = lines
        self._finder = finder_for(lines)
        self._places = self._finder.places(lines)

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
        if header in self._finder.names:
            return -1
        if header.startswith(OURS) and OURS not in self._places:
            return -1

        line = f"\n{header}:".encode()
        start = self._head.find(line)
        return -1 if start < 0 else start + len(line)

    def lines(self) -> list[bytes]:
        """Return the lines as they came of those headers that are read of such an event."""
        head = self._head
        return [
            head[start - len(header) - 1 : head.find(b"\n", start)]
            for header, start in reversed(self._places.items())
            if header not in _NO_LINES
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
        return self._head[1:]
