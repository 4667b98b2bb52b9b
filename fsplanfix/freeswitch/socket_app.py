"""Answers the dialplan's `socket` application: tells who calls, then the dialplan continues.

docs/facts/freeswitch.md, "The dialplan's socket application". With
`socket_resume=true` the call goes on as soon as we close, so whatever fails here is answered by
closing. greenswitch's own server answers a call after 61 ms at the median and cannot be trusted
beyond that (docs/facts/greenswitch.md, fault i); this is gevent's.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import gevent
import structlog
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

from ..errors import LinkDown, UnsafeCommand
from .events import SwitchEvent
from .frames import LONGEST_HEAD, Frame, FrameError, Framer

log = structlog.get_logger(__name__)

MOST_CALLS_HELD = 1000
"""Calls held at once. One more continues at once, without a name."""

TIME_TO_TELL = 0.15
"""Seconds of the deadline kept for telling FreeSWITCH what was found."""

LISTEN_AGAIN_AFTER = 2.0
"""Seconds between two attempts to take an address that is in use."""

LONGEST_TEXT = 60
"""Characters of a value."""

PUNCTUATION = frozenset(" .-+()№«»’–—_")
"""What a value may hold besides letters, marks and digits: nothing with a meaning.

A phone shows only what stands behind a slash (docs/facts/freeswitch.md).
"""

EXPORTED = frozenset(("planfix_known",))
"""Variables that every leg of the call gets from its first moment.

A phone's leg rings before the caller's leg has an event that would show what was set on it.
"""

GREETING = b"connect\n\n"

Networks = Collection[ipaddress.IPv4Network | ipaddress.IPv6Network]
FindVariables = Callable[[SwitchEvent, float], Mapping[str, str]]
"""Takes a channel's data and the seconds left, returns channel variables; it must not raise."""


def clean(text: str) -> str:
    """Return text fit for a channel variable: letters, digits and harmless signs."""
    composed = unicodedata.normalize("NFC", text[: LONGEST_TEXT * 20]).replace("'", "’")
    kept = "".join(sign if _is_harmless(sign) else " " for sign in composed)
    return " ".join(kept.split())[:LONGEST_TEXT].strip()


def _is_harmless(sign: str) -> bool:
    return sign in PUNCTUATION or unicodedata.category(sign)[0] in "LMN"


