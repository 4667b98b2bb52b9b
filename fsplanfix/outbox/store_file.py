"""The file of an SQLite store: whether it is still there, and what to do if it is not.

Who deletes or replaces the file of a running service leaves it writing into a file without a name.
The connections that are open can still read that one, so nothing of it is lost.

The file is never opened here but by SQLite: to close it again would drop SQLite's own locks on it.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import gevent
import structlog

log = structlog.get_logger(__name__)

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
    """Remembers which file a store was opened in.

    is_missed: it was said that it is gone. damage: what SQLite says is wrong with what stands in
    it, "" while nothing is known.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_missed = False
        self.damage = ""
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

    def look_over(self) -> None:
        """Look for damage in a thread; once there was some, only a thorough look takes it back."""
        was_damaged = bool(self.damage)
        if not self.is_there or self.is_emptied:
            return
        found = gevent.get_hub().threadpool.apply(damage_in, (self.path, was_damaged))
        if identity(self.path) != self._is:
            return  # that was another file
        if found:
            self.note_damage(found)
        elif found == "" and was_damaged:
            self.damage = ""
            log.info("store_sound_again", file=str(self.path))

    def note_damage(self, damage: str) -> None:
        """Keep and say what is wrong."""
        if not self.damage:
            hint = "stop the service and put a sound copy of the file in its place"
            log.error("store_damaged", file=str(self.path), problem=damage, hint=hint)
        self.damage = damage

    def leave(self) -> None:
        """Make room for another file in its place."""
        for suffix, known in self._companions.items():
            companion = self._companion(suffix)
            if known != (0, 0) and identity(companion) == known:
                with suppress(OSError):
                    os.unlink(companion)


def is_damage(error: BaseException | None) -> bool:
    """Tell whether SQLite says that what stands in the file is wrong."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def damage_in(path: Path, thorough: bool) -> str | None:
    """Read a whole file as it stands on the disk; say what is wrong, "" if nothing is.

    None if it cannot be read now. thorough: compare the indexes with the tables as well, which
    takes three times as long. Takes some 2 ms a megabyte, without holding Python up: for a thread.
    What a page says is compared with no checksum, for SQLite keeps none: other letters in a text
    are no damage to it.
    """
    check = "integrity_check" if thorough else "quick_check"
    try:
        # of its own: the connections in use have most pages in memory
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", timeout=0, uri=True)) as fresh:
            (found,) = fresh.execute(f"PRAGMA {check}(1)").fetchone()
    except sqlite3.Error as error:
        return str(error) if is_damage(error) else None
    return "" if found == "ok" else " ".join(str(found).split())


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
