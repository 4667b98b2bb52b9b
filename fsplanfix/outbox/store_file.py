"""The file of an SQLite store: whether it is still there and sound, and what to do if not.

If the file of a running service is deleted or replaced, the service goes on writing into a file
without a name. Open connections can still read that file, so nothing in it is lost.

Only SQLite opens the file here: when a process closes any descriptor of a file, POSIX drops all its
locks on that file, and SQLite's with them. The log beside it (-wal) is never locked.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import gevent
import structlog
from gevent.threadpool import ThreadPool

from ..errors import StoreError

log = structlog.get_logger(__name__)

COMPANIONS = ("-wal", "-shm")
"""The suffixes of SQLite's files beside a store. Those of a deleted store would spoil a new one."""

# "WHERE true" before ON CONFLICT: else SQLite's parser takes ON for part of a join.
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
    "INSERT INTO fresh.calls ({calls}) SELECT {calls} FROM main.calls WHERE true"
    " ON CONFLICT DO NOTHING",
    "INSERT INTO fresh.shares ({shares}) SELECT {shares} FROM main.shares WHERE true"
    " ON CONFLICT DO NOTHING",
    "INSERT INTO fresh.journal ({journal}) SELECT {journal} FROM main.journal"
    " EXCEPT SELECT {journal} FROM fresh.journal",
)


FRAME_HEADER = 24
"""Bytes before each page in SQLite's write-ahead log."""

# What the work needs first. length() reads a value to its end.
_NEEDED = (
    "SELECT count(*) FROM sqlite_master",
    "SELECT sum(length(value)) FROM facts",
    "SELECT sum(length(body)) FROM (SELECT body FROM notices WHERE state = 'waiting'"
    " ORDER BY due, id LIMIT 1000)",
    "SELECT sum(length(state)) FROM (SELECT state FROM open_calls WHERE closed = 0 LIMIT 1000)",
)


