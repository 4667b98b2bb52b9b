"""One connection to one FreeSWITCH: greenswitch's InboundESL, hardened.

Every override answers a measured fault of greenswitch (docs/facts/greenswitch.md).
"""

from __future__ import annotations

import json
import re
import socket as stdlib_socket
import string
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import cast
from uuid import uuid4

import gevent
import structlog
from gevent import socket
from gevent.event import AsyncResult, Event
from gevent.lock import BoundedSemaphore
from greenswitch.esl import InboundESL

from ..errors import LinkDown, LinkError, LinkTimeout, LoginRefused, UnsafeCommand
from .dumps import read_dump
from .events import SwitchEvent, hanging_up, is_uuid
from .frames import Frame, FrameError, Framer

log = structlog.get_logger(__name__)

LOGIN_TIMEOUT = 5.0
ANSWER_TIMEOUT = 10.0
ACCOUNT_TIMEOUT = 5.0
SILENCE = 45.0
"""Seconds without a byte until the peer counts as gone."""

SENT_AHEAD = 32
"""Commands that are sent before the answers to those before them are read."""

ASK_AFTER_SHARE = 2 / 3
"""The share of SILENCE after which the peer is asked for a sign of life.

HEARTBEAT comes every 20 s, or as rarely as `event-heartbeat-interval` says.
"""

SIGN_OF_LIFE = "uptime"
"""A command that costs FreeSWITCH nothing; a refusal is a sign of life as well."""

FRAMES_IN_A_ROW = 64
"""Frames handled in a row, about 1 ms; then others get their turn (fault j).

What the frames say may then share a commit.
"""

HIGHEST_PRIORITY = 2
"""The highest priority of the event loop.

An idle watcher at this priority runs after one poll of sockets and timers, even under load.
`sleep(0)` can skip 50 polls; a longer sleep wastes 1 ms (docs/performance.md).
"""

_SAFE_IN_ARGUMENTS = frozenset(string.printable) - frozenset("\"'\\")
"""Characters that FreeSWITCH leaves as they are in an argument of an API command.

It interprets quotes and backslashes (switch_separate_string).
"""

