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
    return tokens
