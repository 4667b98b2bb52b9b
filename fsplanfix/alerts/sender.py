"""Sends an alert: ALERT_COMMAND is started with one line, ALERT_URL gets JSON."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import gevent
import requests
import urllib3
from gevent import subprocess

from ..planfix.api import reason
from .book import Alert

LONGEST_WAIT = 10.0
"""Seconds that the command or the address may take."""

PASSED_ON = ("PATH", "HOME", "LANG", "TZ")
"""What the command finds in its environment. Ours may hold tokens."""


class Sender:
    """Sends alerts. command: ALERT_COMMAND, None for none. url: ALERT_URL, "" for none."""

    def __init__(self, command: Path | None, url: str, seconds: float = LONGEST_WAIT) -> None:
        self._command = command
        self._url = url
        self._seconds = seconds

    def __bool__(self) -> bool:
        """Tell whether there is a way to send anything."""
        return bool(self._command or self._url)

    def send(self, alert: Alert) -> Mapping[str, str]:
        """Send an alert every way; return by setting what went wrong, "" if nothing did."""
        return dict(self._sent(alert))

    def _sent(self, alert: Alert) -> Iterator[tuple[str, str]]:
        if self._command is not None:
            yield "ALERT_COMMAND", self._run(self._command, alert.line)
        if self._url:
            yield "ALERT_URL", self._post(alert)

    def _run(self, command: Path, line: str) -> str:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        try:
            # a session of its own: what the command has started is ended with it
            process = subprocess.Popen(
                [str(command), line],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            return f"{command} cannot be started ({error.strerror})"

        try:
            code = process.wait(timeout=self._seconds)
        except subprocess.TimeoutExpired:
            return f"{command} did not end within {self._seconds:g} s"
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        return f"{command} ended with {code}" if code else ""

    def _post(self, alert: Alert) -> str:
        """Post an alert. What is returned never names the address: it may hold a token."""
        try:
            late = gevent.Timeout(self._seconds)
            # requests' own timeout begins anew with every byte that arrives
            with late, requests.Session() as session:
                session.trust_env = False
                answer = session.post(
                    self._url,
                    json=alert.as_json(),
                    timeout=self._seconds,
                    allow_redirects=False,
                    stream=True,
                )
                code = answer.status_code
        except gevent.Timeout as timeout:
            if timeout is not late:
                raise
            return "it did not answer in time"
        except requests.exceptions.SSLError:
            return "its certificate is not trusted"
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
            return f"it cannot be reached ({reason(error)})"
        except (OSError, ValueError):
            return "it cannot be reached"
        return "" if 200 <= code < 300 else f"it answered {code}"
