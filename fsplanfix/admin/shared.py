"""What is read from the store once for all who ask within a few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from cachetools import TTLCache
from gevent.lock import BoundedSemaphore

T = TypeVar("T")

MOST_KEPT = 50


class Shared(Generic[T]):
    """Keeps answers for some seconds. One is found at a time; whoever asks meanwhile waits."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept: TTLCache[Hashable, T] = TTLCache(MOST_KEPT, seconds, timer=clock)
        self._lock = BoundedSemaphore()

    def get(self, key: Hashable, find: Callable[[], T]) -> T:
        """Return the answer of the last seconds to `key`, else what `find` returns."""
        # looked for inside the lock: who waited for another's answer to the same uses that
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                found = self._kept[key] = find()
            return found
