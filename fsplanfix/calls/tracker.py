"""Turns the event stream of one FreeSWITCH into what Planfix is told: docs/call-rules.md.

A function of the events alone: no clock, no timers. Feeding the same events again says nothing new.
Events find their calls here; parties.py tells who is on a leg, parts.py what an employee had of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from ..freeswitch.events import SwitchEvent, is_uuid
from . import call_recordings, whose
from .doubts import Doubts
from .hangup_causes import NO_PHONE, failure_of
from .identity import Callids, counts_as, ends_alike, is_foreign, number_called
from .legs import LegBook, end_unheard, is_first_time
from .model import Call, Direction, Leg, Notice, Part, Recording, Role, Status
from .own_data import read_own_data
from .parties import parents_of
from .parts import Parts
from .unclaimed import Unclaimed
from .variables import is_true, merged, read_variables
from .voicemail import has_rule, note_message, subclasses
from .whose import AnyRules, all_rules

REMEMBERED_LEGS = 10_000
"""Ended legs that are still known, so that a CHANNEL_CREATE that arrives twice starts nothing."""


class Tracker:
    """Follows the calls of one FreeSWITCH.

    calls: the client calls that are not over, by callid. changed: callids touched since a caller
    last cleared it. last_at: the last sign of life of this FreeSWITCH, microseconds since 1970.
    """

    def __init__(self, rules: AnyRules) -> None:
        self.rules = all_rules(rules)
        self.book = LegBook()
        self.calls: dict[str, Call] = {}
        self.callids = Callids(self.calls)
        self.doubts = Doubts(self.rules)
        self.unclaimed = Unclaimed()
        self.changed: set[str] = set()
        self.last_at = 0
        self._parts = Parts(self.rules, self.book, self.unclaimed)
        self._ended: OrderedDict[str, int] = OrderedDict()
        self._handlers: dict[str, Callable[[Leg, SwitchEvent], None]] = {
            "CHANNEL_PROGRESS": self._on_progress,
            "CHANNEL_PROGRESS_MEDIA": self._on_progress,
            "CHANNEL_ANSWER": self._on_answer,
            "CHANNEL_BRIDGE": self._on_bridge,
            "CHANNEL_UNBRIDGE": self._on_unbridge,
            "CHANNEL_HANGUP": self._on_hangup,
            "CHANNEL_HANGUP_COMPLETE": self._on_hangup_complete,
            "RECORD_START": self._on_record_start,
            "RECORD_STOP": self._on_record_stop,
            "CUSTOM": self._on_conference,
        }

    @property
    def event_names(self) -> list[str]:
        """Return the events to subscribe to: exactly those that have a rule.

        CUSTOM comes last: FreeSWITCH takes every name behind it for a subclass.
        """
        return ["CHANNEL_CREATE", "CHANNEL_UUID", *self._handlers, *subclasses(self.rules)]

    def feed(self, event: SwitchEvent) -> list[Notice]:
        """Take one event, in the order FreeSWITCH sent it; return what Planfix must be told."""
        self.last_at = max(self.last_at, event.at)
        uuid = event.leg
        if not is_uuid(uuid) or (event.name == "CUSTOM" and not has_rule(event, self.rules)):
            return []

        if event.name == "CHANNEL_CREATE":
            self._on_create(uuid, event)
        elif event.name == "CHANNEL_UUID":
            self._on_uuid(uuid, event)
        elif handler := self._handlers.get(event.name):
            leg = self.book.get(uuid)
            if leg is not None and is_first_time(leg, event):
                self._note_variables(leg, event)
                handler(leg, event)
                self.changed.update(leg.calls)

        return self.take_said()

    def take_said(self) -> list[Notice]:
        """Return what was decided and not taken yet; after an exception in `feed`, too."""
        said, self._parts.said = self._parts.said, []
        return said

    def calls_about(self, event: SwitchEvent) -> list[str]:
        """Return the callids of the calls that an event may have to do with."""
        legs = self._legs((event.leg, event.get("Other-Leg-Unique-ID")))
        return sorted({call.callid for leg in legs for call in self._calls_of(leg)})

    def forget(self, callid: str) -> None:
        """Let go of a call that cannot be followed: whoever keeps its notices ends what is open."""
        call = self.calls.pop(callid, None)
        if call is not None:
            self.callids.end(call)
            self.changed.add(callid)

    # a leg appears

    def _on_create(self, uuid: str, event: SwitchEvent) -> None:
        named = parents_of(event)
        parent = next((uuid for uuid in named if uuid in self.book.legs), (*named, "")[0])
        before = self._account_of(parent or event.get("variable_other_loopback_leg_uuid"))
        leg = whose.read_new_leg(event, self.rules, before)
        known = self.book.get(uuid)
        # `sofia recover` creates the leg anew under its UUID: the call goes on (rule 17)
        if known is not None and leg.recovered:
            known.created, known.hanging, known.seen = leg.created, False, []
            return
        # the same CREATE once more; a UUID that is used again has another time of creation
        if known is not None and known.created == leg.created:
            return
        # this leg has ended already: its CREATE has come a second time
        if self._ended.get(uuid) == leg.created and not leg.recovered:
            return

        if known is not None:
            self._end_unheard(known, event.at)

        is_first_time(leg, event)
        leg.parent = parent
        self.book.legs[uuid] = leg
        self.doubts.look_at(leg, event)
        self._note_variables(leg, event)
        self._place(leg, event.at)
        self.changed.update(leg.calls)

    def _account_of(self, uuid: str) -> str:
        """Return the account by whose rules a leg that is placed for this one is read."""
        leg = self.book.get(uuid)
        if leg is None:
            return ""
        named = next((call.account for call in self._calls_of(leg)[::-1] if call.account), "")
        return named or leg.account or leg.read_for

    def _end_unheard(self, leg: Leg, at: int) -> None:
        """A leg of this UUID is created anew, so the one we know has ended."""
        self._on_hangup_complete(leg, end_unheard(leg, at))
        self.changed.update(leg.calls)

    def _place(self, leg: Leg, at: int) -> None:
        """Find out what a new leg is for."""
        sponsor = self.book.placed_for(leg)
        if sponsor is None:
            if leg.role is Role.OUTSIDE and not leg.parent:
                self._new_incoming(leg, at)
            return

        whose.read_with(sponsor, leg, self.rules)
        if sponsor.role is Role.OUTSIDE and not sponsor.client_of:
            self._new_incoming(sponsor, at)

        call = self.calls.get(sponsor.client_of)
        if leg.role is Role.GLUE:
            for joined in self._calls_of(sponsor):
                self._join(joined, leg)
        elif call is not None:
            self._try(call, leg)
        elif leg.role is Role.OUTSIDE and sponsor.role is Role.EMPLOYEE:
            self._reach_outside(sponsor, leg, at)
        elif leg.role is Role.OUTSIDE and sponsor.role is Role.HOUSE:
            # what a colleague without an ext does outside is not reported, but who gets the client
            # from him is
            self._new_incoming(leg, at)

    def _new_incoming(self, leg: Leg, at: int) -> None:
        """A client calls, or we call him before any employee (call-back, reminder)."""
        hidden = self.rules.of(leg.read_for).hidden_number
        phone = leg.number or (hidden if leg.inbound else "")
        call = self.callids.begin(leg, Direction.IN, phone, leg.line, at, client=leg)
        call.came_in = leg.inbound
        self._open(call, leg, [leg])

    def _reach_outside(self, employee: Leg, leg: Leg, at: int) -> None:
        """A leg to the outside for an employee's leg (rule 7).

        It is the next gateway tried for the same number, a number rung beside the first, the next
        client, or somebody the employee consults while he talks with the first.
        """
        phone = number_called(leg, employee.dialled, self.rules.of(leg.read_for))
        found = self._outgoing(employee)
        if found is not None:
            call, part = found
            clients_up = any(not client.hanging for client in self._legs(call.clients))
            is_same = ends_alike(call.phone, phone) or (clients_up and part.accepted_at is None)
            if is_same and part.ended_at is None:
                leg.client_of = call.callid
                call.clients.append(leg.uuid)
                call.failure = Status.NOT_AVAILABLE
                self._join(call, leg)
                return

            if part.ended_at is not None or not clients_up:
                self._parts.conclude(call, part, at)
                self._finish(call, at)

        named_after = leg if employee.has_named_call else employee
        call = self.callids.begin(named_after, Direction.OUT, phone, leg.line, at, client=leg)
        self._open(call, leg, [employee, *self.book.way_to_party(leg), leg])
        ext = self._ext_in(call, employee)
        self._parts.begin(call, ext, [employee.uuid], at, Direction.OUT, rule="7")

    def _outgoing(self, employee: Leg) -> tuple[Call, Part] | None:
        """Return the latest outgoing call that goes on from an employee's leg, and his part."""
        found = None
        for call in self._calls_of(employee):
            for part in call.parts:
                if part.type is Direction.OUT and employee.uuid in part.legs:
                    found = call, part
        return found

    def _open(self, call: Call, client: Leg, legs: list[Leg]) -> None:
        self.calls[call.callid] = call
        client.client_of = call.callid
        for leg in legs:
            self._join(call, leg)

    def _try(self, call: Call, leg: Leg) -> None:
        """A leg is placed for the client; whether it rings is not known yet."""
        if call.over:
            return
        self._join(call, leg)

        ext = self._ext_in(call, leg)
        if ext and ext not in call.tried:
            call.tried.append(ext)

    def _on_uuid(self, uuid: str, event: SwitchEvent) -> None:
        old = event.get("Old-Unique-ID")
        leg = self.book.rename(old, uuid)
        if leg is None:
            return

        for call in self._calls_of(leg):
            for legs in (
                call.clients,
                call.legs,
                *(part.legs for part in (*call.parts, *call.untold)),
            ):
                legs[:] = [uuid if name == old else name for name in legs]
            for recording in (*call.recordings, *leg.recordings):
                if recording.leg == old:
                    recording.leg = uuid
        self.changed.update(leg.calls)

    # it rings, answers, talks

    def _on_progress(self, leg: Leg, event: SwitchEvent) -> None:
        if leg.ringing or leg.hanging or leg.inbound or leg.role is Role.GLUE:
            return
        leg.ringing = True
        for call in self._calls_of(leg):
            if leg.client_of != call.callid:
                self._parts.offer(call, leg, event.at)

    def _on_answer(self, leg: Leg, event: SwitchEvent) -> None:
        """An answer makes up for a bridge in early media (rule 2)."""
        leg.answered = True

        ends = self.book.ends_of(leg)
        if leg.role is not Role.GLUE and ends is not None:
            self._connect(*ends, event.at)

    def _on_bridge(self, leg: Leg, event: SwitchEvent) -> None:
        """Two legs are bridged, answered or not.

        A 0 stands for a leg that has not answered: it was right in each of 183 bridges, while
        Answer-State speaks of the event's own leg only.
        """
        other = self.book.get(event.get("Other-Leg-Unique-ID") or event.get("Bridge-B-Unique-ID"))
        if other is None or other is leg:
            return

        leg.answered |= event.get("Caller-Channel-Answered-Time") != "0"
        other.answered |= event.get("Other-Leg-Channel-Answered-Time") != "0"
        self.book.bridge(leg, other)

        ends = self.book.ends_of(leg)
        if ends is not None:
            self._connect(*ends, event.at)

    def _connect(self, one: Leg, other: Leg, at: int) -> None:
        """Two parties are bridged: find the call whose client is one of them."""
        if one.hanging or other.hanging:
            return
        if not one.client_of and not other.client_of:
            for employee, outside in ((one, other), (other, one)):
                whose.read_with(employee, outside, self.rules)
                if employee.role is Role.EMPLOYEE and outside.role is Role.OUTSIDE:
                    self._place(outside, at)
                    if not outside.client_of:
                        self._new_incoming(outside, at)  # who placed it is not known (any more)

        ours, theirs = self.calls.get(one.client_of), self.calls.get(other.client_of)
        # two clients bridged with each other: the older call goes on, the later one joins it
        if ours is None or (
            theirs is not None and (theirs.born, theirs.callid) < (ours.born, ours.callid)
        ):
            one, other, ours, theirs = other, one, theirs, ours
        if ours is None or ours is theirs or ours.over:
            return

        if theirs is not None:
            if other.inbound and (theirs.position or theirs.parts or theirs.untold):
                return  # a client with a call of his own is nobody's employee (call_waiting_merge)
            theirs.unrouted = False

        self._join(ours, other)
        self._parts.connect(ours, other, at, both_answered=one.answered and other.answered)
        self.changed.update(other.calls)

    def _on_unbridge(self, leg: Leg, event: SwitchEvent) -> None:
        ends = self.book.ends_of(leg)
        if ends is not None:
            for client, other in (ends, reversed(ends)):
                if call := self.calls.get(client.client_of):
                    self._parts.note_parting(call, other, event.at)
        self.book.unbridge(leg)

    def _on_conference(self, leg: Leg, event: SwitchEvent) -> None:
        """Members of a conference hear each other, without any bridge (rule 6)."""
        note_message(leg, self._calls_of(leg), event, self.rules)
        action, room = event.get("Action"), event.get("Conference-Name")
        if action == "add-member" and room:
            leg.room = room
            for other in [other for other in self.book.legs.values() if other.room == room]:
                self._share_conference(leg, other, event.at)
                self._share_conference(other, leg, event.at)
        elif action == "del-member" and leg.room:
            leg.room = ""
            for call in self._calls_of(leg):
                self._parts.leave_conference(call, leg, event.at)

    def _share_conference(self, client: Leg, other: Leg, at: int) -> None:
        call = self.calls.get(client.client_of)
        if call is not None and other.role in (Role.EMPLOYEE, Role.HOUSE):
            self._join(call, other)
            self._parts.meet(call, other, at, both_answered=client.answered and other.answered)
            self.changed.update(other.calls)

    # it ends

    def _on_hangup(self, leg: Leg, event: SwitchEvent) -> None:
        """A leg hangs up; its application may run on, so this is when a talk has ended (rule 4)."""
        if leg.hanging:
            return
        leg.hanging = True
        for call in self._calls_of(leg):
            if leg.client_of == call.callid:
                call.failure = failure_of(event, leg.ringing)
                # FreeSWITCH always names a cause: without one the end was made up afterwards
                call.unheard = leg.answered and not event.get("Hangup-Cause")
            self._parts.hang_up(call, leg, event.at)

    def _on_hangup_complete(self, leg: Leg, event: SwitchEvent) -> None:
        at = event.at
        self._on_hangup(leg, event)
        calls = self._calls_of(leg)

        goes_on = is_true(event.get("variable_recording_follow_transfer"))
        call_recordings.end_all(self._recordings_about(leg), leg.uuid, at, goes_on)
        for call in calls:
            self._leave(call, leg, event)

        self.book.remove(leg)
        self._ended[leg.uuid] = leg.created
        if len(self._ended) > REMEMBERED_LEGS:
            self._ended.popitem(last=False)

        for call in calls:
            self._parts.settle(call, at)
            self._finish(call, at)

    def _leave(self, call: Call, leg: Leg, event: SwitchEvent) -> None:
        """Take a leg that is gone out of a call."""
        call.legs = [uuid for uuid in call.legs if uuid != leg.uuid]
        for part in (*call.parts, *call.untold):
            if leg.uuid in part.legs:
                part.legs.remove(leg.uuid)

        if leg.uuid not in call.clients:
            return
        call.clients.remove(leg.uuid)

        # no phone rang because none was registered: the user dialled says for whom it was (rule 6)
        if not call.tried and event.get("variable_originate_disposition") in NO_PHONE:
            ext = self.rules.of(call.account).ext_for(event.get("variable_dialed_user"))
            call.tried += [ext] if ext else []

    def _finish(self, call: Call, at: int) -> None:
        """Close a call whose clients are gone, and let go of it once its recordings are final."""
        self.changed.add(call.callid)
        if not call.clients and not call.over:
            call.over = not any(part.type is Direction.OUT for part in call.parts)
            if call.over:
                self._parts.close(call, at)

        if not call.over:
            return
        if call_recordings.become_final(call, self.rules.of(call.account), at):
            self._parts.record(call, call_recordings.to_be_linked(call), at)
            self.callids.end(call)
            del self.calls[call.callid]

    # recordings

    def _on_record_start(self, leg: Leg, event: SwitchEvent) -> None:
        if path := event.get("Record-File-Path"):
            call_recordings.begin(self._recordings_about(leg), path, leg.uuid, event.at)

    def _on_record_stop(self, leg: Leg, event: SwitchEvent) -> None:
        path, cause = event.get("Record-File-Path"), event.get("Record-Completion-Cause")
        call_recordings.end(self._recordings_about(leg), path, leg.uuid, event.at, cause)
        for call in self._calls_of(leg):
            self._finish(call, event.at)

    def _recordings_about(self, leg: Leg) -> call_recordings.Kept:
        """Return every list a recording on this leg is kept in: its own and those of its calls."""
        calls = [call for call in self._calls_of(leg) if not is_foreign(call, leg)]
        own = (leg.recordings, leg.ext)
        return [own, *((call.recordings, self._ext_in(call, leg)) for call in calls)]

    # what every event may carry

    def _note_variables(self, leg: Leg, event: SwitchEvent) -> None:
        is_named = whose.read_account(leg, event, self.rules)
        rules = self.rules.of(leg.read_for)
        news = [is_named, read_variables(leg, event, rules), read_own_data(leg, event, rules)]
        if any(news):
            for call in self._calls_of(leg):
                self._share_variables(call, leg)

        if leg.client_of:
            consulted = event.get("variable_att_xfer_kill_uuid")
            if consulted:
                self._take_over(leg, self.book.get(consulted), event.at)

    def _take_over(self, client: Leg, consulting: Leg | None, at: int) -> None:
        """A transfer while it rings: what was placed for the employee is placed for the client."""
        call = self.calls.get(client.client_of)
        if call is None or consulting is None or consulting.stands_for:
            return

        consulting.stands_for = client.uuid
        self._join(call, consulting)
        for leg in self.book.placed_for_party(client):
            if leg.role is not Role.GLUE and call.callid not in leg.calls:
                self._try(call, leg)
                if leg.ringing and not leg.hanging:
                    self._parts.offer(call, leg, at)
                self.changed.update(leg.calls)

    def _share_variables(self, call: Call, leg: Leg) -> None:
        whose.take_account(call, leg, self.book, self.rules)
        if is_foreign(call, leg):
            return
        call.data = merged(call.data, leg.data)
        call.diversion, call.contact = leg.diversion or call.diversion, leg.contact or call.contact
        call.known |= leg.known
        if leg.client_of == call.callid:
            call.own_data |= leg.own_data
        call.ignored |= leg.ignored and not call.position

    # calls and their legs

    def _calls_of(self, leg: Leg) -> list[Call]:
        return [self.calls[callid] for callid in leg.calls if callid in self.calls]

    def _ext_in(self, call: Call, leg: Leg) -> str:
        return counts_as(self.rules.of(call.account), call, leg)

    def _legs(self, uuids: Iterable[str]) -> list[Leg]:
        legs = (self.book.get(uuid) for uuid in uuids)
        return [leg for leg in legs if leg is not None]

    def _join(self, call: Call, leg: Leg) -> None:
        """Make a leg part of a call; a recording that runs on it now belongs to the call, too."""
        if call.callid in leg.calls:
            return

        leg.calls = [callid for callid in leg.calls if callid in self.calls] + [call.callid]
        call.legs.append(leg.uuid)
        self._share_variables(call, leg)

        if is_foreign(call, leg):
            return
        ext = self._ext_in(call, leg)
        # the file goes on under both: it may hold a talk of either call
        running = [recording for recording in leg.recordings if recording.stopped is None]
        call.recordings += [Recording(r.path, r.leg, r.started, ext) for r in running]
