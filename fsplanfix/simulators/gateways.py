"""What FreeSWITCH says of its gateways, modelled on a real one's answers."""

from __future__ import annotations

from collections.abc import Mapping


def sofia(command: str, gateways: Mapping[str, str]) -> str:
    """Answer `sofia status` and `sofia status gateway NAME`. gateways: states, by name."""
    if command == "status":
        row = "{:>25}\tgateway\t    sip:lab@127.0.0.1:5090\t{}\n".format
        return "".join(row(f"external::{name}", state) for name, state in gateways.items())

    name = command.removeprefix("status gateway ")
    if name not in gateways:
        return "Invalid Gateway!\n"
    status = "UP" if gateways[name] in ("REGED", "NOREG") else "DOWN"
    return f"=====\nName    \t{name}\nState   \t{gateways[name]}\nStatus  \t{status}\n=====\n"
