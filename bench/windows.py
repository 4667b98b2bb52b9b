"""How soon call windows open through the real service, Planfix taking its time."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import gevent
import requests

from . import traffic
from .programs import connector
from .standins import TOKEN, Planfix

A_SECOND = 20
SECONDS = 10
ANSWER = 0.05
"""Seconds Planfix takes to answer while calls come evenly."""

WARM = 5
"""Calls before those that count: a service that has run for a minute is connected to Planfix."""

PHONES = 20
SLOW_ANSWER = 0.2
"""Seconds it takes while a whole group rings."""


class Watch:
    """Notes when the event behind each call's first request leaves the switch, and when that
    request comes.

    came: when, by callid (monotonic seconds).
    """

    def __init__(self) -> None:
        self.came: dict[str, float] = {}
        self._sent: dict[str, float] = {}
        self._seen: Counter[str] = Counter()

    def arrived(self, fields: dict[str, str]) -> None:
        """Take a request that Planfix got."""
        self.came.setdefault(fields["callid"], time.monotonic())

    def note(self, moment: traffic.Moment) -> None:
        """Take an event that is about to leave the switch."""
        if self._seen[moment.callid] == traffic.first_notice():
            self._sent[moment.callid] = time.monotonic()
        self._seen[moment.callid] += 1

    def delays(self) -> list[float]:
        """Return the seconds from one to the other for each call but the first few."""
        return [self.came[callid] - sent for callid, sent in [*self._sent.items()][WARM:]]


@dataclass(frozen=True)
class Even:
    """How a service took calls that came evenly.

    delays: for each call, the seconds from its event leaving the switch to its first request.
    share: of a core that the service used.
    """

    delays: list[float]
    share: float


def even_calls(calls: int = A_SECOND * SECONDS) -> Even:
    """Let calls come evenly, after a few that do not count."""
    watch = Watch()
    warming = traffic.calls(WARM, 1 / A_SECOND)
    moments = traffic.calls(calls, 1 / A_SECOND, first=WARM)
    with connector(delay=ANSWER) as stage:
        stage.planfix.came = watch.arrived
        stage.switch.send(warming, before=watch.note, paced=True)
        stage.planfix.wait_for(WARM * traffic.REQUESTS, 60)
        begun, used = time.monotonic(), stage.program.cpu()
        stage.switch.send(moments, before=watch.note, paced=True)
        stage.planfix.wait_for((WARM + calls) * traffic.REQUESTS, 60)
        share = (stage.program.cpu() - used) / (time.monotonic() - begun)
        stage.check((WARM + calls) * traffic.REQUESTS)
    return Even(watch.delays(), share)


def group() -> float:
    """Return the seconds from a group's first open window to its last: from answer to answer."""
    opened: list[float] = []
    with connector(delay=SLOW_ANSWER) as stage:
        stage.planfix.answered = lambda _: opened.append(time.monotonic())
        stage.switch.send(traffic.group_of(PHONES))
        stage.planfix.wait_for(PHONES, 30)
    return opened[-1] - opened[0]


def one_by_one() -> float:
    """Return the same for a connector that posts one notice after the other."""
    opened: list[float] = []
    planfix = Planfix(SLOW_ANSWER)
    planfix.answered = lambda _: opened.append(time.monotonic())
    with requests.Session() as session:
        for _ in range(PHONES):
            session.post(
                planfix.url, data={"cmd": "event", "planfix_token": TOKEN}, timeout=5
            ).raise_for_status()
    gevent.sleep(0)
    planfix.stop()
    return opened[-1] - opened[0]
