"""event -> tracker -> outbox for one FreeSWITCH: what is said and the state it came from share a
transaction."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
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
from .spool import Spool, without_known

log = structlog.get_logger(__name__)
T = TypeVar("T")

Channels = Callable[[], Sequence[Dump] | None]
"""Asks FreeSWITCH for its live channels; None if it cannot tell."""

MOST_WAITING = 10_000
"""Events that wait in memory. Beyond that reading stops, and FreeSWITCH itself keeps up to 100,000
for us."""

BATCH = 200
"""Events that may share a commit."""


MOST_TROUBLES = 3
"""Events of one call that may be set aside before it is let go."""

LONGEST_REASON = 200

LONGEST_SILENCE = 60_000_000
"""Microseconds between signs of life of a FreeSWITCH that is heard (HEARTBEAT: every 20 s)."""

SIGN_OF_LIFE_EVERY = 1_000_000
"""Microseconds of FreeSWITCH's time after which its last sign of life is written down anew."""


GONE_AFTER = 900.0
"""Seconds without a word after which a FreeSWITCH counts as gone for good; see README.md."""


@dataclass(frozen=True, slots=True)
class Resync:
    """The link is back.

    core: the Core-UUID of FreeSWITCH, "" if unknown. left: the calls of those that were at its
    address before. states: the open calls as the store knew them before FreeSWITCH was asked.
    alive: its last sign of life known to the store (microseconds since 1970). channels: what it
    then said is live, None if unknown. heard: the events that arrived meanwhile. at: when that was
    (microseconds, by our own clock).
    """

    core: str
    left: list[Left]
    states: list[str]
    alive: int
    channels: Sequence[Dump] | None
    heard: list[SwitchEvent]
    at: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """FreeSWITCH's account of its channels while the link is up; touched: legs that had events
    meanwhile."""

    channels: Sequence[Dump]
    touched: set[str]


@dataclass(frozen=True, slots=True)
class Stop:
    """The end of the work. alive: when we still heard this FreeSWITCH (microseconds), else 0."""

    alive: int


