"""gevent's web server, with time limits and a limit on open connections.

gevent waits for a request for ever and takes as many connections as there are file descriptors:
1,268 half-sent requests took every one of 1,024, and the next call was lost. Here a new connection
is let in. If all places are taken, the one that has waited longest for a request is closed.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gevent
import structlog
from gevent import pywsgi, ssl
from gevent.socket import socket as gevent_socket

from ..errors import PortTakenError
from .rate_limit import is_loopback, network
from .tls import Certificate

log = structlog.get_logger(__name__)

BAD_REQUEST = ("400", b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
TOO_LATE = (
    "408",
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
)


TCP_ESTABLISHED = 1
"""The first byte of TCP_INFO while neither side has closed the connection (linux/tcp.h)."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a peer may take.

    handshake: seconds until TLS is agreed upon.
    request: seconds from a request's first byte to its last.
    quiet: seconds without a byte either way, between two requests (nginx keeps its connections for
    60) or while the peer does not read an answer.
    in_all, per_peer: connections. A web server in front, on this machine, may have all.
    """

    handshake: float = 10.0
    request: float = 20.0
    quiet: float = 75.0
    in_all: int = 500
    per_peer: int = 200


def listen(host: str, port: int, setting: str) -> socket.socket:
    """Listen for the web server. setting: name and value, for the error. Raises PortTakenError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise PortTakenError(
            f"{setting} cannot be used ({reason}): stop what listens there or choose another port."
        ) from None


class Handler(pywsgi.WSGIHandler):
    """A connection. peer: its network. is_ended: whether it was closed to make room.

    waits_since: when it began to wait for a request (monotonic seconds).
    """

    server: WebServer

    def __init__(self, sock: socket.socket, address: Any, server: WebServer) -> None:
        super().__init__(sock, address, server)
        self.peer = network(str(address[0]))
        self.is_ended = False
        self.waits_since = time.monotonic()
        self._connection = sock
        self._clock: gevent.Greenlet[..., Any] | None = None
        self._is_asked = False
        self._is_late = False

        # headers and body of an answer are sent apart: without TCP_NODELAY the body waits 40 ms
        # on a kept-alive connection
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(server.bounds.quiet)

    @property
    def is_waiting(self) -> bool:
        """Tell whether the connection waits for a request or for the rest of one."""
        body = self.wsgi_input
        if not self._is_asked or body is None:
            return True

        if body.chunked_input:
            return bool(body.chunk_length != 0)
        return bool(body.position < (body.content_length or 0))

    def agree(self) -> bool:
        """Agree upon TLS, if it is used; return whether that succeeded."""
        if not isinstance(self._connection, ssl.SSLSocket):
            return True
        try:
            with gevent.Timeout(self.server.bounds.handshake):
                self._connection.do_handshake()
        # plain http, a scanner, half a handshake: nothing that the log needs
        except (OSError, ValueError, gevent.Timeout):
            with suppress(OSError):
                self.rfile.close()
                self._connection.close()
            return False
        self.waits_since = time.monotonic()
        return True

    def end(self) -> None:
        """Close the connection, to make room for another one."""
        self.is_ended = True
        self._shut(socket.SHUT_RDWR)

    def read_requestline(self) -> str:
        """Wait for a request (Bounds.quiet), then for its rest (Bounds.request)."""
        # peek returns with the first byte, and only then the time of the request begins
        self.rfile.peek(1)
        self._clock = gevent.spawn_later(self.server.bounds.request, self._stop_listening)
        return str(super().read_requestline())

    def read_request(self, raw_requestline: str) -> Any:
        """Read the headers. Raises ValueError if they are malformed or incomplete."""
        read = super().read_request(raw_requestline)
        if self._is_late:
            raise ValueError("its headers did not come in time")
        return read

    def get_environ(self) -> dict[str, Any]:
        """Return the request for the application.

        fsplanfix.peer_is_gone: a function that tells whether the peer has closed the connection.
        """
        environ: dict[str, Any] = super().get_environ()
        self._is_asked = True

        # the whole request is here: a long answer must not be cut short by its time limit
        if not self.is_waiting:
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
        """End the time limit of the request."""
        if self._clock is not None:
            self._clock.kill(block=False)
            self._clock = None

    def _stop_listening(self) -> None:
        """Read no more from the peer; a waiting read ends as if the peer had hung up."""
        self._is_late = True
        self._shut(socket.SHUT_RD)

    def _shut(self, how: int) -> None:
        """Shut the connection down, below TLS: that would go on in clear text."""
        with suppress(OSError):
            gevent_socket.shutdown(self._connection, how)

    def _peer_is_gone(self) -> bool:
        """Tell whether the peer has closed the connection."""
        # asked of the kernel: under TLS, the last bytes of a peer that leaves are not read
        try:
            state = gevent_socket.getsockopt(
                self._connection, socket.IPPROTO_TCP, socket.TCP_INFO, 1
            )
        except OSError:
            return True
        return bool(state[0] != TCP_ESTABLISHED)

    def _handle_client_error(self, ex: Exception) -> tuple[str, bytes]:
        """Return the answer to a malformed or late request."""
        # gevent's own method also prints a traceback
        if self._is_late:
            return TOO_LATE
        return BAD_REQUEST

    def _log_error(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        """Log an error, unless it only means that the peer is gone or does not read."""
        if not issubclass(kind, (OSError, gevent.GreenletExit)):
            log.error("crashed", component="web", exc_info=(kind, error, trace))

    def log_request(self) -> None:
        """Log nothing: a request may hold tokens and phone numbers."""


class WebServer(pywsgi.WSGIServer):
    """Listens for requests to an application. certificate: of https, None for http."""

    # gevent's default is 100 connections accepted in a row
    max_accept = 16

    def __init__(
        self,
        listener: socket.socket,
        application: Any,
        bounds: Bounds,
        certificate: Certificate | None = None,
    ) -> None:
        scheme = {"wsgi.url_scheme": "https"} if certificate else {}
        super().__init__(
            listener, application, handler_class=Handler, log=None, error_log=None, environ=scheme
        )
        self.bounds = bounds
        self._certificate = certificate
        self._open: set[Handler] = set()

    def handle(self, sock: socket.socket, address: Any) -> None:
        """Serve a connection, unless its peer or all peers keep every place busy."""
        if self._certificate is not None:
            # the handshake comes later, when the connection has its place and its time limit
            try:
                # gevent would begin to wrap what is not connected any more, and leave it open
                sock.getpeername()
                sock = self._certificate.context().wrap_socket(
                    sock, server_side=True, do_handshake_on_connect=False
                )
            except (OSError, ValueError):
                # the peer is gone already
                sock.close()
                return
        handler = Handler(sock, address, self)
        everyone = [other for other in self._open if not other.is_ended]
        same = [other for other in everyone if other.peer == handler.peer]
        most = self.bounds.in_all if is_loopback(handler.peer) else self.bounds.per_peer
        if not (_has_room(same, most) and _has_room(everyone, self.bounds.in_all)):
            return

        self._open.add(handler)
        try:
            if handler.agree():
                handler.handle()
        finally:
            self._open.discard(handler)


def _has_room(rivals: list[Handler], most: int) -> bool:
    """Tell whether there is room for one more; close the connection that waits longest if not."""
    # the check for one peer may have closed some before the check for all
    still_open = [other for other in rivals if not other.is_ended]
    if len(still_open) < most:
        return True

    waiting = [other for other in still_open if other.is_waiting]
    if not waiting:
        return False

    min(waiting, key=lambda other: other.waits_since).end()
    return True
