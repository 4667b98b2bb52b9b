"""What the simulated Planfix was told, in the shorthand of docs/call-rules.md."""

from __future__ import annotations

from fsplanfix.simulators.planfix import Planfix

from .traces import ENDS, SHORT


def told(planfix: Planfix, callid: str) -> list[str]:
    tokens = []
    for fields in planfix.accepted:
        if fields["callid"] != callid or fields["cmd"] == "contact":
            continue
        if fields["cmd"] == "record":
            tokens.append("R")
            continue
        is_end = fields["event"] == "COMPLETED"
        letter = ENDS[fields["status"]] if is_end else SHORT[fields["event"]]
        tokens.append(
            letter + fields.get("ext", "-") + ("!" if fields.get("is_recorded") == "1" else "")
        )
        if "record_link" in fields:
            tokens.append("R")
    return tokens


def count(planfix: Planfix) -> int:
    """Return how many notices were told: a link within a COMPLETED is one by itself."""
    return len(planfix.accepted) + sum("record_link" in f for f in planfix.accepted if "event" in f)


def link_to_the_recording(planfix: Planfix) -> str:
    """Return the link that came last, as soon as there is one."""
    planfix.wait_for(lambda crm: any("record_link" in fields for fields in crm.accepted))
    return str([f["record_link"] for f in planfix.accepted if "record_link" in f][-1])
