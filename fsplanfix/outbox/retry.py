"""Repeats a question until the store answers: a full disk or a restarting database delays it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import gevent
import structlog

from ..errors import StoreError

log = structlog.get_logger(__name__)
T = TypeVar("T")

ASK_AGAIN_AFTER = 1.0
"""Seconds between two tries."""


def until_store_answers(
    ask: Callable[[], T], log_fields: Callable[[], dict[str, object]] = dict
) -> T:
    """Call `ask` until the store answers; return what it returns.

    log_fields: the fields of each line that reports a failure.

    Raises StoreError at once if the store refuses the content: another try would not change that.
    """
    while True:
        try:
            return ask()
        except StoreError as error:
            if error.permanent:
                raise
            log.error("store_unavailable", problem=str(error), **log_fields())
            gevent.sleep(ASK_AGAIN_AFTER)
