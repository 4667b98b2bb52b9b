"""A `fsplanfix run` of its own, whose log somebody reads and whose clock may be off."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import gevent
from gevent.event import Event
from gevent.socket import wait_read

from .clock import Shift

PIPE = 4096
"""Bytes that a pipe holds for a reader that does not read."""

LONGEST_END = 45.0
"""Seconds; systemd's patience with the unit in contrib/."""


class Worker:
    """One process. is_ready: it has begun its work. is_expected_to_end: we ended it."""

    def __init__(self, settings: dict[str, str], shift: Shift, log: Path) -> None:
        self.is_ready = False
        self.is_expected_to_end = False
        self._log = log
        self._is_read = Event()
        self._is_read.set()
        self._reads, writes = os.pipe()
        fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, PIPE)
        self.process = subprocess.Popen(  # noqa: S603 - it is ours
            [sys.executable, "-m", "chaos.clock", str(shift.file), "run"],
            env=settings,
            stderr=writes,
            stdout=writes,
        )
        os.close(writes)
        self._reader = gevent.spawn(self._read)

    def _read(self) -> None:
        with self._log.open("ab") as log:
            while True:
                self._is_read.wait()
                wait_read(self._reads)
                text = os.read(self._reads, 65536)
                if not text:
                    break
                log.write(text)
                log.flush()
                self.is_ready = self.is_ready or b"courier_ready" in text
        os.close(self._reads)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> bool:
        """End it as systemd does; tell whether it ended in time."""
        try:
            self._end(signal.SIGTERM)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def _end(self, number: signal.Signals) -> None:
        self.is_expected_to_end = True
        self.process.send_signal(number)
        self.process.wait(timeout=LONGEST_END)
        self._is_read.set()
        self._reader.join()

    @property
    def has_ended(self) -> bool:
        """Tell whether it ended by itself."""
        return not self.is_expected_to_end and self.process.poll() is not None

    def leave_its_log(self, seconds: float) -> None:
        """Read nothing of its log for a while."""
        self._is_read.clear()
        gevent.sleep(seconds)
        self._is_read.set()
