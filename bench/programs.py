"""Programs that are measured: started between the stand-ins, watched from outside, ended."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from re import findall

import gevent
import psutil

from tests.support.service import environment

from .standins import TOKEN, Planfix, Switch

ROOT = Path(__file__).parent.parent


class Program:
    """A running program. folder: its own, deleted at its end. seen: it as the system shows it."""

    def __init__(self, arguments: list[str], folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, *arguments],
                cwd=folder,
                env=environment(**settings),
                stdout=log,
                stderr=log,
            )
        self.seen = psutil.Process(self._process.pid)

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()

    def cpu(self) -> float:
        """Return the seconds of CPU it has used: user and system, all threads."""
        times = self.seen.cpu_times()
        return float(times.user + times.system)

    def memory(self) -> int:
        """Return its resident bytes."""
        return int(self.seen.memory_info().rss)

    def files(self) -> int:
        """Return how many files and sockets it has open."""
        return int(self.seen.num_fds())

    def said(self, pattern: str, seconds: float = 20.0) -> str:
        """Wait for a log line with `pattern`; return the group in it. Raises RuntimeError."""
        try:
            with gevent.Timeout(seconds):
                while not (found := findall(pattern, self._log.read_text())):
                    gevent.sleep(0.01)
        except gevent.Timeout:
            raise RuntimeError(f"no {pattern!r} in:\n{self._log.read_text()[-2000:]}") from None
        return str(found[0])


@dataclass
class Stage:
    """A connector between its stand-ins."""

    switch: Switch
    planfix: Planfix
    program: Program

    def check(self, requests: int) -> None:
        """Raise RuntimeError unless exactly so many requests came, each as it must be."""
        wrong = [*self.switch.wrong, *self.planfix.wrong]
        if wrong or self.planfix.taken != requests:
            raise RuntimeError(f"{self.planfix.taken} of {requests} requests; wrong: {wrong[:3]}")


@contextmanager
def connector(
    name: str = "ours",
    store_url: str = "",
    delay: float = 0.0,
    keep_days: float = 30.0,
    watch_every: float = 1.0,
    switch: Switch | None = None,
    planfix: Planfix | None = None,
    **more: str,
) -> Iterator[Stage]:
    """Run a connector ("ours", "plain" or soak's "watched"), linked to its switch.

    delay: seconds Planfix takes to answer. watch_every: seconds between two counts of the watched
    one's greenlets. switch: one without calls if there is none. planfix: one that is shared with
    others and goes on. more: further settings.
    """
    switch, shared = switch or Switch(), planfix
    planfix = shared or Planfix(delay)
    with tempfile.TemporaryDirectory(prefix="fsplanfix-bench-") as folder:
        arguments = {
            "ours": ["-m", "fsplanfix", "run"],
            "watched": ["-m", "soak.watched", str(watch_every), "run"],
            "plain": ["-m", "bench.connector", str(switch.port), planfix.url, TOKEN],
        }[name]
        settings = {
            "PYTHONPATH": str(ROOT),
            "PLANFIX_URL": planfix.url,
            "PLANFIX_TOKEN": TOKEN,
            "PBX_TOKEN": "bench-pbx-token",
            "FREESWITCH_ESL": f"esl://:ClueCon@127.0.0.1:{switch.port}",
            "HTTP_LISTEN": "127.0.0.1:0",
            "ESL_LISTEN": "127.0.0.1:0",
            "PUBLIC_URL": "https://pbx.example.com",
            "STORE_URL": store_url or f"sqlite:///{folder}/store.db",
            "POPUP_TTL": "0",
            "KEEP_DAYS": str(keep_days),
            **more,
        }
        program = Program(arguments, Path(folder), settings)
        try:
            if not switch.subscribed.wait(20):
                program.said("freeswitch_linked", 0)
            yield Stage(switch, planfix, program)
        finally:
            program.end()
            switch.stop()
            if shared is None:
                planfix.stop()
