"""Builds the requests to Planfix (docs/facts/planfix.md, "What is sent")."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..calls.model import Kind, Notice, Status

UrlMaker = Callable[[str, str], str]
"""Takes a callid and a recording's path, returns the URL for Planfix."""


def sent(notices: Sequence[Notice]) -> list[Notice]:
    """Return those of a call's notices that become requests: a link goes out once (rule 13)."""
    linked = {(notice.callid, notice.linked_by) for notice in notices if notice.linked_by}
    return [
        notice
        for notice in notices
        if notice.kind is not Kind.RECORD or (notice.callid, notice.ordinal) not in linked
    ]


def build_form(
    notice: Notice,
    make_url: UrlMaker,
    canceled: str = Status.CANCELED,
    is_temporary: bool = False,
) -> dict[str, str]:
    """Return the form fields of the request for a notice, without the token and empty ones.

    canceled: how this Planfix spells that status (docs/facts/planfix.md, "Canceled or
    Cancelled"). is_temporary: the recording's URL will not last.
    """
    if notice.kind is Kind.RECORD:
        fields = {
            "cmd": "record",
            "callid": notice.callid,
            "record_link": make_url(notice.callid, notice.recording),
        }
        if is_temporary:
            fields["is_temp"] = "1"
        return fields

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
        if notice.recording:
            fields["record_link"] = make_url(notice.callid, notice.recording)
        # Planfix reads data_* on COMPLETED only
        fields |= {f"data_{name}": value for name, value in notice.data.items()}

    # a field without a value is left out
    return {name: value for name, value in fields.items() if value}
