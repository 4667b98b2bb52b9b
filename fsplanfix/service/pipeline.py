"""Takes the events of one FreeSWITCH through the tracker into the outbox.

Notices and the state of the calls they come from share a transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path

import gevent
import structlog
from gevent.event import Event

from ..calls import snapshot
from ..calls.doubts import DOUBTS
from ..calls.event_log import BY_RECORD, EventLog
from ..calls.identity import REMEMBERED_CALLS
from ..calls.model import MICROSECONDS, Notice
from ..calls.overlap import without_known
from ..calls.tracker import Tracker
from ..calls.unclaimed import UNCLAIMED
from ..calls.whose import AnyRules
from ..errors import GivenUp
from ..freeswitch.connection import HIGHEST_PRIORITY
from ..freeswitch.events import SwitchEvent
from ..history.merge import is_unknown_end
from ..outbox.batch import Batch
from ..outbox.cores import Cores, Left
from ..outbox.facts import SET_ASIDE
from ..outbox.schedule import POPUPS
from ..outbox.store import Store
from .history import NO_RECORDS, Records
from .inbox import BATCH, Comparison, Inbox, Item, Resync, Stop, events_in, is_event
from .missed_events import MissedEvents
from .progress import Progress
from .set_aside import SetAside
from .spool import Spool

log = structlog.get_logger(__name__)

LONGEST_SILENCE = 60_000_000
"""Microseconds between signs of life of a FreeSWITCH that is linked (HEARTBEAT: every 20 s)."""

SIGN_OF_LIFE_EVERY = 1_000_000
"""Microseconds of FreeSWITCH's time after which its last sign of life is stored again."""

NOTICES_WAIT, STATES_WAIT = 0.02, 0.1
"""Seconds that a commit waits for more: with notices that are no windows, and without any.

At 20 group calls a second a call took 4 commits before (docs/performance.md).
"""

BURST, BURSTS_WAIT = 32, 0.002
"""Events at once after which more are awaited before the commit, and the seconds for the next."""

STATES_IN_A_ROW = 100
"""States that are taken over in a row, about 3 ms; then others get their turn."""

GONE_AFTER = 900.0
"""Seconds without an event after which a FreeSWITCH counts as gone; see README.md."""


