"""Open calls and files of events that a FreeSWITCH left behind.

A FreeSWITCH that was taken out of the settings, or never comes back, does not report the end of its
calls. Each of its signs of life changes the store, so any worker can see that it is silent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import gevent
import structlog
from gevent.event import Event

from ..calls.model import Notice
from ..calls.whose import AnyRules
from ..errors import StoreError
from ..outbox.cores import Cores, Standing
from ..outbox.store import Store
from . import spool
from .history import NO_RECORDS, Records
from .pipeline import Pipeline

log = structlog.get_logger(__name__)

LOOK_EVERY = 20.0
"""Seconds."""

LONGEST_WAIT = 10.0
"""Seconds that a link waits for the events in files: its own FreeSWITCH must be heard, too."""


class Leftovers:
    """Ends the calls of silent FreeSWITCHes, and stores the events in files of removed ones.

    gone_after: seconds without an event after which a FreeSWITCH counts as gone.
    ours: the addresses that have a pipeline, which stores the events in their files.
    steady: a clock that never jumps, in seconds.
    records: where the records of legs are found that ended unheard.
    taken_up: set once the files of the other addresses are in the store.
    """

    def __init__(
        self,
        store: Store,
        rules: AnyRules,
        on_saved: Callable[[], None],
        on_notice: Callable[[Notice], None],
        gone_after: float,
        ours: Collection[str],
        steady: Callable[[], float] = time.monotonic,
        records: Records = NO_RECORDS,
    ) -> None:
        self.taken_up = Event()
        self._store = store
        self._rules = rules
        self._on_saved = on_saved
        self._on_notice = on_notice
        self._gone_after = gone_after
        self._ours = ours
        self._steady = steady
        self._records = records
        self._cores = Cores(store, gone_after)
        self._looked = steady()
        self._silent: dict[Standing, float] = {}

    def run(self) -> None:
        """Work for ever."""
        self.take_up()
        while True:
            gevent.sleep(LOOK_EVERY)
            self.look()

    def take_up(self) -> None:
        """Store the events in files of FreeSWITCHes that are not in the settings any more.

        A worker that finds the same FreeSWITCH at another address then goes on with its calls.
        Otherwise they end once it has been silent for long enough.
        """
        for server in sorted(spool.servers(self._store.beside) - set(self._ours)):
            log.info("spool_of_another_address", server=server)
            self._work(self._pipeline(server))
        self.taken_up.set()

    def then(self, work: Callable[[], None]) -> None:
        """Run `work` once the events in files are stored, or after LONGEST_WAIT."""
        if not self.taken_up.wait(LONGEST_WAIT):
            log.error("spools_not_taken_up", hint="the links go on without them")
        work()

    def look(self) -> None:
        """End the calls of each FreeSWITCH that was silent for `gone_after` seconds."""
        # The silence is measured here and not read from the store's times: a worker that has just
        # started, or could not ask the store, does not know yet who is silent.
        before, self._looked = self._looked, self._steady()
        passed = min(self._looked - before, 2 * LOOK_EVERY)
        try:
            standing = self._cores.with_open_calls()
        except StoreError:
            self._silent = {}
            return

        # a sign of life changes what stands in the store, so that it is not found here again
        silent: dict[Standing, float] = {}
        for one in standing:
            silent[one] = self._silent[one] + passed if one in self._silent else 0.0
        self._silent = silent

        for one, seconds in silent.items():
            if seconds >= self._gone_after:
                self._end(one)

    def _end(self, gone: Standing) -> None:
        log.warning("freeswitch_gone", server=gone.server, core=gone.core)
        pipeline = self._pipeline(gone.server)
        pipeline.inbox.end_all(gone.core)
        self._work(pipeline)

    def _pipeline(self, server: str) -> Pipeline:
        return Pipeline(
            server,
            self._rules,
            self._store,
            self._on_saved,
            self._on_notice,
            self._gone_after,
            self._records,
        )

    @staticmethod
    def _work(pipeline: Pipeline) -> None:
        # it does what was queued before, and ends
        pipeline.inbox.stop()
        pipeline.run()
