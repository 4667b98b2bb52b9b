"""Carries notices from the outbox to Planfix: many at once, each in its turn.

docs/delivery-rules.md, rules 3 to 6, 8 and 9.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import gevent
import structlog
from gevent.event import Event
from gevent.pool import Pool

from ..calls.model import Kind, Notice, Status
from ..errors import StoreError, TransportError
from ..outbox.answers import KeptAnswers
from ..outbox.cleanup import TOO_LATE, Upkeep
from ..outbox.history import Archive
from ..outbox.leases import Leases
from ..outbox.queue import Queue
from ..outbox.records import Entry, Outcome, Queued
from ..outbox.retry import until_store_answers
from ..outbox.schedule import is_hopeless, is_stale, plan_pause
from ..outbox.schema import State
from ..outbox.store import Store
from .api import PlanfixApi
from .forms import LinkMaker, build_form

log = structlog.get_logger(__name__)

IDLE = 2.5
"""Seconds until the store is looked at though nobody called: a dead courier's lease may end."""

GATHER = 0.005
"""Seconds between two looks at the store: under load, what happens meanwhile shares a transaction.
"""

LOOK_AGAIN = 0.5
"""Seconds until a recording that is still written, or converted, is looked at again."""

SKIP_EVERY = 1.0
"""Seconds between two looks for call windows that come too late."""

OnDelivered = Callable[[Notice, float], None]
"""Hears of a notice that Planfix took, and how many seconds after it was written."""

