"""The faults. Each takes the stage, breaks something, waits, heals it.

Those of different groups happen at the same time, in any mixture.
"""

from __future__ import annotations

import resource
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event

from tests.support.database_clock import set_off

if TYPE_CHECKING:
    from .stage import Stage

Fault = Callable[["Stage", Random], None]
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

FARTHEST = 300.0
"""Seconds that a clock may be ahead or behind: two of them are up to 10 minutes apart."""


# workers


def kill_worker(stage: Stage, random: Random) -> None:
    """kill -9 one of the workers and start it again."""
    stage.kill_worker(random.randrange(len(stage.workers)))


def kill_all_workers(stage: Stage, random: Random) -> None:
    """kill -9 all of them, and start them again one after the other."""
    numbers = range(len(stage.workers))
    gevent.joinall([gevent.spawn(stage.kill_worker, number) for number in numbers])


def stop_worker(stage: Stage, random: Random) -> None:
    """Stop one of the workers in order, by SIGTERM, and start it again."""
    stage.stop_worker(random.randrange(len(stage.workers)))


def unread_log(stage: Stage, random: Random) -> None:
    """Whoever reads a worker's log stops reading for some seconds."""
    random.choice(stage.workers).leave_its_log(2.0 + 3.0 * random.random())


# links


def cut_one_link(stage: Stage, random: Random) -> None:
    """Cut one worker's event socket to one switch."""
    sessions = random.choice(stage.switches).sessions
    if sessions:
        random.choice(sessions).hang_up()


def cut_links(stage: Stage, random: Random) -> None:
    """Cut every worker's event socket to one switch."""
    random.choice(stage.switches).drop()


def cut_all_links(stage: Stage, random: Random) -> None:
    """Cut every event socket there is."""
    for switch in stage.switches:
        switch.drop()


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
    with suppress(gevent.Timeout):
        stage.wait_for_links(switch, len(stage.workers), seconds=60)
    for session in sessions:
        session.hang_up()


def restart_switch(stage: Stage, random: Random) -> None:
    """One FreeSWITCH crashes and comes back without its calls, with another Core-UUID."""
    switch = random.choice(stage.switches)
    stage.crashed(switch)
    switch.restart()


# Planfix


def failing_planfix(stage: Stage, random: Random) -> None:
    """Planfix answers 500, or a web page."""
    answers: tuple[int | str, ...] = (500, 502, "html")
    stage.planfix.answers.extend(random.choice(answers) for _ in range(random.randrange(10, 40)))
    stage.wait_until_answers_are_used()


def dropping_planfix(stage: Stage, random: Random) -> None:
    """Planfix hangs up instead of taking a request."""
    stage.planfix.answers.extend(["drop"] * random.randrange(10, 40))
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


def slow_planfix(stage: Stage, random: Random) -> None:
    """Planfix takes up to two seconds for each answer."""
    stage.slowest = 2.0
    gevent.sleep(3.0 + 3.0 * random.random())
    stage.slowest = 0.0


def hanging_planfix(stage: Stage, random: Random) -> None:
    """Planfix answers nothing for some seconds, then hangs up on all who wait."""
    stage.hanging = Event()
    gevent.sleep(2.0 + 2.0 * random.random())
    stage.hanging.set()
    stage.hanging = None


def unknown_token(stage: Stage, random: Random) -> None:
    """Planfix does not know our token for a while; a probe a minute finds out when it does."""
    right, stage.planfix.token = stage.planfix.token, "another"
    gevent.sleep(2.0 + random.random())
    stage.planfix.token = right


# the store


def full_disk(stage: Stage, random: Random) -> None:
    """No file can grow: the workers' quota is used up."""
    pids = [worker.process.pid for worker in stage.workers]
    for pid in pids:
        _limit_files(pid, (4096, resource.RLIM_INFINITY))
    gevent.sleep(1.5)
    for pid in pids:
        _limit_files(pid, UNLIMITED)