class Pipeline:
    """Takes the events of one FreeSWITCH; `on_saved` is called after each commit that holds
    notices.

    server: its address as it is spelled. core: its Core-UUID as far as events were taken, "" if
    unknown. said: hears of each notice once it is committed. lag: seconds between what happened
    last and our taking it in. overflows: how often the queue was full, so that reading had to wait
    and FreeSWITCH may have dropped events. set_aside: how many events could not be taken. refused:
    how much the database refused for its content. in_doubt: set when FreeSWITCH should be asked for
    its channels at once. at_work_since: when the step under way began or asked the store last
    (monotonic seconds), None while there is nothing to do. gone_after: seconds without a word after
    which a FreeSWITCH counts as gone.
    """

    def __init__(
        self,
        server: str,
        rules: Rules,
        store: Store,
        on_saved: Callable[[], None],
        said: Callable[[Notice], None] | None = None,
        gone_after: float = GONE_AFTER,
    ) -> None:
        self.server = server
        self.core = ""
        self._cores = Cores(store, gone_after)
        self._is_answered = False
        self.tracker = Tracker(rules)
        self._event_log = EventLog()
        self.overflows = 0
        self.refused = 0
        self.at_work_since: float | None = None
        self.lag = 0.0
        self._said = said
        self._store = store
        self._on_saved = on_saved
        self._queue: Queue[SwitchEvent | Resync | Comparison | Stop] = Queue(maxsize=MOST_WAITING)
        self._touched: set[str] | None = None
        self._doubted: set[tuple[str, str]] = set()
        self._written_alive = 0
        self.set_aside = 0
        self.in_doubt = Event()
        self._believes_at_once = False
        self._troubles: dict[str, int] = {}
        self._news: dict[str, str] = {}
        self._spool = Spool(store.beside, server)
        self._unsaved: list[SwitchEvent] = []
        self._in_hand: Sequence[SwitchEvent | Resync | Comparison | Stop] = ()
        self._unplaced: list[SwitchEvent] = []
        self._heard_last = 0, 0.0
        self._is_giving_up = False

    def on_event(self, event: SwitchEvent) -> None:
        """Take an event in. Waits while too many are waiting already."""
        if self._queue.full():
            self.overflows += 1
            log.error("events_wait", server=self.server, waiting=MOST_WAITING)
        if self._touched is not None:
            self._touched.update((event.leg, event.get("Other-Leg-Unique-ID")))
        self._heard_last = event.at, time.monotonic()
        self._queue.put(event)

    def on_reconnect(self, gap: Gap) -> None:
        """Take FreeSWITCH's account of its channels; nothing may come between it and the events
        that follow.

        The store is read first: a call it knows of and FreeSWITCH does not is over, never the other
        way round.
        """
        try:
            core = gap.core
            left = self._insist(lambda: self._cores.arrive(self.server, core))
            states = self._insist(lambda: self._store.open_calls(self.server, core))
            alive = self._insist(lambda: self._store.alive(self.server, core))
            channels = gap.live_channels()

            # a put that waits would release the events first: those that came while it waited
            # would stand before them in the queue
            while self._queue.full():
                gevent.sleep(0.05)
        except gevent.GreenletExit:
            self._unplaced = gap.release()
            raise
        at = int(time.time() * 1_000_000)
        self._queue.put(Resync(core, left, states, alive, channels, gap.release(), at))

    def end_all(self, core: str) -> None:
        """Take it that a FreeSWITCH which nobody hears any more has no channels."""
        self.core = core
        states = self._insist(lambda: self._store.open_calls(self.server, core))
        alive = self._insist(lambda: self._store.alive(self.server, core))
        at = int(time.time() * 1_000_000)
        self._queue.put(Resync("", [], states, alive, [], [], at))

    def compare(self, ask: Channels) -> None:
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

        is_linked: FreeSWITCH can be heard now, which is a sign of life
        (docs/call-rules.md, rule 15). By its clock: ours may be off.
        """
        at, heard = self._heard_last
        stop = Stop(at + int((time.monotonic() - heard) * 1_000_000) if is_linked and at else 0)
        gevent.spawn(self._queue.put, stop)  # which waits while the queue is full
        gevent.sleep(0)

    def run(self) -> None:
        """Work until `stop`, or `give_up`; take up first what was kept at the last end."""
        try:
            self._take_up()
            while self.step():
                pass
        except GivenUp:
            return

    def give_up(self) -> None:
        """End `run` also if the store does not answer: after this try."""
        self._is_giving_up = True

    def keep_the_rest(self) -> Path | None:
        """Store the events that are left, or write them to a file; return it, None without one.

        To be called when `run` has ended. Raises RecordingFileError if they are lost.
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
                events += item.heard
        events += self._unplaced
        if not events:
            return None
        log.error("events_not_stored", server=self.server, events=len(events))
        return self._spool.keep(events)

    def _take_up(self) -> None:
        """Feed what the store could not take before the last end.

        It is told under the callids it would have been told under, so that what another worker has
        told of it meanwhile is told once.
        """
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

    def _remember_past_calls(self) -> None:
        past = self._insist(
            lambda: self._store.past_calls(self.server, REMEMBERED_CALLS, self.core)
        )
        self.tracker.callids.remember(past)

    def step(self) -> bool:
        """Wait for events, feed the tracker, commit what it says; return False once `stop` was
        called."""
        self.at_work_since = None
        batch = [self._queue.get()]
        self.at_work_since = time.monotonic()
        while len(batch) < BATCH:
            try:
                batch.append(self._queue.get_nowait())
            except Empty:
                break
        said: list[Notice] = []
        for n, item in enumerate(batch):
            self._in_hand = batch[n:]
            events: list[SwitchEvent] = []
            if isinstance(item, Resync):
                self._commit(said)
                said = self._catch_up(item)
                events = item.heard
            elif isinstance(item, Comparison):
                events = self._lost(item)
            elif isinstance(item, Stop):
                self.tracker.last_at = max(self.tracker.last_at, item.alive)
            else:
                events = [item]
            self._in_hand = batch[n + 1 :]
            said += self._feed(events)
        self._commit(said)
        if isinstance(batch[-1], SwitchEvent):
            self.lag = max(time.time() - batch[-1].at / 1_000_000, 0.0)
        return not any(isinstance(item, Stop) for item in batch)

    def _feed(self, events: list[SwitchEvent]) -> list[Notice]:
        said = []
        self._unsaved += events
        for event in events:
            try:
                said += self.tracker.feed(event)
                self._event_log.keep(event, self.tracker)
            except Exception as error:
                said += self.tracker.take_said()
                self._set_aside(event, error)
        return said

    def _set_aside(self, event: SwitchEvent, error: Exception) -> None:
        """An event that cannot be taken costs no other call, and its own as little as can be.

        FreeSWITCH is asked at once what has become of it. A call that goes wrong again and again is
        let go: what was begun in it gets its end.
        """
        self.set_aside += 1
        reason = f"{type(error).__name__}: {error}"[:LONGEST_REASON]
        log.error(
            "event_set_aside",
            server=self.server,
            event_name=event.name,
            leg=event.leg,
            exc_info=error,
        )
        for callid in self.tracker.calls_about(event):
            self._troubles[callid] = self._troubles.get(callid, 0) + 1
            if self._troubles[callid] >= MOST_TROUBLES:
                log.error("call_let_go", server=self.server, callid=callid)
                self.tracker.forget(callid)
        while len(self._troubles) > MOST_WAITING:
            self._troubles.pop(next(iter(self._troubles)))
        self._news[SET_ASIDE] = json.dumps(
            {"count": self.set_aside, "event": event.name, "leg": event.leg, "reason": reason}
        )
        self._believes_at_once = True
        self.in_doubt.set()

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
            self._event_log.close(callid, self.tracker)

    def _catch_up(self, item: Resync) -> list[Notice]:
        """Feed what FreeSWITCH's account says was missed."""
        if item.core and self.core not in ("", item.core) and self._is_elsewhere(self.core):
            self.tracker, self._event_log = Tracker(self.tracker.rules), EventLog()
        if not self.tracker.last_at:
            self._remember_past_calls()
        for left in item.left:
            self._end(left)
        self.core = item.core or self.core
        self._reload(item.states)
        self.tracker.last_at = max(self.tracker.last_at, item.alive)
        events: list[SwitchEvent] = []
        if item.channels is not None:
            events = missed(self.tracker, item.channels, item.heard)
            channels = len(item.channels)
            log.info("reconciled", server=self.server, channels=channels, missed=len(events))
        return self._feed_missed(events, item.at)

    def _feed_missed(self, events: list[SwitchEvent], until: int) -> list[Notice]:
        """Feed events that stand for what nobody heard, and note for `explain` of which calls.

        until: when somebody listened again, microseconds since 1970. Another worker may have
        listened, of whom no more is known than FreeSWITCH's last sign of life: a gap that is no
        longer than its silences, and in which nothing was missed, is none.
        """
        since, known = self.tracker.last_at, set(self.tracker.calls)
        if not 0 < since < until:
            return self._feed(events)
        touched = {callid for event in events for callid in self.tracker.calls_about(event)}
        for callid in known if until - since > LONGEST_SILENCE else touched:
            self._event_log.note_gap(callid, since, until)
        said = self._feed(events)
        for callid in set(self.tracker.calls) - known:
            self._event_log.note_gap(callid, since, until)
        return said

    def _is_elsewhere(self, core: str) -> bool:
        """Tell whether a FreeSWITCH that is not at our address any more is heard at another."""
        return self._insist(lambda: self._cores.is_heard(core))

    def _end(self, left: Left) -> None:
        """A FreeSWITCH that was at our address has ended, and its calls with it."""
        if not left.states and left.core != self.core:
            return
        self.core = left.core
        self._reload(left.states)
        self.tracker.last_at = max(self.tracker.last_at, left.alive)
        # nothing was heard of it now: that would keep another worker from ending its calls
        self._written_alive, self._is_answered = self.tracker.last_at, False
        self._commit(self._feed_missed(missed(self.tracker, []), int(time.time() * 1_000_000)))

    def _lost(self, item: Comparison) -> list[SwitchEvent]:
        """Return what two comparisons in a row have missed.

        An event may be on its way while FreeSWITCH answers: once is no proof, unless an event was
        set aside. A leg that has hung up and of which nothing more was heard meanwhile has ended.
        """
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

    def _commit(self, said: list[Notice]) -> None:
        changed, self.tracker.changed = self.tracker.changed, set()
        calls = {callid: snapshot.dump(self.tracker, callid) for callid in sorted(changed)}
        reopened, self.tracker.callids.reopened = self.tracker.callids.reopened, set()
        is_due = self.tracker.last_at - self._written_alive >= SIGN_OF_LIFE_EVERY
        is_due, self._is_answered = is_due or self._is_answered, False
        if not said and not calls and not is_due and not self._news:
            self._unsaved = []
            return
        over = [callid for callid, state in calls.items() if state is None]
        closed = {callid: self._event_log.close(callid, self.tracker) for callid in over}
        events = {callid: packed for callid, packed in closed.items() if packed}
        alive = self.tracker.last_at if is_due else None
        batch = Batch(said, calls, events, reopened)
        self.refused += batch.write(self._store, self.server, self.core, alive, self._insist)
        self._unsaved = []
        self._written_alive = alive or self._written_alive
        self._note_news()
        for notice in said:
            log.info(
                "notice_created",
                callid=notice.callid,
                ext=notice.ext,
                kind=notice.kind.value,
                status=notice.status,
            )
            if self._said is not None:
                self._said(notice)
        if said:
            self._on_saved()

    def _note_news(self) -> None:
        """Keep what `check` tells an administrator."""
        if self.tracker.doubts.changed:
            self.tracker.doubts.changed = False
            known = self._insist(partial(self._store.facts.get, DOUBTS))
            self._news[DOUBTS] = self.tracker.doubts.with_those_of(known)
        while self._news:
            name, value = self._news.popitem()
            self._insist(partial(self._store.facts.swap, name, value))

    def _insist(self, ask: Callable[[], T]) -> T:
        """Ask the store until it answers; events wait meanwhile. Raises GivenUp at the end."""

        def ask_or_end() -> T:
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
