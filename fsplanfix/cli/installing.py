"""Commands for the administrator's first day: init, check."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from textwrap import fill

import click

from .. import settings_file
from ..admin import check, initial_settings
from ..admin.findings import Finding, Grade
from ..errors import SettingsError
from ..printable import printable
from ..service import logs
from ..settings import Settings, load, unknown_names
from .root import WHOLE_WORDS, WIDTH, cli, colors, errors_as_one_line, say


@cli.command("init")
@click.option(
    "--planfix-url", envvar="PLANFIX_URL", help="Address for requests, as Planfix shows it."
)
@click.option(
    "--planfix-token",
    envvar="PLANFIX_TOKEN",
    help="Token, as Planfix shows it (safer in the environment).",
)
@click.option("--public-url", envvar="PUBLIC_URL", help="Public https URL of this service.")
@click.option("--freeswitch", help="Event socket of FreeSWITCH, host:port.")
@click.option("--freeswitch-password", envvar="FREESWITCH_PASSWORD", help="Generated if omitted.")
@click.option("--recordings-dir", help="Folder of FreeSWITCH's recordings.")
@click.option("--store-url", help="Database URL.")
@click.option("--country", help="Country of numbers without a country code, such as RU.")
@click.option(
    "--file", "file", type=click.Path(path_type=Path), help="File to write. Default: --env-file."
)
@click.option("--force", is_flag=True, help="Overwrite the file without asking.")
@errors_as_one_line
def init_command(file: Path | None, force: bool, **given: str | None) -> None:
    """Create the file of settings interactively.

    Generates the secrets and says what to enter in Planfix and FreeSWITCH. Without a terminal
    nothing is asked: options that are missing take their defaults.
    """
    asks = sys.stdin.isatty()
    file = file or initial_settings.default_file()
    if file.exists() and not force:
        if not asks:
            raise SettingsError([f"{file} already exists; use --force to overwrite it."])
        click.confirm(f"{file} already exists. Overwrite it?", abort=True)

    answers = {
        name: _ask(asks, name, given[name], *question)
        for name, question in initial_settings.questions(file).items()
    }
    host, _, port = answers["freeswitch"].rpartition(":")
    # the same password goes into FREESWITCH_ESL and into the text for event_socket.conf.xml
    password = answers["freeswitch_password"] or secrets.token_hex(16)
    values = {
        "PLANFIX_URL": answers["planfix_url"],
        "PLANFIX_TOKEN": answers["planfix_token"],
        "PUBLIC_URL": answers["public_url"],
        "FREESWITCH_ESL": f"esl://:{password}@{host}:{port}",
        "RECORDINGS_DIR": answers["recordings_dir"],
        "STORE_URL": answers["store_url"],
        "COUNTRY": answers["country"],
        **initial_settings.made_up(),
    }
    initial_settings.write(file, {name: value for name, value in values.items() if value})
    say(f"Wrote {file} (readable only by {settings_file.owner_of(file)}).")
    say(initial_settings.what_to_do(file, values, host.strip("[]"), port, password))


def _ask(
    asks: bool, name: str, given: str | None, setting: str, question: str, default: str
) -> str:
    """Return the answer to a question; ask again after a wrong one."""
    while given is None and asks:
        hidden = name in ("planfix_token", "freeswitch_password")
        answer = click.prompt(
            question, default=default, show_default=bool(default), hide_input=hidden
        ).strip()
        # other settings are missing still: only what is wrong with this one counts
        wrong = []
        if setting:
            problems = initial_settings.problems({setting: answer})
            wrong = [text for text in problems if text.startswith(setting)]

        if not wrong:
            return str(answer)

        say(fill(wrong[0], 80))
    return default if given is None else given.strip()


@cli.command("check")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def check_command(as_json: bool) -> None:
    """Check the installation and suggest fixes.

    Exit code: 0 if all is well, 1 if there are warnings, 2 if something is broken.
    """
    counts = dict.fromkeys(Grade, 0)
    for finding in _findings():
        counts[finding.grade] += 1
        if as_json:
            say(json.dumps({"mark": finding.mark, **asdict(finding)}, ensure_ascii=False))
        else:
            _show(finding)

    if as_json:
        say(json.dumps({"summary": {grade.name.lower(): counts[grade] for grade in Grade}}))
    else:
        click.echo(_summary(counts))
    raise SystemExit(max(grade for grade in Grade if counts[grade]))


COLORS = {Grade.OK: "green", Grade.WARNING: "yellow", Grade.BROKEN: "red"}


def _show(finding: Finding) -> None:
    """Print a finding, and its hint below it."""
    head = f"{finding.mark} {finding.part:<17} "
    indent = " " * len(head)
    what = fill(printable(finding.what), WIDTH - len(head), **WHOLE_WORDS).replace(
        "\n", f"\n{indent}"
    )
    # the colour is added last: what comes from outside may bring none
    mark = click.style(finding.mark, fg=COLORS[finding.grade], bold=True)
    click.echo(f"{mark}{head[1:]}{what}", color=colors())
    if finding.hint:
        hint = printable(finding.hint)
        # a path or an option of a command is copied, so it is not divided
        click.echo(
            fill(hint, WIDTH, initial_indent=indent, subsequent_indent=indent, **WHOLE_WORDS)
        )


def _summary(counts: dict[Grade, int]) -> str:
    """Return the last line of the check."""
    if not counts[Grade.WARNING] and not counts[Grade.BROKEN]:
        return f"All {counts[Grade.OK]} checks passed."
    said = [f"{counts[Grade.OK]} passed"]
    if counts[Grade.WARNING]:
        said.append(f"{counts[Grade.WARNING]} with a warning (!)")
    if counts[Grade.BROKEN]:
        said.append(f"{counts[Grade.BROKEN]} broken (✗)")
    return f"{', '.join(said)}."


def _findings() -> Iterator[Finding]:
    try:
        settings = load(Settings)
    except SettingsError as error:
        # what helps with all of them stands once, below the last
        hints = [""] * (len(error.problems) - 1) + [error.hint]
        for problem, hint in zip(error.problems, hints, strict=True):
            yield Finding("settings.wrong", Grade.BROKEN, "settings", problem, hint)
        return

    unknown, file = unknown_names(), settings_file.find()
    settings_file.become_owner()
    # problems are findings here, not log lines between them
    logs.set_up("CRITICAL")
    yield from check.check_all(settings, file, unknown)
