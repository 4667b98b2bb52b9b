"""Who claimed which notice, and when, as the database itself wrote it down.

A trigger writes in the workers' own transactions: what stands here was committed, and a claim shows
that nobody had settled the notice before. Times are those of the machine, however far off the
clocks of the database and of the workers are.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import text

from fsplanfix.outbox.store import Store

UNDER_WAY = 1.0
"""Seconds after which an answer of Planfix's has reached the worker that waits for it."""

TABLE = "CREATE TABLE claims (notice bigint, owner varchar(64), at double precision)"

TRIGGERS = {
    "sqlite": (
        # 2440587.5 is the Julian day of 1970-01-01 00:00
        "CREATE TRIGGER claimed AFTER UPDATE OF owner ON notices BEGIN INSERT INTO claims "
        "VALUES (NEW.id, NEW.owner, (julianday('now') - 2440587.5) * 86400.0); END",
    ),
    "postgresql": (
        "CREATE FUNCTION note_claim() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO claims VALUES (NEW.id, NEW.owner, "
        "extract(epoch FROM pg_catalog.statement_timestamp())); RETURN NEW; END $$",
        "CREATE TRIGGER claimed AFTER UPDATE OF owner ON notices "
        "FOR EACH ROW EXECUTE FUNCTION note_claim()",
    ),
}

CLAIMS = """
    SELECT claims.notice, claims.owner, claims.at, notices.callid, notices.ext, notices.kind
    FROM claims JOIN notices ON notices.id = claims.notice ORDER BY claims.at
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """A courier took a notice to send it. at: seconds since 1970."""

    notice: int
    owner: str
    at: float


class Ledger:
    """The claims of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_request: dict[tuple[str, str, str], list[Claim]] = defaultdict(list)
        self._turns: dict[str, list[float]] = defaultdict(list)

    def open(self) -> None:
        """Have the database note every claim from now on."""
        with self._store.transaction() as connection:
            for statement in (TABLE, *TRIGGERS[connection.dialect.name]):
                connection.execute(text(statement))

    def read(self) -> None:
        """Read all claims there are."""
        with self._store.transaction() as connection:
            for row in connection.execute(text(CLAIMS)):
                self.note(Claim(row.notice, row.owner, row.at), row.callid, row.ext, row.kind)

    def note(self, claim: Claim, callid: str, ext: str, kind: str) -> None:
        """Take a claim of a notice; they come in their order."""
        self._by_request[callid, ext, kind].append(claim)
        self._turns[claim.owner].append(claim.at)

    def claim_behind(self, fields: dict[str, str], came: float) -> Claim | None:
        """Return the claim that a request was sent for, by its fields and when it came."""
        request = fields["callid"], fields.get("ext", ""), fields.get("event", "record")
        before = [claim for claim in self._by_request[request] if claim.at <= came]
        return before[-1] if before else None

    def went_on(self, owner: str, answered: float, until: float) -> bool:
        """Tell whether a courier went on with its work after an answer had reached it.

        Each of its turns writes down all answers that it has. One turn may have begun before the
        answer; a second one has not. What one statement claims is of one time.
        """
        turns = {at for at in self._turns[owner] if answered + UNDER_WAY < at < until}
        return len(turns) > 1
