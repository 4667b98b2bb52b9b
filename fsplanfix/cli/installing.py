"""The command that checks the installation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from textwrap import fill

import click

from .. import settings_file
from ..admin import check, colors
from ..admin.findings import Finding, Grade
from ..errors import SettingsError
from ..printable import WIDTH, printable
from ..service import logs
from ..settings import Settings, unknown_names
from ..settings.accounts import load_accounts
from .root import ACCOUNT_OPTION, WHOLE_WORDS, cli, name_of_account, say


@cli.command("check")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option("--test-alert", is_flag=True, help="Send an alert that says it is a test.")
@ACCOUNT_OPTION
def check_command(as_json: bool, test_alert: bool, account: str) -> None:
    """Check the installation and suggest fixes.

    Marks: ✓ is well, i could be better, ! is a warning, ✗ is broken.

    Exit code: 0 if all is well, 1 if there are warnings, 2 if something is broken.
    """
    counts, heading = dict.fromkeys(Grade, 0), ""
    for finding in _findings(account, test_alert):
        counts[finding.grade] += 1
        if as_json:
            fields = asdict(finding)
            if not finding.account:
                del fields["account"]
            say(json.dumps({"mark": finding.mark, **fields}, ensure_ascii=False))
        else:
            if finding.account != heading:
                heading = finding.account
                say(f"[{heading}]" if heading else "")
            _show(finding)

    if as_json:
        say(json.dumps({"summary": {grade.name.lower(): counts[grade] for grade in Grade}}))
    else:
        click.echo(_summary(counts))
    raise SystemExit(max(grade for grade in Grade if counts[grade]))


COLORS = {"✓": colors.GOOD, "i": colors.QUIET, "!": colors.ODD, "✗": colors.BAD}


def _show(finding: Finding) -> None:
    """Print a finding, and its hint below it."""
    head = f"{finding.mark} {finding.part:<17} "
    indent = " " * len(head)
    what = fill(printable(finding.what), WIDTH - len(head), **WHOLE_WORDS).replace(
        "\n", f"\n{indent}"
    )
    colors.show_mark(f"{head}{what}", COLORS[finding.mark])
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


def _findings(account: str, test_alert: bool) -> Iterator[Finding]:
    try:
        # the service's user must be able to read whatever the settings name
        settings_file.become_owner()
        accounts = load_accounts(Settings)
    except SettingsError as error:
        # what helps with all of them stands once, below the last
        hints = [""] * (len(error.problems) - 1) + [error.hint]
        for problem, hint in zip(error.problems, hints, strict=True):
            yield Finding("settings.wrong", Grade.BROKEN, "settings", problem, hint)
        return

    unknown, file = unknown_names(), settings_file.find()
    # problems are findings here, not log lines between them
    logs.set_up("CRITICAL")
    name_of_account(account, accounts)
    yield from check.check_all(accounts, file, unknown, account, test_alert)