def reachable(host: str) -> str:
    """Return the address at which we reach what listens everywhere."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound here


def is_answering(host: str, port: int, seconds: float = 2.0) -> bool:
    """Tell whether a SocketApp answers at an address it listens on."""
    try:
        with socket.create_connection((reachable(host), port), timeout=seconds) as sock:
            return bool(sock.recv(64) == GREETING)
    except OSError:
        return False


class SocketApp:
    """Listens for FreeSWITCH.

    allowed: the networks from which connections are accepted. find_variables: what a call gets.
    deadline: seconds after which a call continues whatever happens. most: calls held at once, not
    above MOST_CALLS_HELD.
    """

    def __init__(
        self,
        listen: tuple[str, int],
        allowed: Networks,
        find_variables: FindVariables,
        deadline: float,
        most: int = MOST_CALLS_HELD,
    ) -> None:
        self.held = 0
        self.listening = Event()
        self._listen = listen
        self._allowed = allowed
        self._find_variables = find_variables
        self._deadline = deadline
        self._most = min(most, MOST_CALLS_HELD)
        self._server: StreamServer | None = None

    @property
    def address(self) -> str:
        """Return host:port once it listens, "" before."""
        if self._server is None:
            return ""
        return "{}:{}".format(*self._server.socket.getsockname()[:2])

    def run(self) -> None:
        """Listen until `stop`.

        An address in use is tried again: another worker may hold it, and end.
        """
        last_problem = ""
        while True:
            try:
                family = socket.AF_INET6 if ":" in self._listen[0] else socket.AF_INET
                listener = socket.create_server(self._listen, family=family, backlog=1024)
                break
            except OSError as error:
                # a worker may wait for days: each problem is logged once
                problem = error.strerror or str(error)
                if problem != last_problem:
                    last_problem = problem
                    log.error(
                        "socket_app_not_listening",
                        address="{}:{}".format(*self._listen),
                        problem=problem,
                        hint="callers' names are not looked up: "
                        "free ESL_LISTEN's port or choose another",
                    )
            gevent.sleep(LISTEN_AGAIN_AFTER)

        self._server = StreamServer(listener, self._serve)
        self._server.start()
        log.info("socket_app_listening", address=self.address)
        self.listening.set()
        self._server.serve_forever()

    def stop(self) -> None:
        """Stop listening; calls that are held are still answered."""
        if self._server is not None:
            self._server.stop(timeout=0)

    def _serve(self, sock: socket.socket, peer: Any) -> None:
        """Hold one call for no longer than the deadline."""
        # closed without a word: with socket_resume=true the dialplan continues at once
        if self.held >= self._most or not self._is_allowed(str(peer[0])):
            log.warning("socket_app_refused", peer=peer[0], held=self.held)
            sock.close()
            return

        self.held += 1
        conversation, begun = Conversation(sock), time.monotonic()
        try:
            with gevent.Timeout(self._deadline, LinkDown(f"no end within {self._deadline:g} s")):
                channel = conversation.connect()
                left = self._deadline - TIME_TO_TELL - (time.monotonic() - begun)
                conversation.finish(self._find_variables(channel, left))
        except (OSError, FrameError, LinkDown, UnsafeCommand) as error:
            log.warning("socket_app_gave_up", reason=str(error))
        except Exception:
            log.exception("crashed", component="socket")
        finally:
            self.held -= 1
            conversation.close()

    def _is_allowed(self, peer: str) -> bool:
        # an IPv6 peer may carry a zone (fe80::1%eth0), an IPv4 peer of a "::" socket is ::ffff:…
        address = ipaddress.ip_address(peer.partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._allowed)


class Conversation:
    """One connection from the `socket` application.

    Its methods raise OSError, FrameError or LinkDown.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._framer = Framer()
        self._resumed = False
        self._frames = self._read()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connect(self) -> SwitchEvent:
        """Greet FreeSWITCH and return the channel's data."""
        self._sock.sendall(GREETING)
        # the channel's data comes without a Content-Length (docs/facts/freeswitch.md)
        data = b""
        while b"\n\n" not in data:
            if len(data) > LONGEST_HEAD * 4:
                raise FrameError("channel data without end")
            received = self._sock.recv(65536)
            if not received:
                raise LinkDown("the caller hung up")
            data += received

        return SwitchEvent(data.partition(b"\n\n")[0] + b"\n")

    def finish(self, variables: Mapping[str, str]) -> None:
        """Set channel variables, let the dialplan continue, and end the conversation."""
        # all at once: FreeSWITCH carries them out in their order, and each reply that is awaited
        # before the next command is a round trip more (docs/facts/freeswitch.md)
        commands = [_assignment(name, value) for name, value in variables.items()]
        commands += ["resume", "exit"]
        self._sock.sendall("".join(f"{command}\n\n" for command in commands).encode())
        self._resumed = True
        for _ in commands:
            self._await_reply()

    def close(self) -> None:
        """Close the connection; resume the dialplan before, if that was not done yet."""
        with (
            contextlib.suppress(OSError, LinkDown),
            gevent.Timeout(0.1, LinkDown("it does not listen")),
        ):
            if not self._resumed:
                self._sock.sendall(b"resume\n\nexit\n\n")
        self._sock.close()

    def _await_reply(self) -> None:
        for frame in self._frames:
            if frame.kind == "command/reply":
                if not frame.headers.get("Reply-Text", "").startswith("+OK"):
                    log.warning(
                        "socket_app_command_refused", reply=frame.headers.get("Reply-Text", "")[:80]
                    )
                return

        raise LinkDown("the caller hung up")

    def _read(self) -> Iterator[Frame]:
        while data := self._sock.recv(65536):
            yield from self._framer.feed(data)


def _assignment(name: str, value: str) -> str:
    """Return the command that sets a channel variable. Raises UnsafeCommand."""
    # a line break in a value would begin another command (docs/facts/greenswitch.md, fault e)
    if any(sign in value for sign in "\r\n\0"):
        raise UnsafeCommand("a command with line breaks inside was not sent")

    application = "export" if name in EXPORTED else "set"
    return (
        f"sendmsg\ncall-command: execute\nexecute-app-name: {application}\n"
        f"execute-app-arg: {name}={value}"
    )
