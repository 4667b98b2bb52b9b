"""The link to one FreeSWITCH: a connection that is made anew whenever it ends."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import gevent
import structlog

from ..errors import LinkError
from .connection import SILENCE, Connection, Server, core_of, live_channels
from .events import SwitchEvent

log = structlog.get_logger(__name__)

FIRST_RECONNECT_PAUSE = 0.5
LONGEST_RECONNECT_PAUSE = 15.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Gap:
    """The time before a new connection, in which nobody listened.

    core: FreeSWITCH's Core-UUID, "" if unknown. live_channels: asks FreeSWITCH for its channels;
    None if it cannot tell. release: returns the events that have come since the connection is up;
    later ones go to the follower from then on.
    """

    core: str
    live_channels: Callable[[], Sequence[Mapping[str, str]] | None]
    release: Callable[[], list[SwitchEvent]]


class Follower(Protocol):
    """The part that follows a FreeSWITCH through a link."""

    def on_event(self, event: SwitchEvent) -> None:
        """Take an event. The link reads no further until this returns."""

    def on_reconnect(self, gap: Gap) -> None:
        """Find out what was missed; called once per connection, before its first event."""

    def on_end(self, held: list[SwitchEvent]) -> None:
        """Take the events that were held when the link was ended for good."""


class NoFollower:
    """Ignores all events: the link is only used to dial."""

    def on_event(self, event: SwitchEvent) -> None:
        """Ignore the event."""

    def on_reconnect(self, gap: Gap) -> None:
        """Let events through, to be ignored."""
        gap.release()

    def on_end(self, held: list[SwitchEvent]) -> None:
        """Ignore the events."""


class Link:
    """Keeps a connection to one FreeSWITCH up for ever.

    connection: the one over which FreeSWITCH is heard and takes commands, None if there is none.
    is_caught_up: what was missed before it is known, and its events are passed on.
    ups: how often it came up.
    """

    def __init__(
        self,
        server: Server,
        event_names: list[str],
        follower: Follower,
        silence: float = SILENCE,
    ) -> None:
        self.server = server
        self.connection: Connection | None = None
        self.is_caught_up = False
        self.ups = 0
        self._names = event_names
        self._follower = follower
        self._silence = silence
        self._held: list[SwitchEvent] | None = []

    def _take(self, event: SwitchEvent) -> None:
        """Pass an event on, or hold it while FreeSWITCH is asked what was missed."""
        if self._held is None:
            self._follower.on_event(event)
        else:
            self._held.append(event)

    def _release(self) -> list[SwitchEvent]:
        held, self._held = self._held or [], None
        return held

    def run(self) -> None:
        """Connect, follow and reconnect, until the greenlet is killed."""
        try:
            self._keep_linked()
        except gevent.GreenletExit:
            self._follower.on_end(self._release())
            raise

    def _keep_linked(self) -> None:
        """Connect, follow and reconnect: after 0.5 s at first, 15 s at most, with jitter."""
        pause, last_problem = FIRST_RECONNECT_PAUSE, ""
        while True:
            # events that the last connection held and nobody has taken yet stay
            if self._held is None:
                self._held = []

            # a new object: the same one cannot connect again (fault k)
            connection = Connection(self.server, self._take, silence=self._silence)
            try:
                connection.connect()
                connection.subscribe(self._names)
                connection.core = core_of(connection)
                # its events are held, and commands need not wait: of 20,000 channels FreeSWITCH
                # tells in a second
                self.connection = connection
                gap = Gap(connection.core, partial(live_channels, connection), self._release)
                self._follower.on_reconnect(gap)
            except LinkError as error:
                self._leave(connection)
                # a FreeSWITCH that is down for long fills no log
                if (problem := str(error)) != last_problem:
                    last_problem = problem
                    log.error("freeswitch_unreachable", server=self.server.name, problem=problem)
            except BaseException:  # else it would go on and give events beside the next one
                self._leave(connection)
                raise
            else:
                pause, last_problem = FIRST_RECONNECT_PAUSE, ""
                self._follow(connection)

            gevent.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 2, LONGEST_RECONNECT_PAUSE)

    def _follow(self, connection: Connection) -> None:
        self.ups += 1
        log.info("freeswitch_linked", server=self.server.name)
        self.is_caught_up = True
        try:
            connection.down.wait()
        finally:
            self._leave(connection)

        log.warning("freeswitch_link_lost", server=self.server.name, reason=connection.reason)

    def _leave(self, connection: Connection) -> None:
        self.connection, self.is_caught_up = None, False
        connection.stop()
