"""What companies at rest cost: CPU and memory of a service with so many accounts and no call."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import gevent

from .programs import connector

COUNTS = (1, 50, 500)
SETTLED = 5.0
"""Seconds after the start that are not counted."""

WATCHED = 15.0
"""Seconds."""

ACCOUNT = """
[company-{n}]
planfix_url = "http://127.0.0.1:9/tel/api/{n}"
planfix_token = "token-of-{n}"
pbx_token = "pbx-token-of-{n}"
domains = ["company-{n}.example"]
"""


@dataclass(frozen=True)
class AtRest:
    """What a service used. share: of a core. memory: resident bytes."""

    share: float
    memory: int


def write(folder: Path, count: int) -> Path:
    """Write a file of so many accounts; return its path."""
    file = folder / "accounts.toml"
    file.write_text("".join(ACCOUNT.format(n=n) for n in range(count)))
    return file


def at_rest(count: int) -> AtRest:
    """Return what a service with so many accounts uses while nobody calls."""
    with (
        tempfile.TemporaryDirectory(prefix="fsplanfix-bench-") as folder,
        connector(ACCOUNTS_FILE=str(write(Path(folder), count))) as stage,
    ):
        gevent.sleep(SETTLED)
        before = stage.program.cpu()
        gevent.sleep(WATCHED)
        share = (stage.program.cpu() - before) / WATCHED
        return AtRest(share, stage.program.memory())
