"""Opens the database: an engine whose connections have all our time limits."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url

from .time_limits import (
    Limits,
    begin_sqlite,
    connection_settings,
    limit_statements,
    note_use,
    ping_after_a_rest,
    prepare_sqlite,
)


def open_engine(url: str, limits: Limits) -> Engine:
    """Return the engine for a database. Raises ArgumentError or ModuleNotFoundError."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        from .psycopg_waits import connect  # noqa: PLC0415 - psycopg is an extra

        # a prepared statement keeps the plan made while the table was small: claims beside
        # 100,000 notices took 1.3 times as long (docs/performance.md)
        settings = connection_settings(limits, parsed.query) | {"prepare_threshold": None}
        url_for = parsed.set(drivername="postgresql+psycopg")
        engine = create_engine(url_for, connect_args=settings, max_overflow=50)
        event.listen(engine, "do_connect", connect)
        event.listen(engine, "connect", partial(_prepare_postgresql, engine, limits))
        event.listen(engine, "checkout", partial(ping_after_a_rest, engine))
        event.listen(engine, "checkin", note_use)
        return engine

    engine = create_engine(parsed)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda driver, _: prepare_sqlite(driver, limits))
        event.listen(engine, "begin", partial(begin_sqlite, limits=limits))
    return engine


def _prepare_postgresql(engine: Engine, limits: Limits, connection: Any, _: Any) -> None:
    """Set a new connection's time limits, and keep its encoding for texts.py."""
    limit_statements(connection, limits)
    engine.dialect.text_codec = connection.info.encoding  # type: ignore[attr-defined]
