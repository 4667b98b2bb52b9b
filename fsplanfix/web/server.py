"""The web server: gevent's, with an end to every wait and a bound to what strangers may hold open.

gevent waits for a request for ever and takes as many connections as there are files. Here whoever
comes is let in: if all places are taken, the connection goes that has waited longest without asking
for anything.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gevent
import structlog
from gevent import pywsgi

from .rate_limit import is_loopback, network

log = structlog.get_logger(__name__)

BAD_REQUEST = ("400", b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
TOO_LATE = (
    "408",
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a peer may take.

    request: seconds from a request's first byte to its last. quiet: seconds without a byte either
    way, between two requests (nginx keeps its connections for 60) or while nobody takes an answer.
    in_all, per_peer: connections; a web server in front, on this machine, may have all.
    """

    request: float = 20.0
    quiet: float = 75.0
    in_all: int = 500
    per_peer: int = 200


class Handler(pywsgi.WSGIHandler):
    """A connection. Keeps requests out of the log: they may hold tokens and phone numbers.

    Headers and body of an answer go separately: without TCP_NODELAY the body waits 40 ms on a
    kept-alive connection.
    """

    server: WebServer

    def __init__(self, sock: socket.socket, address: Any, server: WebServer) -> None:
        super().__init__(sock, address, server)
        self.peer = network(str(address[0]))
        self.ended = False
        self.waits_since = time.monotonic()
        self._connection = sock
        self._clock: gevent.Greenlet[..., Any] | None = None
        self._is_asked = False
        self._is_late = False
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(server.bounds.quiet)

    @property
    def waits(self) -> bool:
        """Tell whether we wait for a request or for the rest of one."""
        body = self.wsgi_input
        if not self._is_asked or body is None:
            return True
        if body.chunked_input:
            return bool(body.chunk_length != 0)
        return bool(body.position < (body.content_length or 0))

    def end(self) -> None:
        """Close the connection: another one needs its place."""
        self.ended = True
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def read_requestline(self) -> str:
        """Wait for a request as long as it may be quiet, then for its rest no longer than it may
        take.
        """
        self.rfile.peek(1)
        self._clock = gevent.spawn_later(self.server.bounds.request, self._stop_listening)
        return str(super().read_requestline())

    def read_request(self, raw_requestline: str) -> Any:
        """Read the headers. Raises ValueError if this is no request, or not all of one came."""
        read = super().read_request(raw_requestline)
        if self._is_late:
            raise ValueError("its headers did not come in time")
        return read

    def get_environ(self) -> dict[str, Any]:
        """Return the request for the application, which may ask whether the peer has gone."""
        environ: dict[str, Any] = super().get_environ()
        self._is_asked = True
        if not self.waits:
            self._stop_clock()
        environ["fsplanfix.peer_is_gone"] = self._peer_is_gone
        return environ

    def handle_one_request(self) -> Any:
        """Answer one request."""
        try:
            return super().handle_one_request()
        finally:
            self._stop_clock()
            self._is_asked = False
            self.waits_since = time.monotonic()

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.kill(block=False)
            self._clock = None

    def _stop_listening(self) -> None:
        """Take no more from the peer: whoever waits for it goes on as if it had hung up."""
        self._is_late = True
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RD)

    def _peer_is_gone(self) -> bool:
        bare = getattr(self._connection, "_sock", self._connection)  # gevent's own would wait
        try:
            return bool(bare.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"")
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _handle_client_error(self, ex: Exception) -> tuple[str, bytes]:
        """Answer what is no request (gevent's place for it); gevent writes tracebacks here."""
        return TOO_LATE if self._is_late else BAD_REQUEST

    def _log_error(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        """Log a mistake of ours; that a peer went, or takes no answer, is none."""
        if not issubclass(kind, (OSError, gevent.GreenletExit)):
            log.error("crashed", component="web", exc_info=(kind, error, trace))

    def log_request(self) -> None:
        """Log nothing."""


class WebServer(pywsgi.WSGIServer):
    """Listens for requests to an application."""

    max_accept = 16

    def __init__(self, listener: socket.socket, application: Any, bounds: Bounds) -> None:
        super().__init__(listener, application, handler_class=Handler, log=None, error_log=None)
        self.bounds = bounds
        self._open: set[Handler] = set()

    def handle(self, sock: socket.socket, address: Any) -> None:
        """Serve a connection, unless its peer, or all peers, keep every place busy."""
        handler = Handler(sock, address, self)
        everyone = [other for other in self._open if not other.ended]
        same = [other for other in everyone if other.peer == handler.peer]
        most = self.bounds.in_all if is_loopback(handler.peer) else self.bounds.per_peer
        if not (_has_room(same, most) and _has_room(everyone, self.bounds.in_all)):
            return
        self._open.add(handler)
        try:
            handler.handle()
        finally:
            self._open.discard(handler)


def _has_room(rivals: list[Handler], most: int) -> bool:
    """Tell whether one more fits beside its rivals; end the one that has waited longest if not."""
    standing = [other for other in rivals if not other.ended]
    if len(standing) < most:
        return True
    waiting = [other for other in standing if other.waits]
    if not waiting:
        return False
    min(waiting, key=lambda other: other.waits_since).end()
    return True
