"""Sends notices from the outbox to Planfix: many at once, each in its order.

docs/delivery-rules.md, rules 3 to 6, 8 and 9.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import gevent
import structlog
from gevent.event import Event
from gevent.pool import Pool

from ..calls.model import Kind, Notice, Status
from ..errors import StoreError, TransportError
from ..outbox.archive import Archive
from ..outbox.claims import Claims
from ..outbox.cleanup import TOO_LATE
from ..outbox.records import Entry, Hold, Outcome, Queued
from ..outbox.retry import until_store_answers
from ..outbox.schedule import is_hopeless, is_stale, plan_pause
from ..outbox.schema import State
from ..outbox.store import Store
from ..outbox.upkeep import Upkeep
from ..recordings.files import Linkable
from .api import PlanfixApi
from .forms import UrlMaker, build_form

log = structlog.get_logger(__name__)

IDLE = 2.5
"""Seconds between two steps without a wake-up: the lease of a killed courier may have ended."""

GATHER = 0.005
"""Seconds between two steps. Under load, answers that arrive meanwhile share a transaction.

With this and statements built once, a core carried 185 calls/s instead of 151
(docs/performance.md).
"""

OnDelivered = Callable[[Notice, float], None]
"""Called with a notice that Planfix accepted, and the seconds since it was written."""

NOT_LINKED = "not linked:"
"""How the reason begins for which a recording is not linked."""

SPELLINGS = ("Canceled", "Cancelled")
"""The status in Planfix's English and Russian help, in the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How notices are sent.

    concurrency: requests under way at once (docs/delivery-rules.md, rule 6).
    popup_ttl: seconds after which a call window comes too late, 0 never (rule 5).
    canceled: "auto", "Canceled" or "Cancelled". shadow: send nothing.
    """

    concurrency: int = 16
    popup_ttl: float = 60.0
    canceled: str = "auto"
    shadow: bool = False


class Courier:
    """Sends the notices that are due.

    make_url: makes the URL of a recording. linkable: tells whether a recording may be linked yet,
    by its path and the moment when FreeSWITCH had closed it (seconds since 1970).
    now: the store's clock, seconds since 1970. has_jumped: tells whether that clock has jumped
    since the last call. has_settled: tells once, a while after a jump or the start, that no worker
    goes by the time before it. got_on_at: when the store answered a step last (monotonic seconds).
    """

    def __init__(
        self,
        store: Store,
        client: PlanfixApi,
        make_url: UrlMaker,
        settings: DeliverySettings,
        linkable: Callable[[str, float], Linkable],
        now: Callable[[], float] = time.time,
        on_delivered: OnDelivered | None = None,
        has_jumped: Callable[[], bool] = lambda: False,
        has_settled: Callable[[], bool] = lambda: False,
    ) -> None:
        upkeep = Upkeep(store, settings.popup_ttl, now, has_jumped, has_settled)
        self._store = store
        self.claims = Claims(store, upkeep, now)
        self._client = client
        self._make_url = make_url
        self._settings = settings
        self._now = now
        self._linkable = linkable
        self._on_delivered = on_delivered

        self._pool = Pool(settings.concurrency)
        self.got_on_at = time.monotonic()
        self._called = Event()
        self._stopping = False
        # "" until Planfix has accepted one of them
        self._spelling = "" if settings.canceled == "auto" else settings.canceled

    def call(self, _: object = None) -> None:
        """Wake the courier: there is something new to send, or room to send it in."""
        self._called.set()

    def stop(self) -> None:
        """Begin no new request."""
        self._stopping = True
        self._called.set()

    def finish(self, seconds: float) -> int:
        """Wait up to `seconds` for the requests under way, and write their outcomes.

        Return how many outcomes could not be written: see `Claims.keep_the_rest`.
        """
        with suppress(gevent.Timeout), gevent.Timeout(seconds):
            self._pool.join()
            if self.claims.outcomes:
                until_store_answers(lambda: self.claims.turn(0))

        return self.claims.keep_the_rest()

    # the greenlet

    def run(self) -> None:
        """Send until `stop`; a store that does not answer is tried again."""
        # before the first request: an answer kept at the last stop says that a notice was sent
        self.claims.take_up()
        while not self._stopping:
            self._called.clear()
            try:
                self.step()
                self.got_on_at = time.monotonic()
                wait = 0.0 if self.claims.outcomes else self._until_next()
            except StoreError as error:
                log.error("store_unavailable", problem=str(error))
                wait = 1.0

            gevent.sleep(GATHER)
            if wait and not self._stopping:
                self._called.wait(wait)

    # one step

    def step(self) -> bool:
        """Write outcomes and begin the requests that may be sent; tell if there was anything."""
        settled = bool(self.claims.outcomes)
        self.claims.upkeep.look()
        # before `setup` nobody knows where to send it (pairing.py)
        may_begin = self._may_send and not self._stopping
        claimed = self.claims.turn(self._pool.free_count() if may_begin else 0)
        # A stop came while the store was slow. Nobody waits for what would begin now: sixteen
        # answers came as the process ended, and were asked for again.
        if self._stopping and claimed:
            self.claims.give_back(claimed)
            return settled

        for queued in claimed:
            if is_stale(queued.notice, queued.created, self._now(), self._settings.popup_ttl):
                self.claims.end(queued, Outcome(queued, State.SKIPPED, TOO_LATE, tried=False))
            elif self.claims.hold(queued):
                # rawlink: called once the pool counts its place as free. A call from within the
                # request came too soon: if all ended at once, a step saw no room and nothing woke
                # it again for 2.5 s (docs/performance.md)
                self._pool.spawn(self._deliver, queued).rawlink(self.call)

        return settled or bool(claimed)

    @property
    def _may_send(self) -> bool:
        return self._client.has_aim or self._settings.shadow

    def _until_next(self) -> float:
        """Return the seconds to wait for the next notice that is planned."""
        upcoming = self.claims.upcoming
        if upcoming is None or not self._may_send:
            return IDLE
        return min(max(upcoming - self._now(), 0.05), IDLE)

    def _deliver(self, queued: Queued) -> None:
        """Send a notice and keep its outcome for the next step."""
        outcome = None
        try:
            outcome = self._outcome(queued)
        finally:
            self.claims.end(queued, outcome)

    def _outcome(self, queued: Queued) -> Outcome | None:
        """Send a notice; return its outcome, None if it is to be tried later."""
        notice = queued.notice

        link = Linkable()
        if notice.kind is Kind.RECORD or notice.recording:
            link = self._linkable(notice.recording, notice.at / 1_000_000)
        if notice.kind is Kind.RECORD and link.problem:
            log.warning(
                "recording_not_linked",
                callid=notice.callid,
                file=notice.recording,
                problem=link.problem,
            )
            return Outcome(queued, State.SKIPPED, f"{NOT_LINKED} {link.problem}", tried=False)

        # Planfix may download the file soon after the command, so it must be complete
        # (docs/facts/planfix.md)
        if notice.kind is Kind.RECORD and not link.is_final:
            self.claims.postpone(queued, link.wait)
            return None

        if self._settings.shadow:
            return Outcome(queued, State.SHADOW, tried=False)

        # in a COMPLETED Planfix cannot be told that a link is temporary
        is_lasting = link.is_final and not link.problem and not link.is_temporary
        has_link = bool(notice.linked_by) and is_lasting
        if notice.linked_by and not has_link:
            queued = replace(queued, notice=replace(notice, recording=""))

        try:
            self._send(queued, link.is_temporary)
        except TransportError as error:
            # Python deletes `error` at the end of the clause, the lambda needs a name that stays
            problem = error
            return until_store_answers(lambda: self._on_refusal(queued, problem))

        if self._on_delivered is not None:
            self._on_delivered(notice, self._now() - queued.created)
        log.info(
            "delivered",
            callid=notice.callid,
            phone=notice.phone,
            ext=notice.ext,
            kind=notice.kind.value,
            status=notice.status,
        )
        return Outcome(queued, State.DONE, has_link=has_link)

    def _send(self, queued: Queued, is_temporary: bool) -> None:
        """Send one request; find out how this Planfix spells Canceled.

        docs/facts/planfix.md, "Canceled or Cancelled". is_temporary: its recording is deleted soon.
        Raises TransportError.
        """
        notice = queued.notice
        if notice.status is not Status.CANCELED or self._settings.canceled != "auto":
            spelling = self._spelling or SPELLINGS[0]
            self._client.post(build_form(notice, self._make_url, spelling, is_temporary))
            return

        known = self._spelling or until_store_answers(
            partial(self._store.facts.get, "canceled_spelling")
        )
        spellings = (known,) if known else SPELLINGS
        for spelling in spellings:
            try:
                self._client.post(build_form(notice, self._make_url, spelling))
            except TransportError as error:
                # only a 400 can be about the spelling
                if not error.permanent or spelling == spellings[-1]:
                    raise
                continue

            # another worker may have found one first: all use the one in the store
            self._spelling = known or until_store_answers(
                partial(self._store.facts.set_if_absent, "canceled_spelling", spelling)
            )
            return

    def _keep(self, queued: Queued, problem: str, now: float) -> None:
        """Write a failed try into the journal, if its answer is another than before.

        So an outage of days is one line (docs/delivery-rules.md, rule 4).
        """
        if problem == queued.answer:
            return

        notice = queued.notice
        what = f"try {queued.attempts + 1} to send {notice.what}: {problem}"
        try:
            Archive(self._store).write_down(Entry(now, what, notice.callid, notice.ext))
        except StoreError as error:
            if not error.permanent:
                raise
            # a line that the database refuses must not keep the notice from being planned
            log.error("not_written", callid=notice.callid, what="a try", problem=str(error))

    def _on_refusal(self, queued: Queued, problem: TransportError) -> Outcome | None:
        """Return the outcome of a notice that Planfix did not accept, None if it is planned again.

        docs/delivery-rules.md, rules 4 and 5. Raises StoreError.
        """
        now = self._now()
        notice = queued.notice
        self._keep(queued, str(problem), now)
        about = {
            "callid": notice.callid,
            "phone": notice.phone,
            "ext": notice.ext,
            "kind": notice.kind.value,
            "problem": str(problem),
        }

        if problem.unauthorized:
            # logged once: the probe of every minute gets a 401 until the token is fixed
            if self.claims.queue.postpone_unauthorized(queued, now, self.claims.leases.owner):
                log.error(
                    "planfix_token_unknown",
                    hint="compare PLANFIX_TOKEN with the token in Planfix's settings",
                )
            return None

        # after a 400 a person decides, however late the window is (rule 4)
        is_late = is_stale(notice, queued.created, now, self._settings.popup_ttl)
        if is_late and not problem.permanent:
            return Outcome(queued, State.SKIPPED, TOO_LATE)

        if problem.permanent or is_hopeless(queued.created, now):
            log.error("notice_rejected", **about)
            return Outcome(queued, State.REJECTED, str(problem))

        wait = plan_pause(queued.attempts + 1, random.random())  # noqa: S311 - jitter
        # Retry-After stops all
        hold = Hold(now, now + problem.retry_after) if problem.retry_after else None
        self.claims.queue.try_again(
            queued, now + wait, str(problem), hold, self.claims.leases.owner
        )
        log.warning("not_delivered", again_in=round(wait, 1), **about)
        return None
