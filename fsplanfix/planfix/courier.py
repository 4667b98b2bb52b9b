"""Sends notices from the outbox to each account's Planfix: many at once, each in its order.

docs/delivery-rules.md, rules 3 to 6, 8 and 9.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress

import gevent
import structlog
from gevent.event import Event
from gevent.pool import Pool
from gevent.queue import SimpleQueue

from ..errors import StoreError
from ..outbox.claims import Claims
from ..outbox.cleanup import TOO_LATE
from ..outbox.records import Outcome, Places, Queued
from ..outbox.retry import until_store_answers
from ..outbox.schedule import is_stale
from ..outbox.schema import State
from .delivery import Delivery

log = structlog.get_logger(__name__)

IDLE = 2.5
"""Seconds between two steps without a wake-up: the lease of a killed courier may have ended."""

GATHER = 0.005
"""Seconds from a step to the next. Under load, answers that come meanwhile share a transaction.

With this and statements built once, a core carried 185 calls/s instead of 151
(docs/performance.md).
"""

COMPANY = 0.05
"""Seconds that answers wait for the next claim to be written with, while nothing waits for them.

A worker that is killed meanwhile leaves their requests to be sent again (README.md).
"""

MOST_AT_ONCE = 1000
"""Notices of several accounts claimed at once, where there are files for so many requests."""

SHARE = 16
"""The part of the places left that one of several accounts may have.

However many Planfixes begin to hang at once, there are places for those that work.
"""

AHEAD = 3
"""How many notices of an account are claimed for each request that may be under way.

