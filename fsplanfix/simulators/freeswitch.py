"""A FreeSWITCH that speaks the event socket and plays traces. It can misbehave on demand.

What it sends is modelled on whole conversations with a real one (tests/wire); it shares no code
with the service.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import gevent
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

from .answers import list_users, sofia, xml_locate
from .expand import DIAL_STRING, expanded
from .playback import Step, freshen, load, write_tone
from .records import Records, write_whole
from .session import Session, encoded

_PAIR = r"[A-Za-z0-9_:]+=(?:[^{}\[\]\\,\s]|\\,|\\s)+"
_VARIABLES = rf"\{{(?:{_PAIR},)*{_PAIR}\}}"
_ORIGINATE = re.compile(
    rf"originate (?P<vars>{_VARIABLES})(?:user/|sofia/gateway/[^\s{{}}]+?/)(?P<ext>[^@\s{{}}]+)"
    rf"(?:@[^\s{{}}]+)? (?P<rest>&[a-z_]+\((?:{_VARIABLES})?[^\s{{}}]*\)|[^\s&]+ XML [^\s]+)"
)
"""What it takes, stricter than FreeSWITCH: names with values, commas and spaces escaped."""
_NUMBER = re.compile(r"\+?[0-9]{5,15}")
_COMMA = re.compile(r"(?<!\\),")
GLOBALS = {"domain": "127.0.0.1", "recordings_dir": "/var/lib/freeswitch/recordings"}

ENDED = ("CHANNEL_HANGUP_COMPLETE", "CHANNEL_DESTROY")


def variables(text: str) -> dict[str, str]:
    """Return the variables in {...} as FreeSWITCH reads them (switch_event_create_brackets)."""
    pairs = [item.partition("=") for item in _COMMA.split(text.strip("{}"))]
    return {name: value.replace(r"\,", ",").replace(r"\s", " ") for name, _, value in pairs}


class Switch:
    """The simulated FreeSWITCH.

    users: the directory's exts.
    registered: those of them with a phone.
    contacts: what `sofia_contact` answers instead, by ext.
    dial_strings: those of users who have one of their own, by ext.
    gateways: their states, by name.
    globals: its global variables.
    registrations: users and domains of the phones, told only by `show registrations`.
    denied: API commands it does not allow.
    ahead: seconds its clock is ahead.
    heartbeat: seconds between two HEARTBEATs.
    recordings_dir: where a call leaves its file, a short tone; nowhere if empty.
    cdr_dir: where the records of its legs are written; nowhere if empty.
    on_record: writes a record to a path; it may do so late, twice or badly.
    before: called with each event of a trace before it happens; it may keep the event waiting.
    """

    def __init__(
        self,
        address: tuple[str, int] = ("127.0.0.1", 0),
        password: str = "ClueCon",  # noqa: S107 - FreeSWITCH's own default
        heartbeat: float = 20.0,
        speed: float = 1.0,
    ) -> None:
        self.password = password
        self.heartbeat = heartbeat
        self.speed = speed
        self.users = {"101", "102", "103", "104", "105"}
        self.number_aliases: dict[str, str] = {}
        self.outbound_numbers: dict[str, str] = {}
        self.registered = {"101", "102", "103", "104"}
        self.version = "1.10.12-release"
        self.gateways = {"trunk": "NOREG"}
        self.contexts = {"default", "public"}
        self.globals = dict(GLOBALS)
        self.registrations: list[tuple[str, str]] = []
        self.modules = {"mod_json_cdr"}
        self.denied: set[str] = set()
        self.ahead = 0.0
        self.contacts: dict[str, str] = {}
        self.dial_strings: dict[str, str] = {}
        self.makecall = "makecall_answered"
        self.recordings_dir = ""
        self.cdr_dir = ""
        self.on_record: Callable[[Path, str], object] = write_whole
        self.before: Callable[[Step], object] = lambda _: None
        self.refuse_addresses = False
        self.silent = False
        self.core = str(uuid4())
        self.sessions: list[Session] = []
        self.channels: dict[str, dict[str, str]] = {}
        self.hanging: set[str] = set()
        self.originated: list[str] = []
        self.commands: list[str] = []
        self.beats = 0
        self._begun = time.monotonic()
        self._sequence = 500
        self._change = Event()
        self._server = StreamServer(address, self._accept)
        self._beat: gevent.Greenlet[..., Any] | None = None

    # life

    def start(self) -> None:
        """Listen. Raises OSError if the address is taken."""
        self._server.start()
        self._beat = gevent.spawn(self._heartbeats)

    def stop(self) -> None:
        """Close everything without a notice, as a crash does."""
        # no SHUTDOWN and no disconnect notice (docs/facts/freeswitch.md, "Order of events")
        self._server.stop(timeout=0.1)
        if self._beat is not None:
            self._beat.kill()
        self.drop()

    @property
    def port(self) -> int:
        """Return the port it listens on."""
        return int(self._server.server_port or 0)

    def changed(self) -> None:
        """Wake all who wait for a change."""
        self._change.set()
        self._change.clear()

    def wait_for_change(self) -> None:
        """Wait until a session comes, goes, subscribes or is no longer mute."""
        self._change.wait()

    def wait_for_subscriber(self, timeout: float = 60.0) -> None:
        """Wait until somebody follows the events."""
        with gevent.Timeout(timeout):
            while not any(session.names for session in self.sessions):
                self.wait_for_change()

    def _accept(self, sock: socket.socket, _: Any) -> None:
        session = Session(self, sock)
        if self.refuse_addresses:
            text = "Access Denied, go away.\n"
            session.write(
                f"Content-Type: text/rude-rejection\nContent-Length: {len(text)}\n\n{text}"
            )
            session.hang_up()
            return

        if self.silent:
            sock.recv(1)
            return

        self.sessions.append(session)
        try:
            session.run()
        except OSError:
            pass
        finally:
            session.ended = session.ended or time.time()
            if session in self.sessions:
                self.sessions.remove(session)
            self.changed()

    def _heartbeats(self) -> None:
        while True:
            gevent.sleep(self.heartbeat)
            self.beats += 1
            self.emit(self._event("HEARTBEAT", {"Event-Info": "System Ready"}) + "\n")

    # commands

    def api(self, command: str) -> str:
        """Return what FreeSWITCH would answer to an API command."""
        self.commands.append(command)
        word, _, rest = command.strip().partition(" ")
        known: dict[str, Callable[[str], str]] = {
            "status": lambda _: (
                f"UP 0 years, 0 days\nFreeSWITCH (Version {self.version} 64bit) is ready\n"
            ),
            "uptime": self._uptime,
            "show": self._show,
            "uuid_dump": self._dump,
            "uuid_kill": self._kill,
            "user_exists": self._user_exists,
            "user_data": self._user_data,
            "sofia_contact": self._contact,
            "verto_contact": lambda _: "",
            "expand": lambda text: expanded(text, self.globals, self.api),
            "global_getvar": lambda name: {**self.globals, "core_uuid": self.core}.get(name, ""),
            "strftime": lambda form: time.strftime(
                form or "%Y-%m-%d %H:%M:%S", time.gmtime(time.time() + self.ahead)
            ),
            "sofia": lambda text: sofia(text, self.gateways),
            "list_users": lambda _: list_users(self.users, self.globals.get("domain", "")),
            "xml_locate": lambda text: xml_locate(text, self.contexts),
            "module_exists": lambda name: str(name in self.modules).lower(),
        }
        if word in self.denied:
            return "-ERR permission denied\n"

        answer = known.get(word)
        return answer(rest) if answer else f"-ERR {word} Command not found!\n"

    def _uptime(self, unit: str) -> str:
        """Return the seconds since the start; other units are not simulated."""
        if unit not in ("", "s", "seconds"):
            return "-USAGE: uptime [s|seconds]\n"
        return f"{int(time.monotonic() - self._begun)}\n"

    def _user_exists(self, text: str) -> str:
        # asked as "id 101 pbx.example.com"
        words = text.split()
        return "true" if len(words) > 1 and words[1] in self.users else "false"

    def _user_data(self, text: str) -> str:
        user, _, what = text.partition(" ")
        name = user.split("@")[0]
        if what == "param dial-string" and name in self.users:
            return self.dial_strings.get(name, DIAL_STRING)
        known = {
            "attr number-alias": self.number_aliases,
            "var outbound_caller_id_number": self.outbound_numbers,
        }
        return known.get(what, {}).get(name, "")

    def _contact(self, text: str) -> str:
        ext = text.split("@", maxsplit=1)[0]
        if ext in self.contacts:
            return self.contacts[ext]
        if ext in self.registered:
            return f"sofia/internal/sip:{ext}@127.0.0.1:6101"
        return "error/user_not_registered"

    def _show(self, text: str) -> str:
        if text.strip() == "registrations as json":
            phones = [{"reg_user": user, "realm": realm} for user, realm in self.registrations]
            return json.dumps({"row_count": len(phones), "rows": phones}) + "\n"
        rows = [
            {
                "uuid": uuid,
                "direction": dump.get("Call-Direction", ""),
                "name": dump.get("Channel-Name", ""),
                "state": dump.get("Channel-State", ""),
                "cid_num": dump.get("Caller-Caller-ID-Number", ""),
                "dest": dump.get("Caller-Destination-Number", ""),
                "callstate": dump.get("Channel-Call-State", ""),
                "call_uuid": dump.get("Channel-Call-UUID", ""),
            }
            for uuid, dump in self.channels.items()
        ]
        if text.strip() != "channels as json":
            return "-USAGE: show channels as json\n"

        # without channels FreeSWITCH leaves `rows` out
        return json.dumps({"row_count": len(rows), **({"rows": rows} if rows else {})}) + "\n"

    def _dump(self, text: str) -> str:
        uuid, _, form = text.partition(" ")
        # FreeSWITCH no longer knows a leg that hangs up, though `show channels` lists it
        if uuid not in self.channels or uuid in self.hanging or form.strip() != "json":
            return "-ERR No such channel!\n"
        return json.dumps({**self.channels[uuid], "Event-Name": "CHANNEL_DATA"})

    def _kill(self, text: str) -> str:
        return "+OK\n" if self.channels.pop(text.strip(), None) else "-ERR No such channel!\n"

    def background(self, command: str, job: str) -> None:
        """Carry out a bgapi command: `originate` plays a trace, anything else runs as api."""
        self.commands.append(command)
        # the refusals are those of docs/facts/freeswitch.md, "Commands"
        wanted = _ORIGINATE.fullmatch(command)
        if not command.startswith("originate "):
            self._finish_job(command, job, self.api(command))
        elif wanted is None:
            self._finish_job(
                command, job, "-USAGE: <call url> <exten>|&<application_name>(<app_args>)\n"
            )
        elif "}user/" not in command:
            self._originate(command, job, wanted)
        elif wanted["ext"] not in self.users:
            self._finish_job(command, job, "-ERR SUBSCRIBER_ABSENT\n")
        elif wanted["ext"] not in self.registered:
            self._finish_job(command, job, "-ERR USER_NOT_REGISTERED\n")
        else:
            self._originate(command, job, wanted)

    def _originate(self, command: str, job: str, wanted: re.Match[str]) -> None:
        self.originated.append(command)
        steps = load(self.makecall)
        given = variables(wanted["vars"])
        # what is dialled stands behind the variables of the client's leg
        dialled = _NUMBER.findall(re.sub(r"\{[^{}]*\}", "", wanted["rest"]))
        number = next(iter(dialled), given.get("planfix_phone", ""))
        swap = {steps[0].get("Caller-Caller-ID-Number"): number, "101": wanted["ext"]}
        keep: dict[str, str] = {}
        if "origination_uuid" in given:
            keep[steps[0].get("Unique-ID")] = given["origination_uuid"]

        job_steps = [step for step in steps if step.get("Event-Name") == "BACKGROUND_JOB"]
        keep |= {step.get("Job-UUID"): job for step in job_steps}
        fresh = freshen(steps, time.time(), self.core, keep, swap)
        self._play(_with_account(fresh, given), self.speed)

    def _finish_job(self, command: str, job: str, text: str) -> None:
        fields = {
            "Job-UUID": job,
            "Job-Command": command.split(" ", maxsplit=1)[0],
            "Content-Length": str(len(encoded(text))),
        }
        self.emit(self._event("BACKGROUND_JOB", fields) + "\n" + text)

    # events

    def _event(self, name: str, fields: dict[str, str]) -> str:
        head = {
            "Event-Name": name,
            "Core-UUID": self.core,
            "Event-Date-Timestamp": str(time.time_ns() // 1000),
        }
        return "".join(
            f"{key}: {value}\n" for key, value in {**head, "Event-Sequence": "0", **fields}.items()
        )

    def say(self, name: str, fields: dict[str, str]) -> None:
        """Send an event made of encoded header values."""
        self.emit(self._event(name, fields) + "\n")

    def emit(self, body: str) -> None:
        """Send one event to every session that subscribed to it."""
        self._sequence += 1
        body = re.sub(
            r"^Event-Sequence: .*$",
            f"Event-Sequence: {self._sequence}",
            body,
            count=1,
            flags=re.MULTILINE,
        )
        step = Step(0.0, body)
        name, subclass = step.get("Event-Name"), step.get("Event-Subclass")
        frame = f"Content-Length: {len(encoded(body))}\nContent-Type: text/event-plain\n\n{body}"
        # CUSTOM is subscribed to by its subclasses (docs/facts/freeswitch.md, "Subscription")
        for session in list(self.sessions):
            if name in session.names or (name == "CUSTOM" and subclass in session.names):
                session.write(frame)

    def play(
        self,
        trace: str | Path,
        speed: float | None = None,
        swap: dict[str, str] | None = None,
        started: Callable[[str], None] | None = None,
    ) -> str:
        """Play a trace, `speed` times as fast (0: no pauses); return its first leg's UUID.

        started: is given that UUID before the first event.
        """
        steps = self._in_our_folder(freshen(load(trace), time.time(), self.core, swap=swap))
        first = next((step.get("Unique-ID") for step in steps if step.get("Unique-ID")), "")
        if started is not None:
            started(first)
        self._play(steps, self.speed if speed is None else speed)
        return first

    def _in_our_folder(self, steps: list[Step]) -> list[Step]:
        """Put recording files into our own folder, if there is one."""
        if not self.recordings_dir:
            return steps
        return [
            Step(s.after, s.body.replace("/var/lib/freeswitch/recordings", self.recordings_dir))
            for s in steps
        ]

    def _play(self, steps: list[Step], speed: float) -> None:
        begun, core, records = time.monotonic(), self.core, Records()
        for step in steps:
            wait = 0.0
            if speed:
                wait = step.after / speed - (time.monotonic() - begun)
            gevent.sleep(max(wait, 0))

            self.before(step)
            # a restart meanwhile ended this call
            if self.core != core:
                return

            self._keep_channels(step)
            if step.get("Event-Name") == "RECORD_STOP" and self.recordings_dir:
                write_tone(Path(step.get("Record-File-Path")))

            record = records.follow(step) if self.cdr_dir else None
            if record is not None:
                self.on_record(Path(self.cdr_dir) / record[0], record[1])

            self.emit(step.body)

    def _keep_channels(self, step: Step) -> None:
        """Keep the last full event of each leg that is up, for `show channels` and `uuid_dump`."""
        uuid, name = step.get("Unique-ID"), step.get("Event-Name")
        if name in ENDED:
            self.channels.pop(uuid, None)
            self.hanging.discard(uuid)
        elif name == "CHANNEL_HANGUP":
            self.hanging.add(uuid)
        elif name == "CHANNEL_CREATE" or (uuid in self.channels and "variable_uuid: " in step.body):
            lines = (line.partition(": ") for line in step.body.splitlines() if ": " in line)
            self.channels[uuid] = {
                key: Step(0.0, f"{key}: {value}").get(key) for key, _, value in lines
            }

        if name == "CHANNEL_BRIDGE":
            self._bind(step)

    def _bind(self, step: Step) -> None:
        """Note a bridge on both legs, as a dump shows it; the event is of one leg only."""
        one, other = step.get("Unique-ID"), step.get("Other-Leg-Unique-ID")
        for uuid, peer in ((one, other), (other, one)):
            if uuid in self.channels:
                self.channels[uuid]["variable_signal_bond"] = peer
                self.channels[uuid]["Caller-Channel-Bridged-Time"] = step.get(
                    "Caller-Channel-Bridged-Time"
                )

    # misbehaviour

    def drop(self) -> None:
        """Cut every connection without a notice."""
        for session in list(self.sessions):
            session.hang_up()

    def stall(self, mute: bool = True) -> None:
        """Send nothing more on the open connections, or send again; they stay open."""
        for session in list(self.sessions):
            session.mute = mute
            session.ended = time.time() if mute else 0.0
        self.changed()

    def half_open(self) -> None:
        """Neither read nor send anything more on the open connections: a cut cable."""
        for session in list(self.sessions):
            session.mute, session.ended = True, time.time()
            self.sessions.remove(session)

    def cut_in_event(self, trace: str) -> None:
        """Send half of an event and cut the connection."""
        body = load(trace)[0].body
        for session in list(self.sessions):
            head = f"Content-Length: {len(body)}\nContent-Type: text/event-plain\n\n"
            session.write(head + body[: len(body) // 2])
            session.hang_up()

    def send_raw(self, text: str) -> None:
        """Send anything at all to every session."""
        for session in list(self.sessions):
            session.write(text)

    def forge(self, header: str, value: str) -> None:
        """Send a CHANNEL_CREATE whose SIP header tries to become a header of the event."""
        uuid = str(uuid4())
        fields = {"Unique-ID": uuid, "Call-Direction": "inbound", f"variable_sip_h_{header}": value}
        self.emit(self._event("CHANNEL_CREATE", fields) + "\n")

    def shut_down(self) -> None:
        """Shut down in an orderly way: SHUTDOWN, hang-ups, a disconnect notice."""
        self.emit(self._event("SHUTDOWN", {"Event-Info": "System%20Shutting%20Down"}) + "\n")
        for uuid in list(self.channels):
            for name in ("CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE"):
                self.emit(
                    self._event(name, {"Unique-ID": uuid, "Hangup-Cause": "SYSTEM_SHUTDOWN"}) + "\n"
                )

        self.channels.clear()
        for session in list(self.sessions):
            session.disconnect("The system is being shut down.\n")

    def restart(self) -> None:
        """Return as after a crash: without calls, with another Core-UUID."""
        self.core = str(uuid4())
        self.channels.clear()
        self.drop()


def _with_account(steps: list[Step], given: dict[str, str]) -> list[Step]:
    """Put the account that an originate gives to its first leg into that leg's events."""
    account = given.get("planfix_account")
    if not account:
        return steps
    line = f"\nUnique-ID: {given.get('origination_uuid', '')}\n"
    more = f"{line}variable_planfix_account: {account}\n"
    return [Step(step.after, step.body.replace(line, more, 1)) for step in steps]
