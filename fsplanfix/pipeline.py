"""event -> tracker -> outbox for one FreeSWITCH: what is said and the state it came from share a transaction."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent
import structlog
from gevent.queue import Empty, Queue

from .calls import snapshot
from .calls.model import Notice, Rules
from .calls.tracker import Tracker
from .errors import StoreError
from .freeswitch.events import SwitchEvent
from .outbox.store import Store

log = structlog.get_logger(__name__)

MOST_WAITING = 10_000
"""Events that wait in memory. Beyond that reading stops, and FreeSWITCH itself keeps up to 100,000 for us."""

BATCH = 200
"""Events that may share a commit."""


class Pipeline:
    """Takes the events of one FreeSWITCH; `on_saved` is called after each commit that holds notices."""

    def __init__(self, server: str, rules: Rules, store: Store, on_saved: Callable[[], None]) -> None:
        self.server = server
        self.tracker = Tracker(rules)
        self._store = store
        self._on_saved = on_saved
        self._queue: Queue[SwitchEvent | None] = Queue(maxsize=MOST_WAITING)

    def put(self, event: SwitchEvent) -> None:
        """Take an event in. Waits while too many are waiting already."""
        self._queue.put(event)

    def restore(self) -> None:
        """Load the calls that were not over when the service stopped."""
        for state in self._store.open_calls(self.server):
            try:
                snapshot.restore(self.tracker, state)
            except ValueError:
                log.error("open_call_unreadable", server=self.server)

    def stop(self) -> None:
        """End `run` once everything that was put before is committed."""
        self._queue.put(None)

    def run(self) -> None:
        """Work until `stop`."""
        while self.step():
            pass

    def step(self) -> bool:
        """Wait for events, feed the tracker, commit what it says; return False once `stop` was called."""
        batch = [self._queue.get()]
        while len(batch) < BATCH:
            try:
                batch.append(self._queue.get_nowait())
            except Empty:
                break
        self._commit([notice for event in batch if event is not None for notice in self.tracker.feed(event)])
        return None not in batch

    def _commit(self, said: list[Notice]) -> None:
        changed, self.tracker.changed = self.tracker.changed, set()
        calls = {callid: snapshot.dump(self.tracker, callid) for callid in sorted(changed)}
        if not said and not calls:
            return
        while True:
            try:
                self._store.save(said, calls, self.server, time.time())
                break
            except StoreError as error:
                log.error("store_unavailable", server=self.server, problem=str(error), waiting=self._queue.qsize())
                gevent.sleep(1)
        for notice in said:
            log.info("said", callid=notice.callid, ext=notice.ext, kind=notice.kind.value, status=notice.status)
        if said:
            self._on_saved()
