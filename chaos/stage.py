"""Two simulated FreeSWITCHes, three real workers, a store, a strict Planfix; and the count."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import gevent
from flask import request
from gevent.event import Event

from fsplanfix.calls.model import Notice
from fsplanfix.outbox.history import Archive
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.store import Store
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import History, Planfix, Received
from fsplanfix.simulators.records import write_whole
from tests.support.database_clock import prepare
from tests.support.way import Way

from .clock import Shift
from .worker import Worker

WORKERS = 3

SETTLED = 1.5
"""Seconds after a request in which a killed worker may not have written down its answer yet."""

IN_FLIGHT = 0.25
"""Seconds for which what a killed worker had sent may still be on its way to Planfix."""


class Play:
    """One call that was played. has_crashed: its FreeSWITCH did, and wrote no record of it."""

    def __init__(self) -> None:
        self.callid = ""
        self.has_crashed = False
        self.begun = time.time()
        self.ended = 0.0

    def __str__(self) -> str:
        begun, ended = (
            datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")
            for at in (self.begun, self.ended)
        )
        return f"{self.callid}, from {begun} to {ended}"

    def begin(self, callid: str) -> None:
        """Take the UUID of the call's first leg."""
        self.callid = callid


class Stage:
    """Everything there is, and what happened to it.

    silent: which worker, from when to when, was being killed or could not reach the store for
    longer than a lease lasts. full: when the store took nothing. Seconds since 1970. unasked: how
    often a worker ended by itself, or did not when it should.
    """

    def __init__(
        self, folder: Path, database: str, store_url: str, seed: int, logs: Path | None = None
    ) -> None:
        self.database = database
        self.store_url = store_url
        self.store_file = store_url.removeprefix("sqlite:///")
        self.switches = [Switch(heartbeat=10.0) for _ in range(2)]
        self.planfix = Planfix(token="chaos-token")
        self.planfix.before = self._dawdle
        self.slowest = 0.0
        self.hanging: Event | None = None
        self.plays: list[Play] = []
        self.silent: list[tuple[int, float, float]] = []
        self.full: list[tuple[float, float]] = []
        self._senders: dict[int, int] = {}
        self.unasked = 0
        self.details: list[str] = []
        self._random = Random(f"{seed} {database} delays")
        self._folder = folder / database
        self._folder.mkdir()
        self._logs = logs or self._folder
        (self._folder / "cdr").mkdir()
        for switch in self.switches:
            switch.cdr_dir = str(self._folder / "cdr")
            switch.on_record = self._write_record
            switch.start()
        self.planfix.start()
        is_postgresql = database == "PostgreSQL"
        if is_postgresql:
            prepare(store_url)
        self.store = Store(store_url)
        self.queue = Queue(self.store)
        self.ways = [Way(store_url) for _ in range(WORKERS)] if is_postgresql else []
        self.shifts = [Shift(self._folder / f"clock-{n}") for n in range(WORKERS)]
        self.workers = [self._start_worker(n) for n in range(WORKERS)]
        for switch in self.switches:
            self.wait_for_links(switch, WORKERS)
        self._keeper = gevent.spawn(self._keep_up)

    def _start_worker(self, number: int) -> Worker:
        settings = self._settings()
        settings["PLANFIX_URL"] += f"?worker={number}"
        if self.ways:
            settings["STORE_URL"] = self.ways[number].url
        settings["STATE_DIRECTORY"] = str(self._folder / f"state-{number}")
        Path(settings["STATE_DIRECTORY"]).mkdir(exist_ok=True)
        return Worker(settings, self.shifts[number], self._logs / f"{self.database}-{number}.log")

    def _keep_up(self) -> None:
        """Start a worker that ended by itself, as systemd does.

        One may do so while it starts and the store is away, never later.
        """
        while True:
            gevent.sleep(0.5)
            for number, worker in enumerate(self.workers):
                if worker.has_ended:
                    if worker.is_ready:
                        self.unasked += 1
                        self.details.append(f"worker {number} ended by itself")
                    self.workers[number] = self._start_worker(number)

    def _settings(self) -> dict[str, str]:
        servers = ",".join(f"esl://:ClueCon@127.0.0.1:{switch.port}" for switch in self.switches)
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in ("PATH", "HOME") or name.startswith("COV")
        }
        return kept | {
            "PLANFIX_URL": self.planfix.url,
            "PLANFIX_TOKEN": self.planfix.token,
            "PBX_TOKEN": "chaos-pbx-token",
            "FREESWITCH_ESL": servers,
            "HTTP_LISTEN": "127.0.0.1:0",
            "ESL_LISTEN": "127.0.0.1:0",
            "PUBLIC_URL": "https://pbx.example.com",
            "STORE_URL": self.store_url,
            "POPUP_TTL": "0",
            "PLANFIX_CANCELED": "Canceled",
            "CDR_DIR": str(self._folder / "cdr"),
            "HISTORY_RATE": "50",
        }

    def close(self) -> None:
        """End everything."""
        self._keeper.kill()
        for worker in self.workers:
            worker.kill()
        for switch in self.switches:
            switch.stop()
        for way in self.ways:
            way.stop()
        self.planfix.stop()
        self.store.close()

    def _write_record(self, path: Path, text: str) -> None:
        """Write a record: at once, late, in two parts, or again, beside files that are none."""
        how = self._random.random()
        if how < 0.1:
            (path.parent / f"broken-{path.name}").write_text(text[: len(text) // 3])
        if how < 0.7:
            write_whole(path, text)
        elif how < 0.8:
            gevent.spawn_later(self._random.uniform(1, 8), write_whole, path, text)
        elif how < 0.9:
            path.write_text(text[: len(text) // 2])
            gevent.spawn_later(self._random.uniform(0.5, 3), path.write_text, text)
        else:
            write_whole(path, text)
            gevent.spawn_later(self._random.uniform(0.5, 3), write_whole, path, text)

    # what the faults use

    def kill_worker(self, number: int) -> None:
        """Kill -9 a worker and start it again."""
        begun = time.time()
        self.workers[number].kill()
        self.silent.append((number, begun, time.time() + IN_FLIGHT))
        self.workers[number] = self._start_worker(number)

    def stop_worker(self, number: int) -> None:
        """Stop a worker by SIGTERM and start it again."""
        if not self.workers[number].stop():
            self.unasked += 1
            self.details.append(f"worker {number} did not end when it was asked to")
        self.workers[number] = self._start_worker(number)

    @contextmanager
    def store_away(self) -> Iterator[None]:
        """Note that the store takes nothing for a while."""
        begun = time.time()
        yield
        self.full.append((begun, time.time() + SETTLED))

    def _dawdle(self, fields: dict[str, str]) -> None:
        """Note who sends a request, and keep it waiting before Planfix looks at it."""
        self._senders[id(fields)] = int(request.args["worker"])  # they are kept in `received`
        gevent.sleep(self._random.uniform(0, self.slowest))
        if self.hanging is not None:
            self.hanging.wait()
            self.planfix.answers.appendleft("drop")

    def wait_for_links(self, switch: Switch, count: int, seconds: float = 120) -> None:
        """Wait until so many workers follow a switch."""
        with gevent.Timeout(seconds):
            while sum(bool(session.names) for session in switch.sessions) < count:
                switch.wait_for_change()

    def wait_for_workers(self, seconds: float = 30) -> None:
        """Wait until every worker has begun its work, but not for ever."""
        end = time.monotonic() + seconds
        while not all(worker.is_ready for worker in self.workers) and time.monotonic() < end:
            gevent.sleep(0.05)

    def wait_until_answers_are_used(self, seconds: float = 8) -> None:
        """Wait until Planfix has given the answers it was told to."""
        end = time.monotonic() + seconds
        while self.planfix.answers and time.monotonic() < end:
            gevent.sleep(0.05)
        self.planfix.answers.clear()

    def crashed(self, switch: Switch) -> None:
        """A switch forgets its calls: whoever was not told of them will never know."""
        for play in self.plays:
            if play.callid in switch.channels:
                play.has_crashed = True

    def throw_out_connections(self) -> None:
        """Let PostgreSQL end every connection but ours."""
        import psycopg

        with psycopg.connect(self.store_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    # calls and what came of them

    def play(self, switch: Switch, recording: str, speed: float) -> None:
        """Play one call to its end."""
        play = Play()
        self.plays.append(play)
        core = switch.core
        switch.play(recording, speed, started=play.begin)
        # a crash before its first event ends it, too
        play.has_crashed = play.has_crashed or switch.core != core
        play.ended = time.time()

    def wait_for_history(self, seconds: float = 60) -> None:
        """Wait until the calls that nobody heard are told, but not for ever."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(not play.has_crashed for play in self._untold()):
            gevent.sleep(0.5)

    def _untold(self) -> list[Play]:
        told = {item.fields["callid"] for item in self.planfix.received if item.code == 200}
        return [play for play in self.plays if play.callid not in told]

    def is_drained(self) -> bool:
        """Tell whether nothing is on its way any more."""
        standing = self.queue.backlog()
        return not standing.waiting and not standing.open_calls

    def _written(self, answered: float) -> float:
        """Return when a worker has surely written down an answer: later while its disk was full."""
        return (
            max(
                [
                    answered,
                    *(end + 1 for start, end in self.full if start <= answered + SETTLED <= end),
                ]
            )
            + SETTLED
        )

    def _was_not_written_down(self, item: Received) -> bool:
        """Tell whether the worker may have died, or lost the store, before it noted the answer."""
        sender, written = self._senders[id(item.fields)], self._written(item.at)
        return any(
            worker == sender and item.came <= end and begun < written
            for worker, begun, end in self.silent
        )

    def _rows_of(self, surprises: list[str]) -> Iterator[str]:
        """Yield what the store holds of the calls that surprised people."""
        for play in self.plays:
            if play.callid and any(play.callid in surprise for surprise in surprises):
                for queued in Archive(self.store).about(play.callid)[0]:
                    yield f"    {play.callid}: {_row(queued.notice)}"

    def figures(self) -> dict[str, int]:
        """Count what came of everything, and apart what was sent again as its answer was lost."""
        last: dict[tuple[str, ...], Received] = {}
        seen_by_people, again, doubled, details = History(), 0, 0, []
        for item in self.planfix.received:
            key = tuple(f"{name}={value}" for name, value in sorted(item.fields.items()))
            if item.code != 200:
                continue
            if key not in last:
                seen_by_people.take(item.fields)
            elif item.repeated or self._was_not_written_down(last[key]):
                again += 1
            else:
                doubled += 1
                details.append(f"doubled after {item.came - last[key].at:.1f} s: {_name(item)}")
            last[key] = item
        details += [f"out of order: {text}" for text in seen_by_people.surprises]
        # a link that went out with its COMPLETED stands for a notice
        delivered = len(last) + sum(map(_has_a_link_along, last))
        due, cards = self.queue.counts(), seen_by_people.cards
        unended = sum(part.state != "done" for card in cards.values() for part in card.parts)
        untold = [play for play in self.plays if play.callid not in cards]
        lost = [play for play in untold if not play.has_crashed]
        details += [f"lost: all of call {play}" for play in lost]
        details += [
            f"lost: the end of {card.callid} for {part.ext}"
            for card in cards.values()
            for part in card.parts
            if part.state != "done"
        ]
        self.details += details
        self.details += self._rows_of(seen_by_people.surprises)
        return {
            "calls": len(self.plays),
            "calls that crashed unheard": len(untold) - len(lost),
            "calls untold": len(lost),
            "notices due": sum(due.values()),
            "delivered": delivered,
            "lost": sum(due.values()) - delivered + unended + len(lost),
            "doubled": doubled,
            "sent again, answer lost": again,
            "out of order": len(seen_by_people.surprises),
            "ended unasked": self.unasked,
        }


def _row(notice: Notice) -> str:
    return f"{notice.what} {notice.ext or '-'} {notice.ordinal} rule {notice.rule} {notice.at}"


def _has_a_link_along(key: tuple[str, ...]) -> bool:
    """Tell whether a request was a COMPLETED with the link to its recording."""
    return "event=COMPLETED" in key and any(part.startswith("record_link=") for part in key)


def _name(item: Received) -> str:
    fields = item.fields
    return f"{fields['callid']} {fields.get('ext', '-')} {fields.get('event', 'record')}"
