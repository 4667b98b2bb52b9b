"""What FreeSWITCH's call detail records cost: a folder of many, and calls told from them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import gevent

from fsplanfix.simulators.playback import Step, freshen
from fsplanfix.simulators.records import Records

from . import traffic, windows
from .programs import connector
from .starting import ready

CALL = "in_one_no_answer"
OLD = 100_000
"""Records of days ago."""

UNTOLD = 10_000
"""Calls that nobody heard."""

A_SECOND = 10
SECONDS = 15

A_DAY = 86400.0
A_MINUTE = 60.0


@contextmanager
def many_old(count: int = OLD) -> Iterator[str]:
    """Make a folder of records that are a day old; give its path."""
    with tempfile.TemporaryDirectory(prefix="fsplanfix-bench-") as folder:
        then = time.time() - A_DAY
        for n in range(count):
            path = f"{folder}/{UUID(int=n + 1)}.cdr.json"
            with open(path, "wb"):
                pass
            os.utime(path, (then, then))
        yield folder


def start_beside(folder: str) -> float:
    """Return the seconds from the start to ready, beside a folder of records.

    The store is kept there: from the second start on, it knows of an absence, and the folder is
    looked through at once.
    """
    return ready(folder, f"sqlite:///{folder}/store.db")


@contextmanager
def untold(count: int = UNTOLD) -> Iterator[str]:
    """Make a folder of the records of calls that ended a minute ago; give its path."""
    steps = [Step(at, body.decode()) for at, body in traffic.recorded(CALL)]
    writer = Records()
    fresh = freshen(steps, time.time() - A_MINUTE, "")
    files = [file for file in map(writer.follow, fresh) if file is not None]
    uuids = sorted({step.get("Unique-ID") for step in fresh} - {""})

    with tempfile.TemporaryDirectory(prefix="fsplanfix-bench-") as folder:
        for n in range(count):
            # behind those of the live calls (traffic.py)
            own = {uuid: str(UUID(int=1 << 100 | n << 32 | m)) for m, uuid in enumerate(uuids)}
            for name, text in files:
                path = Path(folder, _with(own, name))
                path.write_text(_with(own, text), encoding="utf-8")
        yield folder


def _with(own: dict[str, str], text: str) -> str:
    for uuid, fresh in own.items():
        text = text.replace(uuid, fresh)
    return text


def delays(cdr_dir: str = "", calls: int = A_SECOND * SECONDS) -> list[float]:
    """Return for each live call the seconds from its event leaving the switch to its first request.

    cdr_dir: from where other calls are told meanwhile, "" if none are. Raises gevent.Timeout if
    none was.
    """
    moments = traffic.calls(calls, 1 / A_SECOND)
    live = {moment.callid for moment in moments}
    watch = windows.Watch()
    with connector(delay=windows.ANSWER, CDR_DIR=cdr_dir) as stage:
        stage.planfix.came = watch.arrived
        stage.switch.send(moments, before=watch.note, paced=True)
        with gevent.Timeout(60):
            while not watch.came.keys() >= live or (cdr_dir and watch.came.keys() <= live):
                gevent.sleep(0.05)
    return watch.delays()
