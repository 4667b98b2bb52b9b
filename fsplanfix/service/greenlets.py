"""Greenlets that must not die quietly: a crash is logged in full and the work begins again."""

from __future__ import annotations

from collections.abc import Callable

import gevent
import structlog

log = structlog.get_logger(__name__)

PAUSE_AFTER_CRASH = 1.0
"""Seconds."""


def keep_running(name: str, work: Callable[[], None]) -> gevent.Greenlet[..., None]:
    """Run `work` in a greenlet until it returns; log a crash and start it again."""

    def run() -> None:
        while True:
            try:
                return work()
            except Exception:
                log.exception("crashed", component=name)
            gevent.sleep(PAUSE_AFTER_CRASH)

    return gevent.spawn(run)
