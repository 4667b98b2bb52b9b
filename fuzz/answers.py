"""What FreeSWITCH answers to commands: honest, or anything at all."""

from __future__ import annotations

import json
import random
import re
import time
from urllib.parse import unquote
from uuid import uuid4

from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.playback import freshen, load

from .inputs import CALLS, Inputs

CALLS_SHOWN = 10
"""Recorded calls whose legs are new in one `show channels`."""

LEGS_KEPT = 60
"""Legs that the next one may list again."""

SPOILED = {"show": 0.2, "uuid_dump": 0.2, "global_getvar": 0.3}
"""How often the answer to a command has another form than it should; see below for others."""

ASKED_BY_A_CLICK = ("user_exists", "sofia_contact")
CLICKS_SPOILED, OTHERS_SPOILED = 0.1, 0.5
"""Most clicks must get as far as a call."""

DEEP, HUGE = 100_000, 1_000_000
"""Brackets, and characters."""

OF_CHANNELS = (
    *("Unique-ID", "Answer-State", "Call-Direction", "Channel-Name", "Event-Name"),
    *("Caller-Channel-Created-Time", "Caller-Channel-Bridged-Time", "Caller-Channel-Answered-Time"),
    *("Caller-Caller-ID-Number", "Caller-Destination-Number", "Caller-Orig-Caller-ID-Number"),
    *("variable_signal_bond", "variable_originate_disposition", "variable_presence_id"),
    *("variable_conference_name", "variable_current_application", "variable_dialed_user"),
    *("variable_planfix_data_x", "variable_att_xfer_kill_uuid", "variable_sip_gateway_name"),
)
"""Headers of a dump that decide what is made of it."""


class Answers:
    """Makes answers. inputs: gives the hostile values; the same seed, the same answers."""

    def __init__(self, seed: int, inputs: Inputs) -> None:
        self._random = random.Random(f"{seed} answers")  # noqa: S311 - to be repeated
        self._inputs = inputs
        self._dumps: dict[str, dict[object, object]] = {}

    def to(self, command: str, honest: str, core: str) -> str:
        """Return the answer of the switch `core` to a command, for an honest one."""
        word, _, rest = command.partition(" ")
        others = CLICKS_SPOILED if word in ASKED_BY_A_CLICK else OTHERS_SPOILED
        if self._random.random() < SPOILED.get(word, others):
            return self._spoiled(honest)
        if word == "show":
            return self._account(core)
        if word == "uuid_dump" and (dump := self._dumps.get(rest.removesuffix(" json"))):
            return self._json(dump)
        return honest

    def to_job(self) -> str:
        """Return what a background command comes to, "" for what it honestly does."""
        return self._spoiled("+OK\n") if self._random.random() < CLICKS_SPOILED else ""

    def _account(self, core: str) -> str:
        """Return the channels of some recorded calls, each at some moment; keep their dumps."""
        known = list(self._dumps.items())
        self._dumps = dict(self._random.sample(known, min(len(known), LEGS_KEPT)))
        for _ in range(CALLS_SHOWN):
            steps = freshen(load(self._random.choice(CALLS)), time.time(), core)
            for step in steps[: self._random.randrange(1, len(steps))]:
                if uuid := step.get("Unique-ID"):
                    lines = (line.partition(": ") for line in step.body.splitlines())
                    self._dumps.setdefault(uuid, {}).update(
                        {name: unquote(value) for name, _, value in lines}
                    )

        rows: list[object] = []
        for uuid, dump in list(self._dumps.items()):
            self._spoil(dump)
            if self._random.random() < 0.2:
                name = self._inputs.text()
                self._dumps[name] = {**dump, "Unique-ID": name}
                rows.append({"uuid": name})
            rows.append({"uuid": uuid})
        if self._random.random() < 0.1:
            rows.append(self._random.choice([5, None, [], {"uuid": 5}, {"uuid": [uuid4().hex]}]))
        return self._json({"row_count": len(rows), "rows": rows})

    def _spoil(self, dump: dict[object, object]) -> None:
        """Put hostile values into a dump, and sometimes names."""
        for name in self._random.sample(OF_CHANNELS, self._random.randrange(4)):
            dump[name] = self._value()
        if self._random.random() < 0.3:
            dump[self._inputs.text()] = self._value()

    def _value(self) -> object:
        values: list[object] = [
            *(self._inputs.text(), self._inputs.text(), self._random.choice(list(self._dumps))),
            *("", "0", "1", "9" * 20, "9" * 5000, str(time.time_ns() // 1000)),
            *("conference", "inbound", "outbound", None, True, -1, 10**300, 1e300),
            *(["x"], {"x": "y"}),
        ]
        return self._random.choice(values)

    def _json(self, value: object) -> str:
        """Return JSON with all letters escaped, as FreeSWITCH never does, or with none."""
        text = json.dumps(value, ensure_ascii=self._random.random() < 0.5)
        return text[: -self._random.randrange(1, 9)] if self._random.random() < 0.02 else text

    def _spoiled(self, honest: str) -> str:
        """Return an answer of another form."""
        chance, text = self._random.random(), self._inputs.text()
        if chance < 0.005:
            return "x" * HUGE
        at = self._random.randrange(len(honest) + 1)
        if chance < 0.5:
            return self._random.choice([text, honest[:at] + text + honest[at:], f"-ERR {text}\n"])

        wrong: list[object] = [[], [[]], 5, None, "x", {}, {"rows": text}]
        forms = [
            *map(json.dumps, wrong),
            *(json.dumps({"rows": [{"uuid": text}]}), '{"rows": [{"uuid": NaN}]}'),
            *("[" * DEEP, '{"rows":' * DEEP, '{"rows": [' + "[" * DEEP),
            *("true\n", "false\n", "error/user_not_registered", f"{uuid4()}\n"),
            *(honest[:at], re.sub(r"\d+", "9" * 5000, honest)),
        ]
        return self._random.choice(forms)


class HostileSwitch(Switch):
    """A FreeSWITCH that answers commands as `answers` says, honestly while that is None.

    asked: how often it was asked something since. accounts: how often for its channels.
    """

    answers: Answers | None = None
    asked = 0
    accounts = 0

    def api(self, command: str) -> str:
        """Return the answer to an API command."""
        honest = super().api(command)
        if self.answers is None:
            return honest
        self.asked += 1
        self.accounts += command.startswith("show ")
        return self.answers.to(command, honest, self.core)

    def background(self, command: str, job: str) -> None:
        """Carry out a bgapi command, or let it come to something hostile."""
        hostile = self.answers.to_job() if self.answers is not None else ""
        if not hostile:
            super().background(command, job)
            return

        self.asked += 1
        self.commands.append(command)
        self._finish_job(command, job, hostile)
