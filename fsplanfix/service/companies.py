"""Finds the company that a command, a call or a link belongs to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import gevent
import structlog

from ..calls.model import ACCOUNT
from ..calls.whose import AccountRules, account_of_channel
from ..errors import RecordingGone, RecordingUnknown
from ..freeswitch.events import SwitchEvent
from ..outbox.records import whose
from ..planfix.commands import INVALID_TOKEN, Answer
from ..planfix.pairing import Partner
from ..recordings.files import Elsewhere, Found
from ..recordings.library import Library
from .company import Company

log = structlog.get_logger(__name__)

DELETE_EVERY = 3600.0
"""Seconds between deletions of old recordings."""

ANOTHERS = "This Planfix is another company's: enter the PBX key of that company here."
"""What a Planfix is told that has the key of the wrong company."""


class Companies(Mapping[str, Company]):
    """The companies on the switch, by their accounts' names.

    rules: tell which account a call belongs to. former: opens the links of the default account,
    also after others have taken its place.
    """

    def __init__(
        self,
        companies: Mapping[str, Company],
        rules: AccountRules,
        former: Library,
    ) -> None:
        self._companies = dict(companies)
        self._former = former
        self._rules = rules

    def become(self, companies: Mapping[str, Company]) -> None:
        """Serve these companies from now on."""
        self._companies = dict(companies)

    def __getitem__(self, name: str) -> Company:
        return self._companies[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._companies)

    def __len__(self) -> int:
        return len(self._companies)

    def answer(self, fields: Mapping[str, str], name: str = "") -> Answer:
        """Answer a command of the Planfix whose token it has; see Commands.answer.

        name: the account in the address, "" for none: then the token alone says whose it is.
        """
        token = fields.get("token", "")
        # with all, so that the time tells nothing
        right = [one for one in self._companies.values() if one.keys.which(token) is not None]
        named = [company for company in right if name in ("", company.name)]
        if not named:
            return INVALID_TOKEN
        if fields.get("cmd") == "setup" and self._is_anothers(fields, named[0]):
            log.error("setup_refused", problem=ANOTHERS, **whose(named[0].name))
            return 400, {"error": ANOTHERS}
        return named[0].commands.answer(fields)

    def _is_anothers(self, fields: Mapping[str, str], company: Company) -> bool:
        """Tell whether the Planfix that sends `setup` is another company's."""
        given = Partner(fields.get("planfix_url", ""), fields.get("planfix_token", ""))
        others = (one.pairing.partner for one in self._companies.values() if one is not company)
        return any(other is not None and given.is_same_as(other) for other in others)

    def find_variables(self, channel: SwitchEvent, seconds: float) -> dict[str, str]:
        """Return what the dialplan is told about a caller; see CallerLookup.find_variables.

        Nothing if the call is no company's.
        """
        company = self._companies.get(account_of_channel(channel, self._rules))
        return company.lookup.find_variables(channel, seconds) if company is not None else {}

    def name_of(self, number: str, account: str) -> str:
        """Return the name that an account's Planfix gave a number lately, "" if none."""
        company = self._companies.get(ACCOUNT if self._rules.is_one else account)
        # a company that has looked up nobody remembers nobody
        if company is None or "contacts" not in vars(company):
            return ""
        return company.contacts.name_of(number)

    def open(self, signed: str, name: str) -> Found | Elsewhere:
        """Open the recording behind the two parts of a URL; see Library.open.

        The first part is the account, unless the URL is the default account's, or was made before
        there were accounts.
        """
        # a signed path has dots, and no name of an account has
        if "." not in signed and signed != ACCOUNT and signed in self._companies:
            signed_by_it, _, rest = name.partition("/")
            return self._companies[signed].recordings.open(signed_by_it, rest)
        return self._former.open(signed, name)

    def find_recording(self, path: str, account: str = "") -> Found | Elsewhere:
        """Open a recording of an account or, with "", of any. Raises as Library.find."""
        if account:
            return self._companies[account].recordings.find(path)

        problem: RecordingUnknown | RecordingGone = RecordingUnknown()
        for company in self._companies.values():
            try:
                return company.recordings.find(path)
            except (RecordingUnknown, RecordingGone) as error:
                problem = error
        raise problem

    def partners(self) -> dict[str, Partner | None]:
        """Return the Planfix of each company, None if none is known yet."""
        return {name: company.pairing.partner for name, company in self.items()}

    def media_from(self, account: str = "") -> str:
        """Return from where else recordings are played: scheme and host of each bucket.

        account: whose recordings, "" for those of all.
        """
        looked_at = [one for name, one in self.items() if account in ("", name)]
        kept = [one.recordings.origin for one in looked_at if one.settings.recordings_s3]
        return " ".join(sorted(set(kept)))

    def keep_deleting_recordings(self) -> None:
        """Delete old recordings once an hour, for ever."""
        while True:
            self.delete_old_recordings()
            gevent.sleep(DELETE_EVERY)

    def delete_old_recordings(self) -> None:
        """Delete old recordings, by the settings of the latest reload.

        Of companies that share a folder, the one that keeps its recordings longest decides.
        """
        folders: dict[Path, list[Company]] = {}
        for company in self._companies.values():
            folders.setdefault(company.settings.recordings_dir, []).append(company)

        for sharing in folders.values():
            longest = max(sharing, key=_kept_days)
            if longest.settings.recordings_keep_days:
                longest.recordings.delete_old()


def _kept_days(company: Company) -> float:
    return company.settings.recordings_keep_days or math.inf
