"""Two simulated FreeSWITCHes, two real workers, a store, a strict Planfix; and the count."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gevent

from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.store import Store
from fsplanfix.simulators.crm import History, Planfix, Received
from fsplanfix.simulators.session import Session
from fsplanfix.simulators.switch import Switch

from .faults import SETTLED

IN_FLIGHT = 0.25
"""Seconds for which what a killed worker had sent may still be on its way to Planfix."""


class Worker:
    """A `fsplanfix run` of its own."""

    def __init__(self, settings: dict[str, str], log: Path) -> None:
        self._log = log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fsplanfix", "run"],
            env=settings,
            stderr=self._log,
            stdout=self._log,
        )

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._log.close()


class Play:
    """One call that was played. heard_by: the sessions that followed it at its beginning."""

    def __init__(self, heard_by: list[Session]) -> None:
        self.callid = ""
        self.heard_by = heard_by
        self.ended = 0.0

    def begin(self, callid: str) -> None:
        """Take the UUID of the call's first leg."""
        self.callid = callid

    def must_be_known(self) -> bool:
        """Tell whether one who heard its beginning listened until a second after its end."""
        return any((session.ended or time.time()) > self.ended + 1 for session in self.heard_by)


class Stage:
    """Everything there is, and what happened to it."""

    def __init__(self, folder: Path, store_url: str) -> None:
        self.store_url = store_url
        self.is_postgresql = store_url.startswith("postgresql")
        self.switches = [Switch(heartbeat=10.0) for _ in range(2)]
        self.planfix = Planfix(token="chaos-token")
        self.plays: list[Play] = []
        self.kills: list[tuple[float, float]] = []
        self.full: list[tuple[float, float]] = []
        self.details: list[str] = []
        self._folder = folder
        for switch in self.switches:
            switch.start()
        self.planfix.start()
        self.store = Store(store_url)
        self.queue = Queue(self.store)
        self.workers = [Worker(self._settings(), folder / f"worker-{n}.log") for n in range(2)]
        for switch in self.switches:
            self.wait_for_links(switch, 2)

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
        }

    def close(self) -> None:
        """End everything."""
        for worker in self.workers:
            worker.kill()
        for switch in self.switches:
            switch.stop()
        self.planfix.stop()
        self.store.close()

    # what the faults use

    def restart_worker(self, number: int) -> None:
        """Kill -9 a worker and start it again."""
        begun = time.time()
        self.workers[number].kill()
        self.kills.append((begun, time.time() + IN_FLIGHT))
        self.workers[number] = Worker(self._settings(), self._folder / f"worker-{number}.log")

    def wait_for_links(self, switch: Switch, count: int, seconds: float = 20) -> None:
        """Wait until so many workers follow a switch."""
        with gevent.Timeout(seconds):
            while sum(bool(session.names) for session in switch.sessions) < count:
                switch.wait_for_change()

    def wait_until_answers_are_used(self, seconds: float = 20) -> None:
        """Wait until Planfix has given the answers it was told to."""
        end = time.monotonic() + seconds
        while self.planfix.answers and time.monotonic() < end:
            gevent.sleep(0.05)
        self.planfix.answers.clear()

    def crashed(self, switch: Switch) -> None:
        """A switch forgets its calls: whoever was not told of them will never know."""
        for play in self.plays:
            if play.callid in switch.channels:
                play.heard_by = []

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
        play = Play([session for session in switch.sessions if session.names and not session.ended])
        self.plays.append(play)
        switch.play(recording, speed, started=play.begin)
        play.ended = time.time()

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

    def _was_cut_by_a_kill(self, item: Received) -> bool:
        """Tell whether the worker may have died between sending and writing down the answer."""
        return any(item.came <= end and begun < self._written(item.at) for begun, end in self.kills)

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
            elif item.repeated or self._was_cut_by_a_kill(last[key]):
                again += 1
            else:
                doubled += 1
                details.append(f"doubled after {item.came - last[key].at:.1f} s: {_name(item)}")
            last[key] = item
        details += [f"out of order: {text}" for text in seen_by_people.surprises]
        due, cards = self.queue.counts(), seen_by_people.cards
        unended = sum(part.state != "done" for card in cards.values() for part in card.parts)
        untold = [play for play in self.plays if play.callid not in cards]
        unknown = sum(play.must_be_known() for play in untold)
        details += [f"lost: all of call {play.callid}" for play in untold if play.must_be_known()]
        details += [
            f"lost: the end of {card.callid} for {part.ext}"
            for card in cards.values()
            for part in card.parts
            if part.state != "done"
        ]
        self.details = details
        return {
            "calls": len(self.plays),
            "calls nobody could hear": len(untold) - unknown,
            "notices due": sum(due.values()),
            "delivered": len(last),
            "lost": sum(due.values()) - len(last) + unended + unknown,
            "doubled": doubled,
            "sent again, answer lost": again,
            "out of order": len(seen_by_people.surprises),
        }


def _name(item: Received) -> str:
    fields = item.fields
    return f"{fields['callid']} {fields.get('ext', '-')} {fields.get('event', 'record')}"
