"""Damage to the file of an SQLite store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def written_through(path: Path, table: str) -> tuple[int, int]:
    """Have everything of a store in its file; return where a table's first page is, and its size."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = other.execute("PRAGMA page_size").fetchone()
        ((page,),) = other.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table])
    return (page - 1) * size, size


def fill(path: Path, megabytes: int) -> None:
    """Have a store's file hold a call's events of so many megabytes."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA synchronous=OFF")
        events = f"zeroblob({megabytes << 20})"
        other.execute(f"INSERT INTO heard (callid, at, events) VALUES ('large', 1, {events})")  # noqa: S608
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def cut_off(path: Path, length: int) -> None:
    """Cut so many bytes off the end of a file."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - length)


def write_over(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)
