"""What waits for a pipeline: the events of one FreeSWITCH, and its accounts of its channels."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import gevent
import structlog
from gevent.queue import Empty, Queue

from ..calls.model import MICROSECONDS
from ..calls.overlap import without_known
from ..calls.reconcile import Dump
from ..freeswitch.events import SwitchEvent
from ..freeswitch.link import Gap
from ..outbox.cores import Cores, Left
from ..outbox.retry import until_store_answers
from ..outbox.store import Store

log = structlog.get_logger(__name__)
T = TypeVar("T")

MOST_WAITING = 10_000
"""Events that wait in memory. Beyond that reading stops; FreeSWITCH itself keeps up to 100,000."""

BATCH = 200
"""Events that may share a commit."""


@dataclass(frozen=True, slots=True)
class Resync:
    """The link is back.

    core: the Core-UUID of FreeSWITCH, "" if unknown.
    left: the calls of those FreeSWITCHes that were at its address before.
    states: the open calls as the store knew them before FreeSWITCH was asked.
    alive: its last sign of life in the store (microseconds since 1970).
    channels: its live channels after that, None if unknown.
    events: the events that arrived meanwhile.
    stamp: when the channels were known (microseconds since 1970, by our own clock).
    is_last: nothing will be heard of this FreeSWITCH any more.
    """

    core: str
    left: list[Left]
    states: list[str]
    alive: int
    channels: Sequence[Dump] | None
    events: list[SwitchEvent]
    stamp: int
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """FreeSWITCH's account of its channels while the link is up.

    channels: None if it could not give one. touched: the legs that had events while FreeSWITCH was
    asked.
    """

    channels: Sequence[Dump] | None
    touched: set[str]


@dataclass(frozen=True, slots=True)
class Stop:
    """The end of the work.

    alive: a sign of life of FreeSWITCH at that moment (microseconds since 1970), 0 if it could not
    be heard.
    """

    alive: int


Item = SwitchEvent | Resync | Comparison | Stop


class Inbox:
    """The items of one FreeSWITCH, in the order in which the pipeline takes them.

    It is a link's Follower, so its methods run in the link's greenlet.

    server: its address as it is spelled.
    overflows: how often the queue was full. Reading then waits, and FreeSWITCH may drop events.
    """

    def __init__(self, server: str, store: Store, cores: Cores) -> None:
        self.server = server
        self.overflows = 0
        self._store = store
        self._cores = cores
        self._queue: Queue[Item] = Queue(maxsize=MOST_WAITING)
        self._last_event = 0, 0.0
        self._touched: set[str] | None = None
        self._unplaced: list[SwitchEvent] = []

    # what comes in

    def on_event(self, event: SwitchEvent) -> None:
        """Queue an event; wait while too many are waiting already."""
        if self._queue.full():
            self.overflows += 1
            log.error("events_wait", **self.log_fields())
        if self._touched is not None:
            self._touched.update((event.leg, event.get("Other-Leg-Unique-ID")))

        self._last_event = event.at, time.monotonic()
        self._queue.put(event)

    def on_reconnect(self, gap: Gap) -> None:
        """Queue FreeSWITCH's account of its channels, directly before the events that follow."""
        # The store is read first: a call that it holds and FreeSWITCH does not is over. The other
        # way round a call that began between the two would seem to be.
        core = gap.core
        left = self._ask(lambda: self._cores.arrive(self.server, core))
        states = self._ask(lambda: self._store.open_calls(self.server, core))
        alive = self._ask(lambda: self._store.alive(self.server, core))
        channels = gap.live_channels()

        # A put that waits would release the events first: those that arrived while it waited would
        # stand before them in the queue.
        while self._queue.full():
            gevent.sleep(0.05)

        # another worker may have stored what our link held back while the store was away
        events = without_known(gap.release(), states)
        self._queue.put(Resync(core, left, states, alive, channels, events, _now()))

    def on_end(self, held: list[SwitchEvent]) -> None:
        """Keep the events that the link held, for `left_over`."""
        self._unplaced += held

    def end_all(self, core: str) -> None:
        """Queue the end of all calls of a FreeSWITCH that no worker is linked to any more."""
        states = self._ask(lambda: self._store.open_calls(self.server, core))
        alive = self._ask(lambda: self._store.alive(self.server, core))
        self._queue.put(Resync(core, [], states, alive, [], [], _now(), is_last=True))

    def compare(self, ask: Callable[[], Sequence[Dump] | None]) -> None:
        """Queue FreeSWITCH's account of its channels, to be compared with what we know.

        See docs/call-rules.md, rule 16. Raises LinkError if the link is lost meanwhile.
        """
        touched: set[str] = set()
        self._touched = touched
        try:
            channels = ask()
        finally:
            self._touched = None

        self._queue.put(Comparison(channels, touched))

    def stop(self, is_linked: bool = False) -> None:
        """Queue the end of the work, behind everything that was queued before.

        is_linked: FreeSWITCH is linked now, which is a sign of life (docs/call-rules.md, rule 15).
        """
        # by FreeSWITCH's clock, ours may be off: its last event and the time that has passed since
        alive, received = self._last_event
        if is_linked and alive:
            alive += int((time.monotonic() - received) * MICROSECONDS)
        else:
            alive = 0

        # a put waits while the queue is full, and `stop` must not
        gevent.spawn(self._queue.put, Stop(alive))
        gevent.sleep(0)

    # what is taken out

    def next_batch(self, within: float | None = None) -> list[Item]:
        """Wait for an item; return it and those that may share a commit with it.

        within: seconds to wait, after which nothing is returned; None waits for ever.
        """
        try:
            batch = [self._queue.get(timeout=within)]
        except Empty:
            return []

        while len(batch) < BATCH and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        return batch

    def is_empty(self) -> bool:
        """Tell whether nothing waits."""
        return bool(self._queue.empty())

    def left_over(self) -> list[SwitchEvent]:
        """Take out the events that nobody has taken: at the end of the service."""
        items = []
        while not self._queue.empty():
            items.append(self._queue.get_nowait())
        return [*events_in(items), *self._unplaced]

    def log_fields(self) -> dict[str, object]:
        """Return what a line of the log says about what waits."""
        return {"server": self.server, "waiting": self._queue.qsize()}

    def _ask(self, ask: Callable[[], T]) -> T:
        return until_store_answers(ask, self.log_fields)


def is_event(item: Item) -> bool:
    """Tell whether an item is an event of FreeSWITCH's, and no account of its channels."""
    return isinstance(item, SwitchEvent)


def events_in(items: Iterable[Item]) -> list[SwitchEvent]:
    """Return the events among some items, in their order."""
    events: list[SwitchEvent] = []
    for item in items:
        if isinstance(item, SwitchEvent):
            events.append(item)
        elif isinstance(item, Resync):
            events += item.events
    return events


def _now() -> int:
    """Return microseconds since 1970."""
    return int(time.time() * MICROSECONDS)
