"""Cuts the event socket's byte stream into frames.

A frame is header lines, a blank line and, if Content-Length says so, that many bytes of body.
What may come instead: docs/facts/greenswitch.md, faults b, c, d and h.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from .events import decode

LONGEST_HEAD = 64 * 1024
LONGEST_BODY = 64 * 1024 * 1024
"""Bytes. Beyond these the peer is not FreeSWITCH or has lost its place.

`show channels as json` takes 870 bytes for a channel: 17 MB for 20,000.
"""

_EVENT_HEAD = re.compile(rb"Content-Length: ([0-9]{1,7})\nContent-Type: text/event-plain\n\n")
"""What stands before nearly every frame's body; any other head is read line by line."""

_EVENT = {"Content-Type": "text/event-plain"}


class FrameError(Exception):
    """The bytes are not those of an event socket; the connection cannot be used further."""


@dataclass(slots=True)
class Frame:
    """One frame.

    headers: its header lines by name (first occurrence wins). lines: its body, behind the line feed
    that ends the headers: so each line of an event stands between two.
    """

    headers: dict[str, str] = field(default_factory=dict)
    lines: bytes = b"\n"

    @property
    def kind(self) -> str:
        """Return the Content-Type, "" if the frame has none."""
        return self.headers.get("Content-Type", "")

    @property
    def body(self) -> bytes:
        """Return the raw body."""
        return self.lines[1:]


def read_head(head: bytes) -> dict[str, str]:
    """Return header lines as a dict, without lines that have no colon."""
    headers: dict[str, str] = {}
    for line in head.split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon:
            headers.setdefault(name.decode("utf-8", "replace").strip(), decode(value))
    return headers


class Framer:
    """Cuts the bytes it is given into whole frames."""

    def __init__(self) -> None:
        # what came of a head that is not all there
        self._rest = b""
        # what came of a frame whose head is known, and the bytes of its body that are missing
        self._begun = Frame()
        self._pieces: list[bytes] = []
        self._missing = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes. Raises FrameError if it is not a frame."""
        at = 0
        if self._pieces:
            # a body of 17 MB is put together once, and not with each of its 270 reads
            at = min(self._missing, len(data))
            self._pieces.append(data[:at])
            self._missing -= at
            if self._missing:
                return
            self._begun.lines, self._pieces = b"".join(self._pieces), []
            yield self._begun
        elif self._rest:
            data, self._rest = self._rest + data, b""

        # what `data` holds is copied once, into the frames
        while (head := self._take_head(data, at)) is not None:
            headers, begin, length = head
            at = begin + length
            # the line feed before it belongs to it
            frame = Frame(headers, data[begin - 1 : at])
            if at > len(data):
                self._begun, self._pieces = frame, [frame.lines]
                self._missing = at - len(data)
                return
            yield frame

    def _take_head(self, data: bytes, at: int) -> tuple[dict[str, str], int, int] | None:
        """Read the next header block: its headers, where the body begins, and its length.

        Keep the rest of `data` and return None if not all of the block is there.
        """
        # with the usual head known in advance a frame costs half as much (docs/performance.md)
        if event := _EVENT_HEAD.match(data, at):
            return _EVENT, event.end(), int(event[1])

        # greenswitch's reader ends at a stray blank line (docs/facts/greenswitch.md, fault b).
        while data.startswith(b"\n", at):
            at += 1

        end = data.find(b"\n\n", at)
        if end < 0:
            if len(data) - at > LONGEST_HEAD:
                raise FrameError("header lines without end")
            self._rest = data[at:]
            return None

        headers = read_head(data[at:end])
        return headers, end + 2, self._body_length(headers)

    @staticmethod
    def _body_length(head: dict[str, str]) -> int:
        text = head.get("Content-Length", "0")
        # int() would also take signs, underscores and the digits of other scripts.
        if not (text.isascii() and text.isdigit()):
            raise FrameError(f"a Content-Length of {text[:20]!r}")
        # int() raises ValueError for thousands of digits: their number is looked at first.
        if len(text) > 10 or int(text) > LONGEST_BODY:
            raise FrameError(f"a body of {text[:20]} bytes")
        return int(text)
