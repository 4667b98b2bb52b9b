"""The statements of every commit: SQLAlchemy compiles each once, and the driver runs it.

SQLAlchemy's own execution of a statement takes several times as long as SQLite's. On PostgreSQL,
statements that need no answer of each other share a round trip (docs/performance.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Dialect,
    Executable,
    Integer,
    LargeBinary,
    Table,
    TableValuedAlias,
    Text,
    bindparam,
    cast,
    column,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from .texts import CleanText

Values = Mapping[str, Any]
"""The values of a statement's parameters, by their names."""


class among(FunctionElement[bool]):  # noqa: N801 - a function in SQL
    """SQL for a column's value being in a list, which is one parameter: the statement is constant.

    Arguments: the column, and the parameter (`a_list`).
    """

    inherit_cache = True


def a_list(name: str) -> Any:
    """Return a parameter whose value is a list of texts."""
    return bindparam(name, type_=CleanText)


@compiles(among, "sqlite")
def _sqlite(element: Any, compiler: Any, **options: Any) -> str:
    column, wanted = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({wanted}))"  # noqa: S608 - no values in it


@compiles(among, "postgresql")
def _postgresql(element: Any, compiler: Any, **options: Any) -> str:
    column, wanted = (compiler.process(clause, **options) for clause in element.clauses)
    # without SQLAlchemy's own cast, which is that of a single text
    return f"{column} = ANY(CAST({wanted.partition('::')[0]} AS text[]))"


def inserts(table: Table) -> dict[str, Any]:
    """Return an INSERT that knows ON CONFLICT, by the dialect's name."""
    return {"sqlite": sqlite.insert(table), "postgresql": postgresql.insert(table)}


_ROWS, PLACE = "b_rows", "b_place"
"""The parameter that holds all rows of a statement, and the number of each row among them."""


def given_rows(columns: Iterable[Column[Any]]) -> TableValuedAlias:
    """Return the rows that `run_each` is given as a table, for a statement of PostgreSQL.

    PostgreSQL plans a statement each time: this one for all rows, and not for each of them.
    """
    types = [column(one.name, one.type) for one in columns]
    rows = func.json_to_recordset(cast(bindparam(_ROWS, type_=Text), JSON))
    given = rows.table_valued(*types, column(PLACE, Integer))
    return given.render_derived("given", with_types=True)


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement in one dialect.

    names: those of its parameters in their order, None if the driver knows them by name. given:
    values that the statement itself brings. takes_all: it takes all rows at once. fit: makes a text
    fit for the database.
    """

    sql: str
    names: tuple[str, ...] | None
    given: dict[str, Any]
    takes_all: bool
    fit: Callable[[str | None], Any]

    def parameters(self, values: Values) -> Any:
        if self.takes_all:
            return self.of_all([values])
        if self.given:
            values = {**self.given, **values}
        if self.names is None:
            return {name: self._ready(value) for name, value in values.items()}
        return tuple([self._ready(values[name]) for name in self.names])

    def of_all(self, rows: Iterable[Values]) -> Any:
        """Return the parameters of a statement that takes all rows at once."""
        ready = [
            {**{name: self._ready(value) for name, value in row.items()}, PLACE: place}
            for place, row in enumerate(rows)
        ]
        return {**self.given, _ROWS: json.dumps(ready, ensure_ascii=False)}

    def _ready(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.fit(value)
        # SQLite has no arrays, but it reads JSON
        if isinstance(value, list):
            fit = [self.fit(one) for one in value]
            return json.dumps(fit) if self.names else fit
        return value


class Prepared:
    """A statement that is compiled once for each dialect.

    statement: for all dialects, or by the dialect's name. columns: those that an INSERT is given
    values for.
    """

    def __init__(
        self, statement: Executable | Mapping[str, Any], columns: Iterable[str] | None = None
    ) -> None:
        self._statement = statement
        self._columns = None if columns is None else list(columns)
        self._compiled: dict[tuple[str, str], _Compiled] = {}

    def run(self, connection: Connection, values: Values) -> Any:
        """Run it; return the driver's cursor."""
        compiled = self._in(connection.dialect)
        return driver_of(connection).execute(compiled.sql, compiled.parameters(values))

    def run_each(self, connection: Connection, rows: Iterable[Values]) -> None:
        """Run it for each of some rows."""
        compiled = self._in(connection.dialect)
        if compiled.takes_all:
            driver_of(connection).execute(compiled.sql, compiled.of_all(rows))
            return
        cursor = driver_of(connection).cursor()
        cursor.executemany(compiled.sql, [compiled.parameters(row) for row in rows])

    def _in(self, dialect: Dialect) -> _Compiled:
        key = dialect.name, getattr(dialect, "text_codec", "")
        if key not in self._compiled:
            self._compiled[key] = self._compile(dialect)
        return self._compiled[key]

    def _compile(self, dialect: Dialect) -> _Compiled:
        statement: Any = self._statement
        if isinstance(statement, Mapping):
            statement = statement[dialect.name]
        # as for several rows: else an INSERT would ask PostgreSQL for the new id
        compiled = statement.compile(
            dialect=dialect, column_keys=self._columns, for_executemany=self._columns is not None
        )

        own = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
        given = {name: it.value if isinstance(it, Enum) else it for name, it in own.items()}
        names = tuple(compiled.positiontup) if compiled.positional else None
        takes_all = _ROWS in compiled.binds
        fit = CleanText().bind_processor(dialect)
        return _Compiled(str(compiled), names, given, takes_all, fit)


def adding(table: Table, columns: Iterable[str] | None = None) -> Prepared:
    """Return the INSERT that leaves rows as they are which are there already.

    columns: those that are given, None for all.
    """
    given = list(columns or table.columns.keys())
    by_dialect = inserts(table)
    # JSON holds no bytes
    if not any(isinstance(table.c[name].type, LargeBinary) for name in given):
        rows = given_rows(table.c[name] for name in given)
        chosen = select(*(rows.c[name] for name in given))
        by_dialect["postgresql"] = by_dialect["postgresql"].from_select(given, chosen)
    return Prepared({name: it.on_conflict_do_nothing() for name, it in by_dialect.items()}, given)


@contextmanager
def together(connection: Connection) -> Iterator[None]:
    """Let prepared statements share a round trip; what they find can be read afterwards."""
    if connection.dialect.name != "postgresql":
        yield
        return

    guarded = partial(_given_up_if_broken_off, connection)
    # within, so that nobody waits for answers then; and around it, as its end waits for them
    with guarded(), driver_of(connection).pipeline(), guarded():
        yield


@contextmanager
def _given_up_if_broken_off(connection: Connection) -> Iterator[None]:
    """Close a connection to PostgreSQL on which answers are under way that nobody will read."""
    try:
        yield
    except connection.dialect.loaded_dbapi.Error:
        raise
    except BaseException:
        if not connection.invalidated:
            connection.invalidate()
        raise


def driver_of(connection: Connection) -> Any:
    """Return the driver's own connection behind one of SQLAlchemy's."""
    # SQLite's and PostgreSQL's connections are the driver's own, without an adapter around them
    return connection.connection.dbapi_connection
