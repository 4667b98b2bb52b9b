"""A call that a simulated FreeSWITCH takes through dialplan files, `socket` included.

What it sends is modelled on tests/wire/outbound_lookup_then_resume.jsonl and on the traces. The
times of phones are divided by the switch's `speed`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote
from uuid import uuid4

import gevent
from gevent import socket

from .dialplan import Dialplan, expand
from .outbound import Outbound
from .playback import write_tone

if TYPE_CHECKING:
    from .freeswitch import Switch

_VARIABLE = r"[A-Za-z_]+=[^\[\]{}|,'\"\\$\n]+"
_LEG = re.compile(
    rf"(?:\[(?P<variables>{_VARIABLE}(?:,{_VARIABLE})*)\])?"
    r"(?:user/(?P<user>[A-Za-z0-9_.-]+)(?:@(?P<domain>[A-Za-z0-9_.-]+))?"
    r"|sofia/gateway/(?P<gateway>[A-Za-z0-9_.-]+)/(?P<number>[0-9*#]+))"
)
_OF_ALL_LEGS = re.compile(rf"\{{({_VARIABLE}(?:,{_VARIABLE})*)\}}")
_BETWEEN_LEGS = re.compile(r",(?![^\[]*\])")
"""A comma that is not inside [...]."""

LONGEST_RING = 60.0
"""Seconds a phone rings if nothing else is said, as switch_ivr_originate.c has it."""


def _pairs(text: str | None) -> dict[str, str]:
    """Return the variables of [...] or {...}."""
    return dict(pair.split("=", 1) for pair in (text or "").split(",") if pair)


def _is_true(value: str | None) -> bool:
    return value == "true"


class HungUp(Exception):
    """The channel is gone; the message is the hang-up cause."""


class Transferred(Exception):
    """The channel continues elsewhere: destination, context."""


@dataclass
class Phones:
    """How the phones of a call behave, by ext or number.

    picks_up: after how many seconds; absent: it rings until it is given up. early: whose network
    sends sound while it rings (183). busy: refuse at once. off: not registered. talks: seconds a
    talk lasts.
    """

    picks_up: dict[str, float] = field(default_factory=dict)
    early: set[str] = field(default_factory=set)
    busy: set[str] = field(default_factory=set)
    off: set[str] = field(default_factory=set)
    talks: float = 5.0


class Leg:
    """One leg, which sends its events as the event socket would.

    recorded: what each of its recordings holds, by path: "the menu", "the ringing", "the talk".
    """

    def __init__(
        self, switch: Switch, inbound: bool, destination: str, caller: str, name: str = ""
    ) -> None:
        self.uuid = str(uuid4())
        self.switch = switch
        self.inbound = inbound
        self.caller, self.name, self.destination = caller, name or caller, destination
        self.variables: dict[str, str] = {"uuid": self.uuid}
        self.other = ""
        self.recordings: list[str] = []
        self.recorded: dict[str, list[str]] = {}
        self.is_answered = False

    def headers(self) -> dict[str, str]:
        """Return the headers that every event of the leg and the channel data carry."""
        found = {
            "Unique-ID": self.uuid,
            "Channel-Name": f"sofia/{'external' if self.inbound else 'internal'}/{self.caller}",
            "Call-Direction": "inbound" if self.inbound else "outbound",
            "Caller-Caller-ID-Name": self.name,
            "Caller-Caller-ID-Number": self.caller,
            "Caller-Destination-Number": self.destination,
            "Caller-Context": "public",
        }
        if self.other:
            found["Other-Leg-Unique-ID"] = self.other

        return found | {f"variable_{name}": value for name, value in self.variables.items()}

    def say(self, event: str, **more: str) -> None:
        """Emit an event about this leg."""
        fields = {
            **self.headers(),
            **{name.replace("_", "-"): value for name, value in more.items()},
        }
        self.switch.say(event, {name: quote(value, safe="/:@+ ") for name, value in fields.items()})

    def answered(self) -> None:
        """Run every execute_on_answer…, as FreeSWITCH does once when a leg answers."""
        # only the answer runs it: a leg that has answered already is not recorded, as in the trace
        # makecall_answered (docs/facts/freeswitch.md, "Recordings")
        if self.is_answered:
            return
        self.is_answered = True
        self.say("CHANNEL_ANSWER")
        for name in list(self.variables):
            application, _, path = self.variables[name].partition(" ")
            if name.startswith("execute_on_answer") and application == "record_session":
                self.record(path)

    def record(self, path: str) -> None:
        """Run record_session."""
        # the same file is not recorded twice at a time (docs/facts/freeswitch.md, "Recordings")
        if path in self.recordings:
            return
        # RECORD_START comes at once, also where the file waits for the bridge
        self.recordings.append(path)
        self.say("RECORD_START", Record_File_Path=path)

    def sound(self, what: str) -> None:
        """Note what the running recordings take in."""
        # with both of them the file holds the talk only, and none is kept without one
        # (docs/facts/freeswitch.md, "Recordings")
        waits = ("RECORD_BRIDGE_REQ", "RECORD_ANSWER_REQ")
        waits_for_talk = all(_is_true(self.variables.get(name)) for name in waits)
        for path in self.recordings:
            if what == "the talk" or not waits_for_talk:
                self.recorded.setdefault(path, []).append(what)

    def stop_recording(self) -> None:
        """End the recordings, if there are any."""
        for path in self.recordings:
            cause = "success-silence" if path in self.recorded else "empty-file"
            if path in self.recorded:
                write_tone(Path(path))
            self.say("RECORD_STOP", Record_File_Path=path, Record_Completion_Cause=cause)
        self.recordings.clear()

    def gone(self, cause: str) -> None:
        """Hang the leg up."""
        # RECORD_STOP stands between the two (docs/facts/freeswitch.md, "Order of events")
        self.say("CHANNEL_HANGUP", Hangup_Cause=cause)
        self.stop_recording()
        self.say("CHANNEL_HANGUP_COMPLETE", Hangup_Cause=cause)


class Channel(Leg):
    """A call that came in or was dialled by an employee, on its way through the dialplan.

    clicked: whether it was placed by a click, so that its own phone has been picked up.
    log: each application with its data, as carried out.
    rang: whom it rang, in order.
    shown: what name each phone showed.
    heard: what the caller heard meanwhile, "" for nothing.
    talked_with: who picked up.
    cause: how it ended, "" while it goes on.
    held: seconds the service held it.
    rescued: whether a scheduled transfer continued it.
    misbehaviour: what the service sent that FreeSWITCH would not understand.
    """

    def __init__(
        self,
        switch: Switch,
        dialplan: Dialplan,
        phones: Phones,
        caller: str,
        called: str,
        **variables: str,
    ) -> None:
        super().__init__(switch, True, called, caller)
        self.variables |= variables
        self.dialplan = dialplan
        self.phones = phones
        self.clicked = False
        self.log: list[tuple[str, str]] = []
        self.rang: list[str] = []
        self.shown: dict[str, str] = {}
        self.heard: dict[str, str] = {}
        self.talked_with = ""
        self.cause = ""
        self.held = 0.0
        self.rescued = False
        self.misbehaviour: list[str] = []
        self._scheduled: list[gevent.Greenlet[..., None]] = []
        self._run: gevent.Greenlet[..., None] | None = None

    def run(self, context: str) -> Channel:
        """Walk through the dialplan and return the call when it is over."""
        self._run = gevent.spawn(self._walk, context)
        self._run.join()
        self._run.get()
        return self

    def hang_up(self) -> None:
        """Hang up as the caller."""
        if self._run is not None:
            self._run.kill(HungUp("ORIGINATOR_CANCEL"), block=False)

    def _walk(self, context: str) -> None:
        self.say("CHANNEL_CREATE")
        try:
            while True:
                try:
                    for application, data in self.dialplan.hunt(context, self.value_of):
                        self._execute(application, expand(data, self.value_of))
                    raise HungUp("NORMAL_CLEARING")
                except Transferred as there:
                    self.destination, context = there.args
        except HungUp as end:
            self.cause = str(end)
        finally:
            gevent.killall(self._scheduled)
            self.gone(self.cause)

    def value_of(self, name: str) -> str:
        """Return a variable, a field of the caller profile, or an API call's answer in ${...}."""
        if name == f"sched_del({self.uuid})":
            gevent.killall(self._scheduled)
            count, self._scheduled = len(self._scheduled), []
            return f"+OK Deleted: {count}"

        if "(" in name:
            raise ValueError(f"unknown API call {name}")

        profile = {"destination_number": self.destination, "caller_id_number": self.caller}
        return profile.get(name) or self.variables.get(name, "")

    def _execute(self, application: str, data: str) -> None:
        self.log.append((application, data))
        known: dict[str, Callable[[str], None]] = {
            "set": self._set,
            "export": self._export,
            "bridge": self._bridge,
            "record_session": self.record,
            "stop_record_session": lambda _: self.stop_recording(),
            "transfer": self._transfer,
            "sched_transfer": self._schedule,
            "socket": self._socket,
            "hangup": self._hang_up,
            "answer": lambda _: self.answered(),
            "play_and_get_digits": lambda _: self.sound("the menu"),
        }
        if application not in known:
            # 502 (docs/facts/freeswitch.md, "Commands")
            raise HungUp("DESTINATION_OUT_OF_ORDER")

        known[application](data)

    def assign(self, data: str, is_exported: bool = False) -> None:
        """Set a variable as `set` or `export` do."""
        (self._export if is_exported else self._set)(data)

    def _set(self, data: str) -> None:
        name, _, value = data.partition("=")
        self.variables[name] = value
        # FreeSWITCH removes a variable that is set to nothing
        if not value:
            del self.variables[name]

    def _export(self, data: str) -> None:
        name = data.partition("=")[0]
        self._set(data)
        self.variables["export_vars"] = ",".join(
            filter(None, [self.variables.get("export_vars", ""), name])
        )

    def _hang_up(self, cause: str) -> None:
        raise HungUp(cause or "NORMAL_CLEARING")

    def _transfer(self, data: str) -> None:
        destination, kind, context = data.split()
        if kind != "XML":
            raise ValueError(f"transfer to a {kind} dialplan")
        raise Transferred(destination, context)

    def _schedule(self, data: str) -> None:
        after, destination, kind, context = data.split()
        if not after.startswith("+") or kind != "XML" or self._run is None:
            raise ValueError(f"sched_transfer {data}")
        there = Transferred(destination, context)
        self._scheduled.append(gevent.spawn_later(float(after), self._rescue, there))

    def _rescue(self, there: Transferred) -> None:
        self.rescued = True
        if self._run is not None:
            self._run.kill(there, block=False)

    # bridge

    def _bridge(self, data: str) -> None:
        """Ring everybody named, `|` after `|`; talk with the first who picks up."""
        of_all = _OF_ALL_LEGS.match(data)
        shared = _pairs(of_all[1]) if of_all else {}
        cause = "NO_ANSWER"
        for step in data[of_all.end() if of_all else 0 :].split("|"):
            answered, cause, is_over = self._step(step, shared)
            if answered is not None:
                self._talk(answered)
                return
            if is_over:
                break

        if self.variables.get("continue_on_fail") != "true":
            raise HungUp(cause)

    def _step(self, step: str, shared: dict[str, str]) -> tuple[Called | None, str, bool]:
        """Ring all legs of a step at once.

        Return who picked up, the cause if nobody did, and whether the steps after it are over.
        """
        legs: list[Called] = []
        cause = "NO_ANSWER"
        for one in _BETWEEN_LEGS.split(step):
            found = _LEG.fullmatch(one)
            if found is None:
                raise ValueError(f"bridge to {one!r} is not understood")

            who = found["user"] or found["number"]
            if who in self.phones.off:
                cause = "USER_NOT_REGISTERED"
                continue

            variables = {**shared, **_pairs(found["variables"])}
            legs.append(self._ring(who, found["gateway"] or "", variables))
            if who in self.phones.busy:
                legs.pop().gone("USER_BUSY")
                cause = "USER_BUSY"

        return self._wait(legs, cause)

    def _wait(self, legs: list[Called], cause: str) -> tuple[Called | None, str, bool]:
        """Wait until one of those that ring picks up or all have rung long enough."""
        # the first sound of a network ends the others, and no time-out ends it
        # (docs/facts/freeswitch.md, "Early media")
        taken = [leg for leg in legs if leg.who in self.phones.early and not self._ignores(leg)]
        if taken and len(legs) > 1:
            self._lose(legs, taken[0], "LOSE_RACE")
            legs = taken[:1]

        times = {leg: self.phones.picks_up.get(leg.who, LONGEST_RING * 2) for leg in legs}
        limits = {leg: LONGEST_RING if taken else self._limit(leg) for leg in legs}
        ready = [leg for leg in legs if times[leg] < limits[leg]]
        first = min(ready, key=lambda leg: times[leg], default=None)
        wait = times[first] if first is not None else max(limits.values(), default=0.0)
        self.sound("the ringing")
        try:
            gevent.sleep(wait / self.switch.speed)
        except (HungUp, Transferred) as end:
            self._lose(legs, None, str(end))
            raise

        # the losers hang up before the winner's CHANNEL_BRIDGE (docs/facts/freeswitch.md,
        # "Order of events")
        self._lose(legs, first, "LOSE_RACE" if first else "NO_ANSWER")
        return first, cause, bool(taken)

    def _limit(self, leg: Called) -> float:
        """Return how many seconds a leg rings at the most."""
        whole = float(self.variables.get("call_timeout", LONGEST_RING))
        return min(float(leg.variables.get("leg_timeout", whole)), whole)

    def _ignores(self, leg: Called) -> bool:
        """Tell whether the sound that a leg sends before the answer is ignored."""
        # the called leg inherits it (docs/facts/freeswitch.md, "Early media")
        inherited = self.variables.get("ignore_early_media")
        return _is_true(leg.variables.get("ignore_early_media", inherited))

    def _ring(self, who: str, gateway: str, variables: dict[str, str]) -> Called:
        leg = Called(self, who, gateway, variables)
        self.rang.append(who)
        self.shown[who] = leg.name
        self.heard[who] = self._hears(leg)
        leg.say("CHANNEL_CREATE")
        if who not in self.phones.busy:
            early = who in self.phones.early
            leg.say("CHANNEL_PROGRESS_MEDIA" if early else "CHANNEL_PROGRESS")

        return leg

    def _hears(self, leg: Called) -> str:
        """Return what the caller hears while a leg rings, as switch_ivr_originate.c has it."""
        if leg.who in self.phones.early and not self._ignores(leg):
            return "the network"
        if self.clicked:
            return self.variables.get("transfer_ringback", self.variables.get("ringback", ""))

        return self.variables.get("ringback", "the phone's own tone")

    @staticmethod
    def _lose(legs: list[Called], winner: Called | None, cause: str) -> None:
        for leg in legs:
            if leg is not winner:
                leg.gone(cause)

    def _talk(self, leg: Called) -> None:
        self.talked_with = leg.who
        leg.answered()
        self.answered()
        self.say("CHANNEL_BRIDGE", Other_Leg_Unique_ID=leg.uuid)
        self.sound("the talk")
        leg.sound("the talk")

        try:
            gevent.sleep(self.phones.talks / self.switch.speed)
        except HungUp:
            pass
        finally:
            leg.gone("NORMAL_CLEARING")

        if self.variables.get("hangup_after_bridge") == "true":
            raise HungUp("NORMAL_CLEARING")

    # the socket application

    def _socket(self, data: str) -> None:
        """Obey the service until it leaves, however long that takes; set `held`."""
        # no time-out: nothing in FreeSWITCH gives up (docs/facts/freeswitch.md, "The dialplan's
        # socket application")
        address, *options = data.split()
        if options != ["async", "full"]:
            raise ValueError(f"socket {data}")

        host, _, port = address.rpartition(":")
        begun = time.monotonic()
        try:
            with socket.create_connection((host, int(port))) as sock:
                resumed = Outbound(self, sock).run()
        except OSError:
            resumed = False
        finally:
            self.held = time.monotonic() - begun

        if not resumed and self.variables.get("socket_resume") != "true":
            raise HungUp("NORMAL_CLEARING")


class Called(Leg):
    """A phone that is rung for a channel, with the variables that the channel exports.

    variables: those of its own leg, [...], and of all legs, {...}.
    """

    def __init__(self, channel: Channel, who: str, gateway: str, variables: dict[str, str]) -> None:
        exported = {
            name.removeprefix("nolocal:"): channel.variables[name]
            for name in filter(None, channel.variables.get("export_vars", "").split(","))
        }
        own = exported | variables
        # the leg's own go before effective_caller_id_* (docs/facts/freeswitch.md, "Commands")
        caller = channel.variables.get("effective_caller_id_number", channel.caller)
        name = channel.variables.get("effective_caller_id_name", channel.name)
        caller = own.get("origination_caller_id_number", caller)
        name = own.get("origination_caller_id_name", name)
        super().__init__(channel.switch, False, who, caller, name)
        self.who = who
        self.other = channel.uuid
        if gateway:
            self.variables["sip_gateway_name"] = gateway
        else:
            self.variables["dialed_user"] = who

        self.variables |= own
