"""What one courier has claimed of the outbox, and what became of it.

docs/delivery-rules.md, rules 4, 8 and 10.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import structlog

from ..errors import StoreError
from .answers import KeptAnswers
from .archive import Archive
from .leases import Leases
from .queue import Queue
from .records import Entry, Hold, Outcome, Places, Queued, whose
from .retry import until_store_answers
from .store import Store
from .upkeep import Upkeep

log = structlog.get_logger(__name__)


class Claims:
    """The side of the outbox that one courier sees.

    now: the store's clock, seconds since 1970. facts: what workers share. outcomes: what is not
    written yet. upcoming: when the next notice may be sent (seconds since 1970), None if none is
    planned. more_waits: another notice waits for what is under way.
    """

    def __init__(self, store: Store, upkeep: Upkeep, now: Callable[[], float]) -> None:
        self.queue = Queue(store)
        self.leases = Leases(self.queue)
        self.upkeep = upkeep
        self.outcomes: list[Outcome] = []
        self.upcoming: float | None = None
        self.more_waits = False
        self.now = now
        self.facts = store.facts
        self._store = store
        self._kept = KeptAnswers(store)
        self._in_hand: list[Outcome] = []
        # when the last turn began (monotonic seconds)
        self._asked = 0.0

    def take_up(self) -> None:
        """Settle what the last stop could not write, before the first request."""
        until_store_answers(self._kept.take_up)

    def turn(self, places: Places) -> list[Queued]:
        """Settle and claim in one transaction: under load many answers share it.

        Return as many notices as there are places. Raises StoreError.
        """
        outcomes, self.outcomes = self.outcomes, []
        self._in_hand += outcomes
        self._asked = time.monotonic()
        try:
            turn = self.queue.settle_and_claim(outcomes, places, self.now(), self.leases.owner)
        except BaseException:
            # settling twice is harmless; losing an outcome would send its request again
            self.outcomes = [*outcomes, *self.outcomes]
            raise
        finally:
            done = set(map(id, outcomes))
            self._in_hand = [one for one in self._in_hand if id(one) not in done]

        self.leases.drop(outcome.queued.id for outcome in outcomes)
        self.upcoming, self.more_waits = turn.upcoming, turn.more_waits
        for account in turn.token_accepted:
            log.info("planfix_token_accepted", **whose(account))
        return turn.claimed

    def hold(self, queued: Queued) -> bool:
        """Renew a notice's lease from now on; return whether it was not held already."""
        # our own notice, claimed again: its lease ended while its request is under way
        is_new = queued.id not in self.leases
        self.leases.hold(queued.id, self._asked)
        return is_new

    def end(self, queued: Queued, outcome: Outcome | None) -> None:
        """Keep a notice's outcome for the next turn.

        Without one it is no longer ours. It is planned for later, or an error stopped us: then its
        lease ends unrenewed, and a later step of any courier sends it.
        """
        if outcome is not None:
            self.outcomes.append(outcome)
        else:
            self.leases.drop([queued.id])

    def give_back(self, claimed: Iterable[Queued]) -> None:
        """End the leases of notices that were claimed and are not sent. Raises StoreError."""
        claimed = list(claimed)
        self.leases.drop(queued.id for queued in claimed)
        if claimed:
            self.queue.give_back(claimed, self.leases.owner)

    def postpone(self, queued: Queued, seconds: float) -> None:
        """Plan a notice that was claimed but not tried, as soon as the store answers."""
        owner = self.leases.owner
        until_store_answers(lambda: self.queue.postpone(queued, self.now() + seconds, owner))

    def try_again(self, queued: Queued, due: float, answer: str, hold: Hold | None) -> None:
        """Plan the next try; see Queue.try_again. Raises StoreError."""
        self.queue.try_again(queued, due, answer, hold, self.leases.owner)

    def postpone_unauthorized(self, queued: Queued, now: float) -> bool:
        """Pause an account after a 401; see Queue.postpone_unauthorized. Raises StoreError."""
        return self.queue.postpone_unauthorized(queued, now, self.leases.owner)

    def note_try(self, queued: Queued, problem: str, now: float) -> None:
        """Write a failed try into the journal, if its answer is another than before.

        So an outage of days is one line (docs/delivery-rules.md, rule 4). Raises StoreError.
        """
        if problem == queued.answer:
            return

        notice = queued.notice
        what = f"try {queued.attempts + 1} to send {notice.what}: {problem}"
        line = Entry(now, what, notice.callid, notice.ext, account=notice.account)
        try:
            Archive(self._store).write_down(line)
        except StoreError as error:
            if not error.permanent:
                raise
            # a line that the database refuses must not keep the notice from being planned
            log.error("not_written", callid=notice.callid, what="a try", problem=str(error))

    def keep_the_rest(self) -> int:
        """Write the outcomes that are left to a file, for the next start; return how many.

        docs/delivery-rules.md, rule 10. Also what a turn has in hand that hangs in the store: if it
        is written after all, the file changes nothing.
        """
        rest = [*self._in_hand, *self.outcomes]
        self._in_hand, self.outcomes = [], []
        if rest:
            self._keep(rest)
        return len(rest)

    def _keep(self, outcomes: list[Outcome]) -> None:
        """Write the outcomes to a file, and log where it is or what was lost."""
        about = {
            "count": len(outcomes),
            "notices": ",".join(str(outcome.queued.id) for outcome in outcomes),
            "callids": ",".join(outcome.queued.notice.callid for outcome in outcomes),
        }
        try:
            file = self._kept.keep(outcomes)
        except OSError as error:
            hint = "the store did not answer; these requests are sent once more"
            log.error("answers_lost", **about, problem=str(error), hint=hint)
            return

        hint = "the store did not answer; the next start takes them up"
        log.error("answers_kept", **about, file=str(file), hint=hint)
