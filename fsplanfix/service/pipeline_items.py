"""What waits in a pipeline's queue besides events, in its place among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..calls.reconcile import Dump
from ..freeswitch.events import SwitchEvent
from ..outbox.cores import Left


@dataclass(frozen=True, slots=True)
class Resync:
    """The link is back.

    core: the Core-UUID of FreeSWITCH, "" if unknown.
    left: the calls of those FreeSWITCHes that were at its address before.
    states: the open calls as the store knew them before FreeSWITCH was asked.
    alive: its last sign of life in the store (microseconds since 1970).
    channels: its live channels after that, None if unknown.
    events: the events that arrived meanwhile.
    at: when the channels were known (microseconds since 1970, by our own clock).
    """

    core: str
    left: list[Left]
    states: list[str]
    alive: int
    channels: Sequence[Dump] | None
    events: list[SwitchEvent]
    at: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """FreeSWITCH's account of its channels while the link is up.

    touched: the legs that had events while FreeSWITCH was asked.
    """

    channels: Sequence[Dump]
    touched: set[str]


@dataclass(frozen=True, slots=True)
class Stop:
    """The end of the work.

    alive: a sign of life of FreeSWITCH at that moment (microseconds since 1970), 0 if it could not
    be heard.
    """

    alive: int


Item = SwitchEvent | Resync | Comparison | Stop
