"""While nothing, or one probe a minute, is sent to a Planfix (docs/delivery-rules.md, rule 4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from sqlalchemy import Connection, delete, select

from .clock import JUMP
from .facts import UNAUTHORIZED, fact_and_account, fact_of, is_fact, put_fact
from .prepared import Prepared
from .records import Hold, Outcome, Places
from .schedule import LONGEST_HOLD, PROBE_PAUSE
from .schema import State, facts

HOLD_SINCE, HOLD_UNTIL = "hold_since", "hold_until"
"""The names of the facts of a pause, in seconds since 1970."""

# FOR UPDATE: of all couriers that share a store, one at a time decides who sends the probe. Whoever
# writes these facts does so in the order of their names, or two couriers would wait for each other
# until PostgreSQL ends one of them, after a second.
_pauses = Prepared(
    select(facts.c.name, facts.c.value)
    .where(is_fact(HOLD_SINCE, HOLD_UNTIL, UNAUTHORIZED))
    .order_by(facts.c.name)
    .with_for_update()
)


def put_hold(connection: Connection, account: str, hold: Hold) -> None:
    """Let nothing of an account be sent for a while."""
    put_fact(connection, fact_of(HOLD_SINCE, account), str(hold.since))
    put_fact(connection, fact_of(HOLD_UNTIL, account), str(hold.until))


def probe_with_the_next(connection: Connection, account: str) -> None:
    """Let the next notice be the probe after a 401: the last one was not sent."""
    connection.execute(delete(facts).where(facts.c.name == fact_of(HOLD_UNTIL, account)))


class Pauses:
    """The pauses of all accounts, as one transaction reads and changes them.

    They are asked for at once, and read when they are needed first (prepared.py, `together`).
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._found = _pauses.run(connection, {})

    @cached_property
    def _facts(self) -> dict[str, dict[str, str]]:
        facts: dict[str, dict[str, str]] = {}
        for name, value in self._found.fetchall():
            fact, account = fact_and_account(name)
            facts.setdefault(account, {})[fact] = value
        return facts

    def end_where_accepted(self, outcomes: Iterable[Outcome]) -> list[str]:
        """End the pauses after a 401 of the accounts whose Planfix has accepted a notice since.

        Return these accounts.
        """
        done = {one.queued.notice.account for one in outcomes if one.state == State.DONE}
        accepted = sorted(done & self._unauthorized())
        for account in accepted:
            names = [fact_of(name, account) for name in self._facts.pop(account)]
            self._connection.execute(delete(facts).where(facts.c.name.in_(names)))
        return accepted

    def probe_again(self, outcomes: Sequence[Outcome]) -> None:
        """Let the next notice be the probe where the one that was claimed for it was not sent."""
        # a window skipped as stale: without this the next probe would wait another minute
        untried = {one.queued.notice.account for one in outcomes if not one.tried}
        for account in sorted(untried & self._unauthorized()):
            probe_with_the_next(self._connection, account)
            self._facts[account].pop(HOLD_UNTIL, None)

    def hold_after_probes(self, claimed: set[str], now: float) -> None:
        """Let nothing follow the probes that were claimed, for a minute.

        claimed: the accounts of what was claimed. now: seconds since 1970.
        """
        until = now + PROBE_PAUSE
        for account in sorted(claimed & self._unauthorized()):
            put_hold(self._connection, account, Hold(now, until))
            self._facts[account] |= {HOLD_SINCE: str(now), HOLD_UNTIL: str(until)}

    def places(self, now: float) -> dict[str, int]:
        """Return how many notices of each account with a pause may be claimed."""
        return {account: 0 if self.until(account, now) else 1 for account in self._limited(now)}

    def until(self, account: str, now: float) -> float:
        """Return until when nothing of an account may be sent, 0 if something may."""
        pause = self._facts.get(account, {})
        until = float(pause.get(HOLD_UNTIL, 0))
        # An older release did not write when it began. One that begins later than now was set
        # before the clock jumped back, or by a worker that had not noticed the jump yet: it stopped
        # all workers for as long as the jump was.
        since = float(pause.get(HOLD_SINCE, until - LONGEST_HOLD))
        return until if since - JUMP < now < until else 0.0

    def upcoming(self, planned: float | None, places: Places, now: float) -> float | None:
        """Return when the next notice may be sent, None if none is planned.

        planned: the same without the pauses.
        """
        if places.only:
            return self.until(places.only, now) or planned
        ends = [self.until(account, now) for account in self._facts]
        return min(filter(None, [planned, *ends]), default=None)

    def _unauthorized(self) -> set[str]:
        return {account for account, pause in self._facts.items() if UNAUTHORIZED in pause}

    def _limited(self, now: float) -> set[str]:
        held = {account for account in self._facts if self.until(account, now)}
        return held | self._unauthorized()
