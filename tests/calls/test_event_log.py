"""What the call rules read must be found at once in an event, and kept for `explain`."""

import re
from pathlib import Path

from fsplanfix.freeswitch.headers import KNOWN, OURS

CALLS = Path(__file__).parent.parent.parent / "fsplanfix/calls"
HEADER = re.compile(r'"((?:[A-Z][A-Za-z]*(?:-[A-Za-z0-9]+)+|variable_[a-z_]+))"')


def test_all_that_the_rules_read_is_found_at_once() -> None:
    """Any other header costs a search through the event; ours are found by how they begin."""
    read: set[str] = set()
    for path in CALLS.glob("*.py"):
        # reconcile reads dumps, not events; own_data reads only what DATA_FIELDS asks for, and what
        # a client dialled (a PIN) is not kept
        if path.stem not in ("event_log", "reconcile", "own_data"):
            read.update(HEADER.findall(path.read_text()))
    assert {header for header in read if not header.startswith(OURS)} <= KNOWN
