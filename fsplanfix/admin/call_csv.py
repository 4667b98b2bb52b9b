"""Calls as CSV, for `fsplanfix calls --csv` and the dashboard."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import datetime, tzinfo

from ..calls.model import Status
from ..outbox.call_list import CallList, ListedCall, Place, Search
from ..printable import printable

COLUMNS = (
    *("began", "direction", "number", "name", "line", "result"),
    *("waited_seconds", "talked_seconds", "answered_by", "rung", "recordings", "callid"),
)

CALLS_AT_ONCE = 100
"""Calls of one reading, about a millisecond of work."""

_FORMULA = ("=", "+", "-", "@")
"""What a spreadsheet takes for the beginning of a formula."""


def all_pages(calls: CallList, search: Search) -> Iterator[list[ListedCall]]:
    """Yield all calls that are looked for, the latest first, a page at a time.

    Raises StoreError.
    """
    after: Place | None = None
    while page := calls.page(search, CALLS_AT_ONCE, after):
        yield page
        after = page[-1].place


def csv_text(
    calls: Iterable[ListedCall],
    zone: tzinfo | None,
    with_head: bool,
    separator: str = ",",
    with_account: bool = False,
) -> str:
    """Return calls as lines of CSV.

    zone: of their times, None for the machine's own. with_account: they may be of several, and the
    last column names it.
    """
    text = io.StringIO()
    lines = csv.writer(text, delimiter=separator)
    if with_head:
        lines.writerow((*COLUMNS, *["account"] * with_account))
    for call in calls:
        values = *_values(call, zone), *[call.account] * with_account
        lines.writerow(map(_cell, values))
    return text.getvalue()


def _values(call: ListedCall, zone: tzinfo | None) -> tuple[str | int | None, ...]:
    talked = [share.ext for share in call.shares if share.status is Status.SUCCESS]
    return (
        datetime.fromtimestamp(call.began, zone).astimezone(zone).isoformat(timespec="seconds"),
        *(call.direction, call.phone, call.name, call.line, call.result),
        *(call.waited, call.talked),
        *(" ".join(talked), " ".join(share.ext for share in call.shares)),
        *(call.recordings, call.callid),
    )


def _cell(value: str | int | None) -> str | int:
    """Return a value so that a spreadsheet shows it and does not calculate it."""
    if value is None:
        return ""
    if isinstance(value, int):
        return value

    # the signs that control a terminal are escaped: an Excel skips a tab before a formula
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
