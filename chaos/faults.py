"""The faults. Each takes the stage, breaks something, waits, heals it, and says what it did."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

import gevent

if TYPE_CHECKING:
    from .stage import Stage

SETTLED = 1.5
"""Seconds after a request in which a killed worker may not have written down its answer yet."""

Fault = Callable[["Stage", Random], None]
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def kill_worker(stage: Stage, random: Random) -> None:
    """kill -9 one of the two workers and start it again."""
    stage.restart_worker(random.randrange(len(stage.workers)))


def cut_links(stage: Stage, random: Random) -> None:
    """Cut every event socket of one switch."""
    random.choice(stage.switches).drop()


def stall_links(stage: Stage, random: Random) -> None:
    """One switch falls silent; after a while its connections are cut, as a router forgets them."""
    switch = random.choice(stage.switches)
    sessions = list(switch.sessions)
    switch.stall()
    gevent.sleep(1.5)
    for session in sessions:
        session.hang_up()
        session.mute = False
    switch.changed()


def half_open_links(stage: Stage, random: Random) -> None:
    """One switch is gone and its connections stay open: the workers must notice (45 s)."""
    switch = random.choice(stage.switches)
    sessions = list(switch.sessions)
    switch.half_open()
    stage.wait_for_links(switch, len(stage.workers), seconds=60)
    for session in sessions:
        session.hang_up()


def restart_switch(stage: Stage, random: Random) -> None:
    """One FreeSWITCH crashes and comes back without its calls, with another Core-UUID."""
    switch = random.choice(stage.switches)
    stage.crashed(switch)
    switch.restart()


def failing_planfix(stage: Stage, random: Random) -> None:
    """Planfix answers 500, a web page, or hangs up."""
    answers: tuple[int | str, ...] = (500, 502, "html", "drop")
    stage.planfix.answers.extend(random.choice(answers) for _ in range(random.randrange(10, 60)))
    stage.wait_until_answers_are_used()


def cut_answers(stage: Stage, random: Random) -> None:
    """Planfix takes a request, and the answer is lost on its way."""
    stage.planfix.answers.extend(["drop after"] * random.randrange(1, 10))
    stage.wait_until_answers_are_used()


def busy_planfix(stage: Stage, random: Random) -> None:
    """Planfix answers 429 and asks to be left alone for two seconds."""
    stage.planfix.retry_after = "2"
    stage.planfix.answers.extend([429] * random.randrange(1, 4))
    stage.wait_until_answers_are_used()


def hanging_planfix(stage: Stage, random: Random) -> None:
    """Planfix takes two seconds for each answer."""
    stage.planfix.delay = 2.0
    gevent.sleep(2.0 + random.random())
    stage.planfix.delay = 0.0


def unknown_token(stage: Stage, random: Random) -> None:
    """Planfix does not know our token for a while; a probe a minute finds out when it does."""
    right, stage.planfix.token = stage.planfix.token, "another"
    gevent.sleep(2.0 + random.random())
    stage.planfix.token = right


def full_disk(stage: Stage, random: Random) -> None:
    """No file can grow: the workers' quota is used up. PostgreSQL throws everybody out."""
    if stage.is_postgresql:
        stage.throw_out_connections()
        return
    pids = [worker.process.pid for worker in stage.workers]
    begun = time.time()
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    gevent.sleep(1.5)
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, UNLIMITED)
    stage.full.append((begun, time.time() + SETTLED))


QUICK: tuple[Fault, ...] = (
    kill_worker,
    cut_links,
    stall_links,
    restart_switch,
    failing_planfix,
    cut_answers,
    busy_planfix,
    hanging_planfix,
    full_disk,
)
SLOW: tuple[Fault, ...] = (half_open_links, unknown_token)
"""These heal only after 45 and 60 seconds; the short run leaves them out."""
