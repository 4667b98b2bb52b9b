"""The `socket` application: from FreeSWITCH's connection to our `connect`, and to our end.

Run as `python -m bench.sockets` it is greenswitch's server; it prints its port. With the name of a
measurement it takes that one, on our server in its own process.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import contextlib  # noqa: E402
import ipaddress  # noqa: E402
import random  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402

import gevent  # noqa: E402
from gevent import socket  # noqa: E402
from greenswitch import OutboundESLServer  # noqa: E402

from fsplanfix.freeswitch.socket_app import GREETING, SocketApp  # noqa: E402
from fsplanfix.service import logs  # noqa: E402

CONNECTIONS = 20
AT_ONCE = 500
DEADLINE = 0.5
"""Seconds a call may be held."""

CHANNEL = b"Event-Name: CHANNEL_DATA\n\n"
HOSTILE = (b"", b"garbage", b"\n\n\n\n", b"a" * 400_000, CHANNEL, CHANNEL[:-1], b"\0" * 9)
"""What a broken FreeSWITCH may say, and then nothing more."""


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


class Watched(SocketApp):
    """Our server. took: seconds from each accepted connection until our first word is sent."""

    def __init__(self, deadline: float) -> None:
        self.took: list[float] = []
        allowed = [ipaddress.ip_network("127.0.0.0/8")]
        super().__init__(("127.0.0.1", 0), allowed, lambda _, __: {"a": "b"}, deadline)

    def _serve(self, sock: socket.socket, peer: object) -> None:
        begun = time.perf_counter()
        took = self.took

        class Seen:
            def __getattr__(self, name: str) -> object:
                return getattr(sock, name)

            def sendall(self, data: bytes) -> None:
                sock.sendall(data)
                if data == GREETING:
                    took.append(time.perf_counter() - begun)

        super()._serve(Seen(), peer)  # type: ignore[arg-type]


@contextmanager
def ours(deadline: float) -> Iterator[tuple[Watched, int]]:
    """Run our server in this process; give it and its port."""
    app = Watched(deadline)
    running = gevent.spawn(app.run)
    app.listening.wait()
    try:
        yield app, int(app.address.rpartition(":")[2])
    finally:
        app.stop()
        running.join()


def greeted() -> float:
    """Return the seconds in which 99 of 100 calls are greeted when many come at once."""
    with ours(60) as (app, port):
        socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(AT_ONCE)]
        gevent.joinall([gevent.spawn(sock.recv, 64) for sock in socks], raise_error=True)
        for sock in socks:
            sock.close()
        if len(app.took) != AT_ONCE:
            raise RuntimeError(f"{len(app.took)} of {AT_ONCE} calls were greeted")
        return statistics.quantiles(app.took, n=100)[98]


def held() -> float:
    """Return the seconds over the deadline that hostile peers are held, at worst."""
    with ours(DEADLINE) as (_, port):
        return max(_hold(port, says) for says in HOSTILE) - DEADLINE


def _hold(port: int, says: bytes) -> float:
    begun = time.monotonic()
    with (
        contextlib.suppress(ConnectionError),
        socket.create_connection(("127.0.0.1", port)) as sock,
    ):
        sock.recv(64)
        sock.sendall(says)
        while sock.recv(4096):
            pass
    return time.monotonic() - begun


if __name__ == "__main__":
    if len(sys.argv) > 1:
        logs.set_up("ERROR")
        print({"greeted": greeted, "held": held}[sys.argv[1]]())
    else:
        serve()
