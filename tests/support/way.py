"""One worker's way to PostgreSQL, over TCP: it can be held up, or freeze."""

from __future__ import annotations

import re
from contextlib import suppress
from urllib.parse import unquote

import gevent
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer


class Way:
    """Carries connections to the server at an address with `host=`, the folder of its socket.

    url: the same database behind it.
    """

    def __init__(self, address: str) -> None:
        found = re.search(r"host=([^&]+)", address)
        self._there = f"{unquote(found[1]) if found else ''}/.s.PGSQL.5432"
        self._is_open = Event()
        self._is_open.set()
        self._server = StreamServer(("127.0.0.1", 0), self._carry)
        self._server.start()
        port = self._server.server_port
        self.url = address.partition("?")[0].replace("@", f"@127.0.0.1:{port}")

    def _carry(self, here: socket.socket, _: object) -> None:
        is_open = self._is_open
        with suppress(OSError), socket.socket(socket.AF_UNIX) as there:
            there.connect(self._there)
            both = [
                gevent.spawn(self._pass_on, here, there, is_open),
                gevent.spawn(self._pass_on, there, here, is_open),
            ]
            gevent.joinall(both, count=1)
            gevent.killall(both)

    @staticmethod
    def _pass_on(one: socket.socket, other: socket.socket, is_open: Event) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                is_open.wait()
                other.sendall(data)

    def hold_up(self) -> None:
        """Carry nothing until `go_on`; what is sent is acknowledged."""
        self._is_open.clear()

    def go_on(self) -> None:
        """Carry what waits, and all that follows."""
        self._is_open.set()

    def freeze(self) -> None:
        """Never again carry anything on the connections there are; they stay open."""
        self._is_open.clear()
        self._is_open = Event()
        self._is_open.set()

    def stop(self) -> None:
        """End it."""
        self._server.stop(timeout=0.1)
