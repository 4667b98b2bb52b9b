"""`fsplanfix calls`: the calls that are over, in a terminal or as CSV."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import click

from ..calls.result import Result
from ..outbox.call_list import CallList, ListedCall
from ..outbox.reader import Reader
from ..outbox.store import Store
from ..printable import printable
from ..settings import RuleSettings
from ..settings.accounts import load_accounts
from . import colors
from .call_csv import all_pages, csv_text
from .call_search import client_search

MOST_WITHOUT_A_TIME = 50
"""Calls that are shown if neither --today nor --since says how many."""

CLIENT, OUTCOME = 24, 17
"""Widths of two columns; a line has 80."""

_AGO = re.compile(r"(\d{1,6})\s*([mhdw])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def since_when(text: str, now: datetime) -> float:
    """Return the seconds since 1970 that a time stands for. Raises click.BadParameter."""
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago:
            return (now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).timestamp()
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"'{text}' is not a time; write it like 2h, 3d, 2026-11-18 or 2026-11-18T14:00.",
            param_hint="--since",
        ) from None


@click.option("--today", is_flag=True, help="Calls since midnight.")
@click.option("--since", metavar="T", help="Calls since a time: 2h, 3d, 2026-11-18T14:00.")
@click.option("--ext", default="", help="Calls that rang this ext, or that it made.")
@click.option("--missed", is_flag=True, help="Calls that nobody took.")
@click.option(
    "--number", metavar="N", default="", help="A client's number, or part of it, or name."
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with every field.")
def show_calls(
    store: Store,
    account: str,
    today: bool,
    since: str | None,
    ext: str,
    missed: bool,
    number: str,
    as_csv: bool,
) -> None:
    """List the calls that are over, the latest first.

    Times are those of the machine's time zone. Without --today or --since, the latest 50 calls are
    shown. waited: until the answer. *: recorded. `fsplanfix explain CALLID` tells more of a call;
    its callid is in the CSV, and whose it is where there are several companies.
    """
    now = datetime.now().astimezone()
    start = since_when(since, now) if since else None
    if today:
        start = now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()

    accounts = load_accounts(RuleSettings)
    search = replace(
        client_search(number, accounts.get(account, accounts.machine).rules().numbering),
        ext=ext,
        since=start,
        results=(Result.MISSED.value,) if missed else (),
    )
    reader = Reader(store)
    try:
        calls = CallList(reader, account)
        pages = all_pages(calls, search)
        if start is None:
            pages = iter([calls.page(search, MOST_WITHOUT_A_TIME)])
        if as_csv:
            for line in _csv(pages, with_account=not account and not accounts.rules().is_one):
                click.echo(line)
        else:
            _show_table(pages)
    finally:
        reader.close()


def _csv(pages: Iterator[list[ListedCall]], with_account: bool) -> Iterator[str]:
    yield csv_text([], None, with_head=True, with_account=with_account).rstrip()
    for page in pages:
        if page:
            yield csv_text(page, None, with_head=False, with_account=with_account).rstrip()


def _show_table(pages: Iterator[list[ListedCall]]) -> None:
    count = 0
    for page in pages:
        for call in page:
            if not count:
                head = _line("began", "", "client", "result", "waited", "talked  ")
                colors.show(head, is_bold=True)
            count += 1
            colors.show(_row(call), colors.BAD if call.result == Result.MISSED else None)

    colors.show(f"{count} calls" if count != 1 else "1 call")


def _row(call: ListedCall) -> str:
    # who talked stands first, else who was rung
    exts = [share.ext or "-" for share in call.shares]
    more = f" +{len(exts) - 1}" if len(exts) > 1 else ""
    talked = _length(call.talked) if call.result == Result.ANSWERED else ""
    ext = exts[0] if exts else ""
    recorded = " *" if call.recordings else "  "
    return _line(
        datetime.fromtimestamp(call.began).astimezone().strftime("%Y-%m-%d %H:%M"),
        call.direction,
        printable(f"{call.phone} {call.name}".strip()),
        printable(f"{call.result} {ext}{more}"),
        "" if call.waited is None else _length(call.waited),
        f"{talked}{recorded}",
    )


def _line(began: str, way: str, client: str, result: str, waited: str, talked: str) -> str:
    return (
        f"{began:<16} {way:<3} {client[:CLIENT]:<{CLIENT}} {result[:OUTCOME]:<{OUTCOME}}"
        f"{waited:>7} {talked:>9}"
    ).rstrip()


def _length(seconds: int) -> str:
    """Return a length as minutes and seconds, with hours if there are any."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}"
