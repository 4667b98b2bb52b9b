"""One line per decision on stderr, as key=value."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from .printable import lines, printable

_NUMBER = re.compile(r"(?<![0-9A-Fa-f-])[0-9]{7,15}(?![0-9A-Fa-f-])", re.ASCII)


class Unbreakable:
    """Writes to a stream and passes over what it cannot take: a full disk must stop no call."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write a line, or lose it."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        """Send out what was written, or lose it."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


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
