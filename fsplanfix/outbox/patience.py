"""Asking a store that may be away for a while: a full disk, a locked or restarting database."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import gevent
import structlog

from ..errors import StoreError

log = structlog.get_logger(__name__)
T = TypeVar("T")

ASK_AGAIN_AFTER = 1.0
"""Seconds."""


def insist(ask: Callable[[], T], about: Callable[[], dict[str, object]] = dict) -> T:
    """Ask the store until it answers, loudly. about: what each log line shall tell.

    Raises StoreError if it refuses what it was given, which no patience helps against.
    """
    while True:
        try:
            return ask()
        except StoreError as error:
            if error.permanent:
                raise
            log.error("store_unavailable", problem=str(error), **about())
            gevent.sleep(ASK_AGAIN_AFTER)
