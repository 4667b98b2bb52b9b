"""When a notice is tried again (docs/delivery-rules.md, rule 4).

Pure: time and chance are parameters.
"""

from __future__ import annotations

from ..calls.model import Kind, Notice

POPUPS = (Kind.INCOMING, Kind.OUTGOING, Kind.ACCEPTED)
"""The kinds that open or change a call window."""

LONGEST_RETRY_PAUSE = 300.0
"""Seconds between two tries."""

JITTER = 0.2
"""The share by which a pause is moved at random: notices that failed together come back apart."""

LONGEST_HOLD = 3600.0
"""Seconds that Planfix may ask us to wait (Retry-After) and be obeyed in full."""

PROBE_PAUSE = 60.0
"""Seconds between two probes while Planfix does not accept our token."""

GIVE_UP_AFTER = 72 * 3600.0
"""Seconds after which a notice that Planfix did not accept is rejected."""


def plan_pause(attempts: int, chance: float) -> float:
    """Return the seconds to wait after the `attempts`-th try: 1, 2, 4 ... 300, moved by up to 20 %.

    chance: a random number from 0 to 1.
    """
    # the exponent is bounded for notices with hundreds of attempts: 2.0**1024 is an OverflowError
    planned = min(2.0 ** min(attempts - 1, 20), LONGEST_RETRY_PAUSE)
    return planned * (1 + JITTER * (2 * chance - 1))


def is_stale(notice: Notice, created: float, now: float, popup_ttl: float) -> bool:
    """Tell whether a call window would come too late (docs/delivery-rules.md, rule 5).

    popup_ttl: seconds, 0 keeps all.
    """
    return popup_ttl > 0 and notice.kind in POPUPS and now - created > popup_ttl


def is_hopeless(created: float, now: float) -> bool:
    """Tell whether a notice has been tried for long enough."""
    return now - created > GIVE_UP_AFTER
