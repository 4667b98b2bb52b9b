"""The real service as a program of its own, as an administrator runs it."""

from __future__ import annotations

import atexit
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import requests
from gevent.event import Event
from gevent.fileobject import FileObject

from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.simulators.playback import Step

from . import forked

TOKENS = {"PLANFIX_TOKEN": "planfix-token", "PBX_TOKEN": "pbx-token-1"}


def environment(**settings: str) -> dict[str, str]:
    """Only what a program needs, and the settings: nothing from the machine the tests run on."""
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **settings}


PATIENCE = 60.0
"""Seconds until something that must happen counts as not happening, on however busy a machine."""


class Halt:
    """Keeps a recorded call waiting before the first event that fits, until it may go on.

    So a test decides how far a call has come, whatever the service and the machine take.
    """

    def __init__(self, switch: Switch, fits: Callable[[Step], bool]) -> None:
        self._fits = fits
        self._reached = Event()
        self._may_go_on = Event()
        switch.before = self

    def __call__(self, step: Step) -> None:
        if self._fits(step) and not self._reached.is_set():
            self._reached.set()
            self._may_go_on.wait()

    def reached(self) -> bool:
        """Wait until the call has come so far."""
        return bool(self._reached.wait(PATIENCE))

    def go_on(self) -> None:
        """Let the call go on."""
        self._may_go_on.set()


OVERRIDES = "-dac_override,-dac_read_search"
"""What lets root pass over file modes, taken away."""


class Service:
    """A running `fsplanfix run`. log: the lines it wrote so far.

    files: how many it may open at the most, None for as many as the machine allows.
    bound: also root may write only where the file modes allow it.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, str],
        *options: str,
        files: int | None = None,
        bound: bool = False,
    ) -> None:
        self.log: list[str] = []
        words, errors = ["run", *options], os.pipe()
        limited = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"] if files else []
        if bound and os.getuid() == 0:
            limited += ["setpriv", f"--bounding-set={OVERRIDES}", f"--inh-caps={OVERRIDES}"]
        self.process: subprocess.Popen[bytes] | forked.Forked
        if limited:
            self.process = subprocess.Popen(
                [*limited, sys.executable, "-m", "fsplanfix", *words],
                cwd=folder,
                env=environment(**settings),
                stdout=subprocess.DEVNULL,
                stderr=errors[1],
            )
        else:
            self.process = forked.start(words, folder, environment(**settings), {2: errors[1]})
        os.close(errors[1])
        self._errors = FileObject(errors[0], "r", encoding="utf-8")
        atexit.register(self.process.kill)  # a test that fails may not end it
        self._reader = gevent.spawn(self._read)

    def _read(self) -> None:
        for line in self._errors:
            self.log.append(line.rstrip())

    def wait_for(self, pattern: str, seconds: float = PATIENCE) -> re.Match[str]:
        """Wait until the log has a line with `pattern`."""
        with gevent.Timeout(seconds, AssertionError(f"no {pattern!r} in {self.log}")):
            while True:
                for line in self.log:
                    if found := re.search(pattern, line):
                        return found
                if self._reader.dead:
                    raise AssertionError(f"ended with {self.process.wait()}: {self.log}")
                gevent.sleep(0.01)

    @property
    def address(self) -> str:
        return self.wait_for(r"web_listening address=(\S+)")[1]

    @property
    def socket_app(self) -> str:
        return self.wait_for(r"socket_app_listening address=(\S+)")[1]

    def numbers(self, wanted: str) -> str:
        """Return what /metrics says once `wanted` is in it: an answer is written a moment later."""
        found = ""
        with gevent.Timeout(PATIENCE, AssertionError(f"no {wanted!r} in /metrics")):
            while wanted not in found:
                found = self.get("/metrics").text
        return found

    def get(self, path: str) -> requests.Response:
        return requests.get(self.address + path, timeout=PATIENCE)

    def click(self, **fields: str) -> requests.Response:
        return requests.post(self.address + "/planfix", data=fields, timeout=PATIENCE)

    def end(self) -> int:
        """Stop it as systemd does; return its exit code."""
        self.process.terminate()
        try:
            code = self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("it does not end: " + "\n".join(self.log[-100:])) from None
        self._reader.join()
        self._errors.close()
        return code


def settings_for(switch: Switch, planfix: Planfix, folder: Path, **more: str) -> dict[str, str]:
    return {
        **TOKENS,
        "PLANFIX_URL": planfix.url,
        "FREESWITCH_ESL": f"esl://:ClueCon@127.0.0.1:{switch.port}",
        "HTTP_LISTEN": "127.0.0.1:0",
        "ESL_LISTEN": "127.0.0.1:0",
        "STORE_URL": f"sqlite:///{folder}/store.db",
        # where the traces' files lay; only a switch that is told to leaves some
        "RECORDINGS_DIR": switch.recordings_dir or "/var/lib/freeswitch/recordings",
        **more,
    }


@contextmanager
def running(switch: Switch, planfix: Planfix, folder: Path, **more: str) -> Iterator[Service]:
    with started(Service(folder, settings_for(switch, planfix, folder, **more))) as service:
        yield service


@contextmanager
def started(service: Service) -> Iterator[Service]:
    try:
        service.wait_for("freeswitch_linked|freeswitch_unreachable")
        yield service
    finally:
        if service.process.poll() is None:
            service.end()


@contextmanager
def split(
    switch: Switch, planfix: Planfix, folder: Path, store_url: str, *roles: str
) -> Iterator[list[Service]]:
    """One worker for each role, sharing a store."""
    settings = settings_for(switch, planfix, folder, STORE_URL=store_url)
    services = [Service(folder, settings, "--only", role) for role in roles]
    try:
        for role, service in zip(roles, services, strict=True):
            service.wait_for(
                {"events": "freeswitch_linked", "courier": "courier_ready", "web": "web_listening"}[
                    role
                ]
            )
        yield services
    finally:
        for service in services:
            service.end()