_CORE = re.compile(r"[0-9A-Fa-f-]{36}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Server:
    """Where one FreeSWITCH listens. host: without the brackets of IPv6."""

    host: str
    port: int
    password: str = field(repr=False)

    @property
    def name(self) -> str:
        """Return host:port, for people and as a key in the store."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Connection(InboundESL):
    """One connection to one FreeSWITCH. Never used again once it is down: fault k.

    core: FreeSWITCH's Core-UUID, "" until a link has asked for it, and if it is unknown.
    """

    def __init__(
        self,
        server: Server,
        on_event: Callable[[SwitchEvent], None],
        login_timeout: float = LOGIN_TIMEOUT,
        silence: float = SILENCE,
    ) -> None:
        super().__init__(server.host, server.port, server.password, timeout=login_timeout)
        self.server = server
        self.core = ""
        self.down = Event()
        self.reason = "closed"
        self._on_event = on_event
        self._silence = silence
        self._pending: deque[AsyncResult[Frame]] = deque()
        self._jobs: dict[str, AsyncResult[str]] = {}
        self._writing = BoundedSemaphore(1)
        self._rejected = False
        self._watching: gevent.Greenlet[[], None] | None = None
        # when something came last, monotonic seconds
        self._heard_at = 0.0

    def connect(self) -> None:
        """Connect and log in.

        Raises LinkDown, LinkTimeout or LoginRefused, and then leaves nothing behind (fault g).
        """
        try:
            self._open()
            self.authenticate()
        except BaseException:
            self.stop()
            raise

    def _open(self) -> None:
        where = f"FreeSWITCH at {self.server.name}"
        try:
            # create_connection also speaks IPv6 (fault k)
            self.sock = socket.create_connection((self.host, self.port), timeout=self.timeout)
        except TimeoutError:
            hint = "check the address and the firewall"
            raise LinkDown(f"{where} does not answer", hint) from None
        except OSError as error:
            reason = error.strerror or str(error)
            hint = "is it running, mod_event_socket loaded?"
            raise LinkDown(f"{where} cannot be reached ({reason})", hint) from None

        self._detect_dead_peers()
        self.connected = True
        self._receive_events_greenlet = gevent.spawn(self.receive_events)
        if not self._auth_request_event.wait(self.timeout):
            problem = f"{where} accepts connections but says nothing"
            raise LinkTimeout(problem, "is that port the event socket?")
        if self._rejected:
            hint = "add it to apply-inbound-acl in event_socket.conf.xml"
            raise LoginRefused(f"{where} refuses our address", hint)
        if not self.connected:
            problem = f"{where} closed the connection before the login"
            raise LinkDown(problem, "is that port the event socket?")

    def _detect_dead_peers(self) -> None:
        """Let the kernel report a peer that is gone (fault f).

        A peer that hangs is detected by its silence.
        """
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setsockopt(socket.IPPROTO_TCP, stdlib_socket.TCP_KEEPIDLE, 15)
        self.sock.setsockopt(socket.IPPROTO_TCP, stdlib_socket.TCP_KEEPINTVL, 10)
        self.sock.setsockopt(socket.IPPROTO_TCP, stdlib_socket.TCP_KEEPCNT, 3)
        self.sock.setsockopt(socket.IPPROTO_TCP, stdlib_socket.TCP_USER_TIMEOUT, 30_000)
        # `_watch` notices a silence: a limit here began a timer with every event
        self.sock.settimeout(None)

    def authenticate(self) -> None:
        """Log in. Raises LoginRefused if the password is wrong."""
        reply = self.send(f"auth {self.password}", timeout=self.timeout)
        if reply.headers.get("Reply-Text") != "+OK accepted":
            hint = "put the one from event_socket.conf.xml into FREESWITCH_ESL"
            raise LoginRefused(f"FreeSWITCH at {self.server.name} refuses the password", hint)

        self._watching = gevent.spawn(self._watch)

    def send(self, data: str, timeout: float = ANSWER_TIMEOUT) -> Frame:
        """Send one command and return FreeSWITCH's reply.

        Raises UnsafeCommand, LinkTimeout (after `timeout` seconds) or LinkDown; never hangs:
        fault e.
        """
        # a line break would begin another command (fault e)
        if "\r" in data or "\0" in data or "\n\n" in data or data.endswith("\n"):
            raise UnsafeCommand("A command with line breaks inside was not sent to FreeSWITCH.")

        with self._until_late(timeout):
            (answer,) = self._write([data])
            return cast(Frame, answer.get())

    def _until_late(self, timeout: float) -> gevent.Timeout:
        late = LinkTimeout(f"FreeSWITCH at {self.server.name} did not answer in {timeout:g} s.")
        return gevent.Timeout(timeout, late)

    def _write(self, commands: Sequence[str]) -> list[AsyncResult[Frame]]:
        """Write commands; return what their replies will be set on."""
        answers: list[AsyncResult[Frame]] = [AsyncResult() for _ in commands]
        with self._writing:  # whole commands, one after the other (fault e)
            if not self.connected:
                raise LinkDown(f"There is no connection to FreeSWITCH at {self.server.name}.")

            self._pending += answers
            try:
                self.sock.sendall("".join(f"{command}\n\n" for command in commands).encode())
            except OSError as error:
                self._mark_down(f"cannot send ({error})")
            except gevent.Timeout:
                # part of a command may be on its way: what would follow it makes no sense to the
                # peer
                self._mark_down("a command could not be sent in time")
                raise
        return answers

    def api(self, command: str, timeout: float = ANSWER_TIMEOUT) -> str:
        """Run an API command and return its text, such as `true` or `-ERR ...`. One line only."""
        self._refuse_line_breaks(command)
        return self.send(f"api {command}", timeout).body.decode("utf-8", "replace")

    def api_each(self, commands: Sequence[str], timeout: float = ANSWER_TIMEOUT) -> Iterator[bytes]:
        """Run API commands one after the other and yield their texts; see `api`.

        FreeSWITCH works on the next ones while we read the answers. timeout: seconds each of them
        may take.
        """
        waiting: deque[AsyncResult[Frame]] = deque()
        for first in range(0, len(commands), SENT_AHEAD):
            some = commands[first : first + SENT_AHEAD]
            for command in some:
                self._refuse_line_breaks(command)
            with self._until_late(timeout):
                waiting += self._write([f"api {command}" for command in some])
            while len(waiting) > SENT_AHEAD:
                yield self._answer(waiting.popleft(), timeout)
        while waiting:
            yield self._answer(waiting.popleft(), timeout)

    def _answer(self, answer: AsyncResult[Frame], timeout: float) -> bytes:
        if not answer.ready():
            with self._until_late(timeout):
                answer.wait()
        return cast(Frame, answer.get()).body

    def bgapi(self, command: str, timeout: float) -> str:
        """Run a command in FreeSWITCH's background; return its result within `timeout` seconds."""
        self._refuse_line_breaks(command)
        job = str(uuid4())
        result: AsyncResult[str] = AsyncResult()
        self._jobs[job] = result

        try:
            reply = self.send(f"bgapi {command}\nJob-UUID: {job}")
            answer = reply.headers.get("Reply-Text", "")
            if not answer.startswith("+OK"):
                raise LinkError(f"FreeSWITCH refused a background command: {answer[:80]}")
            return cast(str, result.get(timeout=timeout))
        except gevent.Timeout:
            raise LinkTimeout(
                f"FreeSWITCH did not finish a background command in {timeout:g} s."
            ) from None
        finally:
            self._jobs.pop(job, None)

    @staticmethod
    def _refuse_line_breaks(command: str) -> None:
        if "\n" in command:
            raise UnsafeCommand("A command with line breaks inside was not sent to FreeSWITCH.")

    def subscribe(self, event_names: list[str]) -> None:
        """Ask for these events, and for what the link needs. Raises LinkError if refused."""
        names = " ".join(["BACKGROUND_JOB", "HEARTBEAT", *event_names])
        reply = self.send(f"event plain {names}").headers.get("Reply-Text", "")
        if not reply.startswith("+OK"):
            raise LinkError(
                f"FreeSWITCH at {self.server.name} refused the event subscription: {reply[:80]}"
            )

    def receive_events(self) -> None:
        """Read until the connection ends, then mark the link down, whatever came.

        Faults b, c and d.
        """
        framer, handled, reason = Framer(), 0, "FreeSWITCH closed the connection"
        try:
            while data := self.sock.recv(65536):
                self._heard_at = monotonic()
                for frame in framer.feed(data):
                    self.handle_event(frame)
                    handled += 1
                    if handled % FRAMES_IN_A_ROW == 0:
                        gevent.idle(HIGHEST_PRIORITY)
        except OSError as error:
            reason = f"connection lost ({error.strerror or error})"
        except FrameError as error:
            reason = f"what arrived is not what an event socket sends ({error})"
        finally:
            self._mark_down(reason)

    def _watch(self) -> None:
        """Ask a peer that is silent for a sign of life, and end the connection if none comes."""
        asks_after = self._silence * ASK_AFTER_SHARE
        while not self.down.is_set():
            asked = monotonic()
            if asked < self._heard_at + asks_after:
                gevent.sleep(self._heard_at + asks_after - asked)
                continue

            with suppress(LinkError):  # whatever comes is a sign of life
                self.api(SIGN_OF_LIFE, self._silence - asks_after)
            if self._heard_at < asked:
                self._mark_down(f"nothing was heard for {self._silence:g} s")

    def handle_event(self, frame: Frame) -> None:
        """Handle one frame; ignore kinds nobody asked for (log/data, text/event-json)."""
        kind = frame.kind
        if kind == "text/event-plain":
            self._take_event(SwitchEvent(frame.lines))
        elif kind in ("command/reply", "api/response"):
            # replies carry no name: they come in the order of their commands
            if self._pending:
                self._pending.popleft().set(frame)
            else:
                log.warning("esl_unexpected_reply", server=self.server.name)
        elif kind == "auth/request":
            self._auth_request_event.set()
        elif kind == "text/rude-rejection":
            self._rejected = True
            self._mark_down("FreeSWITCH refuses our address")
        elif kind == "text/disconnect-notice":
            self.reason = "FreeSWITCH is shutting down or has ended the connection"

    def _take_event(self, event: SwitchEvent) -> None:
        if event.name == "BACKGROUND_JOB":
            if waiting := self._jobs.get(event.get("Job-UUID")):
                waiting.set(event.body.strip())
        else:
            self._on_event(event)

    def _mark_down(self, reason: str) -> None:
        """Record the end once and answer all who wait with LinkDown (fault e)."""
        if self.down.is_set():
            return
        # a disconnect notice has given a better reason before the stream ended
        if self.reason == "closed":
            self.reason = reason

        self.connected = False
        self._run = False
        gone = LinkDown(f"The connection to FreeSWITCH at {self.server.name} ended: {self.reason}.")
        for answer in self._pending:
            answer.set_exception(gone)
        for result in self._jobs.values():
            result.set_exception(gone)

        self._pending.clear()

        self.down.set()
        # `_open` waits for this one
        self._auth_request_event.set()

    def stop(self) -> None:
        """Close the connection without waiting for anything."""
        self._mark_down("closed by us")
        for greenlet in (self._receive_events_greenlet, self._watching):
            if greenlet is not None and greenlet is not gevent.getcurrent():
                greenlet.kill(block=False)
        if hasattr(self, "sock"):
            self.sock.close()


def live_channels(connection: Connection) -> list[dict[str, str]] | None:
    """Return FreeSWITCH's own account of its channels, None if it cannot give one.

    Each live channel is given as its headers, one that hangs up as `hanging_up`. Raises LinkError.
    """
    # None and no error: calls are followed even from a FreeSWITCH that cannot list them
    try:
        shown = json.loads(connection.api("show channels as json", timeout=ACCOUNT_TIMEOUT))
        uuids = [str(row["uuid"]) for row in shown.get("rows", [])]
    except (LinkTimeout, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        log.error("freeswitch_channels_unreadable", server=connection.server.name)
        return None

    # of one that cannot be asked about no more is known than that it is live
    dumps = {uuid: {"Unique-ID": uuid} for uuid in filter(is_uuid, uuids)}
    asked = [uuid for uuid in dumps if _SAFE_IN_ARGUMENTS.issuperset(uuid)]
    answers = connection.api_each([f"uuid_dump {uuid} json" for uuid in asked])
    for uuid, text in zip(asked, answers, strict=True):
        try:
            dumps[uuid] = read_dump(text)
        except (ValueError, AttributeError, RecursionError):  # "-ERR No such channel!"
            dumps[uuid] = hanging_up(uuid)

    return list(dumps.values())


def core_of(connection: Connection) -> str:
    """Return the Core-UUID, "" if FreeSWITCH does not give it. Raises LinkError.

    FreeSWITCH makes a new one at each start.
    """
    try:
        found = connection.api("global_getvar core_uuid", timeout=ACCOUNT_TIMEOUT).strip()
    except LinkTimeout:
        return ""
    return found if _CORE.fullmatch(found) else ""
