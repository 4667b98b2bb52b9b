"""Takes the events of one FreeSWITCH through the tracker into the outbox.

Notices and the state of the calls they come from share a transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import gevent
import structlog
from gevent.event import Event
from gevent.queue import Empty, Queue

from ..calls import snapshot
from ..calls.doubts import DOUBTS
from ..calls.event_log import EventLog
from ..calls.identity import REMEMBERED_CALLS
from ..calls.model import Notice, Rules
from ..calls.reconcile import Dump, missed
from ..calls.tracker import Tracker
from ..errors import GivenUp, StoreError
from ..freeswitch.events import SwitchEvent, hanging_up
from ..freeswitch.link import Gap
from ..outbox.batch import Batch
from ..outbox.cores import Cores, Left
from ..outbox.facts import SET_ASIDE
from ..outbox.retry import until_store_answers
from ..outbox.store import Store
from .pipeline_items import Comparison, Item, Resync, Stop
from .set_aside import SetAside
from .spool import Spool, without_known

log = structlog.get_logger(__name__)
T = TypeVar("T")

MOST_WAITING = 10_000
"""Events that wait in memory. Beyond that reading stops; FreeSWITCH itself keeps up to 100,000."""

BATCH = 200
"""Events that may share a commit."""

LONGEST_SILENCE = 60_000_000
"""Microseconds between signs of life of a FreeSWITCH that is linked (HEARTBEAT: every 20 s)."""

SIGN_OF_LIFE_EVERY = 1_000_000
"""Microseconds of FreeSWITCH's time after which its last sign of life is stored again."""

GONE_AFTER = 900.0
"""Seconds without an event after which a FreeSWITCH counts as gone; see README.md."""


