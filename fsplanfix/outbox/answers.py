"""Planfix's answers that the store did not take before the end, kept in files until the next start.

Without them the requests would be sent once more.
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
from .queue import MAX_ANSWER_CHARS, NOW
from .records import Outcome
from .schema import State, notices
from .store import Store

log = structlog.get_logger(__name__)

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
    """What became of a notice. The first four are its key: ids are others in another store."""

    of_call: str
    of_ext: str
    of_kind: str
    number: int
    became: str
    tries: int
    said: str


_json = TypeAdapter(list[Answer])


class KeptAnswers:
    """The files beside a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.beside.parent
        self._name = f"{store.beside.name}.answers-"

    def keep(self, outcomes: Sequence[Outcome]) -> Path:
        """Write them down, safe from a power cut. Raises OSError if it cannot."""
        name = f"{self._name}{uuid4().hex}.json"
        file, unfinished = self._folder / name, self._folder / f".{name}"
        with unfinished.open("wb") as written:
            written.write(_json.dump_json([_answer(outcome) for outcome in outcomes]))
            written.flush()
            os.fsync(written.fileno())
        unfinished.rename(file)
        return file

    def take_up(self) -> None:
        """Settle what the files tell of. Raises StoreError if the store does not answer."""
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
                log.error("answers_unreadable", file=str(file), problem=str(error))
                continue
            file.unlink(missing_ok=True)
            log.info("answers_taken_up", count=len(answers))


def _answer(outcome: Outcome) -> Answer:
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
