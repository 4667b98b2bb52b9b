"""One line per decision on stderr, as key=value."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TextIO

import structlog


class Unbreakable:
    """Writes to a stream and passes over what the stream cannot take: a full disk under the log must stop no call."""

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


def set_up(level: str) -> None:
    """Write log lines of `level` (DEBUG, INFO, WARNING, ERROR) and above to stderr."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], drop_missing=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(Unbreakable(sys.stderr)),  # type: ignore[arg-type]
    )
