"""The commands. Each failure is one sentence on stderr and an exit code, never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from . import timeline
from .calls.numbers import normalize as normalize_number
from .errors import FsplanfixError
from .planfix.messages import form
from .recordings.links import Links
from .replay import replay as replay_trace
from .settings import RuleSettings, load


def explained(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn our own errors into one sentence and exit code 1."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except FsplanfixError as error:
            raise click.ClickException(str(error)) from None

    return run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fsplanfix")
def cli() -> None:
    """Connect FreeSWITCH to the CRM Planfix: call windows, history, click-to-call."""


@cli.command()
@click.argument("traces", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line for each request Planfix would get.")
@explained
def replay(traces: tuple[Path, ...], as_json: bool) -> None:
    """Show what Planfix would be told about recorded calls."""
    rules = load(RuleSettings).rules()
    links = Links("http://127.0.0.1:8080", "replay")
    for trace in traces:
        callid = ""
        for notice in replay_trace(trace, rules):
            fields = form(notice, links.link)
            if as_json:
                click.echo(json.dumps(fields, ensure_ascii=False))
                continue
            if notice.callid != callid:
                callid = notice.callid
                click.echo(timeline.header({**fields, "type": notice.type, "phone": notice.phone}))
            click.echo(timeline.line(fields, notice.at))
        if not as_json and not callid:
            click.echo(f"{trace.name}: Planfix is told nothing (no client took part, or the call is ignored).")


@cli.command()
@click.argument("numbers", nargs=-1, required=True)
@explained
def normalize(numbers: tuple[str, ...]) -> None:
    """Show how phone numbers are written for Planfix."""
    settings = load(RuleSettings)
    for number in numbers:
        click.echo(f"{number} -> {normalize_number(number, settings.country) or settings.hidden_number}")