class Pipeline:
    """Takes the events of one FreeSWITCH into the store, as notices and states of calls.

    on_saved: called after each commit that holds notices. on_notice: called with each notice once
    it is committed. gone_after: seconds without an event after which a FreeSWITCH counts as gone.

    server: its address as it is spelled.
    core: its Core-UUID as far as events were taken, "" if unknown.
    inbox: where events and FreeSWITCH's accounts of its channels are put.
    progress: whether it gets on.
    lag: seconds from the last event to our processing it.
    set_aside: what could not be processed.
    unknown: how many calls ended of which neither events nor records told the end.
    refused: how many rows the database refused for their content.
    in_doubt: set when FreeSWITCH should be asked for its channels at once.
    records: where the records of legs are found that ended unheard.
    """

    def __init__(
        self,
        server: str,
        rules: AnyRules,
        store: Store,
        on_saved: Callable[[], None],
        on_notice: Callable[[Notice], None] | None = None,
        gone_after: float = GONE_AFTER,
        records: Records = NO_RECORDS,
    ) -> None:
        self._cores = Cores(store, gone_after)
        self._store = store
        self._on_saved = on_saved
        self._on_notice = on_notice
        self._records = records

        self.server = server
        self.core = ""
        self.tracker = Tracker(rules)
        self.inbox = Inbox(server, store, self._cores)
        self.progress = Progress(self.inbox.log_fields)
        self.lag = 0.0
        self.set_aside = SetAside(server)
        self.unknown = 0
        self.refused = 0
        self.in_doubt = Event()

        self._insist = self.progress.insist
        self._event_log = EventLog()
        self._spool = Spool(store.beside, server)

        # signs of life
        self._is_answered = False
        self._written_alive = 0

        self._missed = MissedEvents(server, records)

        # what must not be lost: notices before their commit, their events, items not fed yet
        self._decided: list[Notice] = []
        self._unsaved: list[SwitchEvent] = []
        self._in_hand: Sequence[Item] = ()
        self._is_over = False

    def run(self) -> None:
        """Feed the events kept at the last end, then work until `stop` or `give_up`."""
        try:
            self._feed_spool()
            while self.step(gathers=True):
                pass
        except GivenUp:
            return

    def give_up(self) -> None:
        """End `run` even if the store does not answer, after the current attempt."""
        self.progress.give_up()

    def keep_the_rest(self) -> Path | None:
        """Store the events that are left, or write them to a file.

        Return that file, None if there is none. To be called when `run` has ended. Raises
        TraceError if the events are lost.
        """
        self.give_up()
        with suppress(GivenUp):
            while not self._unsaved and not self._in_hand and not self.inbox.is_empty():
                self.step()

        events = [*self._unsaved, *events_in(self._in_hand), *self.inbox.left_over()]
        if not events:
            return None

        log.error("events_not_stored", server=self.server, events=len(events))
        return self._spool.keep(events)

    def _feed_spool(self) -> None:
        """Feed the events that the store could not take before the last end."""
        # Their notices get the callids they would have had: those that another worker has stored
        # meanwhile are stored once.
        for file, events in self._spool.files():
            named = filter(None, (event.get("Core-UUID") for event in events))
            self.core = [self.core, *named][-1]
            try:
                states = self._insist(lambda: self._store.open_calls(self.server, self.core))
                self._reload(states)
                self._feed(without_known(events, states))
                self._commit()
            except GivenUp:
                raise
            except Exception:
                log.exception("spool_failed", server=self.server, file=str(file))
                self._spool.reject(file)
                continue

            self._spool.remove(file)
            log.info("spool_taken_up", server=self.server, events=len(events))
        if self.tracker.last_at:
            self._remember_past_calls(self.core)

    def _remember_past_calls(self, core: str, events: Iterable[SwitchEvent] = ()) -> None:
        """Learn which callids are taken, but for calls whose beginning is among these events."""
        begun = {event.leg for event in events if event.name == "CHANNEL_CREATE"}
        ask = partial(self._store.past_calls, self.server, REMEMBERED_CALLS, core)
        past = self._insist(ask)
        self.tracker.callids.remember(callid for callid in past if callid not in begun)

    def step(self, gathers: bool = False) -> bool:
        """Wait for events, feed the tracker and commit its notices.

        gathers: what is not urgent waits for more to share its commit with. Return False once
        `stop` was called.
        """
        self.progress.rest()
        batch = self.inbox.next_batch()
        self.progress.begin()
        begun = time.monotonic()
        while batch:
            self._take(batch)
            last = batch[-1]
            left = self._may_wait(last, since=begun) if gathers else 0
            batch = self.inbox.next_batch(left) if left > 0 else []

        self._commit()
        if isinstance(last, SwitchEvent):
            self.lag = max(time.time() - last.at / MICROSECONDS, 0.0)
        return not self._is_over

    def _may_wait(self, last: Item, since: float) -> float:
        """Return the seconds to wait for more events before the commit.

        last: taken last. since: when the first was taken, monotonic seconds.
        """
        if not isinstance(last, SwitchEvent) or len(self._unsaved) >= BATCH:
            return 0
        if any(notice.kind in POPUPS for notice in self._decided):
            return BURSTS_WAIT if len(self._unsaved) >= BURST else 0
        return since + (NOTICES_WAIT if self._decided else STATES_WAIT) - time.monotonic()

    def _take(self, batch: Sequence[Item]) -> None:
        """Feed the tracker with what came in."""
        done = 0
        for is_heard, items in groupby(batch, key=is_event):
            if is_heard:
                events = events_in(items)
                done += len(events)
                self._in_hand = batch[done:]
                self._feed(events)
                continue

            for item in items:
                self._in_hand, done = batch[done:], done + 1
                self._take_account(item)
                self._in_hand = batch[done:]
                self._feed(events_in([item]))

    def _take_account(self, item: Item) -> None:
        """Take what is no event: FreeSWITCH's account of its channels, or the end of the work."""
        if isinstance(item, Resync):
            with self._guard("resync", asks_again=True):
                self._catch_up(item)
        elif isinstance(item, Comparison):
            with self._guard("comparison"):
                self._compare(item)
        elif isinstance(item, Stop):
            # a call is heard until its last event: what was under way to us we never heard
            self._commit()
            self.tracker.last_at = max(self.tracker.last_at, item.alive)
            self._is_over = True

    @contextmanager
    def _guard(self, what: str, asks_again: bool = False) -> Iterator[None]:
        """Let an error in a piece of work cost nothing that was decided, and no later item.

        asks_again: after an error, have FreeSWITCH asked for its channels at once.
        """
        try:
            yield
        except GivenUp:
            raise
        except Exception as error:
            self._decided += self.tracker.take_said()
            self.set_aside.note(what, error)
            if asks_again:
                self._ask_at_once()

    def _feed(self, events: Sequence[SwitchEvent], is_heard: bool = True) -> None:
        """Feed the tracker. is_heard: FreeSWITCH has sent these events, none is made up."""
        self._unsaved += events
        for event in events:
            self.unknown += is_unknown_end(self.tracker, event)
            try:
                notices = self.tracker.feed(event)
                # windows of what is over are not shown (docs/delivery-rules.md, rule 5)
                by_record = not is_heard and bool(event.get(BY_RECORD))
                if by_record:
                    notices = [replace(notice, afterwards=True) for notice in notices]
                self._decided += notices
                self._event_log.keep(event, self.tracker)
            except Exception as error:
                # those that it had made before it failed
                self._decided += self.tracker.take_said()
                self._leave_out(event, error)
                # a made-up event that fails would come again with each answer, without a pause
                if is_heard:
                    self._ask_at_once()

    def _leave_out(self, event: SwitchEvent, error: Exception) -> None:
        """Set aside an event that cannot be processed.

        A call in which that happens again and again is let go: what was begun in it gets its end.
        See docs/call-rules.md, rule 16.
        """
        for callid in self.set_aside.add(event, error, self.tracker.calls_about(event)):
            self._let_go(callid)

    def _let_go(self, callid: str) -> None:
        log.error("call_let_go", server=self.server, callid=callid)
        self.tracker.forget(callid)

    def _ask_at_once(self) -> None:
        """Have FreeSWITCH asked for its channels, and believe its first answer."""
        self._missed.believes_at_once = True
        self.in_doubt.set()

    # after a time in which nobody listened

    def _reload(self, states: list[str]) -> None:
        """Take over the stored states of the open calls.

        Another worker, or this one before a restart, may have received more events.
        """
        heard_until = self._missed.heard_until
        for n, state in enumerate(states, start=1):
            # health answers and held calls do not wait for 10,000 states, 0.3 s
            if n % STATES_IN_A_ROW == 0:
                gevent.idle(HIGHEST_PRIORITY)
            try:
                known, found = self.tracker.book.legs, snapshot.read(state)
                heard = (leg.uuid for leg in found.legs if leg.uuid not in known)
                heard_until |= dict.fromkeys(heard, found.last_at)
                snapshot.put_back(self.tracker, found)
            except Exception as error:  # whatever another release may have written
                log.error("open_call_unreadable", server=self.server, problem=repr(error))
        for callid in self._insist(lambda: self._store.closed(self.tracker.calls)):
            del self.tracker.calls[callid]
            self._event_log.close(callid, self.tracker)
        there = self.tracker.book.legs
        self._missed.heard_until = {u: stamp for u, stamp in heard_until.items() if u in there}

    def _catch_up(self, item: Resync) -> None:
        """Feed events for what was missed, by FreeSWITCH's account of its channels."""
        # what follows may replace the tracker and the core that these belong to
        self._commit()
        # another FreeSWITCH is at this address now, and the one before it goes on elsewhere: its
        # calls are followed there
        is_other = item.core and self.core not in ("", item.core)
        if is_other and self._insist(lambda: self._cores.is_heard(self.core)):
            self.tracker, self._event_log = Tracker(self.tracker.rules), EventLog()
        if not self.tracker.last_at:
            self._remember_past_calls(item.core or self.core, item.events)

        for left in item.left:
            with self._guard("end of the FreeSWITCH before"):
                self._end(left)

        self.core = item.core or self.core
        self._reload(item.states)
        self.tracker.last_at = max(self.tracker.last_at, item.alive)
        alive = [item.alive, *(left.alive for left in item.left)]
        events = list[SwitchEvent]()
        if item.channels is not None:
            records, awaited = self._missed.records_of(self.tracker, item.channels, item.is_last)
            events = self._missed.after_absence(
                self.tracker, item.channels, item.events, records, awaited
            )
            channels = len(item.channels)
            log.info("reconciled", server=self.server, channels=channels, missed=len(events))

        self._feed_missed(events, item.stamp)
        self._commit()
        note, place = self._records.note_absence, (self.server, self.core)
        self._insist(partial(note, *place, max(alive), item.stamp))

    def _feed_missed(self, events: list[SwitchEvent], until: int) -> None:
        """Feed events that stand for what was missed, and note for `explain` in which calls.

        until: when a worker listened again, microseconds since 1970.
        """
        since, known = self.tracker.last_at, set(self.tracker.calls)
        if not 0 < since < until:
            self._feed(events, is_heard=False)
            return

        # Another worker may have listened meanwhile; FreeSWITCH's last sign of life is all that is
        # known of it. A gap no longer than FreeSWITCH's silences counts only in calls in which
        # something was missed.
        with_gap = known
        if until - since <= LONGEST_SILENCE:
            with_gap = {callid for event in events for callid in self.tracker.calls_about(event)}
        with self._guard("gaps in the story"):
            for callid in with_gap:
                self._event_log.note_gap(callid, since, until)

        self._feed(events, is_heard=False)
        with self._guard("gaps in the story"):
            for callid in set(self.tracker.calls) - known:
                self._event_log.note_gap(callid, since, until)

    def _end(self, left: Left) -> None:
        """End the calls of a FreeSWITCH that was at our address before."""
        if not left.states and left.core != self.core:
            return

        self.core = left.core
        self._reload(left.states)
        self.tracker.last_at = max(self.tracker.last_at, left.alive)
        # This is no sign of life: one would keep another worker from ending its calls.
        self._written_alive, self._is_answered = self.tracker.last_at, False
        records, _ = self._missed.records_of(self.tracker, [], is_last=True)
        missed = self._missed.after_absence(self.tracker, [], (), records)
        self._feed_missed(missed, int(time.time() * MICROSECONDS))
        self._commit()

    # while FreeSWITCH is linked

    def _compare(self, item: Comparison) -> None:
        """Feed events for what two comparisons in a row have missed."""
        self._is_answered = True
        if item.channels is not None:
            lost = self._missed.by_comparison(self.tracker, item.channels, item)
            self._feed(lost, is_heard=False)

    # into the store

    def _commit(self) -> None:
        """Store notices and changed calls, then tell of them; do nothing if nothing is new."""
        calls = self._states()
        is_due = self.tracker.last_at - self._written_alive >= SIGN_OF_LIFE_EVERY
        is_due = is_due or self._is_answered
        if not self._decided and not calls and not is_due and not self.set_aside.has_news:
            self._unsaved = []
            return

        over = [callid for callid, state in calls.items() if state is None]
        alive = self.tracker.last_at if is_due else None
        batch = Batch(self._decided, calls, self._stories(over), self.tracker.callids.reopened)
        self.refused += batch.write(self._store, self.server, self.core, alive, self._insist)

        notices, self._decided, self._unsaved = self._decided, [], []
        self.tracker.changed, self.tracker.callids.reopened = set(), set()
        self._written_alive, self._is_answered = alive or self._written_alive, False
        with self._guard("notes for check"):
            self._note_news()

        if notices:
            self._tell(notices)

    def _states(self) -> dict[str, str | None]:
        """Return the state of each changed call, None where it is over."""
        states: dict[str, str | None] = {}
        for callid in sorted(self.tracker.changed):
            try:
                states[callid] = snapshot.dump(self.tracker, callid)
            except Exception as error:
                self.set_aside.note("state of a call", error)
                self._let_go(callid)
                states[callid] = None
        return states

    def _stories(self, over: Iterable[str]) -> dict[str, bytes]:
        """Return the packed events of calls that are over, by callid."""
        stories = {}
        for callid in over:
            with self._guard("story of a call"):
                if packed := self._event_log.close(callid, self.tracker):
                    stories[callid] = packed
        return stories

    def _tell(self, notices: list[Notice]) -> None:
        """Log notices that are stored now, and wake whoever sends them."""
        self._on_saved()
        for notice in notices:
            log.info(
                "notice_created",
                callid=notice.callid,
                phone=notice.phone,
                ext=notice.ext,
                kind=notice.kind.value,
                status=notice.status,
            )
            if self._on_notice is not None:
                self._on_notice(notice)

    def _note_news(self) -> None:
        """Store what `fsplanfix check` tells an administrator."""
        doubts = self.tracker.doubts
        if doubts.changed:
            doubts.changed = False
            known = self._insist(partial(self._store.facts.get, DOUBTS))
            together = doubts.with_those_of(known)
            self._insist(partial(self._store.facts.swap, DOUBTS, together))

        unclaimed = self.tracker.unclaimed
        if unclaimed.is_due:
            known = self._insist(partial(self._store.facts.get, UNCLAIMED))
            self._insist(partial(self._store.facts.swap, UNCLAIMED, unclaimed.added_to(known)))

        if self.set_aside.has_news:
            self.set_aside.has_news = False
            self._spool.keep_aside(self.set_aside.events)
            known = self._insist(partial(self._store.facts.get, SET_ASIDE))
            fact = self.set_aside.fact_after(known)
            self._insist(partial(self._store.facts.swap, SET_ASIDE, fact))
