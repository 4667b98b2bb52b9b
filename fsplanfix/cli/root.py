"""The command group, and what its commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import click

from .. import settings_file
from ..admin.findings import listed
from ..errors import FsplanfixError, StoreError
from ..outbox.store import Store
from ..printable import lines
from ..settings import StoreSettings, load

WHOLE_WORDS: dict[str, Any] = {"break_on_hyphens": False, "break_long_words": False}
"""Options of textwrap.fill."""


ACCOUNT_OPTION = click.option(
    "--account", default="", metavar="NAME", help="Only this company (ACCOUNTS_FILE)."
)


def name_of_account(name: str, accounts: Collection[str]) -> str:
    """Return the account that --account names, "" for all. Raises click.UsageError."""
    if name and name not in accounts:
        raise click.UsageError(f"There is no account {name}; there are {listed([*accounts])}.")
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
