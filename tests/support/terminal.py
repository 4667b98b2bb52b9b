"""A command in a real terminal of 80 columns: it asks, the test answers."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
from pathlib import Path

import gevent
from gevent.os import make_nonblocking, nb_read

from .forked import start
from .service import PATIENCE, environment


class Terminal:
    """Runs a command of ours. shown: everything it wrote so far."""

    def __init__(self, folder: Path, *words: str, **env: str) -> None:
        self.shown = ""
        self._from = 0
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        self._process = start(
            words, folder, environment(TERM="xterm", **env), dict.fromkeys(range(3), slave)
        )
        os.close(slave)
        make_nonblocking(self._master)

    def _read(self) -> bool:
        try:
            data = nb_read(self._master, 4096)
        except OSError:  # EIO: the command has ended
            return False
        self.shown += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)

    def expect(self, pattern: str, seconds: float = PATIENCE) -> None:
        """Wait until what was shown since the last time has `pattern`."""
        with gevent.Timeout(seconds, AssertionError(f"no {pattern!r} in {self.shown!r}")):
            while not (found := re.compile(pattern).search(self.shown, self._from)):
                if not self._read():
                    raise AssertionError(f"it ended: {self.shown!r}")
        self._from = found.end()

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._master, f"{line}\n".encode())

    def stop(self) -> None:
        """End the command, whatever it is doing."""
        self._process.terminate()
        self.end()

    def end(self, seconds: float = PATIENCE) -> int:
        """Wait for the end; return the exit code."""
        with gevent.Timeout(seconds, AssertionError(f"it did not end: {self.shown!r}")):
            while self._read():
                pass
            code = self._process.wait()
        os.close(self._master)
        return code
