"""Framing as it was before it was measured: the reference for events per second.

A bytearray, each frame's head read into a dict, a Frame for each: 16 to 20 times greenswitch, like
the framing measured in docs/facts/greenswitch.md. The bar was set with it, so it stays; the
service's own framer is faster now.
"""

from __future__ import annotations

from collections.abc import Iterator

from fsplanfix.freeswitch.frames import LONGEST_BODY, LONGEST_HEAD, Frame, FrameError, read_head


class PlainFramer:
    """Takes bytes as they come, gives whole frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: dict[str, str] | None = None
        self._length = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes."""
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
        blanks = len(self._buffer) - len(self._buffer.lstrip(b"\n"))
        del self._buffer[:blanks]
        end = self._buffer.find(b"\n\n")
        if end < 0:
            if len(self._buffer) > LONGEST_HEAD:
                raise FrameError("header lines without end")
            return False
        self._head = read_head(bytes(self._buffer[:end]))
        del self._buffer[: end + 2]
        text = self._head.get("Content-Length", "0")
        if not text.isdigit() or int(text) > LONGEST_BODY:
            raise FrameError("no length")
        self._length = int(text)
        return True
