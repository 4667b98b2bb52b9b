"""One end of an event socket that says exactly what a test wants, byte for byte.

Run as a program it prints a port, and sends 20,000 events of the recorded size to whoever logs in there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gevent import socket
from gevent.server import StreamServer

GREETING = b"Content-Type: auth/request\n\n"
ACCEPTED = b"Content-Type: command/reply\nReply-Text: +OK accepted\n\n"


def read_command(sock: socket.socket) -> bytes:
    data = bytearray()
    while not data.endswith(b"\n\n"):
        more = sock.recv(1 << 20)
        if not more:
            break
        data += more
    return bytes(data)


def log_in(sock: socket.socket) -> None:
    sock.sendall(GREETING)
    read_command(sock)
    sock.sendall(ACCEPTED)


def frame(body: bytes, kind: bytes = b"text/event-plain") -> bytes:
    return b"Content-Length: %d\nContent-Type: %s\n\n%s" % (len(body), kind, body)


@contextmanager
def peer(
    script: Callable[[socket.socket], Any], address: tuple[str, int] = ("127.0.0.1", 0)
) -> Iterator[int]:
    """Serve `script` to whoever connects; give the port."""

    def handle(sock: socket.socket, _: Any) -> None:
        try:
            script(sock)
        except OSError:
            pass
        finally:
            sock.close()

    server = StreamServer(address, handle)
    server.start()
    try:
        yield int(server.server_port or 0)
    finally:
        server.stop(timeout=0.1)


def keep_open(sock: socket.socket) -> None:
    sock.settimeout(10)
    while sock.recv(4096):
        pass


def send_burst() -> None:
    headers = b"".join(b"variable_%d: %s\n" % (n, b"x" * 35) for n in range(150))
    event = frame(b"Event-Name: CHANNEL_ANSWER\nUnique-ID: real\n" + headers + b"\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        sock, _ = server.accept()
        with sock:
            log_in(sock)
            sock.sendall(event * 20_000)
            keep_open(sock)


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        send_burst()
