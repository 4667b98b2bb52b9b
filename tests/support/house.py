"""Where the code is, and which folder may import which."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "fsplanfix"

MAY_IMPORT = {
    "settings": {"errors", "settings_file", "calls", "freeswitch"},
    "freeswitch": {"errors"},
    "calls": {"freeswitch.events", "freeswitch.headers"},
    "outbox": {"errors", "calls.model", "calls.result", "calls.unfinished"},
    "history": {"errors", "calls", "freeswitch.events", "freeswitch.headers"},
    "planfix": {"errors", "calls.model", "calls.numbers", "outbox", "recordings.files"},
    "recordings": {"errors"},
    "alerts": {"planfix.api"},
    "web": {"errors", "recordings.files"},
    "simulators": set[str](),
    "service": {
        *("errors", "settings", "printable", "calls", "freeswitch", "outbox", "planfix"),
        *("recordings", "web", "admin", "history", "alerts"),
    },
    "admin": {
        *("errors", "settings", "settings_file", "printable", "calls", "freeswitch", "outbox"),
        *("planfix", "recordings", "history", "web.tls", "alerts"),
    },
}
"""What each folder may import of the house, besides itself."""
