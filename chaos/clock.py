"""`fsplanfix` with a wall clock that is off, by as many seconds as a file says at each moment.

python -m chaos.clock FILE run
"""

from __future__ import annotations

import mmap
import runpy
import struct
import sys
import time
from pathlib import Path

SECONDS = struct.Struct("d")


class Shift:
    """By how much a worker's clock is off: a file that two processes see at once."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.write_bytes(SECONDS.pack(0.0))
        with file.open("r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), SECONDS.size)

    def set(self, seconds: float) -> None:
        """Let the clock jump."""
        self._memory[:] = SECONDS.pack(seconds)


def shift_time(file: str) -> None:
    """Have everything in this process that asks for the time get a wrong one."""
    with open(file, "rb") as opened:
        memory = mmap.mmap(opened.fileno(), SECONDS.size, access=mmap.ACCESS_READ)
    right, right_ns = time.time, time.time_ns

    def seconds() -> float:
        off: float = SECONDS.unpack(memory)[0]
        return off

    time.time = lambda: right() + seconds()
    time.time_ns = lambda: right_ns() + int(seconds() * 1e9)


if __name__ == "__main__":
    shift_time(sys.argv.pop(1))
    runpy.run_module("fsplanfix", run_name="__main__", alter_sys=True)
