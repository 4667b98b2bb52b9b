"""Takes over a changed file of accounts while the service runs."""

from __future__ import annotations

from collections.abc import Callable

import gevent
import structlog
from gevent.lock import BoundedSemaphore

from ..calls.whose import AccountRules
from ..errors import SettingsError, StoreError
from ..outbox.facts import RELOAD
from ..outbox.store import Store
from ..planfix.courier import Courier
from ..settings import Settings
from ..settings.accounts import Accounts, load_accounts
from .companies import Companies
from .company import Company
from .history import in_a_thread
from .uploading import check_installed

log = structlog.get_logger(__name__)

LOOK_EVERY = 2.0
"""Seconds between two looks into the store, where `fsplanfix reload` asks all workers."""


class Reload:
    """Replaces the accounts; calls that are open and notices that wait go on.

    rules: of all accounts, shared by whoever reads calls. make: makes a company. on_taken_over:
    called with the new accounts and the companies that are new or changed.

    A file that is wrong changes nothing. An account that is gone keeps sending what is still to be
    sent, until the next start.
    """

    def __init__(
        self,
        accounts: Accounts[Settings],
        rules: AccountRules,
        companies: Companies,
        courier: Courier,
        make: Callable[[str, Settings], Company],
        on_taken_over: Callable[[Accounts[Settings], list[Company]], None],
    ) -> None:
        self._accounts = accounts
        self._rules = rules
        self._companies = companies
        self._courier = courier
        self._make = make
        self._on_taken_over = on_taken_over
        self._sending = dict(companies)
        self._lock = BoundedSemaphore()

    def take_over(self) -> None:
        """Read the file again and take it over; log what became of it."""
        with self._lock:
            try:
                # 500 accounts take a third of a second, in which calls must go on
                accounts, rules = in_a_thread(_read)
            except SettingsError as error:
                log.error("accounts_refused", problem=str(error), hint="nothing has changed")
                return
            if accounts.file is None:
                log.error("accounts_refused", problem="ACCOUNTS_FILE is not set any more.")
                return
            try:
                self._replace(accounts, rules)
            except StoreError as error:
                hint = "nothing has changed; reload again when the database answers"
                log.error("accounts_refused", problem=str(error), hint=hint)

    def _replace(self, accounts: Accounts[Settings], rules: AccountRules) -> None:
        before, found, changed = self._accounts, dict[str, Company](), list[Company]()
        for name, settings in accounts.items():
            if before.get(name) == settings:
                found[name] = self._companies[name]
            else:
                found[name] = self._make(name, settings)
                changed.append(found[name])

        # from here on nothing waits: nobody sees a part of it
        self._accounts = accounts
        self._rules.become(rules)
        self._companies.become(found)
        self._sending |= found
        self._courier.serve({name: company.delivery for name, company in self._sending.items()})
        for company in changed:
            company.pairing.then(self._courier.call)
        self._on_taken_over(accounts, changed)
        self._courier.call()

        new = {company.name for company in changed} - set(before)
        log.info(
            "accounts_reloaded",
            accounts=len(accounts),
            added=_listed(new),
            changed=_listed({company.name for company in changed} - new),
            removed=_listed(set(before) - set(accounts)),
        )

    def keep_looking(self, store: Store) -> None:
        """Take the file over whenever `fsplanfix reload` asks for it."""
        if self._accounts.file is None:
            return
        asked = self._asked(store, "")
        while True:
            gevent.sleep(LOOK_EVERY)
            last, asked = asked, self._asked(store, asked)
            if asked != last:
                self.take_over()

    @staticmethod
    def _asked(store: Store, otherwise: str) -> str:
        try:
            return store.facts.get(RELOAD)
        except StoreError:
            return otherwise


def _read() -> tuple[Accounts[Settings], AccountRules]:
    accounts = load_accounts(Settings)
    check_installed(accounts)
    return accounts, accounts.rules()


def _listed(names: set[str]) -> str:
    shown = sorted(names)[:20]
    return ",".join([*shown, "..."] if len(names) > len(shown) else shown)
