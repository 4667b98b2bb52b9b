"""One client of the simulated event socket: login, commands, subscription, end.

Modelled on whole conversations with a real one.
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import gevent
from gevent import socket
from gevent.lock import BoundedSemaphore

if TYPE_CHECKING:
    from .freeswitch import Switch

GOODBYE = "Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"


def encoded(text: str) -> bytes:
    """Return text as it is sent; halves of surrogate pairs go out as they are, no UTF-8."""
    return text.encode(errors="surrogatepass")


class Session:
    """One client of the event socket.

    ended: when it was sent its last bytes (seconds since 1970), 0 while it is open.
    """

    def __init__(self, switch: Switch, sock: socket.socket) -> None:
        self.switch = switch
        self.sock = sock
        self.names: set[str] = set()
        self.mute = False
        self.authenticated = False
        self.ended = 0.0
        self._writing = BoundedSemaphore(1)

    def run(self) -> None:
        """Serve commands until the client leaves."""
        self.write("Content-Type: auth/request\n\n")
        reader = self.sock.makefile("rb")
        lines: list[str] = []
        while raw := reader.readline():
            line = raw.decode("utf-8", "replace").rstrip("\n")
            if line:
                lines.append(line)
            elif lines:
                # a command is read and not answered, as a FreeSWITCH that hangs does it
                while self.mute:
                    self.switch.wait_for_change()
                if not self.obey(lines[0], lines[1:]):
                    return
                lines = []

    def write(self, text: str) -> None:
        """Send text unless mute; a client that is gone is ignored."""
        if self.mute:
            return
        try:
            with self._writing:
                self.sock.sendall(encoded(text))
        except OSError:
            self.names = set()

    def reply(self, text: str) -> None:
        """Answer a command."""
        self.write(f"Content-Type: command/reply\nReply-Text: {text}\n\n")

    def obey(self, command: str, headers: list[str]) -> bool:
        """Carry out one command; return False if it ends the session."""
        word, _, rest = command.partition(" ")
        if word == "auth":
            return self._login(rest)
        if not self.authenticated:
            return self._goodbye("-ERR command not found")
        if word == "exit":
            return self._goodbye("+OK bye")

        if word == "event":
            self._subscribe(rest.split())
        elif word == "api":
            text = self.switch.api(rest)
            self.write(
                f"Content-Type: api/response\nContent-Length: {len(encoded(text))}\n\n{text}"
            )
        elif word == "bgapi":
            # the client may choose it (docs/facts/freeswitch.md, "Commands")
            given = [h.split(":", 1)[1].strip() for h in headers if h.startswith("Job-UUID:")]
            job = given[0] if given else str(uuid4())
            self.reply(f"+OK Job-UUID: {job}\nJob-UUID: {job}")
            gevent.spawn(self.switch.background, rest, job)
        else:
            self.reply("-ERR command not found")

        return True

    def _login(self, password: str) -> bool:
        if password != self.switch.password:
            return self._goodbye("-ERR invalid")
        self.authenticated = True
        self.reply("+OK accepted")
        return True

    def _goodbye(self, text: str) -> bool:
        self.reply(text)
        self.disconnect(GOODBYE)
        return False

    def disconnect(self, text: str) -> None:
        """Send a disconnect notice and close."""
        self.write(f"Content-Type: text/disconnect-notice\nContent-Length: {len(text)}\n\n{text}")
        self.hang_up()

    def hang_up(self) -> None:
        """Close without a notice."""
        self.ended = self.ended or time.time()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def _subscribe(self, words: list[str]) -> None:
        known = [
            word
            for word in words[1:]
            if re.fullmatch(r"[A-Z_]+|[a-z_]+::[a-z_]+", word) and "NOT" not in word
        ]
        if not words or words[0] != "plain" or not known:
            self.reply("-ERR no keywords supplied")
            return

        self.names.update(known)
        self.reply("+OK event listener enabled plain")
        self.switch.changed()
