"""The real service as a program of its own, as an administrator runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import requests

from fsplanfix.simulators.crm import Planfix
from fsplanfix.simulators.switch import Switch

TOKENS = {"PLANFIX_TOKEN": "planfix-token", "PBX_TOKEN": "pbx-token-1"}


def environment(**settings: str) -> dict[str, str]:
    """Only what a program needs, and the settings: nothing from the machine the tests run on."""
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **settings}


class Service:
    """A running `fsplanfix run`. log: the lines it wrote so far."""

    def __init__(self, folder: Path, settings: dict[str, str], *options: str) -> None:
        self.log: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fsplanfix", "run", *options],
            cwd=folder,
            env=environment(**settings),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = gevent.spawn(self._read)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line.rstrip())

    def wait_for(self, pattern: str, seconds: float = 15.0) -> re.Match[str]:
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

    def get(self, path: str) -> requests.Response:
        return requests.get(self.address + path, timeout=10)

    def click(self, **fields: str) -> requests.Response:
        return requests.post(self.address + "/planfix", data=fields, timeout=10)

    def end(self) -> int:
        """Stop it as systemd does; return its exit code."""
        self.process.terminate()
        code = self.process.wait(timeout=15)
        self._reader.join()
        if self.process.stderr is not None:
            self.process.stderr.close()
        return code


def settings_for(switch: Switch, planfix: Planfix, folder: Path, **more: str) -> dict[str, str]:
    return {
        **TOKENS,
        "PLANFIX_URL": planfix.url,
        "FREESWITCH_ESL": f"esl://:ClueCon@127.0.0.1:{switch.port}",
        "HTTP_LISTEN": "127.0.0.1:0",
        "ESL_LISTEN": "127.0.0.1:0",
        "STORE_URL": f"sqlite:///{folder}/store.db",
        "RECORDINGS_DIR": str(folder),
        **more,
    }


@contextmanager
def running(switch: Switch, planfix: Planfix, folder: Path, **more: str) -> Iterator[Service]:
    service = Service(folder, settings_for(switch, planfix, folder, **more))
    try:
        service.wait_for("freeswitch_linked|freeswitch_unreachable")
        yield service
    finally:
        if service.process.poll() is None:
            service.end()
