"""Tells systemd (Type=notify, WatchdogSec) that the service is ready, alive or ending."""

from __future__ import annotations

import os
from collections.abc import Callable

import gevent
import structlog
from sdnotify import SystemdNotifier

log = structlog.get_logger(__name__)


class Supervision:
    """Sends the service's state to systemd, if systemd has started it.

    gets_on: returns whether the service does its work (readiness.py).
    """

    def __init__(self, gets_on: Callable[[], bool]) -> None:
        self._gets_on = gets_on
        self._notifier = SystemdNotifier() if "NOTIFY_SOCKET" in os.environ else None
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        # half of WatchdogSec, as sd_watchdog_enabled(3) recommends; 0 if systemd does not watch
        self._every = 0.0
        if microseconds.isdigit():
            self._every = int(microseconds) / 2_000_000

    def ready(self) -> None:
        """Send that everything is started."""
        self._send("READY=1")

    def ending(self) -> None:
        """Send that the end has begun."""
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(state)

    def run(self) -> None:
        """Send twice per WatchdogSec that the service works; return if systemd does not watch."""
        while self._every:
            if self._gets_on():
                self._send("WATCHDOG=1")
            else:
                # the silence is the message: systemd restarts a service that sends nothing
                log.error("stuck", hint="systemd will start the service again")
            gevent.sleep(self._every)
