"""Which FreeSWITCH a call is on, and whether any worker hears it (docs/call-rules.md, rule 15).

FreeSWITCH gives itself a Core-UUID at each start. That identifies it, also for workers that spell
its address differently (localhost, 127.0.0.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select, update

from .prepared import Prepared, inserts
from .schema import cores, open_calls

if TYPE_CHECKING:
    from .store import Store


class Left(NamedTuple):
    """The open calls of a FreeSWITCH that has ended.

    states: the calls, as JSON. alive: its last sign of life (microseconds since 1970).
    """

    core: str
    states: list[str]
    alive: int


class Standing(NamedTuple):
    """A FreeSWITCH with open calls.

    core: "" if unknown. heard: seconds since 1970, changes with each sign of life.
    """

    core: str
    server: str
    heard: float


def calls_of(server: str, core: str) -> ColumnElement[bool]:
    """Return the condition for the calls of a FreeSWITCH."""
    if not core:
        return open_calls.c.server == server

    # a call that was written without a core (before version 6) is found by its address
    without = and_(open_calls.c.core == "", open_calls.c.server == server)
    return or_(open_calls.c.core == core, without)


def past_calls_of(server: str, core: str) -> ColumnElement[bool]:
    """Return the condition for the calls of any FreeSWITCH that was ever at an address.

    The UUIDs of their calls may come again.
    """
    former = select(cores.c.uuid).where(cores.c.server == server, cores.c.uuid != "")
    return or_(calls_of(server, core), open_calls.c.server == server, open_calls.c.core.in_(former))


def alive(connection: Connection, server: str, core: str) -> int:
    """Return the last sign of life of a FreeSWITCH (microseconds since 1970), 0 if unknown."""
    ours = cores.c.server == server
    if core:
        ours = or_(cores.c.uuid == core, and_(cores.c.uuid == "", cores.c.server == server))

    query = select(func.max(cores.c.alive)).where(ours)
    return int(connection.execute(query).scalar() or 0)


def _putting(new: Any) -> Any:
    # a worker that lags behind must not set back what another has seen
    last = case((new.excluded.alive > cores.c.alive, new.excluded.alive), else_=cores.c.alive)
    return new.on_conflict_do_update(
        index_elements=["uuid", "server"], set_={"alive": last, "heard": new.excluded.heard}
    )


_put = Prepared(
    {dialect: _putting(new) for dialect, new in inserts(cores).items()},
    ("uuid", "server", "alive", "heard"),
)


def write_alive(connection: Connection, server: str, core: str, stamp: int, now: float) -> None:
    """Write that a FreeSWITCH was heard.

    stamp: its last sign of life by its own clock (microseconds since 1970), or 0. now: seconds
    since 1970.
    """
    _put.run(connection, {"uuid": core, "server": server, "alive": stamp, "heard": now})


class Cores:
    """The runs of FreeSWITCH that a store knows. Raises StoreError if the database does not answer.

    gone_after: seconds without a sign of life after which a FreeSWITCH counts as ended.
    """

    def __init__(self, store: Store, gone_after: float) -> None:
        self._store = store
        self._gone_after = gone_after

    def arrive(self, server: str, core: str) -> list[Left]:
        """Write which FreeSWITCH is at an address; return the open calls of its predecessors.

        FreeSWITCH makes a new core when it starts, so the one before has ended, unless it is heard
        under another address.
        """
        if not core:
            return []

        now = self._store.now()
        with self._store.transaction() as connection:
            before = and_(cores.c.server == server, cores.c.uuid.not_in(("", core)))
            connection.execute(update(cores).where(before).values(heard=0.0))
            write_alive(connection, server, core, 0, now)

            goes_on = select(cores.c.uuid).where(cores.c.heard > now - self._gone_after)
            ended = select(cores.c.uuid).where(before, cores.c.uuid.not_in(goes_on))
            return [
                Left(core, self._states(connection, core), alive(connection, server, core))
                for core in connection.execute(ended.order_by(cores.c.alive)).scalars().all()
            ]

    @staticmethod
    def _states(connection: Connection, core: str) -> list[str]:
        ours = and_(open_calls.c.core == core, open_calls.c.closed == 0)
        query = select(open_calls.c.state).where(ours).order_by(open_calls.c.callid)
        return list(connection.execute(query).scalars())

    def is_heard(self, core: str) -> bool:
        """Tell whether any worker has heard a core within the last `gone_after` seconds."""
        since = self._store.now() - self._gone_after
        with self._store.transaction() as connection:
            heard = select(cores.c.uuid).where(cores.c.uuid == core, cores.c.heard > since)
            return connection.execute(heard).first() is not None

    def with_open_calls(self) -> list[Standing]:
        """Return every FreeSWITCH that has open calls, and when any worker last heard it."""
        of_calls = select(open_calls.c.core, open_calls.c.server).where(open_calls.c.closed == 0)
        with self._store.transaction() as connection:
            calls = connection.execute(of_calls.distinct()).all()
            heard = connection.execute(select(cores.c.uuid, cores.c.server, cores.c.heard)).all()

        found: dict[tuple[str, str], Standing] = {}
        for core, server in sorted(tuple(row) for row in calls):
            last = max((row.heard for row in heard if _speaks_for(row, core, server)), default=0.0)

            # one FreeSWITCH at two addresses counts once, with the later of the two times
            key = (core, "" if core else server)
            before = found.get(key, Standing(core, server, 0.0))
            found[key] = Standing(core, server, max(last, before.heard))

        return list(found.values())


def _speaks_for(row: Any, core: str, server: str) -> bool:
    """Tell whether a row of `cores` is the FreeSWITCH of a call; either may not know its core."""
    if core and row.uuid:
        return bool(row.uuid == core)
    return bool(row.server == server)
