"""The tables of the store and their versions. Rules: docs/delivery-rules.md."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Float,
    FromClause,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
    and_,
    inspect,
    literal_column,
    or_,
)

from ..calls.model import ACCOUNT, Kind
from ..errors import StoreError
from .schedule import POPUPS
from .texts import CleanString, CleanText

if TYPE_CHECKING:
    from alembic.operations import Operations


class State(StrEnum):
    """The state of a notice."""

    WAITING = "waiting"
    """To be sent, or sent again."""

    DONE = "done"
    """Accepted by Planfix."""

    REJECTED = "rejected"
    """Not accepted by Planfix, with 400 or for 72 hours: a person decides."""

    SKIPPED = "skipped"
    """A call window that came too late, or a recording that can never be opened."""

    SHADOW = "shadow"
    """Not sent, in shadow mode."""


VERSION = 9
"""Raised with every change of the tables; `migrate` brings an older store up to it."""

LONGEST_CALLID = 300
"""Characters: a UUID of 256 (SWITCH_UUID_FORMATTED_LENGTH) and the number of a UUID used again."""

LONGEST_PHONE = 32
"""Characters of a number in `calls`; what is longer is cut off there."""

LONGEST_ACCOUNT = 32
"""Characters of an account's name."""

CHANNEL = "fsplanfix_notices"
"""PostgreSQL's channel on which workers tell each other of new notices."""

metadata = MetaData()


def _account() -> Column[str]:
    """Return the column with the account whose row it is; ACCOUNT before version 9."""
    return Column("account", CleanString(LONGEST_ACCOUNT), nullable=False, server_default=ACCOUNT)


