"""What FreeSWITCH says of its gateways, users and contexts, modelled on a real one's answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping


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


def list_users(users: Collection[str], domain: str) -> str:
    """Return the directory's users, one a line."""
    rows = [
        f"{user}|default|{domain}|default|error/user_not_registered|||" for user in sorted(users)
    ]
    head = (
        "userid|context|domain|group|contact|callgroup|"
        "effective_caller_id_name|effective_caller_id_number"
    )
    return "\n".join([head, *rows]) + "\n\n+OK\n"


def xml_locate(text: str, contexts: Collection[str], applications: Collection[str]) -> str:
    """Return the dialplan, or one context of it, with the same actions in each."""
    actions = "".join(f'<action application="{name}"></action>\n' for name in applications)
    found = [
        f'<context name="{name}">\n{actions}</context>\n'
        for name in sorted(contexts)
        if text in ("dialplan", f"dialplan context name {name}")
    ]
    return "".join(found) or "can't find anything\n"