def _limit_files(pid: int, limits: tuple[int, int]) -> None:
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def locked_store(stage: Stage, random: Random) -> None:
    """Another process holds SQLite's write lock for some seconds."""
    other = sqlite3.connect(stage.store_file, isolation_level=None)
    try:
        while True:
            with suppress(sqlite3.OperationalError):
                other.execute("BEGIN IMMEDIATE")
                break
            gevent.sleep(0.01)
        gevent.sleep(1.0 + 3.0 * random.random())
        other.execute("ROLLBACK")
    finally:
        other.close()


def ended_connections(stage: Stage, random: Random) -> None:
    """PostgreSQL throws everybody out."""
    stage.throw_out_connections()


def held_up_way(stage: Stage, random: Random) -> None:
    """What one worker, or each, says to PostgreSQL arrives some seconds later."""
    ways = random.choice([stage.ways, [random.choice(stage.ways)]])
    for way in ways:
        way.hold_up()
    gevent.sleep(1.0 + 3.0 * random.random())
    for way in ways:
        way.go_on()


def frozen_way(stage: Stage, random: Random) -> None:
    """One worker's connections to PostgreSQL carry nothing any more: it must notice (15 s)."""
    begun, number = time.time(), random.randrange(len(stage.ways))
    stage.ways[number].freeze()
    gevent.sleep(15.0)
    stage.silent.append((number, begun, time.time()))


# clocks


def database_clock_jumps(stage: Stage, random: Random) -> None:
    """PostgreSQL's clock goes wrong, by another amount than before."""
    set_off(stage.store_url, random.choice([0.0, 15.0, -15.0, FARTHEST, -FARTHEST]))


def one_clock_jumps(stage: Stage, random: Random) -> None:
    """One worker's clock goes wrong, by another amount than before."""
    random.choice(stage.shifts).set(random.uniform(-FARTHEST, FARTHEST))


def all_clocks_jump(stage: Stage, random: Random) -> None:
    """Every worker's clock goes wrong; two of them are as far apart as can be."""
    ahead, behind, *others = random.sample(stage.shifts, len(stage.shifts))
    ahead.set(FARTHEST)
    behind.set(-FARTHEST)
    for shift in others:
        shift.set(random.uniform(-FARTHEST, FARTHEST))


def right_clocks(stage: Stage, random: Random) -> None:
    """Every worker's clock is set right."""
    for shift in stage.shifts:
        shift.set(0.0)


GROUPS: dict[str, tuple[Fault, ...]] = {
    "workers": (*(kill_worker, stop_worker) * 4, kill_all_workers, unread_log),
    "links": (cut_one_link, cut_one_link, cut_links, cut_all_links, stall_links, restart_switch),
    "Planfix": (
        failing_planfix,
        dropping_planfix,
        cut_answers,
        busy_planfix,
        slow_planfix,
        hanging_planfix,
    ),
    "clocks": (one_clock_jumps, one_clock_jumps, all_clocks_jump, right_clocks),
}
STORE: dict[str, tuple[Fault, ...]] = {
    "SQLite": (locked_store, full_disk),
    "PostgreSQL": (ended_connections, held_up_way, database_clock_jumps),
}
"""By database."""

SLOW: dict[str, tuple[float, Fault]] = {
    "links": (0.0, half_open_links),
    "PostgreSQL": (0.25, frozen_way),
    "Planfix": (0.75, unknown_token),
}
"""These happen once, after so much of the calls, by group or database.

They heal only after 45, 15 and 60 seconds; the short run leaves them out.
"""


def groups(database: str) -> dict[str, tuple[Fault, ...]]:
    """Return what goes wrong again and again, by group."""
    return {**GROUPS, "store": STORE[database]}


def slow(database: str) -> dict[str, tuple[float, Fault]]:
    """Return what happens once, by group."""
    found = {group: once for group, once in SLOW.items() if group in GROUPS}
    return found | ({"store": SLOW[database]} if database in SLOW else {})
