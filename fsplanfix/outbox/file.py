"""The file of an SQLite store: whether it is still there, and what to do if it is not.

Who deletes or replaces the file of a running service leaves it writing into a file without a name.
The connections that are open can still read that one, so nothing of it is lost.

The file is never opened here: to close it again would drop SQLite's own locks on it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

COMPANIONS = ("-wal", "-shm")
"""What SQLite keeps beside a file; those of a file that is gone would spoil the next one."""

_TAKE_OVER = (
    "INSERT INTO fresh.notices ({notices}) SELECT {notices} FROM main.notices WHERE true"
    " ORDER BY id ON CONFLICT (callid, ext, kind, ordinal) DO UPDATE SET state = excluded.state,"
    " settled = excluded.settled, answer = excluded.answer, attempts = excluded.attempts"
    " WHERE state = 'waiting'",
    "INSERT INTO fresh.open_calls ({open_calls}) SELECT {open_calls} FROM main.open_calls"
    " WHERE true ON CONFLICT (callid) DO UPDATE SET state = excluded.state,"
    " closed = excluded.closed WHERE closed = 0",
    "INSERT INTO fresh.cores ({cores}) SELECT {cores} FROM main.cores WHERE true"
    " ON CONFLICT DO NOTHING",
    "INSERT INTO fresh.facts SELECT * FROM main.facts WHERE true ON CONFLICT DO NOTHING",
    "INSERT INTO fresh.heard ({heard}) SELECT {heard} FROM main.heard WHERE true"
    " ON CONFLICT DO NOTHING",
    "INSERT INTO fresh.journal ({journal}) SELECT {journal} FROM main.journal"
    " EXCEPT SELECT {journal} FROM fresh.journal",
)


def identity(path: Path) -> tuple[int, int]:
    """Return what tells a file from any other, (0, 0) if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


class StoreFile:
    """Remembers which file a store was opened in. is_missed: it was said that it is gone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_missed = False
        self._is = identity(path)
        self._companions = {suffix: identity(self._companion(suffix)) for suffix in COMPANIONS}

    def _companion(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    @property
    def is_there(self) -> bool:
        """Tell whether it is there under its name."""
        return identity(self.path) == self._is

    @property
    def is_emptied(self) -> bool:
        """Tell whether everything was cut off."""
        with suppress(OSError):
            return self.path.stat().st_size == 0
        return False

    def leave(self) -> None:
        """Make room for another file in its place."""
        for suffix, known in self._companions.items():
            companion = self._companion(suffix)
            if known != (0, 0) and identity(companion) == known:
                with suppress(OSError):
                    os.unlink(companion)


def take_over(old: Any, path: Path, columns: dict[str, list[str]]) -> None:
    """Write what a file without a name holds into the one at a path. Raises sqlite3.Error.

    old: an open connection to it. columns: the tables' columns, without the ids, which are given
    anew. What is settled in either file is settled.
    """
    names = {table: ", ".join(listed) for table, listed in columns.items()}
    old.execute("ATTACH DATABASE ? AS fresh", [str(path)])
    try:
        old.execute("BEGIN IMMEDIATE")
        for statement in _TAKE_OVER:
            old.execute(statement.format(**names))
        old.execute("COMMIT")
    except BaseException:
        with suppress(Exception):
            old.execute("ROLLBACK")
        raise
    finally:
        with suppress(Exception):
            old.execute("DETACH DATABASE fresh")
