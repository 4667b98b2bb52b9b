"""What must be over in time, whatever happens: figures of the real service between its stand-ins.

The tests play the same scenes and look at what comes of them. How long that takes is looked at
here.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import requests

from fsplanfix.simulators.channel import Channel, Phones
from fsplanfix.simulators.dialplan import Dialplan
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.simulators.playback import write_tone
from tests.support.service import TOKENS, Service, environment, running, settings_for, split

from . import traffic

NEVER = 3600.0
DEADLINE = 1.0
"""CONTACT_DEADLINE: seconds a call may be held."""

PASSWORD = "a-good-password"  # noqa: S105 - of a service that lives for seconds
DAY = 40
"""Calls of a busy day on the dashboard."""


@contextmanager
def stage() -> Iterator[tuple[Switch, Planfix, Path]]:
    """Start the stand-ins; give them and a folder."""
    switch, planfix = Switch(), Planfix(token=TOKENS["PLANFIX_TOKEN"])
    switch.start()
    planfix.start()
    with tempfile.TemporaryDirectory(prefix="fsplanfix-bench-") as folder:
        try:
            yield switch, planfix, Path(folder)
        finally:
            switch.stop()
            planfix.stop()


@contextmanager
def whole(**settings: str) -> Iterator[tuple[Switch, Planfix, Service]]:
    """Run the service between its stand-ins; kill it at the end."""
    with (
        stage() as (switch, planfix, folder),
        running(switch, planfix, folder, **settings) as service,
    ):
        try:
            yield switch, planfix, service
        finally:
            service.process.kill()  # it would wait for a Planfix that does not answer


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds some work takes."""
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


# people who wait


def click() -> float:
    """Return the seconds until a click is answered, while the employee's phone goes on ringing."""
    fields = {"cmd": "makeCall", "token": TOKENS["PBX_TOKEN"], "from": "101", "to": "79161234567"}
    with whole() as (switch, _, service):
        switch.speed = 0.01
        return seconds(lambda: service.click(**fields).raise_for_status())


def overview() -> float:
    """Return the seconds the dashboard's overview takes after a busy day."""
    with (
        whole(ADMIN_PASSWORD=PASSWORD) as (switch, planfix, service),
        requests.Session() as visitor,
    ):
        visitor.trust_env = False
        for _ in range(DAY):
            switch.play(traffic.GROUP, speed=0)
        planfix.wait_for(lambda crm: len(crm.accepted) >= DAY * traffic.REQUESTS, NEVER)
        login = f"{service.address}/login"
        page = visitor.get(login, timeout=60).text
        token = page.partition('name="csrf_token" value="')[2].partition('"')[0]
        form = {"csrf_token": token, "password": PASSWORD}
        visitor.post(login, data=form, timeout=60).raise_for_status()
        begun = time.monotonic()
        page = visitor.get(service.address, timeout=60).text
        took = time.monotonic() - begun
    if f"<b>{DAY}</b><span>answered" not in page:
        raise RuntimeError("the overview does not show the day")
    return took


def check() -> float:
    """Return the seconds `fsplanfix check` takes."""
    with stage() as (switch, planfix, folder):
        write_tone(folder / "a.wav")
        command = [sys.executable, "-m", "fsplanfix", "check", "--json"]
        settings = environment(**settings_for(switch, planfix, folder))
        return seconds(
            lambda: subprocess.run(  # noqa: S603 - our own program
                command, check=False, cwd=folder, env=settings, capture_output=True
            )
        )


# several workers


def split_roles(store_url: str) -> float:
    """Return the seconds from a call to its last request, a process for each role."""
    with stage() as (switch, planfix, folder):
        url = store_url or f"sqlite:///{folder}/store.db"
        with split(switch, planfix, folder, url, "events", "courier"):
            begun = 0.0
            for calls in (1, 2):  # the first one is to connect everything
                begun = time.time()
                switch.play(traffic.GROUP, speed=0)
                due = calls * traffic.REQUESTS
                planfix.wait_for(lambda crm, due=due: len(crm.accepted) >= due, NEVER)  # type: ignore[misc]
            return planfix.received[-1].at - begun


def take_over(store_url: str) -> float:
    """Return the seconds from a courier's death to the delivery of what it was sending."""
    with stage() as (switch, planfix, folder):
        url = store_url or f"sqlite:///{folder}/store.db"
        with split(switch, planfix, folder, url, "events", "courier") as (_, doomed):
            planfix.delay = NEVER
            switch.play("in_one_no_answer", speed=0)
            planfix.wait_for(lambda crm: crm.asked > 0, NEVER)
            planfix.delay = 0.0
            doomed.process.send_signal(signal.SIGKILL)
            begun = time.time()
            with split(switch, planfix, folder, url, "courier"):
                planfix.wait_for(lambda crm: len(crm.accepted) >= 2, NEVER)
                return planfix.received[-1].at - begun


# calls that are held


def _held(switch: Switch, service: Service) -> float:
    """Let the service hold a call; return for how many seconds it did."""
    variables = {"socket_resume": "true"}
    call = Channel(switch, Dialplan([], {}), Phones(), "79161234567", "74950000001", **variables)
    call._socket(f"{service.socket_app} async full")
    return call.held


def held_for_silence() -> tuple[float, float]:
    """Return how long a silent Planfix holds a call over the deadline, and the next one.

    In seconds. The next one is of the same client: that Planfix said nothing is remembered.
    """
    with whole(CONTACT_DEADLINE=str(DEADLINE)) as (switch, planfix, service):
        planfix.delay = NEVER
        return _held(switch, service) - DEADLINE, _held(switch, service)


def held_by_the_dead() -> float:
    """Return for how many seconds a call is held after the service that holds it is killed."""
    with whole(CONTACT_DEADLINE="5") as (switch, planfix, service):
        planfix.delay = NEVER
        going = gevent.spawn(_held, switch, service)
        planfix.wait_for(lambda crm: crm.asked == 1, NEVER)
        service.process.kill()
        return seconds(going.get)
