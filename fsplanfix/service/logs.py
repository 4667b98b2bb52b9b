"""One line per decision on stderr, as key=value."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import sys
from collections import deque
from collections.abc import MutableMapping
from typing import Any, ClassVar, TextIO

import gevent
import structlog
from gevent.monkey import get_original

from ..printable import lines, printable

MOST_WAITING = 1000
"""Lines that are kept for a reader that is slow."""

AT_ONCE = select.PIPE_BUF
"""Bytes; a pipe that can be written to takes so many without waiting."""

AGAIN_AFTER = 0.1
"""Seconds."""

_thread_number = get_original("_thread", "get_ident")  # gevent's tells greenlets apart

log = structlog.get_logger(__name__)

_NUMBER = re.compile(r"(?<![0-9A-Fa-f-])[0-9]{7,15}(?![0-9A-Fa-f-])", re.ASCII)


class Unbreakable:
    """Writes lines to a stream, and never waits for it: whoever reads the log must stop no call.

    A reader that stops reading is given what fits into memory later; more is lost, and counted. So
    is what cannot be written at all, as to a full disk. lost: lines that all of them lost since the
    start.
    """

    lost: ClassVar[int] = 0

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._file = _descriptor(stream)
        self._poll = get_original("select", "poll")()
        if self._file is not None:
            self._poll.register(self._file, select.POLLOUT)

        self._lock = get_original("_thread", "RLock")()
        self._thread = _thread_number()
        self._waiting: deque[bytes] = deque()
        self._lost_unsaid = 0
        self._is_called_again = False

    def write(self, text: str) -> None:
        """Write a line, keep it for later, or lose it."""
        if self._file is None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(text)
            return
        with self._lock:
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append(text.encode("utf-8", "backslashreplace"))
            else:
                Unbreakable.lost += 1
                self._lost_unsaid += 1
            self._send_out()

    def flush(self) -> None:
        """Send out what may be sent without waiting."""
        if self._file is None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.flush()
            return
        with self._lock:
            self._send_out()

    def _send_out(self) -> None:
        while self._waiting and self._poll.poll(0):
            line = self._waiting.popleft()
            rest = line[self._written(line) :]
            if rest:
                self._waiting.appendleft(rest)
        if self._waiting or self._lost_unsaid:
            self._call_again()

    def _written(self, line: bytes) -> int:
        """Write the beginning of a line; return how much is done with: all of what cannot be."""
        assert self._file is not None  # noqa: S101 - for the type checker
        try:
            return os.write(self._file, line[:AT_ONCE])
        except BlockingIOError:
            return 0
        except OSError:
            Unbreakable.lost += 1
            return len(line)

    def _call_again(self) -> None:
        """Come back soon: the next line may be far away. Only our thread has a loop."""
        if _thread_number() == self._thread and not self._is_called_again:
            self._is_called_again = True
            gevent.spawn_later(AGAIN_AFTER, self._again)

    def _again(self) -> None:
        self._is_called_again = False
        self.flush()

        # not said where a line is written: structlog holds a lock of its own there, which it would
        # take a second time
        if self._lost_unsaid and not self._waiting:
            count, self._lost_unsaid = self._lost_unsaid, 0
            log.error("log_lines_lost", count=count)


def _descriptor(stream: TextIO) -> int | None:
    """Return the file behind a stream, None if it is none."""
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None


def mask(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide the middle of phone numbers in a log line; `callid` holds digits of its own."""
    for name, value in line.items():
        if name != "callid" and isinstance(value, str):
            line[name] = _NUMBER.sub(lambda found: f"{found[0][:4]}***{found[0][-2:]}", value)
    return line


def harmless(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Leave nothing in a log line that forges another or steers the terminal that shows it."""
    for name, value in line.items():
        if not isinstance(value, bool | int | float | None):
            line[name] = lines(str(value)) if name == "exception" else printable(str(value))
    return line


def set_up(level: str, form: str = "logfmt", masked: bool = False) -> None:
    """Write log lines of `level` (such as INFO) and above to stderr, as logfmt or json.

    masked: hide phone numbers, except at level DEBUG.
    """
    stderr: Any = Unbreakable(sys.stderr)
    renderer: Any = structlog.processors.JSONRenderer(ensure_ascii=False)
    if form == "logfmt":
        renderer = structlog.processors.LogfmtRenderer(
            key_order=["timestamp", "level", "event"], drop_missing=True
        )

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            *([mask] if masked and level != "DEBUG" else []),
            harmless,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(stderr),
        cache_logger_on_first_use=True,
    )
