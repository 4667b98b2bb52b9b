"""Tells systemd (Type=notify, WatchdogSec) how we are: ready, alive, ending."""

from __future__ import annotations

import os

import gevent
from sdnotify import SystemdNotifier


class Supervision:
    """What systemd hears."""

    def __init__(self) -> None:
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
        """Say twice per WatchdogSec that greenlets get their turn; return if nobody listens."""
        while self._every:
            self._say("WATCHDOG=1")
            gevent.sleep(self._every)
