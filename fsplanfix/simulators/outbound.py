"""FreeSWITCH's side of the `socket` application, byte for byte.

Modelled on tests/wire/outbound_lookup_then_resume.jsonl.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from gevent import socket

if TYPE_CHECKING:
    from .channel import Channel

REPLY_END = b"\n\n"


class Outbound:
    """FreeSWITCH's side of one conversation with the service."""

    def __init__(self, channel: Channel, sock: socket.socket) -> None:
        self._channel = channel
        self._sock = sock
        self._connected = False
        self._resumed = False

    def run(self) -> bool:
        """Obey until the service leaves; return whether it sent `resume`."""
        data = b""
        while True:
            received = self._sock.recv(65536)
            if not received:
                return self._resumed

            data += received
            while REPLY_END in data:
                command, _, data = data.partition(REPLY_END)
                if not self._obey(command.decode("utf-8")):
                    return self._resumed

    def _reply(self, text: str) -> None:
        self._sock.sendall(f"Content-Type: command/reply\nReply-Text: {text}\n\n".encode())

    def _obey(self, command: str) -> bool:
        lines = command.split("\n")
        if not self._connected and lines[0] != "connect":
            self._channel.misbehaviour.append(f"{lines[0]!r} before connect")
            self._reply("-ERR command not found")
        elif lines[0] == "connect":
            # without a Content-Length, as FreeSWITCH sends it
            self._connected = True
            fields = {
                "Event-Name": "CHANNEL_DATA",
                **self._channel.headers(),
                "Content-Type": "command/reply",
            }
            fields |= {"Reply-Text": "+OK\n", "Socket-Mode": "async", "Control": "full"}
            text = "".join(
                f"{name}: {quote(value, safe='/:@')}\n" for name, value in fields.items()
            )
            self._sock.sendall(f"{text}\n".encode())
        elif lines[0] == "sendmsg":
            self._message(dict(line.split(": ", 1) for line in lines[1:]))
        elif lines[0] == "resume":
            self._resumed = True
            self._reply("+OK")
        elif lines[0] == "exit":
            self._reply("+OK bye")
            return False
        else:
            self._channel.misbehaviour.append(f"unknown command {lines[0]!r}")
            self._reply("-ERR command not found")

        return True

    def _message(self, fields: dict[str, str]) -> None:
        name, _, value = fields.get("execute-app-arg", "").partition("=")
        application = fields.get("execute-app-name")
        if (
            fields.get("call-command") != "execute"
            or application not in ("set", "export")
            or not name
        ):
            self._channel.misbehaviour.append(f"a message that is not understood: {fields}")
            self._reply("-ERR invalid")
            return

        self._channel.assign(f"{name}={value}", is_exported=application == "export")
        self._reply("+OK")
