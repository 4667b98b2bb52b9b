"""A simulated FreeSWITCH, a connection to it, and a link that reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import gevent
from gevent.event import Event

from fsplanfix.freeswitch.connection import Connection, Server
from fsplanfix.freeswitch.events import SwitchEvent
from fsplanfix.freeswitch.link import Gap, Link
from fsplanfix.simulators.freeswitch import Switch


@contextmanager
def switch(**options: Any) -> Iterator[Switch]:
    simulated = Switch(**options)
    simulated.start()
    try:
        yield simulated
    finally:
        simulated.stop()


@contextmanager
def connection(
    simulated: Switch, silence: float = 45.0
) -> Iterator[tuple[Connection, list[SwitchEvent]]]:
    seen: list[SwitchEvent] = []
    opened = Connection(
        Server("127.0.0.1", simulated.port, "ClueCon"), seen.append, silence=silence
    )
    opened.connect()
    try:
        yield opened, seen
    finally:
        opened.stop()


class Followed:
    """A Link in a greenlet, with what it reported."""

    def __init__(self, port: int, silence: float = 45.0) -> None:
        self.seen: list[SwitchEvent] = []
        self.ups: list[Sequence[Mapping[str, str]] | None] = []
        self.cores: list[str] = []
        self.up = Event()
        server = Server("127.0.0.1", port, "ClueCon")
        self.link = Link(server, ["CHANNEL_CREATE"], self, silence)
        self.greenlet = gevent.spawn(self.link.run)

    def on_event(self, event: SwitchEvent) -> None:
        self.seen.append(event)

    def on_reconnect(self, gap: Gap) -> None:
        self.cores.append(gap.core)
        self.ups.append(gap.live_channels())
        self.seen += gap.release()
        self.up.set()

    def on_end(self, held: list[SwitchEvent]) -> None:
        self.seen += held

    @property
    def reason(self) -> str:
        """Why the connection ended, once it has."""
        connection = self.link.connection
        assert connection is not None
        assert connection.down.wait(30)
        return connection.reason

    def stop(self) -> None:
        self.greenlet.kill()
