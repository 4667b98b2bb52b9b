"""What came of clicks in Planfix: counted for /metrics, kept for `explain`."""

from __future__ import annotations

import time

import structlog

from ..errors import StoreError
from ..freeswitch.originate import Click
from ..outbox.history import Archive
from ..outbox.records import Entry
from .metrics import Tally

log = structlog.get_logger(__name__)


class ClickJournal:
    """Counts clicks and writes them down."""

    def __init__(self, archive: Archive, tally: Tally) -> None:
        self._archive = archive
        self._tally = tally

    def on_done(self, click: Click) -> None:
        """Record the outcome of a click that let a phone ring."""
        self._tally.clicks.labels(click.cause).inc()
        what = f"click to call: {click.outcome or 'the employee picked up'}"
        self._write(Entry(time.time(), what, click.callid, click.ext, click.number))

    def on_refused(self, ext: str, number: str, reason: str) -> None:
        """Record why a click let no phone ring.

        number: E.164 digits, "" if it has none.
        """
        self._tally.clicks.labels("REFUSED").inc()
        log.warning("click_refused", ext=ext, reason=reason)
        if number:
            what = f"click to call refused: {reason}"
            self._write(Entry(time.time(), what, "", ext, number))

    def _write(self, entry: Entry) -> None:
        try:
            self._archive.write_down(entry)
        # the phone rings already: a journal that cannot be written does not undo that
        except StoreError as error:
            log.error("store_unavailable", problem=str(error))
