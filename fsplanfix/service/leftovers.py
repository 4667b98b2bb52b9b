"""What FreeSWITCHes leave behind that nobody hears any more: open calls, and files of events.

A FreeSWITCH that was taken out of the settings, or stays away for good, says nothing of the end of
its calls. That no worker has heard of it is known from the store, which each sign of life changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import gevent
import structlog
from gevent.event import Event

from ..calls.model import Notice, Rules
from ..errors import StoreError
from ..outbox.cores import Cores, Standing
from ..outbox.store import Store
from . import spool
from .pipeline import Pipeline

log = structlog.get_logger(__name__)

LOOK_EVERY = 20.0
"""Seconds."""


class Leftovers:
    """Looks after the FreeSWITCHes that share a store with ours.

    ours: the addresses that have a pipeline, which takes up their files. gone_after: seconds
    without a word after which a FreeSWITCH counts as gone. steady: a clock that never jumps, in
    seconds. taken_up: set once the files of the others are in the store.
    """

    def __init__(
        self,
        store: Store,
        rules: Rules,
        on_saved: Callable[[], None],
        said: Callable[[Notice], None],
        gone_after: float,
        ours: Collection[str],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.taken_up = Event()
        self._store = store
        self._rules = rules
        self._on_saved = on_saved
        self._said = said
        self._gone_after = gone_after
        self._ours = ours
        self._steady = steady
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
        """Take up the events in files of FreeSWITCHes that are not in the settings any more.

        Their calls are in the store then: whoever finds the same FreeSWITCH under another address
        goes on with them, else they end in time.
        """
        for server in sorted(spool.servers(self._store.beside) - set(self._ours)):
            log.info("spool_of_another_address", server=server)
            self._work(self._pipeline(server))
        self.taken_up.set()

    def then(self, work: Callable[[], None]) -> None:
        """Do what must find in the store what was left in files."""
        self.taken_up.wait()
        work()

    def look(self) -> None:
        """End the calls of each FreeSWITCH that was silent for so long while we looked.

        How long is measured here: a worker that has just started, or could not ask the store, does
        not know yet who is silent.
        """
        before, self._looked = self._looked, self._steady()
        passed = min(self._looked - before, 2 * LOOK_EVERY)
        try:
            standing = self._cores.with_open_calls()
        except StoreError:
            self._silent = {}
            return

        known = self._silent
        self._silent = {one: known[one] + passed if one in known else 0.0 for one in standing}
        for one in [one for one, silent in self._silent.items() if silent >= self._gone_after]:
            self._end(one)

    def _end(self, gone: Standing) -> None:
        log.warning("freeswitch_gone", server=gone.server, core=gone.core)
        pipeline = self._pipeline(gone.server)
        pipeline.end_all(gone.core)
        self._work(pipeline)

    def _pipeline(self, server: str) -> Pipeline:
        return Pipeline(
            server, self._rules, self._store, self._on_saved, self._said, self._gone_after
        )

    @staticmethod
    def _work(pipeline: Pipeline) -> None:
        pipeline.stop()
        pipeline.run()
