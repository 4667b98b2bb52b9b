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


def write_over(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)
