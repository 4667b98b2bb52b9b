"""One event of the event socket, read without ever trusting it.

Facts: shared/freeswitch-facts.md ("the header encoding is not injective") and greenswitch-facts.md a, b, d, h.
The body is cut into lines first and each value is decoded afterwards, so an encoded newline in a SIP
header can never become a header of its own. Only headers that are asked for are decoded: an event has
about 200 and the rules read about 40.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from urllib.parse import quote, unquote_to_bytes

LONGEST_VALUE = 4096
"""Bytes of one header value that are looked at; nothing the rules read comes near it."""


def decode(value: bytes) -> str:
    """Return a header value as text: percent-decoded, invalid UTF-8 replaced, surrounding blanks cut."""
    value = value[:LONGEST_VALUE]
    if b"%" in value:
        value = unquote_to_bytes(value)
    return value.decode("utf-8", "replace").strip()


class SwitchEvent:
    """An event as FreeSWITCH sent it (text/event-plain without its frame)."""

    __slots__ = ("_head", "_raw", "name")

    def __init__(self, raw: bytes) -> None:
        """Take the raw bytes of one event body: header lines, a blank line, perhaps an inner body."""
        self._raw = raw
        self._head = b""
        first, _, _ = raw.partition(b"\n")
        self.name = decode(first[12:]) if first.startswith(b"Event-Name: ") else self.get("Event-Name")

    @classmethod
    def made_of(cls, headers: Mapping[str, str]) -> SwitchEvent:
        """Make an event of decoded headers, as if FreeSWITCH had sent it."""
        return cls("".join(f"{name}: {quote(value)}\n" for name, value in headers.items()).encode() + b"\n")

    def _headers(self) -> bytes:
        """Return the header lines between line feeds, without the event's own body (h)."""
        if not self._head:
            # only a body makes a blank line end the headers before the end; it always has its Content-Length
            has_body = b"\nContent-Length:" in self._raw
            self._head = b"\n" + (self._raw.partition(b"\n\n")[0] if has_body else self._raw) + b"\n"
        return self._head

    @property
    def body(self) -> str:
        """The event's own body (BACKGROUND_JOB, MESSAGE), by its Content-Length; it is never parsed."""
        _, _, rest = self._raw.partition(b"\n\n")
        return rest[: self.number("Content-Length")].decode("utf-8", "replace")

    def get(self, header: str) -> str:
        """Return the first value of `header`, decoded, or an empty string."""
        head = self._headers()
        start = head.find(b"\n" + header.encode() + b":")
        if start < 0:
            return ""
        start += len(header) + 2
        return decode(head[start : head.index(b"\n", start)])

    def number(self, header: str) -> int:
        """Return `header` as a whole number that is not negative; anything else is 0."""
        text = self.get(header)
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 0

    def starting_with(self, prefix: str) -> dict[str, str]:
        """Return the headers whose name begins with `prefix`, by the rest of their name."""
        found: dict[str, str] = {}
        mark = b"\n" + prefix.encode()
        head = self._headers()
        at = head.find(mark)
        while at >= 0:
            end = head.index(b"\n", at + 1)
            name, colon, value = head[at + len(mark) : end].partition(b":")
            if colon:
                found.setdefault(name.decode("utf-8", "replace"), decode(value))
            at = head.find(mark, end)
        return found

    def only(self, names: Container[str], prefix: str) -> bytes:
        """Return the header lines of these names, and of names with this prefix, as they came."""
        lines = self._headers().decode("utf-8", "surrogateescape").split("\n")
        kept = [line[:LONGEST_VALUE] for line in lines if line.partition(":")[0] in names or line.startswith(prefix)]
        return "\n".join(kept).encode("utf-8", "surrogateescape")

    @property
    def raw(self) -> bytes:
        """The event as it came."""
        return self._raw

    @property
    def leg(self) -> str:
        """The channel the event is about (`Unique-ID`)."""
        return self.get("Unique-ID")

    @property
    def at(self) -> int:
        """When it happened, in microseconds since 1970 (`Event-Date-Timestamp`)."""
        return self.number("Event-Date-Timestamp")
