"""A FreeSWITCH that does what a test says, one event a second."""

from __future__ import annotations

from fsplanfix.calls.model import Notice, Rules
from fsplanfix.calls.tracker import Tracker
from fsplanfix.calls.whose import AccountRules
from fsplanfix.freeswitch.events import SwitchEvent

from .traces import shorthand

IN = "in 79161234567 74950000001 "
OUT = "out 79161234567 74950000000 "


class Scene:
    """Legs are named by letters; `A` is usually the client's. Header names: `__` stands for `-`."""

    def __init__(self, rules: Rules | AccountRules | None = None) -> None:
        self.tracker = Tracker(rules or Rules())
        self.notices: list[Notice] = []
        self.heard: list[SwitchEvent] = []
        self.now = 1_700_000_000

    def event(self, name: str, leg: str, **headers: str) -> Scene:
        self.now += 1
        fields = {
            "Event-Name": name,
            "Unique-ID": leg,
            "Event-Date-Timestamp": f"{self.now}000000",
        } | {key.replace("__", "-"): value for key, value in headers.items()}
        self.heard.append(SwitchEvent.made_of(fields))
        self.notices += self.tracker.feed(self.heard[-1])
        return self

    def client(self, leg: str = "A", number: str = "79161234567", **more: str) -> Scene:
        headers = {
            "Call__Direction": "inbound",
            "Channel__Name": "sofia/external/x",
            "Caller__Caller__ID__Number": number,
            "Caller__Destination__Number": "74950000001",
        }
        return self.event("CHANNEL_CREATE", leg, **(headers | more))

    def phone(self, leg: str, ext: str, parent: str = "", **more: str) -> Scene:
        links = {"Other__Leg__Unique__ID": parent} if parent else {}
        return self.event(
            "CHANNEL_CREATE",
            leg,
            Call__Direction="outbound",
            **({"variable_dialed_user": ext} if ext else {}),
            **links,
            **more,
        )

    def employee(self, leg: str, ext: str, dialled: str = "", **more: str) -> Scene:
        return self.event(
            "CHANNEL_CREATE",
            leg,
            Call__Direction="inbound",
            variable_user_name=ext,
            Caller__Caller__ID__Number=more.pop("shows", ext),
            Caller__Destination__Number=dialled,
            **more,
        )

    def outside(
        self,
        leg: str,
        parent: str,
        number: str = "79161234567",
        shown: str = "74950000000",
        gateway: str = "trunk",
        **more: str,
    ) -> Scene:
        return self.event(
            "CHANNEL_CREATE",
            leg,
            Call__Direction="outbound",
            Other__Leg__Unique__ID=parent,
            variable_sip_gateway_name=gateway,
            Caller__Destination__Number=number,
            Caller__Caller__ID__Number=shown,
            **more,
        )

    def rings(self, leg: str) -> Scene:
        return self.event("CHANNEL_PROGRESS", leg)

    def answers(self, leg: str) -> Scene:
        return self.event("CHANNEL_ANSWER", leg)

    def bridge(self, one: str, other: str) -> Scene:
        return self.event("CHANNEL_BRIDGE", one, Other__Leg__Unique__ID=other)

    def early_bridge(self, one: str, other: str, one_answered: bool = False) -> Scene:
        """The network's sound (183): FreeSWITCH bridges before the other leg has answered."""
        return self.event(
            "CHANNEL_BRIDGE",
            one,
            Other__Leg__Unique__ID=other,
            Caller__Channel__Answered__Time="1" if one_answered else "0",
            Other__Leg__Channel__Answered__Time="0",
        )

    def unbridge(self, leg: str, **more: str) -> Scene:
        return self.event("CHANNEL_UNBRIDGE", leg, **more)

    def member(self, action: str, leg: str, room: str = "3000") -> Scene:
        return self.event(
            "CUSTOM",
            leg,
            Event__Subclass="conference::maintenance",
            Action=action,
            Conference__Name=room,
        )

    def hangs_up(self, leg: str, cause: str = "NORMAL_CLEARING", sip: str = "") -> Scene:
        return self.event("CHANNEL_HANGUP", leg, **self._why(cause, sip))

    def torn_down(self, leg: str, cause: str = "NORMAL_CLEARING", **more: str) -> Scene:
        return self.event("CHANNEL_HANGUP_COMPLETE", leg, Hangup__Cause=cause, **more)

    def gone(self, leg: str, cause: str = "NORMAL_CLEARING", sip: str = "") -> Scene:
        self.hangs_up(leg, cause, sip)
        return self.event("CHANNEL_HANGUP_COMPLETE", leg, **self._why(cause, sip))

    @staticmethod
    def _why(cause: str, sip: str) -> dict[str, str]:
        return {"Hangup__Cause": cause} | ({"variable_sip_term_status": sip} if sip else {})

    @property
    def so_far(self) -> list[str]:
        """What was told until now, a line a call."""
        return [" ".join(tokens) for tokens in shorthand(self.notices).values()]

    @property
    def told(self) -> list[str]:
        assert not self.tracker.calls
        return self.so_far

    @property
    def talked(self) -> list[tuple[str, int]]:
        """Who talked for how many seconds."""
        return [(n.ext, n.duration) for n in self.notices if n.duration]
