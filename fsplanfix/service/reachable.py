"""Who can be rung now: who has a phone, and who is not in a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

from ..calls.model import ACCOUNT
from ..freeswitch.connection import Connection
from ..freeswitch.events import SwitchEvent
from ..freeswitch.phones import absent_users
from ..outbox.exts_in_calls import ExtsInCalls
from ..outbox.store import Store
from .pipeline import Pipeline


class Reachable:
    """Tells who cannot be rung.

    connections: those to FreeSWITCH that are up. pipelines: those of this worker.
    """

    def __init__(
        self,
        connections: Callable[[], Sequence[Connection]],
        pipelines: Sequence[Pipeline],
        store: Store,
    ) -> None:
        self._connections = connections
        self._pipelines = pipelines
        self._stored = ExtsInCalls(store)

    def absent(
        self, channel: SwitchEvent, users: Sequence[str], domain: str, seconds: float
    ) -> Set[str]:
        """Return which users have no phone at the FreeSWITCH that a call is on; see phones.py."""
        linked, core = self._connections(), channel.get("Core-UUID")
        asked = [one for one in linked if one.core == core] or linked[: len(linked) == 1]
        return absent_users(asked[0], users, domain, seconds) if asked else frozenset()

    def in_calls(self, seconds: float, account: str = ACCOUNT) -> Set[str]:
        """Return the exts of an account that are in a call, as far as is known within `seconds`."""
        # a worker that hears no events asks the store
        if not self._pipelines:
            return self._stored.find(seconds, account)

        books = (pipeline.tracker.book for pipeline in self._pipelines)
        return {ext for book in books for ext in book.exts_in_calls(account)}
