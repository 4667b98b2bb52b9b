"""The tables of the store. Rules: shared/delivery-rules.md."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

WAITING, DONE, DEAD = "waiting", "done", "dead"
"""States of a notice: to be sent (again), accepted by Planfix, set aside because Planfix will never accept it."""

metadata = MetaData()

notices = Table(
    "notices",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("callid", String(128), nullable=False),
    Column("ext", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("barrier", Boolean, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(8), nullable=False, server_default=WAITING),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("created", Float, nullable=False),
    Column("due", Float, nullable=False),
    Column("leased_until", Float, nullable=False, server_default="0"),
    Column("answer", Text, nullable=False, server_default=""),
    UniqueConstraint("callid", "ext", "kind", "ordinal", name="notices_key"),
)
"""body: the notice as JSON. created, due, leased_until: seconds since 1970. barrier: later notices wait for it."""

_is_waiting = text(f"state = '{WAITING}'")
Index("notices_due", notices.c.due, notices.c.id, sqlite_where=_is_waiting, postgresql_where=_is_waiting)
Index("notices_call", notices.c.callid, notices.c.position, sqlite_where=_is_waiting, postgresql_where=_is_waiting)

open_calls = Table(
    "open_calls",
    metadata,
    Column("callid", String(128), primary_key=True),
    Column("server", String(255), nullable=False),
    Column("state", Text, nullable=False),
)
"""The calls that are not over, as JSON, so that a restart knows what was already said."""

facts = Table("facts", metadata, Column("name", String(64), primary_key=True), Column("value", Text, nullable=False))
"""What was decided once and for good, such as the key that signs recording links."""
