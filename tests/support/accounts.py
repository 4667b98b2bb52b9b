"""FreeSWITCH's own account of its channels at any moment of a recorded call."""

from __future__ import annotations

from functools import cache
from urllib.parse import unquote

from fsplanfix.calls import snapshot
from fsplanfix.calls.model import Rules
from fsplanfix.calls.tracker import Tracker
from fsplanfix.freeswitch.events import SwitchEvent, hanging_up

from .traces import bodies


def headers(event: SwitchEvent) -> dict[str, str]:
    lines = (line.partition(":") for line in event.raw.decode().split("\n") if ": " in line)
    return {name: unquote(value).strip() for name, _, value in reversed([*lines])}


class Account:
    """What `show channels` and `uuid_dump` say after some events: each live leg's newest full state."""

    def __init__(self) -> None:
        self.live: dict[str, dict[str, str]] = {}

    def follow(self, body: bytes) -> None:
        event = SwitchEvent(body)
        found, uuid = headers(event), event.leg
        if event.name in ("CHANNEL_HANGUP_COMPLETE", "CHANNEL_DESTROY"):
            self.live = {name: dump for name, dump in self.live.items() if name != uuid}
        elif event.name == "CHANNEL_HANGUP":
            self.live = {**self.live, uuid: dict(hanging_up(uuid))}
        elif event.name == "CHANNEL_CREATE" or self._is_up(uuid, found):
            self.live = {**self.live, uuid: found}
        elif event.get("Action") == "add-member":
            member = {
                "variable_current_application": "conference",
                "variable_conference_name": event.get("Conference-Name"),
            }
            self.live = {**self.live, uuid: {**self.live[uuid], **member}}
        if event.name == "CHANNEL_BRIDGE":
            self._bind(uuid, event.get("Other-Leg-Unique-ID"))

    def _is_up(self, uuid: str, found: dict[str, str]) -> bool:
        is_known = uuid in self.live and self.live[uuid] != hanging_up(uuid)
        return is_known and "variable_uuid" in found

    def _bind(self, one: str, other: str) -> None:
        """A dump would show both legs bridged; the trace has the event of one only."""
        time = self.live[one]["Caller-Channel-Bridged-Time"]
        for uuid, peer in ((one, other), (other, one)):
            if uuid in self.live and self.live[uuid] != hanging_up(uuid):
                bound = {"variable_signal_bond": peer, "Caller-Channel-Bridged-Time": time}
                self.live[uuid] = {**self.live[uuid], **bound}


@cache
def accounts(name: str) -> list[list[dict[str, str]]]:
    """What FreeSWITCH would say before each event of a trace, and after the last."""
    following, found = Account(), [list[dict[str, str]]()]
    for body in bodies(name):
        following.follow(body)
        found.append(list(following.live.values()))
    return found


@cache
def positions(name: str) -> list[int]:
    """Where the events that have a rule stand among all events of the trace."""
    wanted = set(Tracker(Rules()).event_names)
    return [at for at, body in enumerate(bodies(name)) if SwitchEvent(body).name in wanted]


def account(name: str, position: int) -> list[dict[str, str]]:
    return accounts(name)[position]


def restarted(tracker: Tracker) -> Tracker:
    """A tracker that knows only what the store would have kept, the last sign of life included."""
    again = Tracker(tracker.rules)
    again.last_at = tracker.last_at
    for callid in list(tracker.calls):
        state = snapshot.dump(tracker, callid)
        assert state is not None
        snapshot.restore(again, state)
    return again
