"""A batch of notices and states for the store, without the pieces the database refuses.

docs/delivery-rules.md, rule 9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

import structlog

from ..calls.model import ACCOUNT, Notice
from ..errors import GivenUp, StoreError
from .archive import Archive
from .records import Entry
from .store import Store

log = structlog.get_logger(__name__)

MAX_PROBLEM_CHARS = 200
"""Characters of a database's message that the journal keeps."""

Write = Callable[[Callable[[], None]], None]
"""Carries out a write, and repeats it until the store answers (retry.py)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Notices and the states of the calls they came from; see Store.save."""

    notices: Sequence[Notice]
    calls: Mapping[str, str | None] = field(default_factory=dict)
    events: Mapping[str, bytes] = field(default_factory=dict)
    reopened: Set[str] = frozenset()

    def write(self, store: Store, server: str, core: str, alive: int | None, write: Write) -> int:
        """Write everything the database accepts; return how many pieces it refused.

        A bad value costs only its own notice or state. The rest of its call, and all other calls,
        are written. Each refused piece gets a line in the log and in the journal.

        server, core: the address and Core-UUID of the FreeSWITCH. alive: see Store.save.
        """
        try:
            write(
                lambda: store.save(
                    self.notices,
                    self.calls,
                    server,
                    store.now(),
                    self.events,
                    self.reopened,
                    alive,
                    core,
                )
            )
        except GivenUp:
            raise
        except Exception as error:  # a driver may raise anything at a value that it cannot write
            # split until the bad value is alone: one refused notice kept all others from being
            # written
            pieces = list(self._pieces())
            if len(pieces) > 1:
                return sum(piece.write(store, server, core, alive, write) for piece in pieces)

            self._report_refused(store, str(error) or repr(error), write)
            return 1
        return 0

    def _pieces(self) -> Iterator[Batch]:
        """Yield each call as a batch; of a single call each notice, and its state."""
        callids = list(dict.fromkeys([*(n.callid for n in self.notices), *self.calls]))
        if len(callids) > 1:
            for callid in callids:
                of_call = [notice for notice in self.notices if notice.callid == callid]
                yield Batch(of_call, *self._of(callid))
            return

        for callid in callids:
            for notice in self.notices:
                yield Batch([notice], reopened=self.reopened)
            if callid in self.calls:
                yield Batch([], *self._of(callid))

    def _of(self, callid: str) -> tuple[dict[str, str | None], dict[str, bytes], Set[str]]:
        """Return a call's state, its events, and whether it was reopened; empty where unknown."""
        calls, events = {}, {}
        if callid in self.calls:
            calls[callid] = self.calls[callid]
        if callid in self.events:
            events[callid] = self.events[callid]
        return calls, events, self.reopened & {callid}

    def _report_refused(self, store: Store, problem: str, write: Write) -> None:
        """Report a refused piece in the log and in the journal."""
        # one piece: a notice, or the state of a call
        if self.notices:
            callid, account = self.notices[0].callid, self.notices[0].account
            what = self.notices[0].what
        else:
            callid, account = next(iter(self.calls), ""), ACCOUNT
            what = "the state of the call"
        log.error("write_refused", callid=callid, what=what, problem=problem)

        line = f"not kept: {what}: {problem[:MAX_PROBLEM_CHARS]}"
        try:
            write(
                lambda: Archive(store).write_down(Entry(store.now(), line, callid, account=account))
            )
        except StoreError as error:
            log.error("write_refused", callid=callid, what="a line about it", problem=str(error))
