"""Events for what no event has told, by FreeSWITCH's account of its channels and by its records."""

from __future__ import annotations

from collections.abc import Sequence, Set

import structlog

from ..calls.reconcile import Dump, missed
from ..calls.tracker import Tracker
from ..freeswitch.events import SwitchEvent, hanging_up
from ..history.merge import ENDED, missed_with_records
from ..history.record import Record
from .history import Records, unheard
from .inbox import Comparison

log = structlog.get_logger(__name__)


class MissedEvents:
    """Makes the events that a pipeline has missed.

    heard_until: up to when legs of restored calls were heard (microseconds since 1970), by UUID.
    believes_at_once: whether the next comparison is believed without a second one.
    """

    def __init__(self, server: str, records: Records) -> None:
        self.heard_until: dict[str, int] = {}
        self.believes_at_once = False
        self._server = server
        self._records = records
        self._doubted: set[tuple[str, str]] = set()

    def records_of(
        self, tracker: Tracker, channels: Sequence[Dump], is_last: bool
    ) -> tuple[list[Record], set[str]]:
        """Return what `unheard` finds; is_last: no comparison will end legs without a record."""
        records, awaited = unheard(self._records, tracker, channels)
        if is_last:
            return records, set()

        # the next comparison ends them; their records may be there by then
        self._doubted |= {(ENDED, uuid) for uuid in awaited}
        for uuid in awaited:
            self.heard_until.setdefault(uuid, tracker.last_at)
        return records, awaited

    def after_absence(
        self,
        tracker: Tracker,
        channels: Sequence[Dump],
        heard_since: Sequence[SwitchEvent] = (),
        records: Sequence[Record] = (),
        awaited: Set[str] = frozenset(),
    ) -> list[SwitchEvent]:
        """Return events for what was missed; a channel that cannot be read costs only itself."""
        try:
            return missed_with_records(
                tracker, channels, heard_since, records, awaited, self.heard_until
            )
        except Exception:
            log.exception("channels_not_understood", server=self._server, channels=len(channels))

        # what is left of such a channel says that it is live
        understood = []
        for dump in channels:
            try:
                missed(tracker, [dump])
                understood.append(dump)
            except Exception:
                understood.append({"Unique-ID": dump.get("Unique-ID", "")})
        return missed(tracker, understood, heard_since)

    def by_comparison(
        self, tracker: Tracker, channels: Sequence[Dump], item: Comparison
    ) -> list[SwitchEvent]:
        """Return events for what two comparisons in a row have missed.

        channels: those of the comparison. See docs/call-rules.md, rule 16.
        """
        # One comparison proves nothing, unless an event was set aside: an event may be on its way
        # while FreeSWITCH answers. A leg that hangs up and has no events meanwhile has ended.
        live = [dump for dump in channels if dump != hanging_up(dump.get("Unique-ID", ""))]
        doubted = {}
        for event in self.after_absence(tracker, live):
            legs = {event.leg, event.get("Other-Leg-Unique-ID")}
            if not legs & item.touched:
                doubted[event.name, event.leg] = event

        at_once, self.believes_at_once = self.believes_at_once, False
        sure = {key for key in doubted if at_once or key in self._doubted}
        lost = [event for key, event in doubted.items() if key in sure]
        if records := self._records.of({leg for name, leg in sure if name == ENDED}):
            ended = {record.uuid for record in records}
            lost = [
                event
                for event in self.after_absence(tracker, live, (), records)
                if {event.leg, event.get("Other-Leg-Unique-ID")} & ended
                or (event.name, event.leg) in sure
            ]

        self._doubted = set(doubted)
        if lost:
            log.warning("events_lost", server=self._server, count=len(lost))
        return lost
