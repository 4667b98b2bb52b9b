"""The folder into which FreeSWITCH writes its call detail records.

Nothing in it is ever changed. Files are found by their names, which are made of the leg's UUID:
`UUID.cdr.json`, and `a_UUID.cdr.json` with `prefix-a-leg`. Everything here blocks: the service
calls it in a thread.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import RecordError
from ..freeswitch.events import is_uuid
from .record import LARGEST, Record, read_record

ENDINGS = {"json": ".cdr.json", "xml": ".cdr.xml"}
"""What the names of the files end with, by CDR_KIND."""

PREFIXES = ("", "a_")


class Found(NamedTuple):
    """A file that may hold a record. written: seconds since 1970."""

    written: float
    name: str


class Folder:
    """A folder of records of one kind (a key of ENDINGS)."""

    def __init__(self, path: Path, kind: str = "json") -> None:
        self.path = path
        self._ending = ENDINGS[kind]

    def names_for(self, uuid: str) -> Iterator[str]:
        """Yield the names that the record of a leg may have."""
        # FreeSWITCH cannot write a file for a UUID with a slash either
        if is_uuid(uuid) and "/" not in uuid:
            yield from (f"{prefix}{uuid}{self._ending}" for prefix in PREFIXES)

    def since(self, moment: float, known: Container[str] = ()) -> list[Found]:
        """Return the files written since a moment (seconds since 1970), the oldest first.

        known: names that are left out. Raises OSError if the folder cannot be read.
        """
        found = []
        with os.scandir(self.path) as entries:
            for entry in entries:
                if not entry.name.endswith(self._ending) or entry.name in known:
                    continue
                try:
                    # neither needs to open it; a link leads elsewhere
                    if not entry.is_file(follow_symlinks=False):
                        continue
                    written = entry.stat(follow_symlinks=False).st_mtime
                except OSError:  # it is gone already
                    continue
                if written >= moment:
                    found.append(Found(written, entry.name))
        return sorted(found)

    def read(self, name: str) -> Record:
        """Read a file, whole or not at all.

        Raises FileNotFoundError, and RecordError if it cannot be used.
        """
        # neither a link nor a pipe may lead elsewhere or hold us up
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            file = os.open(self.path / name, flags)
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "its name cannot be used"
            raise RecordError(f"it cannot be opened ({reason})") from None

        with os.fdopen(file, "rb") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise RecordError("it is not a file")
            if status.st_size > LARGEST:
                raise RecordError("it is too large")
            try:
                raw = opened.read(LARGEST + 1)
            except OSError as error:
                raise RecordError(f"it cannot be read ({error.strerror})") from None
        return read_record(raw)

    def find(self, uuids: Iterable[str]) -> list[Record]:
        """Return the records of some legs, as far as they are there and whole."""
        found = []
        for uuid in uuids:
            for name in self.names_for(uuid):
                try:
                    record = self.read(name)
                except (RecordError, FileNotFoundError):
                    continue
                if record.uuid == uuid:
                    found.append(record)
        return found
