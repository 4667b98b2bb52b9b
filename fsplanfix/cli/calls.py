"""Commands that look at calls: explain, replay, normalize."""

from __future__ import annotations

from datetime import datetime
from functools import wraps
from pathlib import Path
from textwrap import fill
from typing import Any

import click

from ..admin import calls_command, colors, explain
from ..admin.call_csv import all_pages
from ..admin.traces import replay, settings_of
from ..outbox.archive import Archive, Known
from ..outbox.call_list import CallList, Search
from ..outbox.reader import Reader
from ..outbox.store import Store
from ..planfix.commands import number_clicked
from ..printable import WIDTH, printable
from ..settings import RuleSettings
from ..settings.accounts import load_accounts
from .requests import show_requests
from .root import (
    ACCOUNT_OPTION,
    WHOLE_WORDS,
    cli,
    errors_as_one_line,
    name_of_account,
    open_store,
    say,
    stored_account,
)

MOST_CANDIDATES = 10
"""Callids that are shown if a beginning fits more than one."""

LONGEST_CALL = 86400.0
"""Seconds by which a call may begin before its first notice."""


@cli.command("calls")
@ACCOUNT_OPTION
@errors_as_one_line
@wraps(calls_command.show_calls)
def _calls_command(account: str, **asked: Any) -> None:
    with open_store() as store:
        calls_command.show_calls(store, stored_account(account, store), **asked)


@cli.command("explain")
@click.argument("call", metavar="CALLID|NUMBER", default="")
@click.option(
    "--last", is_flag=True, help="The most recent call; with --export, the last that is over."
)
@click.option(
    "--export",
    "file",
    type=click.Path(path_type=Path),
    help="Write the call as a trace that `replay` plays.",
)
@click.option("--mask", is_flag=True, help="With --export: replace phone numbers by made-up ones.")
@click.option("--since", metavar="T", help="With a number: only since a time: 2h, 3d, 2026-11-18.")
@ACCOUNT_OPTION
@errors_as_one_line
def explain_command(
    call: str, last: bool, file: Path | None, mask: bool, since: str | None, account: str
) -> None:
    """Explain what happened in a call.

    Shows the events of FreeSWITCH, the rule behind each notice, and Planfix's answers. The rules
    are listed in docs/call-rules.md. The beginning of a callid is enough. A number with several
    calls gives one line for each, the latest first. Times are those of the machine, or of TZ.
    """
    accounts = load_accounts(RuleSettings)
    if not call and not last:
        raise click.UsageError("Give a callid or a phone number, or --last.")
    if mask and file is None:
        raise click.UsageError("--mask needs --export: what is shown here is not masked.")
    start = calls_command.since_when(since, datetime.now().astimezone()) if since else 0.0

    with open_store() as store:
        stored_account(account, store)
        archive = Archive(store)
        rules = accounts.get(account, accounts.machine).rules()
        number = rules.numbering.normalize(call)
        if last:
            # the events of a call are stored when it is over
            callid = archive.last_call() if file is None else archive.last_ended_call()
            callid = _last_of(store, account) if account else callid
            found = [Known(callid, 0.0)] if callid else []
        else:
            found = _find(archive, call, number, start)
        if account:
            found = [known for known in found if _is_of(archive, known.callid, account)]
        if file is not None:
            _export(archive, [known.callid for known in found][-1:], file, mask)
            return

        told = [] if last else _refusals(archive, number, start, account)
        if len(found) > 1:
            told = [_list(store, found, number), *told]
        elif found:
            story = explain.story(archive, accounts.rules(), found[0].callid, account)
            told = ["\n".join(story), *told]

        if not told:
            raise _nothing_known(call)
        for line in "\n\n".join(told).split("\n"):
            _show(line)


def _nothing_known(call: str) -> click.ClickException:
    if not call:
        return click.ClickException("No calls yet.")
    return click.ClickException(f"No record of call or number {printable(call[:80])}.")


def _refusals(archive: Archive, number: str, start: float, account: str) -> list[str]:
    """Return what is to be told of clicks that were refused, the latest first.

    Only their number is known.
    """
    if not number:
        return []
    return [
        explain.refusal(entry)
        for entry in reversed(archive.refused(number))
        if entry.at >= start and account in ("", entry.account)
    ]


def _show(line: str) -> None:
    """Print a line of a story, its mark in colour."""
    color = explain.COLORS.get(line[:1]) if line[1:2] == " " else None
    if color:
        colors.show_mark(line, color)
    else:
        say(line)


