"""Raw bookkeeping of FreeSWITCH's legs: which hang together, who is bridged with whom.

What any of it means for Planfix is the tracker's business (docs/call-rules.md, "Which legs
belong together").
"""

from __future__ import annotations

from collections.abc import Iterator

from ..freeswitch.events import SwitchEvent
from .model import ACCOUNT, Leg, Role


def end_unheard(leg: Leg, at: int) -> SwitchEvent:
    """Return the end of a leg that is gone and nobody knows why; at: microseconds since 1970."""
    return SwitchEvent.made_of(
        {
            "Event-Name": "CHANNEL_HANGUP_COMPLETE",
            "Unique-ID": leg.uuid,
            "Event-Date-Timestamp": str(at),
        }
    )


def is_first_time(leg: Leg, event: SwitchEvent) -> bool:
    """Remember an event of a leg by its Event-Sequence; return whether it is new.

    After a new link, or from another worker, the same event may come twice.
    """
    number = event.number("Event-Sequence")
    if number in leg.seen:
        return False
    if number:
        leg.seen.append(number)
    return True


class LegBook:
    """The legs that are up now."""

    def __init__(self) -> None:
        self.legs: dict[str, Leg] = {}

    def get(self, uuid: str) -> Leg | None:
        """Return the leg with this UUID if it is up and known."""
        return self.legs.get(uuid)

    def placed_for(self, leg: Leg) -> Leg | None:
        """Return the party that `leg` was placed for, None if unknown."""
        way = self.way_to_party(leg)
        if not way or way[-1].role is Role.GLUE:
            return None
        return way[-1]

    def way_to_party(self, leg: Leg) -> list[Leg]:
        """Return the legs of loopbacks that a leg was placed through, and the party behind them.

        A leg placed for one half of a loopback is placed for whoever placed the loopback, else for
        whoever is bridged with the other half (report r19a: a loopback that rings the employee).
        """
        passed = {leg.uuid}
        way: list[Leg] = []

        found = self.legs.get(leg.parent) or self._before_loopback(leg, passed)
        while found is not None and found.uuid not in passed:
            passed.add(found.uuid)
            way.append(self.legs.get(found.stands_for, found))
            if way[-1].role is not Role.GLUE:
                break
            found = self.legs.get(found.parent) or self._before_loopback(found, passed)

        return way

    def _before_loopback(self, half: Leg, passed: set[str]) -> Leg | None:
        """Return what lies before a half of a loopback that names no parent."""
        pair = self.legs.get(half.pair)
        if pair is not None and pair.uuid not in passed:
            return pair
        if half.role is not Role.GLUE:
            return None
        return self.legs.get(half.peer)

    def bridge(self, one: Leg, other: Leg) -> None:
        """Note that two legs are bridged with each other, and with nobody else."""
        for leg in (one, other):
            self.unbridge(leg)
        one.peer, other.peer = other.uuid, one.uuid

    def unbridge(self, leg: Leg) -> None:
        """Note that a leg is bridged with nobody any more."""
        peer = self.legs.get(leg.peer)
        if peer is not None and peer.peer == leg.uuid:
            peer.peer = ""
        leg.peer = ""

    def opposite(self, leg: Leg) -> Leg | None:
        """Return the party that a leg is bridged with, through loopbacks if need be."""
        passed: set[str] = set()
        found = self.legs.get(leg.peer)
        while found is not None and found.role is Role.GLUE:
            if found.uuid in passed:
                return None
            passed.add(found.uuid)
            pair = self.legs.get(found.pair)
            if pair is None:
                return None
            found = self.legs.get(pair.peer)

        if found is leg:
            return None
        return found

    def ends_of(self, leg: Leg) -> tuple[Leg, Leg] | None:
        """Return the two parties of the bridge that a leg is part of, if both are known."""
        near: Leg | None = leg
        if leg.role is Role.GLUE:
            pair = self.legs.get(leg.pair)
            if pair is None:
                return None
            near = self.opposite(pair)

        far = self.opposite(leg)
        if near is None or far is None or near is far:
            return None
        return near, far

    def placed_for_party(self, party: Leg) -> Iterator[Leg]:
        """Yield the legs that were placed for a party."""
        return (leg for leg in list(self.legs.values()) if self.placed_for(leg) is party)

    def exts_in_calls(self, account: str = ACCOUNT) -> set[str]:
        """Return an account's exts whose phone has answered a call or placed one; ringing is none
        yet."""
        return {
            leg.ext
            for leg in self.legs.values()
            if leg.ext and (leg.account or leg.read_for or ACCOUNT) == account
            if not leg.hanging and (leg.inbound or leg.answered)
        }

    def rename(self, old: str, new: str) -> Leg | None:
        """Follow a CHANNEL_UUID: the leg `old` is called `new` from now on."""
        leg = self.legs.get(old)
        if leg is None or new in self.legs:
            return None

        del self.legs[old]
        leg.uuid = new
        self.legs[new] = leg

        for other in self.legs.values():
            for name in ("parent", "pair", "peer", "stands_for"):
                if getattr(other, name) == old:
                    setattr(other, name, new)
        return leg

    def remove(self, leg: Leg) -> None:
        """Forget a leg that has ended."""
        self.unbridge(leg)
        self.legs.pop(leg.uuid, None)
