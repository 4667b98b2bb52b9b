"""Two simulated FreeSWITCHes, three real workers, a store, a strict Planfix; and the count."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import gevent
from flask import request
from gevent.event import Event
from sqlalchemy import select

from fsplanfix.calls.model import Notice
from fsplanfix.outbox.archive import Archive
from fsplanfix.outbox.clock import database_now
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.schema import facts, is_waiting, notices
from fsplanfix.outbox.store import Store
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import History, Planfix, Received
from fsplanfix.simulators.records import write_whole
from tests.support.database_clock import prepare
from tests.support.way import Way

from .clock import Shift
from .ledger import Claim, Ledger
from .worker import Worker

WORKERS = 3


class Play:
    """One call that was played. has_crashed: its FreeSWITCH did, and wrote no record of it."""

    def __init__(self) -> None:
        self.callid = ""
        self.has_crashed = False
        self.begun = time.time()
        self.ended = 0.0

    def __str__(self) -> str:
        return f"{self.callid}, from {_clock(self.begun)} to {_clock(self.ended)}"

    def begin(self, callid: str) -> None:
        """Take the UUID of the call's first leg."""
        self.callid = callid


class Stage:
    """Everything there is, and what happened to it.

    silent: which worker, from when to when, was being killed or could not reach the store for
    longer than a lease lasts. Seconds since 1970. unasked: how often a worker ended by itself, or
    did not when it should.
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
        self._senders: dict[int, int] = {}
        self._begun = time.time()
        self.kept: dict[int, set[int]] = {}
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
        self.ledger = Ledger(self.store)
        self.ledger.open()
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
        return Worker(settings, self.shifts[number], self._log(number))

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
        self.silent.append((number, begun, time.time()))
        self.workers[number] = self._start_worker(number)

    def stop_worker(self, number: int) -> None:
        """Stop a worker by SIGTERM and start it again."""
        if not self.workers[number].stop():
            self.unasked += 1
            self.details.append(f"worker {number} did not end when it was asked to")
        self.workers[number] = self._start_worker(number)

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

    def play(self, switch: Switch, trace: str, speed: float) -> None:
        """Play one call to its end. trace: its name."""
        play = Play()
        self.plays.append(play)
        core = switch.core
        switch.play(trace, speed, started=play.begin)
        # a crash before its first event ends it, too
        play.has_crashed = play.has_crashed or switch.core != core
        play.ended = time.time()

    def wait_for_history(self, seconds: float = 60) -> None:
        """Wait until the calls that nobody heard are told, as long as one more is now and then."""
        left, since = -1, time.monotonic()
        while time.monotonic() < since + seconds:
            untold = sum(not play.has_crashed for play in self._untold())
            if not untold:
                return
            if untold != left:
                left, since = untold, time.monotonic()
            gevent.sleep(0.5)

    def quiet_for(self) -> float:
        """Return the seconds since Planfix accepted a request last."""
        return time.time() - max(
            [self._begun, *(item.at for item in self.planfix.received if item.code == 200)]
        )

    def _untold(self) -> list[Play]:
        told = {item.fields["callid"] for item in self.planfix.received if item.code == 200}
        return [play for play in self.plays if play.callid not in told]

    def is_drained(self) -> bool:
        """Tell whether nothing is on its way any more."""
        standing = self.queue.backlog()
        return not standing.waiting and not standing.open_calls

    def what_waits(self) -> Iterator[str]:
        """Yield what says why notices are still in the store."""
        with self.store.transaction() as connection:
            now = connection.execute(select(database_now())).scalar_one()
            rows = connection.execute(select(notices).where(is_waiting(notices))).mappings().all()
            known = dict(connection.execute(select(facts.c.name, facts.c.value)).tuples().all())
        if not rows:
            return
        leased = [row["leased_until"] - now for row in rows if row["leased_until"]]
        due = [row["due"] - now for row in rows]
        yield f"{len(rows)} wait, due in {min(due):.1f} to {max(due):.1f} s"
        if leased:
            yield f"{len(leased)} are leased for {min(leased):.1f} to {max(leased):.1f} s"
        for name in ("hold_until", "unauthorized"):
            if name in known:
                yield f"{name} in {float(known[name]) - now:.1f} s"

    def _was_not_written_down(self, item: Received, claim: Claim, again: Claim) -> bool:
        """Tell whether the worker died, or lost the store, before it noted the answer.

        It says so itself if it kept the answer in a file, for its next start.

        claim, again: for which Planfix was asked, then and the next time.
        """
        # the second claim shows that the answer was not noted; now who was to blame
        sender = self._senders[id(item.fields)]
        if claim.notice in self.kept.get(sender, set()):
            return True
        was_silent = any(
            worker == sender and begun < again.at and claim.at < end
            for worker, begun, end in self.silent
        )
        return was_silent and not self.ledger.went_on(claim.owner, item.at, again.at)

    def _log(self, number: int) -> Path:
        return self._logs / f"{self.database}-{number}.log"

    def _answers_kept(self, number: int) -> set[int]:
        """Return the notices whose answers a worker could not store at its end, by its log."""
        lines = self._log(number).read_text(errors="replace").splitlines()
        named = " ".join(line for line in lines if " event=answers_kept " in line)
        lists = re.findall(r" notices=([0-9,]+)", named)
        return {int(notice) for one in lists for notice in one.split(",")}

    def _rows_of(self, surprises: list[str]) -> Iterator[str]:
        """Yield what the store holds of the calls that surprised people."""
        for play in self.plays:
            if play.callid and any(play.callid in surprise for surprise in surprises):
                for queued in Archive(self.store).about(play.callid)[0]:
                    yield f"    {play.callid}: {_row(queued.notice)}"

    def _double(self, item: Received, claim: Claim, before: Received, first: Claim) -> str:
        """Return a line about a request that came again though its answer was not lost."""
        one, two = (self._senders[id(request.fields)] for request in (before, item))
        return (
            f"doubled: {_name(item)}: claimed {_clock(first.at)} by {one} ({first.owner[:4]}), "
            f"came {_clock(before.came)}, answered {_clock(before.at)}; "
            f"claimed {_clock(claim.at)} by {two} ({claim.owner[:4]}), came {_clock(item.came)}"
        )

    def figures(self) -> dict[str, int]:
        """Count what came of everything, and apart what was sent again as its answer was lost."""
        last: dict[int, tuple[Received, Claim]] = {}
        seen_by_people, again, doubled, details = History(), 0, 0, []
        self.ledger.read()
        self.kept = {number: self._answers_kept(number) for number in range(WORKERS)}
        for item in self.planfix.received:
            if item.code != 200:
                continue
            claim = self.ledger.claim_behind(item.fields, item.came)
            if claim is None:
                doubled += 1
                details.append(f"nobody had claimed it: {_name(item)}")
                continue
            if claim.notice not in last:
                seen_by_people.take(item.fields)
            elif item.repeated or self._was_not_written_down(*last[claim.notice], claim):
                again += 1
            else:
                doubled += 1
                details.append(self._double(item, claim, *last[claim.notice]))
            last[claim.notice] = item, claim
        details += [f"out of order: {text}" for text in seen_by_people.surprises]
        # a link that went out with its COMPLETED stands for a notice
        sent = [(item.fields, notice) for notice, (item, _) in last.items()]
        along = [n for fields, n in sent if "record_link" in fields and "event" in fields]
        delivered = len(last) + len(along)
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


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")


def _name(item: Received) -> str:
    fields = item.fields
    return f"{fields['callid']} {fields.get('ext', '-')} {fields.get('event', 'record')}"