class Pipeline:
    """Takes the events of one FreeSWITCH into the store, as notices and states of calls.

    on_saved: called after each commit that holds notices. on_notice: called with each notice once
    it is committed. gone_after: seconds without an event after which a FreeSWITCH counts as gone.

    server: its address as it is spelled.
    core: its Core-UUID as far as events were taken, "" if unknown.
    lag: seconds from the last event to our processing it.
    overflows: how often the queue was full. Reading then waits, and FreeSWITCH may drop events.
    set_aside: the events that could not be processed.
    refused: how many rows the database refused for their content.
    in_doubt: set when FreeSWITCH should be asked for its channels at once.
    at_work_since: when the step under way began or asked the store last (monotonic seconds), None
    while there is nothing to do.
    """

    def __init__(
        self,
        server: str,
        rules: Rules,
        store: Store,
        on_saved: Callable[[], None],
        on_notice: Callable[[Notice], None] | None = None,
        gone_after: float = GONE_AFTER,
    ) -> None:
        self.server = server
        self.core = ""
        self.tracker = Tracker(rules)
        self.lag = 0.0
        self.overflows = 0
        self.set_aside = SetAside(server)
        self.refused = 0
        self.in_doubt = Event()
        self.at_work_since: float | None = None

        self._store = store
        self._on_saved = on_saved
        self._on_notice = on_notice
        self._cores = Cores(store, gone_after)
        self._event_log = EventLog()
        self._spool = Spool(store.beside, server)
        self._queue: Queue[Item] = Queue(maxsize=MOST_WAITING)

        # signs of life
        self._last_event = 0, 0.0
        self._is_answered = False
        self._written_alive = 0

        # comparisons with FreeSWITCH, and events set aside
        self._touched: set[str] | None = None
        self._doubted: set[tuple[str, str]] = set()
        self._believes_at_once = False
        self._news: dict[str, str] = {}

        # what must not be lost at the end
        self._unsaved: list[SwitchEvent] = []
        self._in_hand: Sequence[Item] = ()
        self._unplaced: list[SwitchEvent] = []
        self._is_giving_up = False

    def on_event(self, event: SwitchEvent) -> None:
        """Queue an event; wait while too many are waiting already."""
        if self._queue.full():
            self.overflows += 1
            log.error("events_wait", server=self.server, waiting=MOST_WAITING)
        if self._touched is not None:
            self._touched.update((event.leg, event.get("Other-Leg-Unique-ID")))

        self._last_event = event.at, time.monotonic()
        self._queue.put(event)

    def on_reconnect(self, gap: Gap) -> None:
        """Queue FreeSWITCH's account of its channels, directly before the events that follow."""
        # The store is read first: a call that it holds and FreeSWITCH does not is over. The other
        # way round a call that began between the two would seem to be.
        try:
            core = gap.core
            left = self._insist(lambda: self._cores.arrive(self.server, core))
            states = self._insist(lambda: self._store.open_calls(self.server, core))
            alive = self._insist(lambda: self._store.alive(self.server, core))
            channels = gap.live_channels()

            # A put that waits would release the events first: those that arrived while it waited
            # would stand before them in the queue.
            while self._queue.full():
                gevent.sleep(0.05)
        except gevent.GreenletExit:
            self._unplaced = gap.release()
            raise

        at = int(time.time() * 1_000_000)
        # another worker may have stored what our link held back while the store was away
        events = without_known(gap.release(), states)
        self._queue.put(Resync(core, left, states, alive, channels, events, at))

    def end_all(self, core: str) -> None:
        """Queue the end of all calls of a FreeSWITCH that no worker is linked to any more."""
        self.core = core
        states = self._insist(lambda: self._store.open_calls(self.server, core))
        alive = self._insist(lambda: self._store.alive(self.server, core))
        at = int(time.time() * 1_000_000)
        self._queue.put(Resync("", [], states, alive, [], [], at))

    def compare(self, ask: Callable[[], Sequence[Dump] | None]) -> None:
        """Compare FreeSWITCH's account of its channels with what we know.

        See docs/call-rules.md, rule 16. Raises LinkError if the link is lost meanwhile.
        """
        touched: set[str] = set()
        self._touched = touched
        try:
            channels = ask()
        finally:
            self._touched = None

        self._is_answered = True
        if channels is not None:
            self._queue.put(Comparison(channels, touched))

    def stop(self, is_linked: bool = False) -> None:
        """End `run` once everything that was put before is committed.

        is_linked: FreeSWITCH is linked now, which is a sign of life (docs/call-rules.md, rule 15).
        """
        # by FreeSWITCH's clock, ours may be off: its last event and the time that has passed since
        alive, received = self._last_event
        if is_linked and alive:
            alive += int((time.monotonic() - received) * 1_000_000)
        else:
            alive = 0

        # a put waits while the queue is full, and `stop` must not
        gevent.spawn(self._queue.put, Stop(alive))
        gevent.sleep(0)

    def run(self) -> None:
        """Feed the events kept at the last end, then work until `stop` or `give_up`."""
        try:
            self._feed_spool()
            while self.step():
                pass
        except GivenUp:
            return

    def give_up(self) -> None:
        """End `run` even if the store does not answer, after the current attempt."""
        self._is_giving_up = True

    def keep_the_rest(self) -> Path | None:
        """Store the events that are left, or write them to a file.

        Return that file, None if there is none. To be called when `run` has ended. Raises
        TraceError if the events are lost.
        """
        self.give_up()
        with suppress(GivenUp):
            while not self._unsaved and not self._in_hand and not self._queue.empty():
                self.step()

        items = list(self._in_hand)
        while not self._queue.empty():
            items.append(self._queue.get_nowait())

        events = list(self._unsaved)
        for item in items:
            if isinstance(item, SwitchEvent):
                events.append(item)
            elif isinstance(item, Resync):
                events += item.events

        events += self._unplaced
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
            states = self._insist(lambda: self._store.open_calls(self.server, self.core))
            self._reload(states)

            try:
                self._commit(self._feed(without_known(events, states)))
                file.unlink(missing_ok=True)
            except GivenUp:
                raise
            except Exception:
                log.exception("spool_failed", server=self.server, file=str(file))
                file.rename(file.with_suffix(".failed"))
                continue

            log.info("spool_taken_up", server=self.server, events=len(events))
        if self.tracker.last_at:
            self._remember_past_calls()

    def _remember_past_calls(self, events: Iterable[SwitchEvent] = ()) -> None:
        """Learn which callids are taken, but for calls whose beginning is among these events."""
        begun = {event.leg for event in events if event.name == "CHANNEL_CREATE"}
        ask = partial(self._store.past_calls, self.server, REMEMBERED_CALLS, self.core)
        past = self._insist(ask)
        self.tracker.callids.remember(callid for callid in past if callid not in begun)

    def step(self) -> bool:
        """Wait for events, feed the tracker and commit its notices.

        Return False once `stop` was called.
        """
        self.at_work_since = None
        batch = [self._queue.get()]
        self.at_work_since = time.monotonic()
        while len(batch) < BATCH:
            try:
                batch.append(self._queue.get_nowait())
            except Empty:
                break

        notices: list[Notice] = []
        for n, item in enumerate(batch):
            self._in_hand = batch[n:]
            events: list[SwitchEvent] = []
            if isinstance(item, Resync):
                # catching up may replace the tracker and the core that these belong to
                self._commit(notices)
                notices = self._catch_up(item)
                events = item.events
            elif isinstance(item, Comparison):
                events = self._find_lost(item)
            elif isinstance(item, Stop):
                self.tracker.last_at = max(self.tracker.last_at, item.alive)
            else:
                events = [item]

            self._in_hand = batch[n + 1 :]
            notices += self._feed(events)

        self._commit(notices)
        if isinstance(batch[-1], SwitchEvent):
            self.lag = max(time.time() - batch[-1].at / 1_000_000, 0.0)

        return not any(isinstance(item, Stop) for item in batch)

    def _feed(self, events: list[SwitchEvent]) -> list[Notice]:
        notices = []
        self._unsaved += events
        for event in events:
            try:
                notices += self.tracker.feed(event)
                self._event_log.keep(event, self.tracker)
            except Exception as error:
                # those that it had made before it failed
                notices += self.tracker.take_said()
                self._set_aside(event, error)

        return notices

    def _set_aside(self, event: SwitchEvent, error: Exception) -> None:
        """Leave out an event that cannot be processed, and have FreeSWITCH asked at once.

        A call in which that happens again and again is let go: what was begun in it gets its end.
        See docs/call-rules.md, rule 16.
        """
        for callid in self.set_aside.add(event, error, self.tracker.calls_about(event)):
            log.error("call_let_go", server=self.server, callid=callid)
            self.tracker.forget(callid)
        self._news[SET_ASIDE] = self.set_aside.fact
        self._believes_at_once = True
        self.in_doubt.set()

    def _reload(self, states: list[str]) -> None:
        """Take over the stored states of the open calls.

        Another worker, or this one before a restart, may have received more events.
        """
        for state in states:
            try:
                snapshot.restore(self.tracker, state)
            except ValueError:
                log.error("open_call_unreadable", server=self.server)
        for callid in self._insist(lambda: self._store.closed(self.tracker.calls)):
            del self.tracker.calls[callid]
            self._event_log.close(callid, self.tracker)

    def _catch_up(self, item: Resync) -> list[Notice]:
        """Feed events for what was missed, by FreeSWITCH's account of its channels."""
        # another FreeSWITCH is at this address now, and the one before it goes on elsewhere: its
        # calls are followed there
        if item.core and self.core not in ("", item.core) and self._is_elsewhere(self.core):
            self.tracker, self._event_log = Tracker(self.tracker.rules), EventLog()
        if not self.tracker.last_at:
            self._remember_past_calls(item.events)

        for left in item.left:
            self._end(left)

        self.core = item.core or self.core
        self._reload(item.states)
        self.tracker.last_at = max(self.tracker.last_at, item.alive)
        events: list[SwitchEvent] = []
        if item.channels is not None:
            events = missed(self.tracker, item.channels, item.events)
            channels = len(item.channels)
            log.info("reconciled", server=self.server, channels=channels, missed=len(events))

        return self._feed_missed(events, item.at)

    def _feed_missed(self, events: list[SwitchEvent], until: int) -> list[Notice]:
        """Feed events that stand for what was missed, and note for `explain` in which calls.

        until: when a worker listened again, microseconds since 1970.
        """
        since, known = self.tracker.last_at, set(self.tracker.calls)
        if not 0 < since < until:
            return self._feed(events)

        # Another worker may have listened meanwhile; FreeSWITCH's last sign of life is all that is
        # known of it. A gap no longer than FreeSWITCH's silences counts only in calls in which
        # something was missed.
        with_gap = known
        if until - since <= LONGEST_SILENCE:
            with_gap = {callid for event in events for callid in self.tracker.calls_about(event)}
        for callid in with_gap:
            self._event_log.note_gap(callid, since, until)

        notices = self._feed(events)
        for callid in set(self.tracker.calls) - known:
            self._event_log.note_gap(callid, since, until)

        return notices

    def _is_elsewhere(self, core: str) -> bool:
        """Tell whether a FreeSWITCH that left our address is alive at another one."""
        return self._insist(lambda: self._cores.is_heard(core))

    def _end(self, left: Left) -> None:
        """End the calls of a FreeSWITCH that was at our address before."""
        if not left.states and left.core != self.core:
            return

        self.core = left.core
        self._reload(left.states)
        self.tracker.last_at = max(self.tracker.last_at, left.alive)
        # This is no sign of life: one would keep another worker from ending its calls.
        self._written_alive, self._is_answered = self.tracker.last_at, False
        self._commit(self._feed_missed(missed(self.tracker, []), int(time.time() * 1_000_000)))

    def _find_lost(self, item: Comparison) -> list[SwitchEvent]:
        """Return events for what two comparisons in a row have missed.

        See docs/call-rules.md, rule 16.
        """
        # One comparison proves nothing, unless an event was set aside: an event may be on its way
        # while FreeSWITCH answers. A leg that hangs up and has no events meanwhile has ended.
        live = [dump for dump in item.channels if dump != hanging_up(dump.get("Unique-ID", ""))]
        doubted = {}
        for event in missed(self.tracker, live):
            legs = {event.leg, event.get("Other-Leg-Unique-ID")}
            if not legs & item.touched:
                doubted[event.name, event.leg] = event

        at_once, self._believes_at_once = self._believes_at_once, False
        lost = [event for key, event in doubted.items() if at_once or key in self._doubted]
        self._doubted = set(doubted)
        if lost:
            log.warning("events_lost", server=self.server, count=len(lost))

        return lost

    def _commit(self, notices: list[Notice]) -> None:
        """Store notices and changed calls, then tell of them; do nothing if nothing is new."""
        changed, self.tracker.changed = self.tracker.changed, set()
        calls = {callid: snapshot.dump(self.tracker, callid) for callid in sorted(changed)}
        reopened, self.tracker.callids.reopened = self.tracker.callids.reopened, set()

        is_due = self.tracker.last_at - self._written_alive >= SIGN_OF_LIFE_EVERY
        is_due = is_due or self._is_answered
        self._is_answered = False
        if not notices and not calls and not is_due and not self._news:
            self._unsaved = []
            return

        over = [callid for callid, state in calls.items() if state is None]
        closed = {callid: self._event_log.close(callid, self.tracker) for callid in over}
        events = {callid: packed for callid, packed in closed.items() if packed}
        alive = self.tracker.last_at if is_due else None
        batch = Batch(notices, calls, events, reopened)
        self.refused += batch.write(self._store, self.server, self.core, alive, self._insist)
        self._unsaved = []
        self._written_alive = alive or self._written_alive
        self._note_news()

        for notice in notices:
            log.info(
                "notice_created",
                callid=notice.callid,
                ext=notice.ext,
                kind=notice.kind.value,
                status=notice.status,
            )
            if self._on_notice is not None:
                self._on_notice(notice)

        if notices:
            self._on_saved()

    def _note_news(self) -> None:
        """Store what `fsplanfix check` tells an administrator."""
        if self.tracker.doubts.changed:
            self.tracker.doubts.changed = False
            known = self._insist(partial(self._store.facts.get, DOUBTS))
            self._news[DOUBTS] = self.tracker.doubts.with_those_of(known)
        while self._news:
            name, value = self._news.popitem()
            self._insist(partial(self._store.facts.swap, name, value))

    def _insist(self, ask: Callable[[], T]) -> T:
        """Ask the store until it answers; events wait meanwhile.

        Raises GivenUp if it does not answer once `give_up` was called.
        """

        def ask_or_end() -> T:
            # a store that is away is no reason to restart: asking it again counts as progress
            if self.at_work_since is not None:
                self.at_work_since = time.monotonic()
            try:
                return ask()
            except StoreError as error:
                if self._is_giving_up and not error.permanent:
                    raise GivenUp("The store did not answer before the end.") from None
                raise

        return until_store_answers(
            ask_or_end, lambda: {"server": self.server, "waiting": self._queue.qsize()}
        )
