"""Carries notices from the outbox to Planfix: many at once, each in its turn (delivery-rules.md, 3, 4 and 6)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import gevent
import structlog
from gevent.event import Event
from gevent.pool import Pool

from ..errors import StoreError, TransportError
from ..outbox.schedule import is_hopeless, pause
from ..outbox.store import Queued, Store
from .client import Client
from .messages import LinkMaker, form

log = structlog.get_logger(__name__)

IDLE = 5.0
"""Seconds after which the store is looked at again even if nobody called."""


class Courier:
    """Sends what is due. now: the clock, seconds since 1970."""

    def __init__(
        self, store: Store, client: Client, link: LinkMaker, concurrency: int, now: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._client = client
        self._link = link
        self._now = now
        self._pool = Pool(concurrency)
        self._called = Event()
        self._stopping = False

    def call(self) -> None:
        """There is something new to send."""
        self._called.set()

    def run(self) -> None:
        """Send until `stop`; a store that does not answer is tried again."""
        while not self._stopping:
            self._called.clear()
            try:
                found = self.step()
                wait = 0.0 if found else self._until_next()
            except StoreError as error:
                log.error("store_unavailable", problem=str(error))
                wait = 1.0
            if wait and not self._stopping:
                self._called.wait(wait)

    def step(self) -> bool:
        """Start sending whatever may be sent now; tell whether there was anything."""
        self._pool.wait_available()
        due = self._store.claim(self._pool.free_count(), self._now())
        for queued in due:
            self._pool.spawn(self._deliver, queued)
        return bool(due)

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping = True
        self._called.set()

    def finish(self, seconds: float) -> None:
        """Wait for the requests under way."""
        self._pool.join(timeout=seconds)

    def _until_next(self) -> float:
        due = self._store.next_due()
        return IDLE if due is None else min(max(due - self._now(), 0.01), IDLE)

    def _deliver(self, queued: Queued) -> None:
        try:
            self._client.post(form(queued.notice, self._link))
        except TransportError as error:
            self._note(self._not_accepted, queued, error)
        else:
            self._note(self._accepted, queued, None)
        self.call()

    def _note(
        self, write: Callable[[Queued, TransportError | None], None], queued: Queued, error: TransportError | None
    ) -> None:
        """Write down what became of a request, however long the store takes: else it would be sent twice."""
        while True:
            try:
                write(queued, error)
                return
            except StoreError as problem:
                log.error("store_unavailable", problem=str(problem))
                gevent.sleep(1)

    def _accepted(self, queued: Queued, _: TransportError | None) -> None:
        self._store.accepted(queued)
        notice = queued.notice
        log.info("delivered", callid=notice.callid, ext=notice.ext, event=notice.kind.value, status=notice.status)

    def _not_accepted(self, queued: Queued, error: TransportError | None) -> None:
        now, notice = self._now(), queued.notice
        about = {"callid": notice.callid, "ext": notice.ext, "kind": notice.kind.value, "problem": str(error)}
        if (error is not None and error.permanent) or is_hopeless(queued.created, now):
            self._store.set_aside(queued, str(error))
            log.error("set_aside", **about)
            return
        wait = pause(queued.attempts + 1, random.random())  # noqa: S311 - jitter
        self._store.try_again(queued, now + wait, str(error))
        log.warning("not_delivered", again_in=round(wait, 1), **about)
