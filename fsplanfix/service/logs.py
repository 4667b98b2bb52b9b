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

MOST_LINES_WAITING = 1000
"""Lines that are kept for a reader that is slow."""

MOST_AT_ONCE = select.PIPE_BUF
"""Bytes. A pipe that can be written to takes this many without waiting (POSIX)."""

SEND_AGAIN_AFTER = 0.1
"""Seconds."""

# gevent's own get_ident tells greenlets apart, not threads
_thread_number = get_original("_thread", "get_ident")

log = structlog.get_logger(__name__)

FIRST = ("timestamp", "level", "event")
"""What each line begins with."""

_BARE = re.compile(r'[^ ="\n]*')
"""What stands in a line without quotes."""

_NUMBER = re.compile(r"(?<![0-9A-Fa-f-])[0-9]{7,15}(?![0-9A-Fa-f-])", re.ASCII)


class Unbreakable:
    """Writes lines to a stream without ever waiting for it: a slow reader must stop no call.

    Up to MOST_LINES_WAITING lines wait for a reader that is slow. More are lost and counted, and so
    are lines that cannot be written at all, as to a full disk.

    lost: lines lost by all instances since the start.
    """

    lost: ClassVar[int] = 0

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._file = _descriptor(stream)
        self._poll = get_original("select", "poll")()
        if self._file is not None:
            self._poll.register(self._file, select.POLLOUT)

        # a lock of threads: libraries may log from a thread that gevent does not run
        self._lock = get_original("_thread", "RLock")()
        self._thread = _thread_number()
        self._waiting: deque[bytes] = deque()
        self._lost_unreported = 0
        self._is_scheduled = False

    def write(self, text: str) -> None:
        """Write a line, keep it for later, or lose it."""
        if self._file is None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(text)
            return
        with self._lock:
            if len(self._waiting) < MOST_LINES_WAITING:
                self._waiting.append(text.encode("utf-8", "backslashreplace"))
            else:
                Unbreakable.lost += 1
                self._lost_unreported += 1
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
        if self._waiting or self._lost_unreported:
            self._schedule()

    def _written(self, line: bytes) -> int:
        """Write the beginning of a line; return how many bytes need no further attempt.

        A line that cannot be written at all needs none.
        """
        assert self._file is not None  # noqa: S101 - for the type checker
        try:
            return os.write(self._file, line[:MOST_AT_ONCE])
        except BlockingIOError:
            return 0
        except OSError:
            Unbreakable.lost += 1
            return len(line)

    def _schedule(self) -> None:
        """Send the waiting lines a little later: the next line may not come for long."""
        # only our thread has an event loop
        if _thread_number() == self._thread and not self._is_scheduled:
            self._is_scheduled = True
            gevent.spawn_later(SEND_AGAIN_AFTER, self._send_later)

    def _send_later(self) -> None:
        self._is_scheduled = False
        self.flush()

        # Not logged where a line is written: structlog holds a lock of its own there, which it
        # would take a second time.
        if self._lost_unreported and not self._waiting:
            count, self._lost_unreported = self._lost_unreported, 0
            log.error("log_lines_lost", count=count)


def _descriptor(stream: TextIO) -> int | None:
    """Return the file descriptor of a stream, None if it has none."""
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None


def mask(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide the middle of phone numbers in a log line, except in `callid`."""
    # a callid is a UUID, whose digits are no phone number
    for name, value in line.items():
        if name != "callid" and isinstance(value, str):
            line[name] = _NUMBER.sub(lambda found: f"{found[0][:4]}***{found[0][-2:]}", value)
    return line


def harmless(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape all that could forge another log line or control the terminal that shows it."""
    for name, value in line.items():
        if value is not None and not isinstance(value, int | float):
            line[name] = lines(str(value)) if name == "exception" else printable(str(value))
    return line


def logfmt(_: object, __: str, line: MutableMapping[str, Any]) -> str:
    """Return a line as `name=value` after `name=value`, with quotes around what needs them.

    As structlog's LogfmtRenderer does, which takes twice as long (docs/performance.md).
    """
    fields = [_field(name, line.pop(name)) for name in FIRST if name in line]
    return " ".join([*fields, *[_field(name, value) for name, value in line.items()]])


def _field(name: str, value: object) -> str:
    if isinstance(value, str) and _BARE.fullmatch(value):
        return f"{name}={value}"
    if value is None or value is False:
        return f"{name}=" if value is None else f"{name}=false"
    if value is True:
        return name

    text = str(value)
    if not any(sign in text for sign in ' ="'):
        return f"{name}={text}".replace("\n", "\\n")
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{name}="{text}"'


def set_up(level: str, form: str = "logfmt", masked: bool = False) -> None:
    """Write log lines of `level` (such as INFO) and above to stderr, as logfmt or json.

    masked: hide phone numbers, except at level DEBUG.
    """
    stderr: Any = Unbreakable(sys.stderr)
    renderer: Any = structlog.processors.JSONRenderer(ensure_ascii=False)
    if form == "logfmt":
        renderer = logfmt

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
