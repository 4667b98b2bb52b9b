"""The command group, and what its commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import click

from .. import settings_file
from ..admin.findings import listed
from ..errors import FsplanfixError, StoreError
from ..outbox.archive import Archive
from ..outbox.store import Store
from ..printable import lines, printable
from ..settings import RuleSettings, StoreSettings, load
from ..settings.accounts import Accounts, load_accounts

WHOLE_WORDS: dict[str, Any] = {"break_on_hyphens": False, "break_long_words": False}
"""Options of textwrap.fill."""


ACCOUNT_OPTION = click.option(
    "--account", default="", metavar="NAME", help="Only this company (ACCOUNTS_FILE)."
)


def name_of_account(name: str, accounts: Accounts[Any]) -> str:
    """Return the account that --account names, "" for all. Raises click.UsageError."""
    if name and name not in accounts:
        there_are = f"; there are {listed([*accounts])}."
        if accounts.file is None:
            there_are = ": ACCOUNTS_FILE is not set."
        raise click.UsageError(f"There is no account {printable(name[:80])}{there_are}")
    return name


def stored_account(name: str, store: Store) -> str:
    """Return the account that --account names, "" for all. Raises click.UsageError.

    One that is gone from ACCOUNTS_FILE may be named as long as a notice of it is kept.
    """
    if name and not Archive(store).has_notice_of(name):
        name_of_account(name, load_accounts(RuleSettings))
    return name


def errors_as_one_line(command: Callable[..., Any]) -> Callable[..., Any]:
    """Make a command report our own errors as one sentence, with exit code 1."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except FsplanfixError as error:
            raise click.ClickException(lines(str(error))) from None

    return run


def say(text: str) -> None:
    """Print one line or several, with control characters written out."""
    click.echo(lines(text))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(None, "-V", "--version", package_name="fsplanfix")
@click.option(
    "--env-file",
    envvar=settings_file.VARIABLE,
    metavar="FILE",
    help=f"File of settings. Otherwise {settings_file.VARIABLE} names it, or it is .env here, or "
    f"{settings_file.SYSTEM_FILE}.",
)
def cli(env_file: str | None) -> None:
    """Connect FreeSWITCH to the CRM Planfix: call windows, history, click to call."""
    if env_file:
        os.environ[settings_file.VARIABLE] = env_file


@contextmanager
def open_store() -> Iterator[Store]:
    """Open the service's store; close it at the end."""
    url = load(StoreSettings).store_url
    settings_file.become_owner()
    try:
        store = Store(url, create=False)
    except StoreError as error:
        raise StoreError(f"{error} {settings_file.origin(settings_file.find())}") from None
    try:
        yield store
    finally:
        store.close()
