"""What `fsplanfix check` says about whom troubles are told to."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..alerts.book import Alert
from ..alerts.sender import Sender
from ..settings import Settings
from .findings import Finding, Grade

TEST = Alert("fsplanfix: this is a test of ALERT_COMMAND and ALERT_URL, nothing is wrong.")


def check_alerts(settings: Settings, send_test: bool) -> Iterator[Finding]:
    """Check that a person can be told of troubles. send_test: send an alert that says so."""
    command, url = settings.alert_command, settings.alert_url.get_secret_value()
    if command is None and not url:
        what = "nobody is told of troubles: ALERT_COMMAND and ALERT_URL are not set"
        hint = "set ALERT_COMMAND to a program that tells you, or ALERT_URL to an address"
        # only whoever wants to try it needs it now
        yield _finding("none", Grade.BROKEN if send_test else Grade.OK, what, hint)
        return

    if command is not None and not os.access(command, os.X_OK):
        what = f"ALERT_COMMAND={command} cannot be started"
        hint = "is the file there, and may the service's user execute it (chmod 755)?"
        yield _finding("no-command", Grade.BROKEN, what, hint)
        command = None

    ways = {"ALERT_COMMAND": command is not None, "ALERT_URL": bool(url)}
    names = [name for name, works in ways.items() if works]
    if names and not send_test:
        what = f"troubles are told by {' and '.join(names)} (check --test-alert tries it)"
        yield _finding("set", Grade.OK, what)
        return

    for setting, problem in Sender(command, url).send(TEST).items():
        if problem:
            yield _finding("not-sent", Grade.BROKEN, f"{setting}: {problem}", f"fix {setting}")
        else:
            yield _finding("sent", Grade.OK, f"{setting} took a test alert: has it arrived?")


def _finding(reason: str, grade: Grade, what: str, hint: str = "") -> Finding:
    return Finding(f"alerts.{reason}", grade, "alerts", what, hint)
