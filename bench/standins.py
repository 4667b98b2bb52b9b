"""A FreeSWITCH and a Planfix that cost next to nothing: only what is between is measured.

Both are strict about what they are sent: whatever is not as it must be is counted in `wrong`, and
fails the run.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import gevent
from gevent import socket
from gevent.event import Event
from gevent.lock import BoundedSemaphore
from gevent.server import StreamServer

from .traffic import Moment, frame

TOKEN = "bench-planfix-token"  # noqa: S105 - a stand-in's
UNKNOWN = b"-ERR\n"


class Switch:
    """The event socket of a FreeSWITCH: login, its live channels; sends what it is told to.

    core: its Core-UUID, "" if it does not say. live: what `uuid_dump` says of each live channel, as
    JSON, by UUID.
    """

    def __init__(self, core: str = "", live: Mapping[str, bytes] | None = None) -> None:
        self.wrong: list[str] = []
        self._core = core.encode() or UNKNOWN
        self._live = live or {}
        self._shown = _shown(self._live)
        self.subscribed = Event()
        self._socks: list[socket.socket] = []
        self._writing = BoundedSemaphore(1)
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()

    @property
    def port(self) -> int:
        """Return the port it listens on."""
        return int(self._server.server_port or 0)

    def stop(self) -> None:
        """Vanish."""
        self._server.stop(timeout=0.1)
        for sock in self._socks:
            sock.close()

    def _serve(self, sock: socket.socket, _: Any) -> None:
        with contextlib.suppress(OSError):  # whoever was measured is killed at the end
            self._obey(sock)

    def _obey(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(b"Content-Type: auth/request\n\n")
        rest = b""
        while data := sock.recv(65536):
            *commands, rest = (rest + data).split(b"\n\n")
            self._write(sock, b"".join(map(self._reply, commands)))
            if any(command.startswith(b"event ") for command in commands):
                self._socks.append(sock)
                self.subscribed.set()

    def _reply(self, lines: bytes) -> bytes:
        command = lines.partition(b"\n")[0].decode()
        word = command.split()[0]
        if word == "api":
            body = self._answer(command)
            return b"Content-Type: api/response\nContent-Length: %d\n\n%b" % (len(body), body)
        if word not in ("auth", "event"):
            self.wrong.append(command)
        return b"Content-Type: command/reply\nReply-Text: +OK accepted\n\n"

    def _answer(self, command: str) -> bytes:
        words = command.split()[1:]
        if words[0] == "uuid_dump":
            return self._live.get(words[1], UNKNOWN)
        if words[0] == "show":
            return self._shown
        return self._core if words[0] == "global_getvar" else UNKNOWN

    def _write(self, sock: socket.socket, data: bytes) -> None:
        with self._writing:
            sock.sendall(data)

    def send(
        self,
        moments: Sequence[Moment],
        before: Callable[[Moment], None] | None = None,
        paced: bool = False,
    ) -> None:
        """Send events to who follows, at their times or as fast as taken. before: told of each."""
        begun, sock = time.monotonic(), self._socks[-1]
        for moment in moments:
            if paced:
                gevent.sleep(max(begun + moment.at - time.monotonic(), 0))
            if before is not None:
                before(moment)
            self._write(sock, frame(moment.body))


def _shown(live: Mapping[str, bytes]) -> bytes:
    """Return the answer to `show channels as json`, as long as FreeSWITCH's own."""
    # FreeSWITCH takes 870 bytes for a channel (docs/facts/freeswitch.md)
    rows = [{"uuid": uuid, "the rest": "x" * 800} for uuid in live]
    return json.dumps({"row_count": len(rows), "rows": rows} if rows else {"row_count": 0}).encode()


class Planfix:
    """Takes every request the API allows.

    delay: seconds it takes to answer. tokens: those of its companies. came: told of each request.
    """

    def __init__(self, delay: float = 0.0, tokens: Collection[str] = (TOKEN,)) -> None:
        self.delay = delay
        self.tokens = tokens
        self.wrong: list[str] = []
        self.taken = 0
        self.came: Callable[[dict[str, str]], None] = lambda _: None
        self.answered: Callable[[dict[str, str]], None] = lambda _: None
        self._change = Event()
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()

    @property
    def url(self) -> str:
        """Return the address requests go to."""
        return f"http://127.0.0.1:{self._server.server_port}/tel/api"

    def stop(self) -> None:
        """Stop listening."""
        self._server.stop(timeout=0.1)

    def wait_for(self, count: int, seconds: float) -> None:
        """Wait until so many requests were answered. Raises gevent.Timeout."""
        with gevent.Timeout(seconds):
            while self.taken < count:
                self._change.wait()

    def _serve(self, sock: socket.socket, _: Any) -> None:
        with contextlib.suppress(OSError):  # whoever was measured is killed at the end
            self._answer(sock)

    def _answer(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = sock.makefile("rb")
        while line := reader.readline():
            length = 0
            while (header := reader.readline()) not in (b"\r\n", b""):
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
            body = reader.read(length)
            fields = dict(parse_qsl(body.decode(), strict_parsing=True))
            self.came(fields)
            is_known = fields.pop("planfix_token", "") in self.tokens
            if not line.startswith(b"POST /tel/api ") or not is_known:
                self.wrong.append(repr(line + body))
            if self.delay:
                gevent.sleep(self.delay)
            sock.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
            )
            self.taken += 1
            self.answered(fields)
            self._change.set()
            self._change.clear()
