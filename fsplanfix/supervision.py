"""Tells systemd (Type=notify, WatchdogSec) how we are: ready, alive, ending."""

from __future__ import annotations

import os

import gevent
from sdnotify import SystemdNotifier


class Supervision:
    """What systemd hears."""

    def __init__(self) -> None:
        self._notifier = SystemdNotifier()
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        self._every = int(microseconds) / 2_000_000 if microseconds.isdigit() else 0.0

    def ready(self) -> None:
        """Everything is started."""
        self._notifier.notify("READY=1")

    def ending(self) -> None:
        """The end has begun."""
        self._notifier.notify("STOPPING=1")

    def run(self) -> None:
        """Say twice per WatchdogSec that greenlets get their turn; return if nobody listens."""
        while self._every:
            self._notifier.notify("WATCHDOG=1")
            gevent.sleep(self._every)