So sending goes on while the next are claimed (docs/performance.md).
"""

NO_PLACES = Places(0)


class Courier:
    """Sends the notices that are due, of all accounts in turn.

    deliveries: how each account's notices are sent. most: notices of several accounts that are
    claimed at once; those of one are limited by its settings. got_on_at: when the store answered a
    step last (monotonic seconds).

    Where there are several accounts, one whose Planfix does not accept what it is sent has one
    request under way until it does: the others need the places.
    """

    def __init__(
        self, claims: Claims, deliveries: Mapping[str, Delivery], most: int = MOST_AT_ONCE
    ) -> None:
        self.claims = claims
        self.got_on_at = time.monotonic()
        self._most = most
        self._senders = Pool()
        self._to_send: SimpleQueue[tuple[Queued, Delivery]] = SimpleQueue()
        self._under_way: Counter[str] = Counter()
        self._at_rest = Event()
        self._at_rest.set()
        # claimed, and sent as soon as another request of the account ends
        self._ready: dict[str, deque[Queued]] = {}
        self._called = Event()
        self._is_writing_soon = False
        self._stopping = False
        self.serve(deliveries)

    def serve(self, deliveries: Mapping[str, Delivery]) -> None:
        """Send for these accounts from now on; requests under way are finished."""
        self._deliveries = dict(deliveries)
        settings = {account: it.settings for account, it in deliveries.items()}
        self.claims.upkeep.popup_ttls = {name: it.popup_ttl for name, it in settings.items()}
        claimed = {name: it.concurrency * AHEAD for name, it in settings.items()}
        self._each = max(claimed.values())
        self._fewer = {name: count for name, count in claimed.items() if count < self._each}
        self._troubled: set[str] = set()
        # without an address to send to until `setup` comes (pairing.py)
        self._waiting = {name for name, it in deliveries.items() if not it.may_send}
        # in the store, and not in our settings
        self._strange: set[str] = set()

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
            self._give_back(*self._ready)
            self.join()
            if self.claims.outcomes:
                until_store_answers(lambda: self.claims.turn(NO_PLACES))

        return self.claims.keep_the_rest()

    def join(self) -> None:
        """Wait until no request is under way."""
        self._at_rest.wait()

    # the greenlet

    def run(self) -> None:
        """Send until `stop`; a store that does not answer is tried again."""
        # before the first request: an answer kept at the last stop says that a notice was sent
        self.claims.take_up()
        for account in until_store_answers(self.claims.queue.accounts) - self._deliveries.keys():
            self._leave(account)
        while not self._stopping:
            self._called.clear()
            try:
                self.step()
                self.got_on_at = time.monotonic()
                wait = self._until_next()
            except StoreError as error:
                log.error("store_unavailable", problem=str(error))
                wait = 1.0

            soonest = time.monotonic() + GATHER
            if not self._stopping:
                self._called.wait(wait)
            if (left := soonest - time.monotonic()) > 0:
                gevent.sleep(left)

    # one step

    def step(self) -> bool:
        """Write outcomes and begin the requests that may be sent; tell if there was anything."""
        settled = bool(self.claims.outcomes)
        self.claims.upkeep.look()
        claimed = self.claims.turn(NO_PLACES if self._stopping else self._places())
        # A stop came while the store was slow. Nobody waits for what would begin now: sixteen
        # answers came as the process ended, and were asked for again.
        if self._stopping and claimed:
            self.claims.give_back(claimed)
            return settled

        for queued in claimed:
            self._take(queued)
        return settled or bool(claimed)

    def _places(self) -> Places:
        """Return how many notices of each account may be sent now."""
        self._waiting = {name for name in self._waiting if not self._deliveries[name].may_send}
        is_one = len(self._deliveries) == 1
        in_hand = self._under_way.total() + sum(map(len, self._ready.values()))
        left = max(self._most - in_hand, 0)
        each = self._each if is_one else min(self._each, max(left // SHARE, 1))

        others = {} if is_one else {**self._fewer, **dict.fromkeys(self._troubled, 1)}
        for account, under_way in self._under_way.items():
            count = under_way + len(self._ready.get(account, ()))
            others[account] = max(min(others.get(account, each), each) - count, 0)
        others |= dict.fromkeys([*self._waiting, *self._strange], 0)
        if is_one:
            (only,) = self._deliveries
            return Places(others.get(only, each), only=only)

        # none may have more than `each` (see due.py)
        others = {account: min(places, each) for account, places in others.items()}
        return Places(each, others, only="", in_all=left)

    def _take(self, queued: Queued) -> None:
        """Send a notice that was claimed, now or as soon as its account has a place."""
        account = queued.notice.account
        if account not in self._deliveries:
            self._leave(account)
            self.claims.give_back([queued])
        elif self.claims.hold(queued):
            self._ready.setdefault(account, deque()).append(queued)
            self._begin(account)

    def _begin(self, account: str) -> None:
        """Begin to send what is ready of an account, as far as there are places."""
        delivery, ready = self._deliveries.get(account), self._ready.get(account)
        if not ready:
            return
        if delivery is None:
            gevent.spawn(self._give_back, account)
            return

        is_slowed = account in self._troubled and len(self._deliveries) > 1
        places = 1 if is_slowed else delivery.settings.concurrency
        while ready and self._under_way[account] < places:
            self._under_way[account] += 1
            self._at_rest.clear()
            self._to_send.put((ready.popleft(), delivery))
            # those that have nothing to do wait for more: to begin a greenlet takes 11 us, as it
            # asks the system for memory (docs/performance.md)
            if self._under_way.total() > len(self._senders):
                self._senders.spawn(self._send)
        if not ready:
            del self._ready[account]

    def _give_back(self, *accounts: str) -> None:
        """Leave what is ready of some accounts to later steps."""
        ready = [queued for account in accounts for queued in self._ready.pop(account, ())]
        try:
            self.claims.give_back(ready)
        except StoreError as error:  # their leases end by themselves
            log.error("store_unavailable", problem=str(error))

    def _leave(self, account: str) -> None:
        """Send nothing of an account that is not ours."""
        self._strange.add(account)
        log.error("account_unknown", account=account, hint="its notices wait in the store")

    def _until_next(self) -> float:
        """Return the seconds to wait for the next notice that is planned."""
        upcoming = self.claims.upcoming
        if upcoming is None or len(self._waiting) == len(self._deliveries):
            return IDLE
        return min(max(upcoming - self.claims.now(), 0.05), IDLE)

    def _send(self) -> None:
        """Send one notice after the other, for ever."""
        while True:
            queued, delivery = self._to_send.get()
            try:
                self._deliver(queued, delivery)
            except Exception:  # its lease ends unrenewed: it is sent by a later step
                log.exception("sending_failed", callid=queued.notice.callid)
            except BaseException:  # killed: what waits is for another greenlet to send
                self._senders.discard(gevent.getcurrent())  # type: ignore[arg-type]
                raise
            finally:
                self._on_end(queued.notice.account)

    def _deliver(self, queued: Queued, delivery: Delivery) -> None:
        """Send a notice, unless it comes too late, and keep its outcome for the next step."""
        outcome = None
        try:
            ttl = delivery.settings.popup_ttl
            if is_stale(queued.notice, queued.created, self.claims.now(), ttl):
                outcome = Outcome(queued, State.SKIPPED, TOO_LATE, tried=False)
            # a worker that was frozen, or could not renew its leases, does not know
            elif self.claims.leases.is_sure_of(queued.id):
                outcome = delivery.deliver(queued, self.claims)
        finally:
            self.claims.end(queued, outcome)

        if delivery.was_told_to_wait():
            self._give_back(queued.notice.account)

    def _on_end(self, account: str) -> None:
        """Count a place as free, give it to what is ready, and wake the courier."""
        self._under_way[account] -= 1
        if not self._under_way[account]:
            del self._under_way[account]

        delivery = self._deliveries.get(account)
        if delivery is not None and delivery.is_troubled:
            self._troubled.add(account)
        else:
            self._troubled.discard(account)

        if not self._stopping:
            self._begin(account)
        if not self._under_way:
            self._at_rest.set()
        if self.claims.more_waits:
            self.call()
        elif not self._is_writing_soon:
            self._is_writing_soon = True
            gevent.spawn_later(COMPANY, self._write)

    def _write(self) -> None:
        """Wake the courier, unless a claim has taken along what is to be written."""
        self._is_writing_soon = False
        if self.claims.outcomes:
            self.call()
