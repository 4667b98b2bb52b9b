"""Starts of the program that are forks of a process which has loaded it.

Loading takes a second of CPU time, and the tests start hundreds of programs. A fork is a process of
its own in all that it does: its folder, its environment, its files, its signals, its end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from socket import AF_UNIX, SOCK_SEQPACKET, send_fds, socket, socketpair

from gevent.socket import wait_read

ROOT = Path(__file__).parent.parent.parent


class Forked:
    """A process of `fsplanfix`: what tests need of `subprocess.Popen`."""

    def __init__(self, state: int, words: Sequence[str]) -> None:
        self.returncode: int | None = None
        self._words = words
        self._state = state
        self._told = b""
        self.pid = self._number(0, None)

    def _number(self, line: int, seconds: float | None) -> int:
        """Return the process ID, which is told first, or the exit code. Raises TimeoutExpired."""
        end = None if seconds is None else time.monotonic() + seconds
        while self._told.count(b"\n") <= line:
            left = None if end is None else max(0.0, end - time.monotonic())
            try:
                wait_read(self._state, left, TimeoutError)
            except TimeoutError:
                raise subprocess.TimeoutExpired(self._words, seconds or 0.0) from None
            told = os.read(self._state, 100)
            assert told, "the process that has loaded the program is gone"
            self._told += told
        return int(self._told.split(b"\n")[line])

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, seconds; return its exit code. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self.returncode = self._number(1, timeout)
            os.close(self._state)
        return self.returncode

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        # it may end between the two
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Loader:
    """Loads the program at its first start, and forks it for each."""

    def __init__(self) -> None:
        self._requests: socket | None = None

    def start(
        self, words: Sequence[str], folder: Path, env: Mapping[str, str], files: Mapping[int, int]
    ) -> Forked:
        """Start `fsplanfix` with words. files: by its numbers for them; all else is /dev/null."""
        self._requests = self._requests or self._load(env["PATH"])
        request = {"words": words, "folder": str(folder), "env": env, "numbers": [*files]}
        state, theirs = os.pipe()
        send_fds(self._requests, [json.dumps(request).encode()], [theirs, *files.values()])
        os.close(theirs)
        return Forked(state, words)

    def _load(self, path: str) -> socket:
        ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.loaded", str(theirs.fileno())],
            cwd=ROOT,
            env={"PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        return ours

    def end(self) -> None:
        """End the process that has loaded it; those that it started go on."""
        if self._requests is not None:
            self._requests.close()
            self._process.wait()


READ_WHILE_LOADING = ("PYTHON", "GEVENT", "LANG", "LC_", "NO_COLOR", "FORCE_COLOR")
"""Beginnings of the variables that come too late for a fork."""

loader: Loader | None = None
"""That of the tests; None in the trials and in all that measures, which start whole programs."""


def start(
    words: Sequence[str], folder: Path, env: Mapping[str, str], files: Mapping[int, int]
) -> Forked | subprocess.Popen[bytes]:
    """Start `fsplanfix` as Loader.start does, with a session of its own."""
    if loader is not None and not any(name.startswith(READ_WHILE_LOADING) for name in env):
        return loader.start(words, folder, env, files)
    stdin, stdout, stderr = (files.get(number, subprocess.DEVNULL) for number in range(3))
    return subprocess.Popen(
        [sys.executable, "-m", "fsplanfix", *words],
        cwd=folder,
        env=env,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )
