"""Colours on a terminal; none where output goes elsewhere, or NO_COLOR is set (no-color.org)."""

from __future__ import annotations

import os

import click

from ..printable import lines

GOOD = "green"
ODD = "yellow"
BAD = "red"
QUIET = "bright_black"

BY_EVENT = {
    "ACCEPTED": GOOD,
    "Success": GOOD,
    "Missed": BAD,
    "Busy": BAD,
    "NoAnswer": BAD,
    "NotAvailable": BAD,
    "NotAllowed": BAD,
    "Canceled": QUIET,
}
"""Colours of requests to Planfix, by status, or by event where there is no status."""


def show(text: str, color: str | None = None, is_bold: bool = False) -> None:
    """Print one line or several, with control characters written out."""
    text = lines(text)
    if color or is_bold:
        text = click.style(text, fg=color, bold=is_bold or None)
    click.echo(text, color=_wanted())


def show_mark(line: str, color: str) -> None:
    """Print a line whose first character has a colour."""
    # the colour is added last: what comes from outside may bring none
    line = lines(line)
    click.echo(f"{click.style(line[:1], fg=color, bold=True)}{line[1:]}", color=_wanted())


def _wanted() -> bool | None:
    """Return False where colours are unwanted, else None: on a terminal only."""
    return False if os.environ.get("NO_COLOR") else None
