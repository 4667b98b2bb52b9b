"""What `fsplanfix check` looks at for each company of several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from gevent.pool import Pool

from ..planfix.pairing import Partner
from ..settings import Settings
from ..settings.accounts import Accounts, as_in_file
from .check_bucket import check_bucket
from .check_freeswitch import check_clicks
from .check_machine import check_mailboxes
from .check_planfix import check_planfix
from .findings import Finding, Grade

SHORTEST_TOKEN = 16
"""Characters of a PBX_TOKEN that nobody guesses."""

AT_ONCE = 16
"""Accounts that are checked at the same time: a Planfix may take ten seconds."""

SHOWN_WHOLE = 20
"""Accounts. Of more, only those are shown of which there is something to say."""


def check_key(settings: Settings) -> Iterator[Finding]:
    """Check that nobody guesses the key of Planfix's requests."""
    if len(settings.pbx_token.get_secret_value()) < SHORTEST_TOKEN:
        what = "PBX_TOKEN is short enough to be guessed"
        hint = "generate a longer one: openssl rand -hex 16"
        yield Finding("settings.short-token", Grade.WARNING, "settings", what, hint)


def check_accounts(
    accounts: Accounts[Settings], partners: Mapping[str, Partner | None], names: Sequence[str]
) -> Iterator[Finding]:
    """Check accounts, in their order. partners: the Planfix of each, None if it is not known."""

    def found(name: str) -> list[Finding]:
        return [*_check_account(accounts[name], partners[name])]

    sound = 0
    for name, findings in zip(names, Pool(AT_ONCE).imap(found, names), strict=True):
        is_sound = all(finding.grade is Grade.OK for finding in findings)
        sound += is_sound
        for finding in findings:
            if finding.grade is not Grade.OK or len(names) <= SHOWN_WHOLE:
                yield of_account(finding, name)

    if len(names) > SHOWN_WHOLE:
        what = f"{sound} of {len(names)} are all right"
        yield Finding("accounts.sound", Grade.OK, "accounts", what)


def of_account(finding: Finding, name: str) -> Finding:
    """Return a finding as one about an account of the file, in the words of the file."""
    words = (finding.part, finding.what, finding.hint)
    part, what, hint = map(as_in_file, words)
    return replace(finding, account=name, part=part, what=what, hint=hint)


def _check_account(settings: Settings, partner: Partner | None) -> Iterator[Finding]:
    yield from check_key(settings)
    for server in settings.freeswitch_esl:
        yield from check_clicks(settings, server)
    yield from check_mailboxes(settings)
    yield from check_bucket(settings)
    yield from check_planfix(settings, partner)