notices = Table(
    "notices",
    metadata,
    Column(
        "id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    ),
    Column("callid", CleanString(LONGEST_CALLID), nullable=False),
    Column("ext", CleanString(64), nullable=False),
    Column("kind", CleanString(16), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("barrier", Boolean, nullable=False),
    Column("body", CleanText, nullable=False),
    Column("state", CleanString(8), nullable=False, server_default=State.WAITING),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("created", Float, nullable=False),
    Column("due", Float, nullable=False),
    Column("leased_until", Float, nullable=False, server_default="0"),
    Column("answer", CleanText, nullable=False, server_default=""),
    Column("owner", CleanString(64), nullable=False, server_default=""),
    Column("settled", Float, nullable=False, server_default="0"),
    _account(),
    UniqueConstraint("callid", "ext", "kind", "ordinal", name="notices_key"),
)
"""The notices for Planfix.

body: the notice as JSON. barrier: whether later notices of the call wait, see holds_up.
created, due, leased_until, settled: seconds since 1970.

id: the order in which a call's notices are sent. Workers that follow the same FreeSWITCH may number
them differently (position), but a notice was always written after those it must wait for.
"""


def is_in(state: State, table: FromClause) -> ColumnElement[bool]:
    """Return the condition that a notice is in a state."""
    # a literal and not a parameter: else the database does not use the partial indexes below
    return table.c.state == literal_column(f"'{state}'")


def is_waiting(table: FromClause) -> ColumnElement[bool]:
    """Return the condition that a notice is still to be sent."""
    return is_in(State.WAITING, table)


def is_window(table: FromClause) -> ColumnElement[bool]:
    """Return the condition that a notice is to be sent and opens or changes a call window."""
    return and_(
        is_waiting(table), table.c.kind.in_([literal_column(f"'{kind}'") for kind in POPUPS])
    )


def holds_up(before: FromClause, kind: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition that a notice is a barrier to a later one of a kind.

    docs/delivery-rules.md, rule 3.
    """
    # A COMPLETED that is a barrier is an offer given up by a hop: the next window waits for it.
    # Another COMPLETED does not, so those of one hop are sent together.
    ended = Kind.COMPLETED.value
    return and_(before.c.barrier, or_(before.c.kind != ended, kind != ended))


def is_of_many(table: FromClause) -> ColumnElement[bool]:
    """Return the condition that a row is of one of several companies, and not of the only one.

    An index with it costs a store of one company nothing, and only a query that names the condition
    uses it: SQLite would also look for a client's number among all calls of his company.
    """
    return table.c.account != literal_column(f"'{ACCOUNT}'")


def _index(name: str, *columns: Column[Any], where: ColumnElement[bool]) -> None:
    Index(name, *columns, sqlite_where=where, postgresql_where=where)


# No account waits behind another's backlog: each one's notices are found without reading the rest.
# No index begins with `due`: PostgreSQL took it to read through the backlog of the largest account.
_index("notices_due", notices.c.account, notices.c.due, notices.c.id, where=is_waiting(notices))
_index("notices_call", notices.c.callid, notices.c.position, where=is_waiting(notices))
_index("notices_window", notices.c.created, where=is_window(notices))
_index("notices_rejected", notices.c.id, where=is_in(State.REJECTED, notices))
_index("notices_settled", notices.c.settled, where=notices.c.settled > literal_column("0"))

open_calls = Table(
    "open_calls",
    metadata,
    Column("callid", CleanString(LONGEST_CALLID), primary_key=True),
    Column("server", CleanString(255), nullable=False),
    Column("state", CleanText, nullable=False),
    Column("closed", Float, nullable=False, server_default="0", index=True),
    Column("core", CleanString(64), nullable=False, server_default=""),
)
"""The state of each call, so that a restart goes on where the service stopped.

state: the open call as JSON, "" once it is over. server: the address under which it was last
written. core: the Core-UUID of its FreeSWITCH, "" if unknown or written before version 6.

closed: when a worker saw the end of the call (seconds since 1970), 0 while it is open. Notices that
another worker, which heard less or later, still has about it are dropped.
"""

cores = Table(
    "cores",
    metadata,
    Column("uuid", CleanString(64), primary_key=True),
    Column("server", CleanString(255), primary_key=True),
    Column("alive", BigInteger, nullable=False, server_default="0"),
    Column("heard", Float, nullable=False, server_default="0"),
)
"""Each run of a FreeSWITCH, by its Core-UUID ("" if unknown), under each address it was found at.

alive: its last sign of life by its own clock (microseconds since 1970). heard: when that was
written (seconds since 1970, the database's clock); 0 once another was found at the address.
"""

facts = Table(
    "facts",
    metadata,
    Column("name", CleanString(64), primary_key=True),
    Column("value", CleanText, nullable=False),
)
"""Single values: the schema's version, the key that signs links, pauses (facts.py)."""

journal = Table(
    "journal",
    metadata,
    Column(
        "id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    ),
    Column("at", Float, nullable=False, index=True),
    Column("callid", CleanString(LONGEST_CALLID), nullable=False, index=True),
    Column("ext", CleanString(64), nullable=False),
    Column("phone", CleanString(32), nullable=False, index=True),
    Column("what", CleanText, nullable=False),
    _account(),
)
"""Lines for people that Planfix does not get, such as a click that was refused.

at: seconds since 1970. callid, ext, phone: "" where unknown.
"""

heard = Table(
    "heard",
    metadata,
    Column("callid", CleanString(LONGEST_CALLID), primary_key=True),
    Column("at", Float, nullable=False, index=True),
    Column("events", LargeBinary, nullable=False),
)
"""The events of each call that is over, packed by calls/event_log.py.

at: when the call ended, seconds since 1970.
"""

calls = Table(
    "calls",
    metadata,
    Column("callid", CleanString(LONGEST_CALLID), primary_key=True),
    Column("began", Float, nullable=False),
    Column("direction", CleanString(3), nullable=False),
    Column("phone", CleanString(LONGEST_PHONE), nullable=False),
    Column("line", CleanString(LONGEST_PHONE), nullable=False),
    Column("name", CleanText, nullable=False),
    Column("name_folded", CleanText, nullable=False),
    Column("result", CleanString(16), nullable=False),
    Column("answered_by", CleanString(64), nullable=False),
    Column("waited", Integer),
    Column("talked", Integer, nullable=False),
    Column("recordings", Integer, nullable=False),
    Column("closed", Float, nullable=False, index=True),
    _account(),
)
"""One row for each call that is over (calls/result.py).

began, closed: seconds since 1970, by FreeSWITCH's clock and by the database's. waited, talked:
seconds, waited NULL if no phone rang. name_folded: the name without capitals, for searching.
"""

# with what tells whether a client was talked with since: 60,000 missed calls of a month ask that
Index(
    "calls_by_phone",
    *(calls.c.phone, calls.c.began, calls.c.result, calls.c.direction, calls.c.account),
)
# holds all that figures are made of: a month of 250,000 calls is counted without reading the rows
Index(
    "calls_by_time",
    *(calls.c.began, calls.c.callid, calls.c.direction, calls.c.result),
    *(calls.c.waited, calls.c.talked, calls.c.account),
)
_index(
    "calls_by_account",
    *(calls.c.account, calls.c.began, calls.c.callid, calls.c.direction, calls.c.result),
    *(calls.c.waited, calls.c.talked),
    where=is_of_many(calls),
)
Index("calls_by_result", calls.c.result, calls.c.began, calls.c.phone)

shares = Table(
    "shares",
    metadata,
    Column("callid", CleanString(LONGEST_CALLID), primary_key=True),
    Column("ext", CleanString(64), primary_key=True),
    Column("place", Integer, nullable=False),
    Column("began", Float, nullable=False),
    Column("direction", CleanString(3), nullable=False),
    Column("status", CleanString(16), nullable=False),
    Column("talked", Integer, nullable=False),
    _account(),
)
"""What each employee had of each of `calls`, one row for each ext.

place: who talked comes first. began: when the call began. status: Planfix's word.
"""

Index("shares_by_ext", shares.c.ext, shares.c.began, shares.c.callid, shares.c.account)
Index(
    "shares_by_time",
    *(shares.c.began, shares.c.ext, shares.c.direction, shares.c.status, shares.c.talked),
    shares.c.account,
)
_index(
    "shares_by_account",
    *(shares.c.account, shares.c.began, shares.c.ext, shares.c.direction, shares.c.status),
    shares.c.talked,
    where=is_of_many(shares),
)

FIRST_TABLES = {"notices", "open_calls", "facts"}
"""The tables of version 1. A database with some but not all of them is another program's."""


def prepare(connection: Connection) -> None:
    """Create the tables, or bring them up to date. Raises StoreError with a hint."""
    there = set(inspect(connection).get_table_names())
    ours = set(metadata.tables)

    if connection.dialect.name == "sqlite" and there and not there & ours:
        raise StoreError(
            "The file in STORE_URL is another program's database: choose another file name."
        )
    if there & FIRST_TABLES and not there >= FIRST_TABLES:
        raise StoreError(
            "The database in STORE_URL holds another program's tables: "
            "give fsplanfix one of its own."
        )

    metadata.create_all(connection)

    # version 1 wrote no fact "schema"
    found = connection.execute(facts.select().where(facts.c.name == "schema")).first()
    first = 1 if there & FIRST_TABLES else VERSION
    version = int(found.value) if found else first

    if version > VERSION:
        raise StoreError(
            "The database in STORE_URL was written by a newer fsplanfix: "
            "install that release or newer."
        )

    if version < VERSION:
        migrate(connection, version)
    if version < VERSION or not found:
        connection.execute(facts.delete().where(facts.c.name == "schema"))
        connection.execute(facts.insert().values(name="schema", value=str(VERSION)))


def migrate(connection: Connection, version: int) -> None:
    """Change the tables step by step from an older version to VERSION."""
    from alembic.migration import MigrationContext  # noqa: PLC0415 - only upgrades pay for it
    from alembic.operations import Operations  # noqa: PLC0415

    operations = Operations(MigrationContext.configure(connection))
    for step in STEPS[version - 1 :]:
        step(operations)


def _to_2(operations: Operations) -> None:
    """Add who holds a lease, when a notice was settled, and when a call was closed."""
    operations.add_column(
        "notices", Column("owner", CleanString(64), nullable=False, server_default="")
    )
    operations.add_column("notices", Column("settled", Float, nullable=False, server_default="0"))
    operations.add_column("open_calls", Column("closed", Float, nullable=False, server_default="0"))


def _to_3(operations: Operations) -> None:
    """Add the journal and the calls' events: create_all has made their tables."""


def _to_4(operations: Operations) -> None:
    """Add indexes: stale, rejected, old and open rows are found without reading everything."""
    _make_indexes(operations.get_bind(), notices, open_calls)


def _to_5(operations: Operations) -> None:
    """Make room for callids that are Call-IDs."""
    # SQLite does not enforce the length of a text
    if operations.get_bind().dialect.name == "postgresql":
        for table in (notices, open_calls, journal, heard):
            operations.alter_column(table.name, "callid", type_=CleanString(LONGEST_CALLID))


def _to_6(operations: Operations) -> None:
    """Add the Core-UUID of each call's FreeSWITCH; create_all has made the table `cores`."""
    connection = operations.get_bind()
    if "core" not in _columns(connection, open_calls):
        operations.add_column(
            "open_calls", Column("core", CleanString(64), nullable=False, server_default="")
        )

    # a release before version 6 kept the last signs of life as facts
    former = facts.c.name.like(f"{_ALIVE}%")
    for name, value in connection.execute(facts.select().where(former)).all():
        server = name.removeprefix(_ALIVE)
        alive = int(value) if value.isdigit() else 0
        is_known = and_(cores.c.uuid == "", cores.c.server == server)
        if connection.execute(cores.select().where(is_known)).first() is None:
            connection.execute(cores.insert().values(uuid="", server=server, alive=alive))

    connection.execute(facts.delete().where(former))


def _to_7(operations: Operations) -> None:
    """Rename the state `dead` to `rejected`."""
    connection = operations.get_bind()
    connection.execute(
        notices.update().where(notices.c.state == "dead").values(state=State.REJECTED)
    )
    there = {str(index["name"]) for index in inspect(connection).get_indexes("notices")}
    if "notices_dead" in there:
        operations.drop_index("notices_dead", "notices")
    _make_indexes(connection, notices)


def _to_8(operations: Operations) -> None:
    """Have rows made for the calls that are stored; create_all has made the tables.

    That takes minutes in a large store, so it is done while the service works (call_list.py).
    """
    connection = operations.get_bind()
    connection.execute(facts.delete().where(facts.c.name == UNLISTED))
    connection.execute(facts.insert().values(name=UNLISTED, value=""))


def _to_9(operations: Operations) -> None:
    """Add whose row it is, where several companies share a switch."""
    connection = operations.get_bind()
    tables = (notices, journal, calls, shares)
    for table in tables:
        if "account" not in _columns(connection, table):
            operations.add_column(table.name, _account())

    # made anew where the account belongs into them
    for table in (notices, calls, shares):
        wanted = {str(index.name) for index in table.indexes if "account" in index.columns}
        for index in inspect(connection).get_indexes(table.name):
            if index["name"] in wanted and "account" not in index["column_names"]:
                operations.drop_index(str(index["name"]), table.name)

    _make_indexes(connection, *tables)


def _make_indexes(connection: Connection, *tables: Table) -> None:
    """Make the missing indexes of tables, but for those of columns that a later step adds."""
    for table in tables:
        there = _columns(connection, table)
        for index in table.indexes:
            if there.issuperset(column.name for column in index.columns):
                index.create(connection, checkfirst=True)


def _columns(connection: Connection, table: Table) -> set[str]:
    return {str(column["name"]) for column in inspect(connection).get_columns(table.name)}


UNLISTED = "calls_listed_to"
"""The fact that there are calls without a row in `calls`: the callid up to which rows were made.

It is there after an upgrade from a version before 8, until all rows are made.
"""

_ALIVE = "alive "
"""The beginning of the names of the facts that the table `cores` replaced."""

STEPS = (_to_2, _to_3, _to_4, _to_5, _to_6, _to_7, _to_8, _to_9)
"""The migrations: the first brings version 1 to 2, and so on."""