SPELLINGS = ("Canceled", "Cancelled")


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How notices are sent.

    concurrency: requests under way at once. popup_ttl: seconds after which a call window comes too
    late, 0 never. canceled: "auto", "Canceled" or "Cancelled". shadow: send nothing.
    """

    concurrency: int = 16
    popup_ttl: float = 60.0
    canceled: str = "auto"
    shadow: bool = False


class Courier:
    """Sends what is due.

    now: the clock, seconds since 1970. is_ready: tells whether a recording may be linked yet.
    has_jumped: tells whether that clock has jumped since it was last asked. looked_at: when it last
    began to look for what is due (monotonic seconds).
    """

    def __init__(
        self,
        store: Store,
        client: PlanfixApi,
        link: LinkMaker,
        settings: DeliverySettings,
        is_ready: Callable[[str], bool],
        now: Callable[[], float] = time.time,
        on_delivered: OnDelivered | None = None,
        has_jumped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._queue = Queue(store)
        self.leases = Leases(self._queue)
        self._upkeep = Upkeep(store)
        self._kept = KeptAnswers(store)
        self._client = client
        self._link = link
        self._settings = settings
        self._now = now
        self._has_jumped = has_jumped
        self._is_ready = is_ready
        self._on_delivered = on_delivered
        self._pool = Pool(settings.concurrency)
        self._outcomes: list[Outcome] = []
        self._upcoming: float | None = None
        self._skipped_at = 0.0
        self.looked_at = time.monotonic()
        self._called = Event()
        self._stopping = False
        self._spelling = settings.canceled if settings.canceled != "auto" else ""

    def call(self, _: object = None) -> None:
        """There is something new to send, or room to send it in."""
        self._called.set()

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping = True
        self._called.set()

    def finish(self, seconds: float) -> int:
        """Wait until the requests under way are answered and their outcomes written down.

        Return how many outcomes could not be: they are kept in a file until the next start.
        """
        with suppress(gevent.Timeout), gevent.Timeout(seconds):
            self._pool.join()
            if self._outcomes:
                until_store_answers(lambda: self._turn(0))
        if self._outcomes:
            self._keep_outcomes()
        return len(self._outcomes)

    def _keep_outcomes(self) -> None:
        about = {
            "count": len(self._outcomes),
            "callids": ",".join(outcome.queued.notice.callid for outcome in self._outcomes),
        }
        try:
            file = self._kept.keep(self._outcomes)
        except OSError as error:
            hint = "the store did not answer; these requests are sent once more"
            log.error("answers_lost", **about, problem=str(error), hint=hint)
            return
        hint = "the store did not answer; the next start takes them up"
        log.error("answers_kept", **about, file=str(file), hint=hint)

    # what runs at the same time

    def run(self) -> None:
        """Send until `stop`; a store that does not answer is tried again.

        What Planfix answered before the last end comes first.
        """
        until_store_answers(self._kept.take_up)
        while not self._stopping:
            self._called.clear()
            self.looked_at = time.monotonic()
            try:
                self.step()
                wait = 0.0 if self._outcomes else self._until_next()
            except StoreError as error:
                log.error("store_unavailable", problem=str(error))
                wait = 1.0
            gevent.sleep(GATHER)
            if wait and not self._stopping:
                self._called.wait(wait)

    # one step

    def step(self) -> bool:
        """Write down outcomes and start whatever may be sent; tell if there was anything."""
        settled = bool(self._outcomes)
        self._skip_stale(self._now())
        claimed = self._turn(self._pool.free_count())
        for queued in claimed:
            if is_stale(queued.notice, queued.created, self._now(), self._settings.popup_ttl):
                self._outcomes.append(Outcome(queued, State.SKIPPED, TOO_LATE, tried=False))
            elif queued.id not in self.leases.held:
                self.leases.held.add(queued.id)
                # called once the pool counts it as free: sooner, a step would see no room and
                # nobody would call again
                self._pool.spawn(self._deliver, queued).rawlink(self.call)
        return settled or bool(claimed)

    def _skip_stale(self, now: float) -> None:
        """Skip the windows that come too late, also those that wait; at most once a second."""
        if 0 <= now - self._skipped_at < SKIP_EVERY:
            return
        self._skipped_at = now

        if self._has_jumped():
            log.warning("clock_jumped")
            now = self._now()
            self._upkeep.try_all_now(now)
        self._upkeep.fix_dates(now)

        popup_ttl = self._settings.popup_ttl
        skipped = self._upkeep.skip_stale(now, popup_ttl) if popup_ttl else 0
        if skipped:
            log.warning("skipped", notices=skipped, reason="call windows older than POPUP_TTL")

    def _turn(self, most: int) -> list[Queued]:
        """Settle and claim in one transaction: under load many answers share it."""
        outcomes, self._outcomes = self._outcomes, []
        try:
            turn = self._queue.settle_and_claim(outcomes, most, self._now(), self.leases.owner)
        except BaseException:
            # to settle twice is harmless; an outcome that is lost means a request sent twice
            self._outcomes = [*outcomes, *self._outcomes]
            raise
        self.leases.held.difference_update(outcome.queued.id for outcome in outcomes)
        self._upcoming = turn.upcoming
        if turn.token_accepted:
            log.info("planfix_token_known_again")
        return turn.claimed

    def _until_next(self) -> float:
        if self._upcoming is None:
            return IDLE
        return min(max(self._upcoming - self._now(), 0.05), IDLE)

    def _deliver(self, queued: Queued) -> None:
        outcome = None
        try:
            outcome = self._outcome(queued)
        finally:
            # without an outcome the notice is no longer ours: it is due later, or its lease ends
            # and whoever finds it then sends it
            if outcome is not None:
                self._outcomes.append(outcome)
            else:
                self.leases.held.discard(queued.id)

    def _outcome(self, queued: Queued) -> Outcome | None:
        """Send a notice; return what became of it, None if it is to be tried later."""
        notice = queued.notice
        if notice.kind is Kind.RECORD and not self._is_ready(notice.recording):
            until_store_answers(
                lambda: self._queue.postpone(queued, self._now() + LOOK_AGAIN, self.leases.owner)
            )
            return None
        if self._settings.shadow:
            return Outcome(queued, State.SHADOW, tried=False)
        try:
            self._send(queued)
        except TransportError as error:
            problem = error
            return until_store_answers(lambda: self._on_refusal(queued, problem))
        if self._on_delivered is not None:
            self._on_delivered(notice, self._now() - queued.created)
        log.info(
            "delivered",
            callid=notice.callid,
            ext=notice.ext,
            kind=notice.kind.value,
            status=notice.status,
        )
        return Outcome(queued, State.DONE)

    def _send(self, queued: Queued) -> None:
        """Send one request; learn how this Planfix spells Canceled.

        docs/facts/planfix.md, "Canceled or Cancelled".
        """
        notice = queued.notice
        if notice.status is not Status.CANCELED or self._settings.canceled != "auto":
            self._client.post(build_form(notice, self._link, self._spelling or SPELLINGS[0]))
            return
        known = self._spelling or until_store_answers(
            partial(self._store.facts.get, "canceled_spelling")
        )
        for spelling in (known,) if known else SPELLINGS:
            try:
                self._client.post(build_form(notice, self._link, spelling))
            except TransportError as error:
                if not error.permanent or spelling == (known or SPELLINGS[-1]):
                    raise
                continue
            self._spelling = known or until_store_answers(
                partial(self._store.facts.set_if_absent, "canceled_spelling", spelling)
            )
            return

    def _keep(self, queued: Queued, problem: str, now: float) -> None:
        """Write a try that failed into the journal; an outage of days is written once."""
        if problem != queued.answer:
            notice = queued.notice
            what = f"try {queued.attempts + 1} to send {notice.what}: {problem}"
            try:
                Archive(self._store).write_down(Entry(now, what, notice.callid, notice.ext))
            except StoreError as error:
                if not error.permanent:
                    raise
                log.error("not_written", callid=notice.callid, what="a try", problem=str(error))

    def _on_refusal(self, queued: Queued, problem: TransportError) -> Outcome | None:
        """Return what became of a notice Planfix did not take.

        None if it is to be tried again, which is noted.
        """
        now, notice = self._now(), queued.notice
        self._keep(queued, str(problem), now)
        about = {
            "callid": notice.callid,
            "ext": notice.ext,
            "kind": notice.kind.value,
            "problem": str(problem),
        }
        if problem.unauthorized:
            if self._queue.postpone_unauthorized(queued, now, self.leases.owner):
                log.error(
                    "planfix_token_unknown",
                    hint="compare PLANFIX_TOKEN with the token in Planfix's settings",
                )
            return None
        if (
            is_stale(notice, queued.created, now, self._settings.popup_ttl)
            and not problem.permanent
        ):
            return Outcome(queued, State.SKIPPED, TOO_LATE)
        if problem.permanent or is_hopeless(queued.created, now):
            log.error("notice_rejected", **about)
            return Outcome(queued, State.REJECTED, str(problem))
        wait = plan_pause(queued.attempts + 1, random.random())  # noqa: S311 - jitter
        hold = now + problem.retry_after if problem.retry_after else 0
        self._queue.try_again(queued, now + wait, str(problem), hold, self.leases.owner)
        log.warning("not_delivered", again_in=round(wait, 1), **about)
        return None
