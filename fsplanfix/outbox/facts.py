"""Single values that workers share through the store: keys, modes, times. All are text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, delete, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from ..calls.model import ACCOUNT
from .prepared import Prepared, adding, inserts
from .schema import facts

if TYPE_CHECKING:
    from .store import Store

RELOAD = "reload"
"""The name of the fact that all workers shall read the accounts again: when it was asked for."""

SET_ASIDE = "set_aside"
"""The name of the fact about the last event that could not be processed."""

UNAUTHORIZED = "unauthorized"
"""The name of the fact that Planfix does not know our token: since when, seconds since 1970."""


def fact_of(name: str, account: str) -> str:
    """Return the name of a fact that is one account's; the default account's are the oldest."""
    return name if account == ACCOUNT else f"{name} {account}"


def fact_and_account(name: str) -> tuple[str, str]:
    """Return what `fact_of` was given."""
    fact, _, account = name.partition(" ")
    return fact, account or ACCOUNT


class begins_with(FunctionElement[bool]):  # noqa: N801 - a function in SQL
    """SQL for a text beginning with another. Arguments: the column, and the other text.

    SQLite finds it in the column's index; with LIKE, each turn of the courier looked at all facts.
    """

    inherit_cache = True


@compiles(begins_with, "sqlite")
def _sqlite(element: Any, compiler: Any, **options: Any) -> str:
    text, beginning = element.clauses
    column, least, most = (
        compiler.process(clause, **options) for clause in (text, beginning, beginning)
    )
    return f"({column} >= {least} AND {column} < {most} || char(1114111))"


@compiles(begins_with, "postgresql")
def _postgresql(element: Any, compiler: Any, **options: Any) -> str:
    column, beginning = (compiler.process(clause, **options) for clause in element.clauses)
    return f"starts_with({column}, {beginning})"


def is_fact(*names: str) -> ColumnElement[bool]:
    """Return the condition that a fact has one of some names, whichever account's it is."""
    # no IN: its parameters are only known when it runs, too late for reader.py
    fact = facts.c.name
    return or_(*(or_(fact == name, begins_with(fact, f"{name} ")) for name in names))


class Facts:
    """The facts of one store. Raises StoreError if the database does not answer."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, name: str) -> str:
        """Return a fact, "" if there is none."""
        with self._store.transaction() as connection:
            return get_fact(connection, name)

    def beginning(self, prefix: str) -> dict[str, str]:
        """Return the facts whose names begin with a prefix."""
        named = begins_with(facts.c.name, prefix)
        with self._store.transaction() as connection:
            rows = connection.execute(select(facts.c.name, facts.c.value).where(named))
            return {row.name: row.value for row in rows}

    def drop(self, name: str) -> None:
        """Delete a fact."""
        with self._store.write() as connection:
            connection.execute(delete(facts).where(facts.c.name == name))

    def set_if_absent(self, name: str, value: str) -> str:
        """Set a fact unless it is there; return its value, the same for all workers."""
        with self._store.transaction() as connection:
            _set(connection, name, value, only_if_absent=True)
            return get_fact(connection, name) or value

    def set(self, name: str, value: str) -> None:
        """Set a fact. It is written even if it is the same, so that it can test the disk."""
        with self._store.write() as connection:
            put_fact(connection, name, value)

    def swap(self, name: str, value: str) -> str:
        """Set a fact; return its value before, "" if there was none."""
        with self._store.write() as connection:
            before = get_fact(connection, name)
            put_fact(connection, name, value)
            return before

    def change(self, name: str, work: Callable[[str], str]) -> None:
        """Set a fact to what `work` makes of it. Other workers wait meanwhile."""
        with self._store.write() as connection:
            _set(connection, name, "", only_if_absent=True)
            # SQLite keeps all other writers out anyway, and knows no FOR UPDATE
            locked = select(facts.c.value).where(facts.c.name == name).with_for_update()
            before = connection.execute(locked).scalar_one()
            put_fact(connection, name, work(before))


def get_fact(connection: Connection, name: str) -> str:
    """Return a fact within a transaction, "" if there is none."""
    return connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar() or ""


def put_fact(connection: Connection, name: str, value: str) -> None:
    """Set a fact within a transaction."""
    _set(connection, name, value, only_if_absent=False)


def _set(connection: Connection, name: str, value: str, only_if_absent: bool) -> None:
    (_add if only_if_absent else _put).run(connection, {"name": name, "value": value})


_add = adding(facts)
_put = Prepared(
    {
        dialect: insert.on_conflict_do_update(
            index_elements=["name"], set_={"value": insert.excluded.value}
        )
        for dialect, insert in inserts(facts).items()
    },
    ("name", "value"),
)
