"""Clicks in Planfix: begun with what is known of the client, counted, and kept for `explain`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from ..calls.model import ACCOUNT
from ..calls.numbers import is_outside_number
from ..errors import DialRefused, StoreError
from ..freeswitch import tones
from ..freeswitch.connection import Connection
from ..freeswitch.dialler import Click, Dialler
from ..freeswitch.originate import DialPlan
from ..freeswitch.socket_app import clean
from ..outbox.archive import Archive
from ..outbox.records import Entry, whose
from ..planfix.commands import Commands, Destination, DialLimits
from ..planfix.contacts import Contacts
from ..planfix.keys import PbxKeys
from ..planfix.pairing import Pairing
from ..settings import Settings
from .journal import write_down
from .metrics import Tally

log = structlog.get_logger(__name__)

WAIT_FOR_NAME = 0.3
"""Seconds that an employee's phone waits for the client's name before it rings."""

OUTCOMES = {
    "NO_ANSWER": "the employee did not pick up",
    "ORIGINATOR_CANCEL": "the employee did not pick up",
    "NO_USER_RESPONSE": "the employee's phone did not answer",
    "CALL_REJECTED": "the employee declined",
    "USER_BUSY": "the employee's phone is busy",
    "USER_NOT_REGISTERED": "the employee's phone is off",
    "SUBSCRIBER_ABSENT": "FreeSWITCH's directory has no such user",
    "ANSWERED": "the employee picked up",
}
"""What came of the employee's phone, by FreeSWITCH's cause. Other causes are shown as they are."""


class KnownClients:
    """What is known of an account's clients, from its Planfix and from its own calls."""

    def __init__(self, contacts: Contacts, archive: Archive, account: str = ACCOUNT) -> None:
        self._contacts = contacts
        self._archive = archive
        self._account = account

    def name_of(self, number: str, callid: str) -> str:
        """Return a client's name for a phone's display, "" if it is not known at once."""
        return clean(self._contacts.find(number, callid, WAIT_FOR_NAME).name)

    def last_line_of(self, number: str) -> str:
        """Return the line that a client called last, "" if none is known that he may see."""
        try:
            line = self._archive.last_line(number, self._account)
        except StoreError as error:
            log.error("store_unavailable", problem=str(error))
            return ""

        # a line may be an ext, or hold a prefix of the dialplan's: `5555#74950000001`
        return line if is_outside_number(line) else ""


def make_commands(
    settings: Settings,
    connections: Callable[[], Sequence[Connection]],
    contacts: Contacts,
    archive: Archive,
    pairing: Pairing,
    tally: Tally,
    is_one_of_many: bool = False,
) -> Commands:
    """Return what answers the commands of an account's Planfix.

    connections: those to FreeSWITCH that are up. is_one_of_many: there are other accounts, whose
    users a click must never ring.
    """
    rules, account = settings.rules(), pairing.account
    plan = DialPlan(
        settings.dial_string,
        settings.dial_context,
        settings.user_domain,
        settings.auto_answer,
        settings.ringback or tones.ringback(settings.country),
        settings.dial_strings,
        settings.click_timeout,
        settings.client_timeout,
        settings.folder_for_clicks(),
        settings.record_stereo,
        "" if account == ACCOUNT else account,
    )
    clicks = ClickJournal(archive, tally, account)
    dialler = Dialler(
        connections,
        plan,
        settings.outbound_caller_id,
        KnownClients(contacts, archive, account),
        rules.is_outside,
        clicks.on_done,
        rules.numbering.dialled,
    )
    return Commands(
        pairing,
        PbxKeys(*settings.pbx_keys()),
        rules,
        DialLimits(settings.dial_allow, settings.dial_limit_per_ext, settings.dial_limit),
        # without a domain FreeSWITCH rings a user of its own one, who may be another company's
        partial(start, dialler) if settings.user_domain or not is_one_of_many else refuse,
        clicks.on_refused,
        tally.on_key,
    )


def start(dialler: Dialler, ext: str, users: Sequence[str], to: Destination) -> None:
    """Begin the call of a click; see planfix.commands.Dial."""
    if to.colleagues:
        dialler.start_inside(ext, users, to.number, to.colleagues)
    else:
        dialler.start(ext, users, to.number, to.digits)


def refuse(ext: str, users: Sequence[str], to: Destination) -> None:  # noqa: ARG001 - a Dial
    """Refuse a click of an account whose users are in no domain, or in several."""
    raise DialRefused(f"Extension {ext} cannot be called: user_domain of the account is not set")


class ClickJournal:
    """Counts an account's clicks and writes them down."""

    def __init__(self, archive: Archive, tally: Tally, account: str = ACCOUNT) -> None:
        self._archive = archive
        self._tally = tally
        self._account = account

    def on_done(self, click: Click) -> None:
        """Record the outcome of a click that let a phone ring."""
        self._tally.clicks.labels(click.cause).inc()
        what = f"click to call: {OUTCOMES.get(click.cause, click.outcome)}"
        self._write(Entry(time.time(), what, click.callid, click.ext, click.number, self._account))

    def on_refused(self, ext: str, number: str, reason: str) -> None:
        """Record why a click let no phone ring.

        number: E.164 digits, "" if it has none.
        """
        self._tally.clicks.labels("REFUSED").inc()
        about = {"ext": ext, "phone": number, "reason": reason, **whose(self._account)}
        log.warning("click_refused", **about)
        if number:
            what = f"click to call refused: {reason}"
            self._write(Entry(time.time(), what, "", ext, number, self._account))

    def _write(self, entry: Entry) -> None:
        write_down(self._archive, entry)
