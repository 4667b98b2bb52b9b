"""The employees' parts in a call: how each begins, becomes a talk, ends, and is told to Planfix.

Each rule of docs/call-rules.md has one place here: offers (rules 1 and 3), talks (rules 2, 5
and 8), their ends (rules 4 and 9), and what a call that is over still owes (rules 3 and 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .call_recordings import is_recorded
from .identity import counts_as
from .legs import LegBook
from .model import (
    ACCOUNT,
    MICROSECONDS,
    RECORDS,
    Call,
    Direction,
    Kind,
    Leg,
    Notice,
    Part,
    Role,
    Status,
    Windows,
)
from .own_data import own_data
from .unclaimed import Unclaimed
from .variables import merged
from .whose import AccountRules


class Parts:
    """Begins and ends parts. said: what Planfix must be told, until somebody takes it."""

    def __init__(self, rules: AccountRules, book: LegBook, unclaimed: Unclaimed) -> None:
        self.said: list[Notice] = []
        self._rules = rules
        self._book = book
        self._unclaimed = unclaimed

    # offers

    def offer(self, call: Call, leg: Leg, at: int) -> None:
        """An employee's phone rings for the client (rules 1 and 3)."""
        ext = counts_as(self._rules.of(call.account), call, leg)
        if call.over or not ext:
            return
        part = self._part_of(call, ext, at)
        if part is not None:
            if part.is_offer and leg.uuid not in part.legs:
                part.legs.append(leg.uuid)
            return

        # phones that stopped without an answer: the call has gone on to the next (rule 3)
        for given_up in self._offers(call):
            if not given_up.legs:
                self._complete(call, given_up, Status.CANCELED, at, rule="3")

        if self._opens_at_the_answer(call):
            silent = self._part(call, ext, [leg.uuid], Direction.IN)
            silent.silent_since = at
            return

        rule = "1" if call.type is Direction.IN else "10"
        self.begin(call, ext, [leg.uuid], at, Direction.IN, rule)

    def _opens_at_the_answer(self, call: Call) -> bool:
        """Tell whether an offer of this call is kept from Planfix until it is taken (rule 18)."""
        windows = self._rules.of(call.account).windows
        if call.type is not Direction.IN or windows is Windows.RING:
            return False
        return windows is Windows.ANSWER or not call.known

    def _break_silence(self, call: Call, part: Part) -> None:
        """Say that a phone has rung, if Planfix was not told when it did (rule 18)."""
        if part.silent_since is not None:
            at, part.silent_since = part.silent_since, None
            call.unrouted = False
            self._say(call, Kind.INCOMING, part, at, rule="18")

    # talks

    def connect(self, call: Call, leg: Leg, at: int, both_answered: bool) -> None:
        """The client is bridged with a leg: somebody rings, or hears him (rules 1, 2, 5 and 8)."""
        if call.over:
            return

        ext = counts_as(self._rules.of(call.account), call, leg)
        if ext or both_answered:
            self._leave_others(call, ext, at)

        if both_answered:
            self._accept(call, leg, ext, at)
        else:
            self.offer(call, leg, at)

    def _accept(self, call: Call, leg: Leg, ext: str, at: int) -> None:
        if not ext:
            self.hear(call, leg, at)
            return

        part = self._part_of(call, ext, at)
        if part is None:
            rule = "5" if call.type is Direction.IN else "10"
            part = self.begin(call, ext, [leg.uuid], at, Direction.IN, rule)

        part.parted_at = None
        # of several phones of his only the one that has the client counts from now on
        if part.is_offer:
            part.legs = [leg.uuid]
        elif leg.uuid not in part.legs:
            part.legs.append(leg.uuid)
        if part.accepted_at is not None:
            return

        self._break_silence(call, part)
        part.accepted_at = at
        rule = "2" if part.type is Direction.IN else "8"
        self._say(call, Kind.ACCEPTED, part, at, rule)

        # windows close on the others' screens as soon as one has the client
        for lost in self._offers(call):
            self._complete(call, lost, Status.CANCELED, at, rule="2")

    def hear(self, call: Call, leg: Leg, at: int) -> None:
        """The client talks with somebody of whom Planfix is told only if nothing else is (rule 6).

        That is somebody without an ext, or whoever is in a conference with him.
        """
        ext = ""
        if leg.role is Role.EMPLOYEE:
            ext = counts_as(self._rules.of(call.account), call, leg)
        if not any(part.is_talk and leg.uuid in part.legs for part in call.untold):
            talk = Part(ext, 0, Direction.IN, [leg.uuid], accepted_at=at)
            call.untold.append(talk)

    def meet(self, call: Call, leg: Leg, at: int, both_answered: bool) -> None:
        """Somebody is in a conference with the client (rule 6).

        If he was rung for the client, or called him, and nobody has talked yet, this is the talk.
        """
        talks = call.talks or any(part.is_talk for part in call.parts)
        is_his = any(leg.uuid in part.legs for part in call.parts)
        if is_his and both_answered and not talks and not call.over:
            self._accept(call, leg, counts_as(self._rules.of(call.account), call, leg), at)
        else:
            self.hear(call, leg, at)

    def note_parting(self, call: Call, leg: Leg, at: int) -> None:
        """The client's leg was unbridged from another (rule 4); he may be put through again."""
        for talk in (*call.parts, *call.untold):
            if leg.uuid in talk.legs and talk.is_talk:
                talk.parted_at = at

    def leave_conference(self, call: Call, leg: Leg, at: int) -> None:
        """A member left the conference: the client himself, or somebody he heard there (rule 6)."""
        for talk in call.untold:
            if talk.is_talk and (leg.uuid in call.clients or leg.uuid in talk.legs):
                talk.ended_at = at

    def _leave_others(self, call: Call, ext: str, at: int) -> None:
        """The client is with `ext` now: whoever he is bridged with no more has talked (rule 4).

        During a consultation he is bridged with nobody, which ends nothing. An employee who has
        hung up need not wait for his leg to be torn down, which may take as long as its
        application runs.
        """
        for part in list(call.parts):
            if part.accepted_at is None or part.ext == ext:
                continue
            if part.is_talk and not self._is_with_client(call, part):
                part.ended_at = at if part.parted_at is None else part.parted_at
                part.ended_by = "transfer"
            if part.ended_at is not None:
                self._complete(call, part, Status.SUCCESS, at, rule="4")

        for talk in call.untold:
            if talk.is_talk and not self._is_with_client(call, talk):
                talk.ended_at = at if talk.parted_at is None else talk.parted_at

    def _is_with_client(self, call: Call, part: Part) -> bool:
        """Tell whether any leg of a part is bridged with the client."""
        legs = (self._book.get(uuid) for uuid in part.legs)
        opposites = (self._book.opposite(leg) for leg in legs if leg is not None)
        return any(other is not None and other.uuid in call.clients for other in opposites)

    # hang-ups

    def hang_up(self, call: Call, leg: Leg, at: int) -> None:
        """A leg hangs up (rules 3, 4 and 9); it may be torn down much later."""
        # a gateway that was rung beside the one that answered may take long to let go
        up = [uuid for uuid in self._up(call.clients) if self._has_answered(uuid)]

        client_is_gone = leg.uuid in call.clients and not up
        for part in (*call.parts, *call.untold):
            is_his = leg.uuid in part.legs
            if part.is_offer:
                if is_his:
                    part.legs.remove(leg.uuid)
                    self._lose_late(call, part, at)
                continue

            if not client_is_gone and not (is_his and not self._up(part.legs)):
                continue
            if part.is_talk:
                part.ended_at = at
                part.ended_by = "client" if leg.uuid in call.clients else "employee"
            elif part.accepted_at is None and self._up(call.clients):
                part.gave_up = True

    def _lose_late(self, call: Call, offer: Part, at: int) -> None:
        """A phone that began to ring while a colleague had the client stops: he lost (rule 2)."""
        talks = [part for part in call.parts if part.is_talk]
        if not offer.legs and any(self._is_with_client(call, part) for part in talks):
            self._complete(call, offer, Status.CANCELED, at, rule="2")

    def _has_answered(self, uuid: str) -> bool:
        leg = self._book.get(uuid)
        return leg is not None and leg.answered

    def _up(self, uuids: list[str]) -> list[str]:
        """Return those legs that have not hung up."""
        legs = (self._book.get(uuid) for uuid in uuids)
        return [leg.uuid for leg in legs if leg is not None and not leg.hanging]

    def settle(self, call: Call, at: int) -> None:
        """Say what has ended, a leg of the call being gone (rules 4 and 9)."""
        for part in list(call.parts):
            if self._is_done(call, part):
                self.conclude(call, part, at)

    def conclude(self, call: Call, part: Part, at: int) -> None:
        """End a talk, or an outgoing call that came to nothing."""
        if part.accepted_at is not None:
            self._complete(call, part, Status.SUCCESS, at, rule="4")
            return

        failure = call.failure
        if part.gave_up and failure is Status.NOT_AVAILABLE:
            failure = Status.NO_ANSWER
        self._complete(call, part, failure, at, rule="9")

    def _is_done(self, call: Call, part: Part) -> bool:
        """Tell whether nothing can change about a talk or an outgoing call any more."""
        if part.is_offer:
            return False
        if part.accepted_at is None:
            return self._attempt_is_over(call, part)
        return self._talk_is_over(call, part)

    @staticmethod
    def _attempt_is_over(call: Call, part: Part) -> bool:
        """Tell whether an outgoing call that nobody answered has ended (rule 9).

        The employee's legs must be gone, too: he may try the next gateway on the same leg.
        """
        return not part.legs and (part.gave_up or not call.clients)

    def _talk_is_over(self, call: Call, part: Part) -> bool:
        """Tell whether all that belongs to a talk has ended (rule 4).

        An incoming call is over with the client. An employee of an outgoing call may call the next
        client on the same leg, so that leg must be gone.

        While the client's leg hangs up, what runs on it still ends: RECORD_STOP precedes the
        HANGUP_COMPLETE of its own leg, and COMPLETED says whether the talk was recorded.
        """
        if part.type is Direction.IN and not call.clients:
            return True

        client_hangs_up = len(self._up(call.clients)) < len(call.clients)
        return not part.legs and not client_hangs_up

    # a call that is over

    def close(self, call: Call, at: int) -> None:
        """The client is gone: offers that are still open were missed (rules 3 and 6).

        If it is not known how it went on for a client who was through, nobody is said to have
        missed him (rule 15).
        """
        offers, untold = self._offers(call), self._untold_talks(call)
        ends = self._missed_by(call, len(offers))
        if untold:
            ends = [Status.CANCELED] * len(offers)

        for offer, status in zip(offers, ends, strict=True):
            rule = "6"
            if status is Status.MISSED:
                rule = "3"
            elif call.unheard and not untold:
                rule = "15"
            self._complete(call, offer, status, at, rule)

        self._tell(call, untold, at)
        rules = self._rules.of(call.account)
        if call.type is Direction.OUT or not call.unrouted or not rules.report_unrouted:
            return

        ends = self._missed_by(call, len(call.tried))
        missed = list(zip(call.tried, ends, strict=True))
        # nobody was even tried: the line's own ext answers for the call
        if not missed and call.came_in:
            status = Status.CANCELED if call.unheard else Status.MISSED
            missed = [(rules.default_ext_of(call.diversion), status)]

        rule = "15" if call.unheard else "6"
        for ext, status in missed:
            part = self.begin(call, ext, [], at, Direction.IN, rule="6")
            self._complete(call, part, status, at, rule)

    def _missed_by(self, call: Call, count: int) -> list[Status]:
        """Return how a call that nobody took ended for each employee, by MISSED (rule 6)."""
        if call.unheard:
            return [Status.CANCELED] * count
        ends = [Status.CANCELED] * count
        for place in self._rules.of(call.account).missed_of(count):
            ends[place] = Status.MISSED
        return ends

    @staticmethod
    def _untold_talks(call: Call) -> list[Part]:
        """Return the talks to tell of if no other was: in a conference, else without an ext.

        A call that we placed to the client and that no employee took part in is nobody's business.
        """
        if call.talks or call.type is Direction.OUT:
            return []
        with_ext = [talk for talk in call.untold if talk.ext]
        if not with_ext and call.came_in:
            return call.untold
        return with_ext

    def _tell(self, call: Call, talks: list[Part], at: int) -> None:
        """Tell of talks that nobody was told of, those with the same ext as one."""
        for ext in dict.fromkeys(talk.ext for talk in talks):
            his = [talk for talk in talks if talk.ext == ext]
            first = his[0].accepted_at
            start = at if first is None else first
            shown = ext or self._rules.of(call.account).default_ext_of(call.diversion)

            part = self.begin(call, shown, [], start, Direction.IN, rule="6")
            part.accepted_at = start
            self._say(call, Kind.ACCEPTED, part, start, rule="6")
            self._complete(call, part, Status.SUCCESS, at, "6", talks=his)

    # saying so

    def begin(
        self, call: Call, ext: str, legs: list[str], at: int, direction: Direction, rule: str
    ) -> Part:
        """Begin an employee's part in the call and say so."""
        part = self._part(call, ext, legs, direction)
        call.unrouted = False

        kind = Kind.INCOMING if direction is Direction.IN else Kind.OUTGOING
        self._say(call, kind, part, at, rule)
        return part

    @staticmethod
    def _part(call: Call, ext: str, legs: list[str], direction: Direction) -> Part:
        ordinal = call.ordinals[ext] = call.ordinals.get(ext, 0) + 1
        part = Part(ext, ordinal, direction, legs)
        call.parts.append(part)
        return part

    def record(self, call: Call, paths: Sequence[str], at: int) -> None:
        """Say which recordings are final (rule 13). A recovered call goes on counting them."""
        for path in paths:
            ordinal = call.ordinals[RECORDS] = call.ordinals.get(RECORDS, 0) + 1
            if len(paths) == 1:
                self._offer_link(call, path, ordinal)
            nobody = Part("", ordinal, call.type, [])
            self._say(call, Kind.RECORD, nobody, at, rule="13", recording=path)

    def _offer_link(self, call: Call, path: str, ordinal: int) -> None:
        """Let the COMPLETED of the call's only talk carry the link, if this event says both."""
        if len(call.talks) != 1:
            return
        for place, notice in enumerate(self.said):
            if notice.callid == call.callid and notice.is_recorded:
                self.said[place] = replace(notice, recording=path, linked_by=ordinal)

    def _part_of(self, call: Call, ext: str, at: int) -> Part | None:
        """Return the part an ext has in the call now; a talk that has ended is none any more."""
        part = next((part for part in call.parts if part.ext == ext), None)
        if part is not None and part.ended_at is not None:
            self._complete(call, part, Status.SUCCESS, at, rule="4")
            return None
        return part

    @staticmethod
    def _offers(call: Call) -> list[Part]:
        return [part for part in call.parts if part.is_offer]

    def _complete(
        self,
        call: Call,
        part: Part,
        status: Status,
        at: int,
        rule: str,
        talks: Sequence[Part] = (),
    ) -> None:
        """End an employee's part in the call and say so.

        An offer that Planfix was not told of and that came to nothing stays untold (rule 18).

        talks: the talks that a Success stands for; without any, the part itself is the one.
        """
        spans: list[tuple[int, int]] = []
        if status is Status.SUCCESS:
            for talk in talks or [part]:
                start = at if talk.accepted_at is None else talk.accepted_at
                end = at if talk.ended_at is None else talk.ended_at
                spans.append((start, end))
        own = own_data(call, part, status, at, spans, self._rules.of(call.account))
        call.talks += spans

        call.parts.remove(part)
        if part.silent_since is not None and status is Status.CANCELED:
            return
        self._break_silence(call, part)
        self._say(
            call,
            Kind.COMPLETED,
            part,
            at,
            rule,
            status=status,
            duration=sum(max(end - start, 0) for start, end in spans) // MICROSECONDS,
            is_recorded=any(is_recorded(call, part.ext, start, end) for start, end in spans),
            data=merged(dict(call.data), own),
            contact=call.contact,
        )

    def _say(self, call: Call, kind: Kind, part: Part, at: int, rule: str, **more: Any) -> None:
        if not call.position and not call.ignored:
            self._decide(call, at)
        if call.ignored:
            return
        call.position += 1
        self.said.append(
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
                rule=rule,
                account=call.account or ACCOUNT,
                **more,
            )
        )

    def _decide(self, call: Call, at: int) -> None:
        """Decide once, with the first word, whether a call is told, and as whose.

        docs/call-rules.md, "Whose call".
        """
        if not self._rules.tells_of(call):
            self._unclaimed.count(call, at)
            call.ignored = True
            return
        if not self._rules.is_narrowed:
            call.account = ACCOUNT
        call.ignored = not call.phone or self._rules.of(call.account).ignores(call.phone)
