"""Carries notices from the outbox to Planfix: many at once, each in its turn (delivery-rules.md, 3 to 6, 8 and 9)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

import gevent
import structlog
from gevent.event import Event
from gevent.pool import Pool

from ..calls.model import Kind, Notice, Status
from ..errors import StoreError, TransportError
from ..outbox.archive import Archive
from ..outbox.patience import insist
from ..outbox.rows import Entry, Queued
from ..outbox.schedule import is_hopeless, is_stale, pause
from ..outbox.store import LEASE, Store
from .client import Client
from .messages import LinkMaker, form

log = structlog.get_logger(__name__)

IDLE = 5.0
"""Seconds after which the store is looked at again even if nobody called."""

LOOK_AGAIN = 0.5
"""Seconds until a recording that is still written, or converted, is looked at again."""

RENEW_EVERY = LEASE / 3
CLEAN_EVERY = 3600.0
DAY = 86400.0

Told = Callable[[Notice, float], None]
"""Hears of a notice that Planfix took, and how many seconds after it was written."""

SPELLINGS = ("Canceled", "Cancelled")


@dataclass(frozen=True, slots=True)
class Manner:
    """How notices are sent.

    concurrency: requests under way at once. popup_ttl: seconds after which a call window comes too late, 0 never.
    canceled: "auto", "Canceled" or "Cancelled". keep_days: how long delivered notices are kept. shadow: send nothing.
    """

    concurrency: int = 16
    popup_ttl: float = 60.0
    canceled: str = "auto"
    keep_days: float = 30.0
    shadow: bool = False


class Courier:
    """Sends what is due. now: the clock, seconds since 1970. ready: tells whether a recording may be linked yet."""

    def __init__(
        self,
        store: Store,
        client: Client,
        link: LinkMaker,
        manner: Manner,
        ready: Callable[[str], bool],
        now: Callable[[], float] = time.time,
        told: Told | None = None,
    ) -> None:
        self.owner = uuid4().hex
        self._store = store
        self._client = client
        self._link = link
        self._manner = manner
        self._now = now
        self._ready = ready
        self._told = told
        self._pool = Pool(manner.concurrency)
        self._under_way: set[int] = set()
        self._called = Event()
        self._stopping = False
        self._spelling = manner.canceled if manner.canceled != "auto" else ""

    def call(self) -> None:
        """There is something new to send."""
        self._called.set()

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping = True
        self._called.set()

    def finish(self, seconds: float) -> None:
        """Wait for the requests under way."""
        self._pool.join(timeout=seconds)

    # what runs at the same time

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

    def keep_leases(self) -> None:
        """Renew the leases of the requests under way, so that no other courier sends the same."""
        while not self._stopping:
            gevent.sleep(RENEW_EVERY)
            try:
                if self._under_way:
                    self._store.renew(list(self._under_way), self._now(), self.owner)
            except StoreError as error:
                log.error("store_unavailable", problem=str(error))

    def watch(self) -> None:
        """Look at the store whenever another process has written to it."""
        while not self._stopping:
            try:
                for _ in self._store.changes():
                    self.call()
            except StoreError:
                gevent.sleep(1)

    def keep_house(self) -> None:
        """Delete what was delivered long ago."""
        while not self._stopping:
            try:
                gone = self._store.clean(self._now() - self._manner.keep_days * DAY)
                log.info("cleaned", notices=gone)
            except StoreError as error:
                log.error("store_unavailable", problem=str(error))
            gevent.sleep(CLEAN_EVERY)

    # one step

    def step(self) -> bool:
        """Start sending whatever may be sent now; tell whether there was anything."""
        self._pool.wait_available()
        now = self._now()
        skipped = self._store.skip_stale(now, self._manner.popup_ttl)
        if skipped:
            log.warning("skipped", notices=skipped, reason="call windows older than POPUP_TTL")
        due = self._store.claim(self._pool.free_count(), now, self.owner)
        begun = [queued for queued in due if queued.id not in self._under_way]
        for queued in begun:
            self._under_way.add(queued.id)
            self._pool.spawn(self._deliver, queued)
        return bool(begun or skipped)

    def _until_next(self) -> float:
        now = self._now()
        due = self._store.next_due(now)
        return IDLE if due is None else min(max(due - now, 0.05), IDLE)

    def _deliver(self, queued: Queued) -> None:
        try:
            if queued.notice.kind is Kind.RECORD and not self._ready(queued.notice.recording):
                insist(lambda: self._store.postpone(queued, self._now() + LOOK_AGAIN, self.owner))
                return
            if self._manner.shadow:
                insist(lambda: self._store.only_said(queued, self._now()))
                return
            problem: TransportError | None = None
            try:
                self._send(queued)
            except TransportError as error:
                problem = error
            self._note(queued, problem)
        finally:
            self._under_way.discard(queued.id)
            self.call()

    def _send(self, queued: Queued) -> None:
        """Send one request; learn by the way how this Planfix spells Canceled (shared/planfix-facts.md)."""
        notice = queued.notice
        if notice.status is not Status.CANCELED or self._manner.canceled != "auto":
            self._client.post(form(notice, self._link, self._spelling or SPELLINGS[0]))
            return
        known = self._spelling or insist(partial(self._store.known, "canceled_spelling"))
        for spelling in (known,) if known else SPELLINGS:
            try:
                self._client.post(form(notice, self._link, spelling))
            except TransportError as error:
                if not error.permanent or spelling == (known or SPELLINGS[-1]):
                    raise
                continue
            self._spelling = insist(partial(self._store.fact, "canceled_spelling", spelling))
            return

    def _note(self, queued: Queued, problem: TransportError | None) -> None:
        """Write down what became of a request, however long the store takes: else it would be sent twice."""
        insist(lambda: self._accepted(queued) if problem is None else self._refused(queued, problem))

    def _accepted(self, queued: Queued) -> None:
        notice = queued.notice
        if self._told is not None:
            self._told(notice, self._now() - queued.created)
        if self._store.accepted(queued, self._now()):
            log.info("planfix_token_known_again")
        log.info("delivered", callid=notice.callid, ext=notice.ext, kind=notice.kind.value, status=notice.status)

    def _keep(self, queued: Queued, problem: str, now: float) -> None:
        """Write a try that failed into the journal; an outage of days is written once."""
        if problem != queued.answer:
            notice = queued.notice
            what = f"try {queued.attempts + 1} to send {notice.what}: {problem}"
            Archive(self._store).write_down(Entry(now, what, notice.callid, notice.ext))

    def _refused(self, queued: Queued, problem: TransportError) -> None:
        now, notice = self._now(), queued.notice
        self._keep(queued, str(problem), now)
        about = {"callid": notice.callid, "ext": notice.ext, "kind": notice.kind.value, "problem": str(problem)}
        if problem.unauthorized:
            if self._store.unauthorized(queued, now, self.owner):
                log.error("planfix_token_unknown", cure="compare PLANFIX_TOKEN with the token in Planfix's settings")
        elif is_stale(notice, queued.created, now, self._manner.popup_ttl) and not problem.permanent:
            self._store.try_again(queued, now, str(problem), owner=self.owner)
        elif problem.permanent or is_hopeless(queued.created, now):
            self._store.set_aside(queued, now, str(problem))
            log.error("set_aside", **about)
        else:
            wait = pause(queued.attempts + 1, random.random())  # noqa: S311 - jitter
            hold = now + problem.retry_after if problem.retry_after else 0
            self._store.try_again(queued, now + wait, str(problem), hold, self.owner)
            log.warning("not_delivered", again_in=round(wait, 1), **about)
