"""Whether a pipeline gets on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ..errors import GivenUp, StoreError
from ..outbox.retry import until_store_answers

T = TypeVar("T")


class Progress:
    """The step of one pipeline, and its questions to the store, which are repeated.

    log_fields: the fields of each line about a store that does not answer.

    busy_since: when the step under way began or the store answered last (monotonic seconds), None
    while there is nothing to do.
    """

    def __init__(self, log_fields: Callable[[], dict[str, object]]) -> None:
        self.busy_since: float | None = None
        self._log_fields = log_fields
        self._is_giving_up = False

    def begin(self) -> None:
        """Note that a step begins."""
        self.busy_since = time.monotonic()

    def rest(self) -> None:
        """Note that there is nothing to do."""
        self.busy_since = None

    def give_up(self) -> None:
        """Ask the store no more than once from now on."""
        self._is_giving_up = True

    def insist(self, ask: Callable[[], T]) -> T:
        """Ask the store until it answers; events wait meanwhile.

        Raises GivenUp if it does not answer once `give_up` was called.
        """

        def ask_or_end() -> T:
            try:
                answer = ask()
            except StoreError as error:
                if self._is_giving_up and not error.permanent:
                    raise GivenUp("The store did not answer before the end.") from None
                raise

            if self.busy_since is not None:
                self.busy_since = time.monotonic()
            return answer

        return until_store_answers(ask_or_end, self._log_fields)
