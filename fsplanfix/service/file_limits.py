"""How many files and sockets may be open: strangers never use up those that calls need.

A process without a file left can neither write its store nor reach Planfix or FreeSWITCH.
"""

from __future__ import annotations

import resource

WANTED = 8192
"""Files, as in our systemd unit. A shell often grants 1024 and allows more on request."""

KEPT = 256
"""Files for the store, the links, Planfix (at most 200), the log and what Python opens."""

HTTP_SHARE = 4
"""The part of the rest for HTTP connections: each may hold a recording open besides itself."""

COURIER_SHARE = 8
"""The part of the rest for requests to the Planfix of many companies; one company's are in KEPT."""

SOCKET_SHARE = 2
"""The part of the rest for calls that ask who calls."""


def spare() -> int:
    """Raise the limit to WANTED if possible; return how many files there are besides KEPT."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < WANTED:
        wanted = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
        soft = max(soft, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        soft = WANTED

    return soft - min(KEPT, soft // 2)
