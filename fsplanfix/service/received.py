"""Keeps the call detail records that FreeSWITCH sends, in a folder of our own."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from uuid import uuid4

import gevent
import structlog

from ..history.folder import Folder
from ..history.record import read_record

log = structlog.get_logger(__name__)

KEPT = 3 * 86400.0
"""Seconds for which a record is kept. It is told within minutes, or an hour after an absence."""

DELETE_EVERY = 3600.0
"""Seconds."""

LONGEST_NAME = 200
"""Bytes of a UUID that becomes the name of a file."""


class Received:
    """Records that were sent. folder: where they are, for whoever tells calls from them."""

    def __init__(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = Folder(path, "json")

    def keep(self, raw: bytes) -> None:
        """Keep a record as it came; one that comes again replaces the first.

        Raises RecordError if it is none, and OSError if it cannot be written.
        """
        uuid = read_record(raw).uuid
        names = [*self.folder.names_for(uuid)][:1]
        if not names or len(names[0].encode()) > LONGEST_NAME:
            names = [*self.folder.names_for(hashlib.sha256(uuid.encode()).hexdigest())]

        # whole, or not at all
        part = self.folder.path / f".{uuid4().hex}.part"
        try:
            with part.open("wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            part.rename(self.folder.path / names[0])
        except OSError:
            part.unlink(missing_ok=True)
            raise

    def keep_deleting_old(self) -> None:
        """Delete old records, for ever."""
        while True:
            gevent.get_hub().threadpool.apply(self.delete_old, (time.time() - KEPT,))
            gevent.sleep(DELETE_EVERY)

    def delete_old(self, before: float) -> None:
        """Delete the records that were written before a moment (seconds since 1970)."""
        try:
            for entry in os.scandir(self.folder.path):
                if entry.stat(follow_symlinks=False).st_mtime < before:
                    os.unlink(entry.path)
        except OSError as error:
            log.error("records_not_deleted", problem=error.strerror)
