"""event -> tracker -> outbox for one FreeSWITCH: what is said and the state it came from share a
transaction."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import gevent
import structlog
from gevent.queue import Empty, Queue

from .calls import snapshot
from .calls.model import Notice, Rules
from .calls.reconcile import Dump, missed
from .calls.tracker import Tracker
from .freeswitch.events import SwitchEvent
from .outbox.patience import insist
from .outbox.store import Store
from .scribe import Scribe

log = structlog.get_logger(__name__)
T = TypeVar("T")

Channels = Callable[[], list[dict[str, str]] | None]
"""Asks FreeSWITCH for its live channels; None if it cannot tell."""

MOST_WAITING = 10_000
"""Events that wait in memory. Beyond that reading stops, and FreeSWITCH itself keeps up to 100,000
for us."""

BATCH = 200
"""Events that may share a commit."""


@dataclass(frozen=True, slots=True)
class Resync:
    """The link is back.

    states: the open calls as the store knew them before FreeSWITCH was asked. channels: what it
    then said is live, None if unknown. heard: the events that arrived meanwhile.
    """

    states: list[str]
    channels: list[Dump] | None
    heard: list[SwitchEvent]


class Pipeline:
    """Takes the events of one FreeSWITCH; `on_saved` is called after each commit that holds
    notices.

    said: hears of each notice once it is committed. lag: seconds between what happened last and our
    taking it in. overflows: how often the queue was full, so that reading had to wait and
    FreeSWITCH may have dropped events.
    """

    def __init__(
        self,
        server: str,
        rules: Rules,
        store: Store,
        on_saved: Callable[[], None],
        said: Callable[[Notice], None] | None = None,
    ) -> None:
        self.server = server
        self.tracker = Tracker(rules)
        self._scribe = Scribe()
        self.overflows = 0
        self.lag = 0.0
        self._said = said
        self._store = store
        self._on_saved = on_saved
        self._queue: Queue[SwitchEvent | Resync | None] = Queue(maxsize=MOST_WAITING)

    def put(self, event: SwitchEvent) -> None:
        """Take an event in. Waits while too many are waiting already."""
        if self._queue.full():
            self.overflows += 1
            log.error("events_wait", server=self.server, waiting=MOST_WAITING)
        self._queue.put(event)

    def resync(self, ask: Channels, let_through: Callable[[], list[SwitchEvent]]) -> None:
        """Take FreeSWITCH's account of its channels; nothing may come between it and the events
        that follow.

        The store is read first: a call it knows of and FreeSWITCH does not is over, never the other
        way round.
        """
        states = self._insist(lambda: self._store.open_calls(self.server))
        channels = ask()
        while self._queue.full():
            gevent.sleep(0.05)
        self._queue.put(Resync(states, None if channels is None else list(channels), let_through()))

    def stop(self) -> None:
        """End `run` once everything that was put before is committed."""
        self._queue.put(None)

    def run(self) -> None:
        """Work until `stop`."""
        while self.step():
            pass

    def step(self) -> bool:
        """Wait for events, feed the tracker, commit what it says; return False once `stop` was
        called."""
        batch = [self._queue.get()]
        while len(batch) < BATCH:
            try:
                batch.append(self._queue.get_nowait())
            except Empty:
                break
        said: list[Notice] = []
        for item in batch:
            if isinstance(item, Resync):
                self._commit(said)
                said = self._feed([*self._missed(item), *item.heard])
            elif item is not None:
                said += self._feed([item])
        self._commit(said)
        if isinstance(batch[-1], SwitchEvent):
            self.lag = max(time.time() - batch[-1].at / 1_000_000, 0.0)
        return None not in batch

    def _feed(self, events: list[SwitchEvent]) -> list[Notice]:
        said = []
        for event in events:
            said += self.tracker.feed(event)
            self._scribe.hear(event, self.tracker)
        return said

    def _reload(self, states: list[str]) -> None:
        """Take over what is known of the open calls: another worker, or we before a restart, may
        have heard more."""
        for state in states:
            try:
                snapshot.restore(self.tracker, state)
            except ValueError:
                log.error("open_call_unreadable", server=self.server)
        for callid in self._insist(lambda: self._store.closed(self.tracker.calls)):
            del self.tracker.calls[callid]
            self._scribe.close(callid, self.tracker)

    def _missed(self, item: Resync) -> list[SwitchEvent]:
        self._reload(item.states)
        if item.channels is None:
            return []
        events = missed(self.tracker, item.channels, item.heard)
        log.info("reconciled", server=self.server, channels=len(item.channels), missed=len(events))
        return events

    def _commit(self, said: list[Notice]) -> None:
        changed, self.tracker.changed = self.tracker.changed, set()
        calls = {callid: snapshot.dump(self.tracker, callid) for callid in sorted(changed)}
        if not said and not calls:
            return
        over = [callid for callid, state in calls.items() if state is None]
        closed = {callid: self._scribe.close(callid, self.tracker) for callid in over}
        events = {callid: packed for callid, packed in closed.items() if packed}
        self._insist(lambda: self._store.save(said, calls, self.server, time.time(), events))
        for notice in said:
            log.info(
                "said",
                callid=notice.callid,
                ext=notice.ext,
                kind=notice.kind.value,
                status=notice.status,
            )
            if self._said is not None:
                self._said(notice)
        if said:
            self._on_saved()

    def _insist(self, ask: Callable[[], T]) -> T:
        """Ask the store until it answers; events wait meanwhile."""
        return insist(ask, lambda: {"server": self.server, "waiting": self._queue.qsize()})
