"""The ends of what one worker began and another, which closed the call, never heard of
(docs/delivery-rules.md, rule 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .model import Direction, Kind, Notice, Status


def left_open(said: Sequence[Notice]) -> list[Notice]:
    """Return the ends of what was begun in a call that is over and has no end.

    Two workers may learn different things around a cut: one says that a phone rings, the other
    closes the call and has never heard of that phone. said: everything said of the call, by
    whomever.
    """
    at = max((n.at for n in said), default=0)
    position = max((n.position for n in said), default=0)
    begun = {(n.ext, n.ordinal): n for n in said if n.kind in (Kind.INCOMING, Kind.OUTGOING)}
    accepted = {(n.ext, n.ordinal): n for n in said if n.kind is Kind.ACCEPTED}
    ended = {(n.ext, n.ordinal) for n in said if n.kind is Kind.COMPLETED}
    ends = []
    for part, start in begun.items():
        if part in ended:
            continue
        duration = 0
        if part in accepted:
            status, rule = Status.SUCCESS, "4"
            duration = max(at - accepted[part].at, 0) // 1_000_000
        elif start.type is Direction.OUT:
            status, rule = Status.NOT_AVAILABLE, "9"
        elif accepted:
            status, rule = Status.CANCELED, "2"
        else:
            status, rule = Status.MISSED, "3"
        ends.append(
            replace(
                start,
                kind=Kind.COMPLETED,
                position=position,
                at=at,
                status=status,
                duration=duration,
                rule=rule,
            )
        )
    return ends