def identity(path: Path) -> tuple[int, int]:
    """Return the device and inode of a file, (0, 0) if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def make_private(path: Path) -> None:
    """Make an empty file that only we can read, unless there is one: a store holds secrets."""
    # SQLite takes an empty file for a new database; it says itself if the folder is wrong
    with suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


FLUSH_EVERY = 1.0
"""Seconds between two looks for what the disk does not have yet."""


def keep_flushing(flush: Callable[[], None]) -> None:
    """Call Store.flush once a second, for ever."""
    while True:
        gevent.sleep(FLUSH_EVERY)
        try:
            flush()
        except StoreError as error:
            log.error("store_unavailable", problem=str(error))


class StoreFile:
    """The file that a store was opened in.

    is_missed: whether its loss was logged. damage: SQLite's words for what is wrong with its
    content, "" while nothing is known.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_missed = False
        self.damage = ""
        self._is = identity(path)
        self._length = 0
        self._flusher = ThreadPool(1)
        self._companions = {suffix: identity(self._companion(suffix)) for suffix in COMPANIONS}

    def _companion(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def close_to_others(self) -> None:
        """Take from all users but ours and its group what they may do with the file."""
        for path in (self.path, *map(self._companion, COMPANIONS)):
            # another user's file keeps its mode; `fsplanfix check` says so
            with suppress(OSError):
                os.chmod(path, path.stat().st_mode & 0o770)

    @property
    def is_there(self) -> bool:
        """Tell whether the same file is still there under its name."""
        return identity(self.path) == self._is

    @property
    def is_emptied(self) -> bool:
        """Tell whether the file was truncated to nothing."""
        with suppress(OSError):
            return self.path.stat().st_size == 0
        return False

    def glance(self) -> None:
        """Look for the damage that shows at once, however large the file is, in a thread.

        That is: a torn head, an end that is missing, and pages that the work needs first.
        """
        if self.damage or not self.is_there or self.is_emptied:
            return

        found, length = gevent.get_hub().threadpool.apply(damage_at_a_glance, (self.path,))
        if identity(self.path) != self._is:
            return  # it was replaced meanwhile: what was read is another file

        # what is missing may be in the log of writes, or deleted data: only a search can tell
        is_shorter = 0 < length < self._length
        self._length = length or self._length
        if found:
            self.note_damage(found)
        elif is_shorter:
            self.look_over()

    def look_over(self) -> None:
        """Look for damage in the whole file, in a thread.

        Once some was found, only a thorough look can take that back.
        """
        was_damaged = bool(self.damage)
        if not self.is_there or self.is_emptied:
            return

        found = gevent.get_hub().threadpool.apply(damage_in, (self.path, was_damaged))
        if identity(self.path) != self._is:
            return  # it was replaced meanwhile: what was read is another file

        if found:
            self.note_damage(found)
        elif found == "" and was_damaged:
            self.damage = ""
            log.info("store_sound_again", file=str(self.path))

    def note_damage(self, damage: str) -> None:
        """Keep what is wrong, and log it once."""
        if not self.damage:
            hint = "stop the service and put a sound copy of the file in its place"
            log.error("store_damaged", file=str(self.path), problem=damage, hint=hint)
        self.damage = damage

    def flush(self) -> None:
        """Have the disk take what SQLite has written into its log, in a thread.

        Raises StoreError if the disk refuses.
        """
        # a thread of our own: names that are looked up can keep those of the hub for seconds
        log_file = self._companion(COMPANIONS[0])
        try:
            self._flusher.apply(_flush, (log_file,))
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreError(f"The disk of STORE_URL does not take it: {reason}.") from None

    def leave(self) -> None:
        """Delete SQLite's files beside the store, so that a new one can take its place."""
        for suffix, known in self._companions.items():
            companion = self._companion(suffix)
            if known != (0, 0) and identity(companion) == known:
                with suppress(OSError):
                    os.unlink(companion)


def _flush(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        # it was taken into the file, which SQLite has flushed itself
        return
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def is_damage(error: BaseException | None) -> bool:
    """Tell whether an error of SQLite's means that the file's content is damaged."""
    # the low byte is the primary code, the rest says more about it
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def damage_at_a_glance(path: Path) -> tuple[str, int]:
    """Read the little that shows damage at once; return what is wrong and the file's length.

    What is wrong is "" if nothing is. The length is in bytes, 0 if the file cannot be read now.
    """
    try:
        # a new connection: see damage_in
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", timeout=0, uri=True)) as fresh:
            # while this reads, no other process makes the file shorter
            fresh.execute("BEGIN")
            for statement in _NEEDED:
                fresh.execute(statement).fetchone()

            ((pages,),) = fresh.execute("PRAGMA page_count")
            ((size,),) = fresh.execute("PRAGMA page_size")
            length = path.stat().st_size
            with suppress(OSError):
                log_length = path.with_name(path.name + COMPANIONS[0]).stat().st_size
                pages -= log_length // (size + FRAME_HEADER)
    except sqlite3.Error as error:
        problem = str(error) if is_damage(error) else ""
        return problem, 0
    except OSError:
        return "", 0

    # pages that are not in the file yet are in the log
    if pages * size > length:
        return f"the file ends {pages * size - length} bytes too early", length
    return "", length


def damage_in(path: Path, thorough: bool) -> str | None:
    """Read a whole file from the disk; return what is wrong, "" if nothing, None if unreadable now.

    thorough: compare the indexes with the tables as well, which takes three times as long.

    Takes about 2 ms a megabyte and leaves Python free, so a thread can do it. SQLite keeps no
    checksums: changed letters within a text are not noticed.
    """
    check = "integrity_check" if thorough else "quick_check"
    try:
        # a new connection: those in use have most pages in memory and would not read the disk
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", timeout=0, uri=True)) as fresh:
            (found,) = fresh.execute(f"PRAGMA {check}(1)").fetchone()
    except sqlite3.Error as error:
        if not is_damage(error):
            return None
        return str(error)

    if found == "ok":
        return ""
    return " ".join(str(found).split())


def take_over(old: Any, path: Path, columns: dict[str, list[str]]) -> None:
    """Copy the content of a deleted file into the one at a path. Raises sqlite3.Error.

    old: an open connection to the deleted file. columns: the columns of each table without the ids,
    which are numbered anew. A notice that is settled in either file is settled.
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
