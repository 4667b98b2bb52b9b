"""The parts that serve one company: its Planfix, clicks, contacts, recordings and ring.

Each is made when it is first needed: most of 500 companies are at rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from ..calls.model import ACCOUNT
from ..freeswitch.connection import Connection
from ..outbox.archive import Archive
from ..outbox.last_talk import LastTalk
from ..outbox.signing_keys import keys_of
from ..outbox.store import Store
from ..planfix import contacts
from ..planfix.api import PlanfixApi
from ..planfix.commands import Commands
from ..planfix.contacts import Contacts
from ..planfix.delivery import Delivery, DeliverySettings
from ..planfix.keys import PbxKeys
from ..planfix.pairing import Pairing, Partner
from ..recordings.files import Availability, Files
from ..recordings.library import Library
from ..recordings.uploader import may_delete
from ..recordings.urls import RecordingUrls
from ..settings import Settings
from ..settings.accounts import as_in_file
from .agreement import Agreement
from .caller_lookup import CallerLookup
from .clicks import make_commands
from .journal import Journal
from .metrics import Tally
from .reachable import Reachable
from .ring import First, RingPlan
from .uploading import make_uploader


@dataclass(frozen=True)
class Machine:
    """What all companies share.

    connections: those to FreeSWITCH that are up. address: PUBLIC_URL, or the one we listen at.
    public_url: PUBLIC_URL, "" if it is not set. made_key: the key for links that the store keeps.
    convert: begins to convert a recording; None if none is. on_uploaded: called after each upload
    to a bucket. reachable: who can be rung. has_many: the companies stand in ACCOUNTS_FILE.
    owner_of: returns the account of a directory domain, "" if it is nobody's.
    """

    store: Store
    tally: Tally
    connections: Callable[[], list[Connection]]
    address: str
    public_url: str
    made_key: str
    convert: Callable[[Path], bool] | None
    on_uploaded: Callable[[], None]
    reachable: Reachable
    shadow: bool
    has_many: bool
    owner_of: Callable[[str], str]


def own_name(account: str) -> str:
    """Return an account's name as links and calls carry it: the default account's do not."""
    return "" if account == ACCOUNT else account


class Company:
    """One account. name: its name. settings: its own, and what it has from the environment."""

    def __init__(self, name: str, settings: Settings, machine: Machine) -> None:
        self.name = name
        self.settings = settings
        self._machine = machine

        self._in_words = as_in_file if machine.has_many else str
        token = settings.planfix_token.get_secret_value()
        self.pairing = Pairing(machine.store, settings.planfix_url, token, name, self._in_words)
        self.client = PlanfixApi("", "", settings.planfix_concurrency, self._in_words)
        self.pairing.then(self._on_paired)
        self._journal = Journal(Archive(machine.store))
        self.delivery = Delivery(
            self.client,
            self._url,
            DeliverySettings(
                settings.planfix_concurrency,
                settings.popup_ttl,
                settings.planfix_canceled,
                machine.shadow,
            ),
            self._availability_of,
            machine.tally.on_delivered,
            name,
            self._in_words,
        )

    def _on_paired(self, partner: Partner) -> None:
        """Send to the Planfix we belong to."""
        self.client.aim(partner.url, partner.token)

    @cached_property
    def keys(self) -> PbxKeys:
        """Return the keys that its Planfix sends with commands."""
        return PbxKeys(*self.settings.pbx_keys())

    # recordings

    @cached_property
    def signing_keys(self) -> list[str]:
        """Return the keys that sign its links; see signing_keys.py."""
        given = self.settings.secret_key.get_secret_value()
        return keys_of(
            self._machine.made_key, given, self.settings.secret_key_old.get_secret_value()
        )

    @cached_property
    def recordings(self) -> Library:
        """Return the library of its recordings."""
        settings, machine = self.settings, self._machine
        uploader = make_uploader(self.name, settings, machine.store, machine.on_uploaded)
        files = Files(
            settings.recordings_dir,
            settings.recordings_map,
            settings.recordings_keep_days,
            machine.convert if settings.recordings_convert else None,
            uploader.submit if uploader else None,
            partial(may_delete, uploader) if uploader else None,
        )
        mailboxes = None
        if settings.voicemail and settings.voicemail_dir is not None:
            mailboxes = Files(settings.voicemail_dir, settings.recordings_map)
        urls = RecordingUrls(machine.address, self.signing_keys, own_name(self.name))
        return Library(
            settings.recordings_dir, files, urls, settings.recordings_url, mailboxes, uploader
        )

    def _url(self, callid: str, path: str) -> str:
        return self.recordings.url(callid, path)

    def _availability_of(self, path: str, stopped: float) -> Availability:
        return self.recordings.availability_of(path, stopped)

    # its Planfix

    @cached_property
    def agreement(self) -> Agreement:
        """Return the part that compares what its Planfix holds with what is ours."""
        client, machine = self.client, self._machine
        return Agreement(
            machine.store,
            client.ask,
            lambda: client.has_aim and not machine.shadow,
            self.keys,
            machine.public_url,
            self.name,
            self._in_words,
        )

    @cached_property
    def contacts(self) -> Contacts:
        """Return the part that asks its Planfix about callers."""
        # connections of its own to Planfix: notices need not wait for lookups
        client = PlanfixApi("", "", contacts.REQUESTS_AT_ONCE, self._in_words)
        machine = self._machine
        self.pairing.then(lambda partner: client.aim(partner.url, partner.token))

        def ask(fields: Mapping[str, str], seconds: float) -> Mapping[str, object]:
            # in shadow mode Planfix is asked nothing, and before `setup` nobody knows which
            return client.ask(fields, seconds) if client.has_aim and not machine.shadow else {}

        return Contacts(ask, self.settings.contact_deadline, machine.tally.on_lookup)

    @cached_property
    def commands(self) -> Commands:
        """Return what answers the commands of its Planfix."""
        machine = self._machine
        return make_commands(
            self.settings,
            machine.connections,
            self.contacts,
            Archive(machine.store),
            self.pairing,
            machine.tally,
            machine.has_many,
        )

    @cached_property
    def lookup(self) -> CallerLookup:
        """Return the part that tells the dialplan who calls, and who should ring."""
        settings, machine = self.settings, self._machine
        last_talk = LastTalk(machine.store, settings.ring_last_days, account=self.name)
        plan = RingPlan(
            tuple(First(name) for name in settings.ring_first),
            settings.ring_seconds,
            settings.user_domain,
            settings.dial_string,
            settings.dial_strings,
        )
        # in shadow mode Planfix is not asked, so there is nothing to tell
        journal = None if machine.shadow else self._journal.add
        # an account of lines alone may have its users in a domain that is nobody's
        owner = self.name if settings.domains else ""
        return CallerLookup(
            settings.rules(),
            self.contacts,
            plan,
            last_talk.find,
            machine.reachable.phones,
            partial(machine.reachable.in_calls, account=self.name),
            journal,
            self.name,
            lambda domain: machine.owner_of(domain) == owner,
            machine.has_many,
        )

    def close(self) -> None:
        """Write what waits for the journal, and close the connections to its Planfix."""
        self._journal.write()
        self.client.close()
