"""What FreeSWITCH's own account of a live channel says (`uuid_dump UUID json`)."""

from __future__ import annotations

import json

from pydantic_core import from_json

from .headers import KNOWN, OURS

READ = (
    *sorted(KNOWN - {OURS}),
    *("Core-UUID", "Caller-Orig-Caller-ID-Number", "Answer-State"),
    *("Caller-Channel-Progress-Time", "Caller-Channel-Progress-Media-Time"),
    *("Caller-Channel-Bridged-Time", "Caller-Channel-Transfer-Time"),
    *("variable_conference_name", "variable_current_application", "variable_signal_bond"),
    *("variable_sip_req_user", "variable_pre_transfer_caller_id_number"),
    *("variable_last_bridge_to", "variable_bridge_uuid", "variable_originated_legs"),
    "variable_loopback_leg",
)
"""The headers of a live channel that calls/reconcile.py and history/ read, without those that begin
with OURS."""

_OURS = f'"{OURS}'.encode()


def read_dump(text: bytes) -> dict[str, str]:
    """Return the headers of a live channel, without those that nobody reads.

    Raises ValueError, AttributeError or RecursionError if the text is not JSON of that kind.
    """
    # all 190 headers of 20,000 channels would take 600 MB (docs/performance.md)
    try:
        found = from_json(text, cache_strings="keys")
    except ValueError:
        # what is not UTF-8, and halves of surrogate pairs
        found = json.loads(text.decode("utf-8", "replace"))

    there = found.keys()
    names = [name for name in READ if name in there]
    if _OURS in text:
        names += [name for name in found if name.startswith(OURS)]
    return {name: str(found[name]) for name in names}
