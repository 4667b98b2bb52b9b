"""Sends the notices of one account to its Planfix.

docs/delivery-rules.md, rules 4 to 6.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import structlog

from ..calls.model import ACCOUNT, Kind, Notice, Status
from ..errors import TransportError
from ..outbox.claims import Claims
from ..outbox.cleanup import TOO_LATE
from ..outbox.facts import fact_of
from ..outbox.records import Hold, Outcome, Queued, whose
from ..outbox.retry import until_store_answers
from ..outbox.schedule import is_hopeless, is_stale, plan_pause
from ..outbox.schema import State
from ..recordings.files import Availability
from .api import PlanfixApi
from .forms import UrlMaker, build_form

log = structlog.get_logger(__name__)

OnDelivered = Callable[[Notice, float], None]
"""Called with a notice that Planfix accepted, and the seconds since it was written."""

NOT_SENT = "not sent:"
"""How the reason begins for which a recording is not linked."""

SPELLINGS = ("Canceled", "Cancelled")
"""The status in Planfix's English and Russian help, in the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How notices are sent.

    concurrency: requests under way at once (docs/delivery-rules.md, rule 6).
    popup_ttl: seconds after which a call window comes too late, 0 never (rule 5).
    canceled: "auto", "Canceled" or "Cancelled". shadow: send nothing.
    """

    concurrency: int = 16
    popup_ttl: float = 60.0
    canceled: str = "auto"
    shadow: bool = False


class Delivery:
    """Sends notices of one account.

    make_url: makes the URL of a recording. availability_of: tells whether Planfix may have it yet,
    by its path and the moment when FreeSWITCH had closed it (seconds since 1970).

    in_words: writes the names of settings as they stand where the account's do.

    is_troubled: Planfix did not accept the last notice, and it was not the notice's fault.
    """

    def __init__(
        self,
        client: PlanfixApi,
        make_url: UrlMaker,
        settings: DeliverySettings,
        availability_of: Callable[[str, float], Availability],
        on_delivered: OnDelivered | None = None,
        account: str = ACCOUNT,
        in_words: Callable[[str], str] = str,
    ) -> None:
        self.settings = settings
        self.is_troubled = False
        self._is_to_wait = False
        self._client = client
        self._make_url = make_url
        self._availability_of = availability_of
        self._on_delivered = on_delivered
        self._fact = fact_of("canceled_spelling", account)
        self._whose = whose(account)
        self._in_words = in_words
        # "" until Planfix has accepted one of them
        self._spelling = "" if settings.canceled == "auto" else settings.canceled

    @property
    def may_send(self) -> bool:
        """Tell whether it is known where to send to (pairing.py)."""
        return self._client.has_aim or self.settings.shadow

    def was_told_to_wait(self) -> bool:
        """Tell whether Planfix asked us to wait, or did not know our token, since the last call."""
        is_to_wait, self._is_to_wait = self._is_to_wait, False
        return is_to_wait

    def deliver(self, queued: Queued, claims: Claims) -> Outcome | None:
        """Send a notice; return its outcome, None if it is to be tried later."""
        notice = queued.notice

        available = Availability()
        if notice.kind is Kind.RECORD or notice.recording:
            available = self._availability_of(notice.recording, notice.at / 1_000_000)
        if notice.kind is Kind.RECORD and available.problem:
            problem = self._in_words(available.problem)
            log.warning(
                "recording_not_sent",
                callid=notice.callid,
                file=notice.recording,
                problem=problem,
                **self._whose,
            )
            return Outcome(queued, State.SKIPPED, f"{NOT_SENT} {problem}", tried=False)

        # Planfix may download the file soon after the command, so it must be complete
        # (docs/facts/planfix.md)
        if notice.kind is Kind.RECORD and not available.is_final:
            claims.postpone(queued, available.wait)
            return None

        if self.settings.shadow:
            return Outcome(queued, State.SHADOW, tried=False)

        # in a COMPLETED Planfix cannot be told that a link is temporary
        is_lasting = available.is_final and not available.problem and not available.is_temporary
        has_link = bool(notice.linked_by) and is_lasting
        if notice.linked_by and not has_link:
            queued = replace(queued, notice=replace(notice, recording=""))

        try:
            self._send(queued, claims, available.is_temporary)
        except TransportError as error:
            # Python deletes `error` at the end of the clause, the lambda needs a name that stays
            refusal = error
            self.is_troubled = not refusal.permanent
            return until_store_answers(lambda: self._on_refusal(queued, claims, refusal))

        self.is_troubled = False
        if self._on_delivered is not None:
            self._on_delivered(notice, claims.now() - queued.created)
        log.info(
            "delivered",
            callid=notice.callid,
            phone=notice.phone,
            ext=notice.ext,
            kind=notice.kind.value,
            status=notice.status,
            **self._whose,
        )
        return Outcome(queued, State.DONE, has_link=has_link)

    def _send(self, queued: Queued, claims: Claims, is_temporary: bool) -> None:
        """Send one request; find out how this Planfix spells Canceled.

        docs/facts/planfix.md, "Canceled or Cancelled". is_temporary: its recording is deleted soon.
        Raises TransportError.
        """
        notice = queued.notice
        if notice.status is not Status.CANCELED or self.settings.canceled != "auto":
            spelling = self._spelling or SPELLINGS[0]
            self._client.post(build_form(notice, self._make_url, spelling, is_temporary))
            return

        known = self._spelling or until_store_answers(partial(claims.facts.get, self._fact))
        spellings = (known,) if known else SPELLINGS
        for spelling in spellings:
            try:
                self._client.post(build_form(notice, self._make_url, spelling))
            except TransportError as error:
                # only a 400 can be about the spelling
                if not error.permanent or spelling == spellings[-1]:
                    raise
                continue

            # another worker may have found one first: all use the one in the store
            self._spelling = known or until_store_answers(
                partial(claims.facts.set_if_absent, self._fact, spelling)
            )
            return

    def _on_refusal(
        self, queued: Queued, claims: Claims, problem: TransportError
    ) -> Outcome | None:
        """Return the outcome of a notice that Planfix did not accept, None if it is planned again.

        docs/delivery-rules.md, rules 4 and 5. Raises StoreError.
        """
        now = claims.now()
        notice = queued.notice
        claims.note_try(queued, str(problem), now)
        about = {
            "callid": notice.callid,
            "phone": notice.phone,
            "ext": notice.ext,
            "kind": notice.kind.value,
            "problem": str(problem),
            **self._whose,
        }

        if problem.unauthorized:
            # logged once: the probe of every minute gets a 401 until the token is fixed
            if claims.postpone_unauthorized(queued, now):
                hint = "compare PLANFIX_TOKEN with the token in Planfix's settings"
                log.error("planfix_token_unknown", hint=self._in_words(hint), **self._whose)
            self._is_to_wait = True
            return None

        # after a 400 a person decides, however late the window is (rule 4)
        is_late = is_stale(notice, queued.created, now, self.settings.popup_ttl)
        if is_late and not problem.permanent:
            return Outcome(queued, State.SKIPPED, TOO_LATE)

        if problem.permanent or is_hopeless(queued.created, now):
            log.error("notice_rejected", **about)
            return Outcome(queued, State.REJECTED, str(problem))

        wait = plan_pause(queued.attempts + 1, random.random())  # noqa: S311 - jitter
        # Retry-After stops all of the account
        hold = Hold(now, now + problem.retry_after) if problem.retry_after else None
        claims.try_again(queued, now + wait, str(problem), hold)
        self._is_to_wait |= hold is not None
        log.warning("not_delivered", again_in=round(wait, 1), **about)
        return None
