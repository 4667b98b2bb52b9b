"""Cuts the event socket's byte stream into frames. Facts: shared/greenswitch-facts.md b, c, d, h.

A frame is header lines, a blank line and, if Content-Length says so, that many bytes of body.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .events import decode

LONGEST_HEAD = 64 * 1024
LONGEST_BODY = 16 * 1024 * 1024
"""Bytes. Beyond these the peer is not FreeSWITCH or has lost its place."""


class FrameError(Exception):
    """The bytes are no event socket; the connection is of no further use."""


@dataclass(slots=True)
class Frame:
    """One frame: its header lines by name (first occurrence wins) and its raw body."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def kind(self) -> str:
        """Return the Content-Type, "" if the frame has none."""
        return self.headers.get("Content-Type", "")


def read_head(head: bytes) -> dict[str, str]:
    """Return header lines as a dict; a line without a colon is passed over."""
    headers: dict[str, str] = {}
    for line in head.split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon:
            headers.setdefault(name.decode("utf-8", "replace").strip(), decode(value))
    return headers


class Framer:
    """Takes bytes as they come, gives whole frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: dict[str, str] | None = None
        self._length = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes. Raises FrameError when no frame can be found any more."""
        self._buffer += data
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        if self._head is None and not self._take_head():
            return None
        if self._head is None or len(self._buffer) < self._length:
            return None
        frame = Frame(self._head, bytes(self._buffer[: self._length]))
        del self._buffer[: self._length]
        self._head = None
        return frame

    def _take_head(self) -> bool:
        """Take the next header block off the buffer, if it is there as a whole; stray blank lines are passed over."""
        blanks = len(self._buffer) - len(self._buffer.lstrip(b"\n"))
        del self._buffer[:blanks]
        end = self._buffer.find(b"\n\n")
        if end < 0:
            if len(self._buffer) > LONGEST_HEAD:
                raise FrameError("header lines without end")
            return False
        self._head = read_head(bytes(self._buffer[:end]))
        del self._buffer[: end + 2]
        self._length = self._body_length(self._head)
        return True

    @staticmethod
    def _body_length(head: dict[str, str]) -> int:
        text = head.get("Content-Length", "0")
        if not (text.isascii() and text.isdigit()):
            raise FrameError(f"a Content-Length of {text[:20]!r}")
        if len(text) > 10 or int(text) > LONGEST_BODY:
            raise FrameError(f"a body of {text[:20]} bytes")
        return int(text)
