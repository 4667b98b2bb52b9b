"""Builds the requests to Planfix (docs/facts/planfix.md, "What is sent")."""

from __future__ import annotations

from collections.abc import Callable

from ..calls.model import Kind, Notice, Status

UrlMaker = Callable[[str, str], str]
"""Takes a callid and a recording's path, returns the URL for Planfix."""


def build_form(
    notice: Notice, make_url: UrlMaker, canceled: str = Status.CANCELED
) -> dict[str, str]:
    """Return the form fields of the request for a notice, without the token and empty ones.

    canceled: how this Planfix spells that status (docs/facts/planfix.md, "Canceled or
    Cancelled").
    """
    if notice.kind is Kind.RECORD:
        return {
            "cmd": "record",
            "callid": notice.callid,
            "record_link": make_url(notice.callid, notice.recording),
        }

    fields = {
        "cmd": "event",
        "type": notice.type.value,
        "event": notice.kind.value,
        "phone": notice.phone,
        "diversion": notice.diversion,
        "ext": notice.ext,
        "callid": notice.callid,
    }

    if notice.kind is Kind.COMPLETED:
        status = (notice.status or Status.MISSED).value
        if notice.status is Status.CANCELED:
            status = canceled

        fields["duration"] = str(notice.duration)
        fields["is_recorded"] = "1" if notice.is_recorded else "0"
        fields["status"] = status
        # Planfix reads data_* on COMPLETED only
        fields |= {f"data_{name}": value for name, value in notice.data.items()}

    # a field without a value is left out
    return {name: value for name, value in fields.items() if value}
