"""How many files and sockets may be open: what strangers can open never takes those of the calls.

A process without a file left can neither write its store nor reach Planfix or FreeSWITCH.
"""

from __future__ import annotations

import resource

WANTED = 8192
"""Files, as in our systemd unit. A shell often grants 1024 and allows more to who asks."""

KEPT = 256
"""Files for the store, the links, Planfix (200 at the most), the log and what Python opens."""

HTTP_SHARE = 4
"""The part of the rest for HTTP connections: each may hold a recording open besides itself."""

SOCKET_SHARE = 2
"""The part of the rest for calls that ask who calls."""


def spare() -> int:
    """Ask for as many files as are wanted; return how many there are besides the kept ones."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < WANTED:
        soft = WANTED if hard == resource.RLIM_INFINITY else max(soft, min(hard, WANTED))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        soft = WANTED

    return soft - min(KEPT, soft // 2)
