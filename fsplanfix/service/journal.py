"""Lines of the journal that nobody waits for: those of a moment share a commit."""

from __future__ import annotations

import gevent
import structlog

from ..errors import StoreError
from ..outbox.archive import Archive
from ..outbox.records import Entry

log = structlog.get_logger(__name__)

COMPANY = 0.05
"""Seconds that a line waits for others.

With a commit for each caller that is looked up, a sixth of the CPU went into commits at 200 calls a
second, and every call waited for those of the others (docs/performance.md).
"""


class Journal:
    """Writes lines a moment later."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._lines: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Have a line written. Raises nothing, and does not wait for the store."""
        self._lines.append(entry)
        if len(self._lines) == 1:
            gevent.spawn_later(COMPANY, self.write)

    def write(self) -> None:
        """Write what waits, or log why not."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            self._archive.write_down(*lines)
        except StoreError as error:
            if error.permanent and len(lines) > 1:
                for line in lines:
                    write_down(self._archive, line)
                return
            log.error("store_unavailable", problem=str(error))


def write_down(archive: Archive, entry: Entry) -> None:
    """Write a line into the journal at once, or log why not."""
    try:
        archive.write_down(entry)
    # the phone rings already: a journal that cannot be written does not undo that
    except StoreError as error:
        log.error("store_unavailable", problem=str(error))