def _find(archive: Archive, call: str, number: str, start: float) -> list[Known]:
    """Return the calls that are meant, the oldest first.

    Raises click.ClickException if the beginning of a callid fits several.
    """
    if archive.is_known(call):
        return [Known(call, 0.0)]
    if number and (found := archive.calls_with(number)):
        return [known for known in found if known.at >= start]

    found = archive.beginning_with(call, MOST_CANDIDATES + 1)
    if len(found) > 1:
        candidates = [f"  {printable(known.callid)}" for known in found[:MOST_CANDIDATES]]
        more = ["  ..."] if len(found) > MOST_CANDIDATES else []
        raise click.ClickException(
            "\n".join([f"Several calls begin with {call}:", *candidates, *more])
        )
    return found


def _last_of(store: Store, account: str) -> str:
    """Return the account's last call that is over, "" if there is none."""
    reader = Reader(store)
    try:
        found = CallList(reader, account).page(Search(), 1)
    finally:
        reader.close()
    return found[0].callid if found else ""


def _is_of(archive: Archive, callid: str, account: str) -> bool:
    """Tell whether a call is one of an account's."""
    said, noted = archive.about(callid)
    whose = {queued.notice.account for queued in said} or {entry.account for entry in noted}
    return account in whose


def _list(store: Store, found: list[Known], number: str) -> str:
    """Return a line for each call, the latest first. found: the oldest first."""
    search = Search(number=number, since=found[0].at - LONGEST_CALL)
    over = {
        call.callid: call for page in all_pages(CallList(Reader(store)), search) for call in page
    }
    archive = Archive(store)
    lines = [explain.one_line(archive, known, over.get(known.callid)) for known in reversed(found)]
    return "\n".join([*lines, "To explain one: fsplanfix explain CALLID"])


def _export(archive: Archive, callids: list[str], file: Path, mask: bool) -> None:
    packed = archive.heard(callids[0]) if callids else b""
    if not packed:
        raise click.ClickException(
            "The events of this call are not stored, or the call is not over yet."
        )

    count = explain.export(packed, file, callids[0], mask)
    say(f"Wrote {count} events of call {callids[0]} to {file}.")
    say(f"To play them: fsplanfix replay {file}")


@cli.command("replay")
@click.argument("traces", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object per request to Planfix.",
)
@errors_as_one_line
def replay_command(traces: tuple[Path, ...], as_json: bool) -> None:
    """Show what Planfix would be told about recorded calls (traces)."""
    for trace in traces:
        rules = load_accounts(RuleSettings, settings_of(trace)).rules()
        if not show_requests(replay(trace, rules), as_json, rules) and not as_json:
            say(
                f"{trace.name}: Planfix is told nothing "
                "(no client took part, or the call is ignored)."
            )


@cli.command("normalize")
@click.argument("numbers", nargs=-1, required=True)
@click.option("--account", default="", metavar="NAME", help="For this company (ACCOUNTS_FILE).")
@errors_as_one_line
def normalize_command(numbers: tuple[str, ...], account: str) -> None:
    """Show how numbers are written for Planfix and dialled."""
    accounts = load_accounts(RuleSettings)
    settings = accounts[account] if name_of_account(account, accounts) else accounts.machine
    rules = settings.rules()
    numbering = rules.numbering
    for raw in numbers:
        clicked, digits = number_clicked(raw, rules)
        # with an extension behind it, as only Planfix writes a number
        number = clicked if digits else numbering.normalize(raw)
        if not number and raw.lower() != settings.hidden_number:
            _say_folded(_no_number(raw, settings.hidden_number))
            continue

        _say_folded(f"{raw} -> {number or settings.hidden_number}")
        rule = numbering.rule_for(raw)
        if rule is not None:
            _say_folded(f"  by NUMBER_RULES: {rule}")
        if number and numbering.dialled(number) != number:
            _say_folded(f"  dialled as {numbering.dialled(number)}")
        if digits:
            _say_folded(f"  then {digits} after the answer")


def _say_folded(text: str) -> None:
    """Print a text in lines of WIDTH columns; a rule or a number is not divided."""
    say(fill(printable(text), WIDTH, subsequent_indent="    ", **WHOLE_WORDS))


def _no_number(raw: str, hidden: str) -> str:
    if not hidden:
        return f"{raw} is not a phone number: HIDDEN_NUMBER is empty, so it is not reported"
    return f"{raw} -> {hidden} (not a phone number: a hidden caller)"
