"""The `socket` application: from FreeSWITCH's connection to our `connect`.

Run as `python -m bench.sockets` it is greenswitch's server; it prints its port.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import random  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402
from gevent import socket  # noqa: E402
from greenswitch import OutboundESLServer  # noqa: E402

CONNECTIONS = 20


class Application:
    """What greenswitch runs for a call: nothing."""

    def __init__(self, session: object) -> None:
        self.session = session

    def run(self) -> None:
        """End at once."""


def serve() -> None:
    """Be greenswitch's server until killed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    print(port, flush=True)
    OutboundESLServer(
        bind_address="127.0.0.1", bind_port=port, application=Application, max_connections=10_000
    ).listen()


def median(port: int, seed: int) -> float:
    """Return the median seconds from connection to first byte, at moments that keep no beat."""
    chance, took = random.Random(seed), []  # noqa: S311
    for _ in range(CONNECTIONS):
        gevent.sleep(chance.uniform(0.01, 0.03))
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            said = sock.recv(64)
            took.append(time.monotonic() - begun)
            if not said.startswith(b"connect\n"):
                raise RuntimeError(f"the server said {said!r}")
    return statistics.median(took)


class Stock:
    """greenswitch's server, in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.sockets"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None  # noqa: S101
        self.port = int(self._process.stdout.readline())
        self._wait()

    def _wait(self) -> None:
        with gevent.Timeout(10):
            while True:
                gevent.sleep(0.05)
                try:
                    return socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                except OSError:
                    continue

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


if __name__ == "__main__":
    serve()
