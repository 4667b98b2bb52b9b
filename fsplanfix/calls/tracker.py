"""Turns the event stream of one FreeSWITCH into what Planfix is told. Rules: shared/call-rules.md.

A function of the events alone: no clock, no timers. Feeding the same events again says nothing new.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ..freeswitch.events import SwitchEvent
from . import recordings
from .legs import LONGEST_UUID, LegBook, merged, read_leg, read_variables
from .model import Call, Direction, Engagement, Kind, Leg, Notice, Recording, Role, Rules, Status
from .outcome import failure_of

REMEMBERED_LEGS = 10_000
"""Ended legs whose UUID is still known, so that a CHANNEL_CREATE that arrives twice starts nothing.
"""


class Tracker:
    """Follows the calls of one FreeSWITCH.

    calls: the client calls that are not over, by callid. changed: callids touched since a caller
    last cleared it. last_at: the time of the newest event taken, microseconds since 1970.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.book = LegBook()
        self.calls: dict[str, Call] = {}
        self.changed: set[str] = set()
        self.last_at = 0
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._said: list[Notice] = []
        self._handlers: dict[str, Callable[[Leg, SwitchEvent], None]] = {
            "CHANNEL_PROGRESS": self._on_progress,
            "CHANNEL_PROGRESS_MEDIA": self._on_progress,
            "CHANNEL_ANSWER": self._on_variables_only,
            "CHANNEL_BRIDGE": self._on_bridge,
            "CHANNEL_UNBRIDGE": self._on_unbridge,
            "CHANNEL_HANGUP": self._on_hangup,
            "CHANNEL_HANGUP_COMPLETE": self._on_hangup_complete,
            "RECORD_START": self._on_record_start,
            "RECORD_STOP": self._on_record_stop,
        }

    @property
    def event_names(self) -> list[str]:
        """Return the events to subscribe to: exactly those that have a rule."""
        return ["CHANNEL_CREATE", "CHANNEL_UUID", *self._handlers]

    def feed(self, event: SwitchEvent) -> list[Notice]:
        """Take one event, in the order FreeSWITCH sent it; return what Planfix must be told because
        of it."""
        self._said = []
        uuid = event.leg
        if not uuid or len(uuid) > LONGEST_UUID:
            return []
        self.last_at = max(self.last_at, event.at)
        if event.name == "CHANNEL_CREATE":
            self._on_create(uuid, event)
        elif event.name == "CHANNEL_UUID":
            self._on_uuid(uuid, event)
        elif handler := self._handlers.get(event.name):
            leg = self.book.get(uuid)
            if leg is not None and not self._is_repeated(leg, event):
                self._note_variables(leg, event)
                handler(leg, event)
                self.changed.update(leg.calls)
        return self._said

    # events, in the order of a call's life

    def _on_create(self, uuid: str, event: SwitchEvent) -> None:
        if self.book.get(uuid) is not None or uuid in self._ended:
            return
        leg = read_leg(event, self.rules)
        self._is_repeated(leg, event)
        self.book.legs[uuid] = leg
        self._note_variables(leg, event)
        self._place(leg, event.at)
        self.changed.update(leg.calls)

    def _place(self, leg: Leg, at: int) -> None:
        """Find out what a new leg is for."""
        sponsor = self.book.placed_for(leg)
        if sponsor is None:
            if leg.role is Role.OUTSIDE and not leg.parent:
                self._new_incoming(leg, at)
            return
        call = self.calls.get(sponsor.client_of)
        if leg.role is Role.GLUE:
            for joined in self._calls_of(sponsor):
                self._join(joined, leg)
        elif call is not None:
            self._try(call, leg)
        elif leg.role is Role.OUTSIDE and sponsor.role is Role.EMPLOYEE:
            self._reach_outside(sponsor, leg, at)

    def _on_uuid(self, uuid: str, event: SwitchEvent) -> None:
        old = event.get("Old-Unique-ID")
        leg = self.book.rename(old, uuid)
        if leg is None:
            return
        for call in self._calls_of(leg):
            call.clients = [uuid if name == old else name for name in call.clients]
            call.legs = [uuid if name == old else name for name in call.legs]
            for part in call.engagements:
                part.legs = [uuid if name == old else name for name in part.legs]
            for recording in (*call.recordings, *leg.recordings):
                if recording.leg == old:
                    recording.leg = uuid
        self.changed.update(leg.calls)

    def _on_progress(self, leg: Leg, event: SwitchEvent) -> None:
        if leg.ringing or leg.hanging or leg.role is Role.GLUE:
            return
        leg.ringing = True
        for call in self._calls_of(leg):
            if leg.client_of != call.callid:
                self._offer(call, leg, event.at)

    def _on_variables_only(self, leg: Leg, event: SwitchEvent) -> None:
        """Nothing beyond the channel variables that every event is searched for."""

    def _on_bridge(self, leg: Leg, event: SwitchEvent) -> None:
        other = event.get("Other-Leg-Unique-ID") or event.get("Bridge-B-Unique-ID")
        ends = self.book.bridge(leg.uuid, other)
        if ends is None:
            return
        first, second = ends
        ours, theirs = self.calls.get(first.client_of), self.calls.get(second.client_of)
        if theirs is not None and (
            ours is None or (theirs.born, theirs.callid) < (ours.born, ours.callid)
        ):
            second, ours, theirs = first, theirs, ours
        if ours is None or ours is theirs:
            return
        if theirs is not None:
            theirs.unrouted = False
        self._accept(ours, second, event.at)
        self.changed.update(second.calls)

    def _on_unbridge(self, leg: Leg, event: SwitchEvent) -> None:
        if leg.peer == event.get("Other-Leg-Unique-ID"):
            self.book.unbridge(leg)

    def _on_hangup(self, leg: Leg, event: SwitchEvent) -> None:
        """A phone that stops ringing leaves its offer open, without a leg (rule 3)."""
        leg.hanging = True
        for call in self._calls_of(leg):
            for part in call.engagements:
                if part.type is Direction.IN and not part.accepted_at and leg.uuid in part.legs:
                    part.legs.remove(leg.uuid)

    def _on_hangup_complete(self, leg: Leg, event: SwitchEvent) -> None:
        at = event.at
        leg.hanging = True
        calls = self._calls_of(leg)
        recordings.end_all(self._recordings_about(leg), leg.uuid, at)
        for call in calls:
            self._leave(call, leg, event)
        self.book.remove(leg)
        self._ended[leg.uuid] = None
        if len(self._ended) > REMEMBERED_LEGS:
            self._ended.popitem(last=False)
        for call in calls:
            self._settle(call, at)

    def _on_record_start(self, leg: Leg, event: SwitchEvent) -> None:
        if path := event.get("Record-File-Path"):
            recordings.begin(self._recordings_about(leg), path, leg.uuid, event.at)

    def _on_record_stop(self, leg: Leg, event: SwitchEvent) -> None:
        path, cause = event.get("Record-File-Path"), event.get("Record-Completion-Cause")
        recordings.end(self._recordings_about(leg), path, leg.uuid, event.at, cause)
        for call in self._calls_of(leg):
            self._settle(call, event.at)

    # what every event may carry

    def _is_repeated(self, leg: Leg, event: SwitchEvent) -> bool:
        """Tell whether this very event was taken before; FreeSWITCH numbers its events."""
        number = event.number("Event-Sequence")
        if number in leg.seen:
            return True
        if number:
            leg.seen.append(number)
        return False

    def _note_variables(self, leg: Leg, event: SwitchEvent) -> None:
        """Read `planfix_ignore` and `planfix_data_*`: from the dialplan, never from SIP headers."""
        if read_variables(leg, event):
            for call in self._calls_of(leg):
                self._share_variables(call, leg)

    def _share_variables(self, call: Call, leg: Leg) -> None:
        call.data = merged(call.data, leg.data)
        if leg.ignored and not call.position:
            call.ignored = True

    # calls and their parties

    def _calls_of(self, leg: Leg) -> list[Call]:
        return [self.calls[callid] for callid in leg.calls if callid in self.calls]

    def _join(self, call: Call, leg: Leg) -> None:
        """Make a leg part of a call; a recording that runs on it belongs to the call as well."""
        if call.callid in leg.calls:
            return
        leg.calls = [callid for callid in leg.calls if callid in self.calls] + [call.callid]
        call.legs.append(leg.uuid)
        self._share_variables(call, leg)
        ext = self._ext_in(call, leg)
        call.recordings += [
            Recording(r.path, r.leg, r.started, ext) for r in leg.recordings if not r.stopped
        ]

    def _ext_in(self, call: Call, leg: Leg) -> str:
        """Return the ext a leg goes by in a call: an outside party who is not its client counts as
        an employee."""
        if leg.role is Role.OUTSIDE and leg.client_of != call.callid:
            return self.rules.aliases.get(leg.number, leg.number)
        return leg.ext

    def _new_incoming(self, leg: Leg, at: int) -> None:
        phone = leg.number or self.rules.hidden_number
        call = Call(leg.uuid, Direction.IN, phone, leg.line, at, [leg.uuid], came_in=leg.inbound)
        self.calls[call.callid] = call
        leg.client_of = call.callid
        self._join(call, leg)

    def _reach_outside(self, employee: Leg, leg: Leg, at: int) -> None:
        """A leg to the outside for an employee's leg: a new outgoing call, or the next gateway
        tried for it."""
        call = self.calls.get(employee.uuid)
        if call is not None:
            leg.client_of = call.callid
            call.clients.append(leg.uuid)
            self._join(call, leg)
            return
        phone = leg.number or self.rules.hidden_number
        call = Call(employee.uuid, Direction.OUT, phone, leg.line, at, [leg.uuid])
        self.calls[call.callid] = call
        leg.client_of = call.callid
        self._join(call, employee)
        self._join(call, leg)
        self._engage(call, employee.ext, employee, at, Direction.OUT)

    def _try(self, call: Call, leg: Leg) -> None:
        """An employee's phone is called for the client; whether it rings is not known yet."""
        ext = self._ext_in(call, leg)
        if call.over or not ext:
            return
        self._join(call, leg)
        if ext not in call.tried:
            call.tried.append(ext)

    def _offer(self, call: Call, leg: Leg, at: int) -> None:
        """An employee's phone rings for the client (rules 1 and 3)."""
        ext = self._ext_in(call, leg)
        if call.over or not ext:
            return
        part = next((part for part in call.engagements if part.ext == ext), None)
        if part is not None:
            if part.type is Direction.IN and not part.accepted_at:
                part.legs.append(leg.uuid)
            return
        for open_offer in self._offers(call):
            if not open_offer.legs:
                self._complete(call, open_offer, Status.CANCELED, at)
        self._engage(call, ext, leg, at, Direction.IN)

    def _accept(self, call: Call, leg: Leg, at: int) -> None:
        """An employee and the client hear each other (rules 2, 5 and 8)."""
        ext = self._ext_in(call, leg)
        if call.over or not ext:
            return
        self._join(call, leg)
        part = next((part for part in call.engagements if part.ext == ext), None)
        if part is None:
            part = self._engage(call, ext, leg, at, Direction.IN)
        part.ended_at = 0
        if part.accepted_at or part.type is Direction.OUT:
            part.legs = [*(uuid for uuid in part.legs if uuid != leg.uuid), leg.uuid]
        else:
            part.legs = [leg.uuid]
        if part.accepted_at:
            return
        part.accepted_at = max(at, 1)
        call.talked = True
        self._say(call, Kind.ACCEPTED, part, at)
        for open_offer in self._offers(call):
            self._complete(call, open_offer, Status.CANCELED, at)

    def _offers(self, call: Call) -> list[Engagement]:
        return [p for p in call.engagements if p.type is Direction.IN and not p.accepted_at]

    def _leave(self, call: Call, leg: Leg, event: SwitchEvent) -> None:
        """Take a leg that is gone out of a call."""
        call.legs.remove(leg.uuid)
        if leg.uuid in call.clients:
            call.clients.remove(leg.uuid)
            call.failure = failure_of(event)
        for part in call.engagements:
            if leg.uuid in part.legs:
                part.legs.remove(leg.uuid)
            if part.accepted_at and not call.clients and not part.ended_at:
                part.ended_at = max(event.at, 1)

    # endings

    def _settle(self, call: Call, at: int) -> None:
        """Say what has ended (rules 4, 6, 9 and 13)."""
        for part in list(call.engagements):
            if self._is_done(call, part):
                status = Status.SUCCESS if part.accepted_at else call.failure
                self._complete(call, part, status, at)
        if not call.clients and not call.over:
            call.over = not any(part.type is Direction.OUT for part in call.engagements)
            if call.over:
                self._close(call, at)
        if call.over and all(recording.stopped for recording in call.recordings):
            self._say_recordings(call, at)
            del self.calls[call.callid]

    def _is_done(self, call: Call, part: Engagement) -> bool:
        """Tell whether a talk or an outgoing call is over for good."""
        if part.type is Direction.OUT and (not part.accepted_at or not call.clients):
            return not part.legs and not call.clients
        if not part.accepted_at:
            return False
        legs = map(self.book.get, call.clients)
        client_is_hanging_up = any(leg is not None and leg.hanging for leg in legs)
        return not call.clients or (not part.legs and not client_is_hanging_up)

    def _close(self, call: Call, at: int) -> None:
        """The client is gone: offers that are still open were missed, and so was a call nobody was
        told of."""
        for open_offer in self._offers(call):
            self._complete(call, open_offer, Status.MISSED, at)
        if call.type is Direction.OUT or not call.unrouted or not self.rules.report_unrouted:
            return
        exts = call.tried or ([self.rules.default_ext] if call.came_in else [])
        for ext in exts:
            part = self._engage(call, ext, None, at, Direction.IN)
            self._complete(call, part, Status.MISSED, at)

    def _engage(
        self, call: Call, ext: str, leg: Leg | None, at: int, direction: Direction
    ) -> Engagement:
        """Begin an employee's part in the call and say so."""
        ordinal = call.ordinals[ext] = call.ordinals.get(ext, 0) + 1
        part = Engagement(ext, ordinal, direction, [leg.uuid] if leg is not None else [])
        call.engagements.append(part)
        call.unrouted = False
        self._say(call, Kind.INCOMING if direction is Direction.IN else Kind.OUTGOING, part, at)
        return part

    def _complete(self, call: Call, part: Engagement, status: Status, at: int) -> None:
        """End an employee's part in the call and say so."""
        call.engagements.remove(part)
        duration, is_recorded = 0, False
        if status is Status.SUCCESS:
            end = part.ended_at or at
            duration = max(end - part.accepted_at, 0) // 1_000_000
            is_recorded = any(
                r.ext in ("", part.ext) and r.overlaps(part.accepted_at, end)
                for r in call.recordings
            )
        self._say(
            call,
            Kind.COMPLETED,
            part,
            at,
            status=status,
            duration=duration,
            is_recorded=is_recorded,
            data=dict(call.data),
        )

    def _say(self, call: Call, kind: Kind, part: Engagement, at: int, **more: Any) -> None:
        if call.ignored:
            return
        call.position += 1
        self._said.append(
            Notice(
                callid=call.callid,
                kind=kind,
                position=call.position,
                at=at,
                type=part.type,
                phone=call.phone,
                diversion=call.diversion,
                ext=part.ext,
                ordinal=part.ordinal,
                **more,
            )
        )

    def _recordings_about(self, leg: Leg) -> recordings.Kept:
        """Return every list a recording on this leg is kept in: the leg's own and those of its
        calls."""
        kept = [(leg.recordings, leg.ext)]
        return kept + [(call.recordings, self._ext_in(call, leg)) for call in self._calls_of(leg)]

    def _say_recordings(self, call: Call, at: int) -> None:
        if not call.talked:
            return
        final = [recording for recording in call.recordings if not recording.discarded]
        for ordinal, recording in enumerate(final, 1):
            nobody = Engagement("", ordinal, call.type, [])
            self._say(call, Kind.RECORD, nobody, at, recording=recording.path)
