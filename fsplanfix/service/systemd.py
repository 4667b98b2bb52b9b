"""Tells systemd (Type=notify, WatchdogSec) how we are: ready, alive, ending."""

from __future__ import annotations

import os
from collections.abc import Callable

import gevent
import structlog
from sdnotify import SystemdNotifier

log = structlog.get_logger(__name__)


class Supervision:
    """What systemd hears. gets_on: tells whether the service does its work (readiness.py)."""

    def __init__(self, gets_on: Callable[[], bool]) -> None:
        self._gets_on = gets_on
        self._notifier = SystemdNotifier() if "NOTIFY_SOCKET" in os.environ else None
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        self._every = int(microseconds) / 2_000_000 if microseconds.isdigit() else 0.0

    def ready(self) -> None:
        """Everything is started."""
        self._say("READY=1")

    def ending(self) -> None:
        """The end has begun."""
        self._say("STOPPING=1")

    def _say(self, what: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(what)

    def run(self) -> None:
        """Say twice per WatchdogSec that the work gets on; return if nobody listens."""
        while self._every:
            if self._gets_on():
                self._say("WATCHDOG=1")
            else:
                log.error("stuck", hint="systemd will start the service again")
            gevent.sleep(self._every)
