"""Planfix's answers that could not be written before the service stopped.

Files beside the store keep them until the next start. Without them the requests would be sent again
(docs/delivery-rules.md, rule 10).
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import structlog
from pydantic import TypeAdapter
from sqlalchemy import bindparam, update

from ..errors import StoreError
from .due import NOW
from .queue import MAX_ANSWER_CHARS
from .records import Outcome
from .schema import State, notices
from .store import Store

log = structlog.get_logger(__name__)

# the parameters are the fields of Answer, whose names stand in files that older releases wrote
_settle = (
    update(notices)
    .where(notices.c.callid == bindparam("of_call"), notices.c.ext == bindparam("of_ext"))
    .where(notices.c.kind == bindparam("of_kind"), notices.c.ordinal == bindparam("number"))
    .where(notices.c.state == State.WAITING)
    .values(state=bindparam("became"), attempts=bindparam("tries"), answer=bindparam("said"))
    .values(settled=NOW, leased_until=0.0)
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a notice, as it is stored in a file.

    The first four are the notice's key (docs/delivery-rules.md, rule 2). Its id would be another
    one in a store that was made anew.
    """

    of_call: str
    of_ext: str
    of_kind: str
    number: int
    became: str
    tries: int
    said: str


_json = TypeAdapter(list[Answer])


class KeptAnswers:
    """The files of answers beside a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.beside.parent
        self._name = f"{store.beside.name}.answers-"

    def keep(self, outcomes: Sequence[Outcome]) -> Path:
        """Write outcomes to a new file and return its path. Raises OSError."""
        name = f"{self._name}{uuid4().hex}.json"
        file, unfinished = self._folder / name, self._folder / f".{name}"

        # synced before it gets its name: a power cut leaves a whole file or none
        with unfinished.open("wb") as written:
            written.write(_json.dump_json([_answer(outcome) for outcome in outcomes]))
            written.flush()
            os.fsync(written.fileno())

        unfinished.rename(file)
        return file

    def take_up(self) -> None:
        """Settle the notices that the files name.

        Raises StoreError if the store does not answer.
        """
        for file in sorted(self._folder.glob(f"{glob.escape(self._name)}*.json")):
            try:
                answers = _json.validate_json(file.read_bytes())
                now = self._store.now()
                with self._store.transaction() as connection:
                    for answer in answers:
                        connection.execute(_settle, {**asdict(answer), "now": now})
            except (OSError, ValueError, StoreError) as error:
                if isinstance(error, StoreError) and not error.permanent:
                    raise
                # a file that cannot be read stays where it is, for a person to look at
                log.error("answers_unreadable", file=str(file), problem=str(error))
                continue

            file.unlink(missing_ok=True)
            log.info("answers_taken_up", count=len(answers))


def _answer(outcome: Outcome) -> Answer:
    """Return an outcome as it is stored in a file."""
    queued, notice = outcome.queued, outcome.queued.notice
    return Answer(
        of_call=notice.callid,
        of_ext=notice.ext,
        of_kind=notice.kind.value,
        number=notice.ordinal,
        became=outcome.state,
        tries=queued.attempts + outcome.tried,
        said=(outcome.answer or queued.answer)[:MAX_ANSWER_CHARS],
    )
