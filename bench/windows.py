"""How soon call windows open through the real service, Planfix taking its time."""

from __future__ import annotations

import time

import gevent
import requests

from . import traffic
from .programs import connector
from .standins import TOKEN, Planfix

A_SECOND = 20
SECONDS = 5
ANSWER = 0.05
"""Seconds Planfix takes to answer while calls come evenly."""

WARM = 5
"""Calls before those that count: a service that has run for a minute is connected to Planfix."""

PHONES = 20
SLOW_ANSWER = 0.2
"""Seconds it takes while a whole group rings."""


def delays(calls: int = A_SECOND * SECONDS) -> list[float]:
    """Return for each call the seconds from its event leaving the switch to its first request."""
    calls += WARM
    moments = traffic.calls(calls, 1 / A_SECOND)
    sent: dict[str, float] = {}
    came: dict[str, float] = {}
    seen: dict[str, int] = {}

    def arrived(fields: dict[str, str]) -> None:
        came.setdefault(fields["callid"], time.monotonic())

    def note(moment: traffic.Moment) -> None:
        seen[moment.callid] = seen.get(moment.callid, -1) + 1
        if seen[moment.callid] == traffic.first_notice():
            sent[moment.callid] = time.monotonic()

    with connector(delay=ANSWER) as stage:
        stage.planfix.came = arrived
        stage.switch.send(moments, before=note, paced=True)
        stage.planfix.wait_for(calls * traffic.REQUESTS, 60)
        stage.check(calls * traffic.REQUESTS)
    return [came[callid] - sent[callid] for callid in list(sent)[WARM:]]


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
