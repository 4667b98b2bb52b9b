"""One line per decision on stderr, as key=value."""

from __future__ import annotations

import logging
import sys

import structlog


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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
