"""The command that has running workers read the accounts file again: reload."""

from __future__ import annotations

import click

from ..outbox.facts import RELOAD
from ..service.reload import LOOK_EVERY
from ..settings import Settings
from ..settings.accounts import load_accounts
from .root import cli, errors_as_one_line, open_store, say


@cli.command("reload")
@errors_as_one_line
def reload_command() -> None:
    """Have running workers read ACCOUNTS_FILE again.

    No restart is needed. The file is examined first: one that is wrong changes nothing. The same
    happens to a single worker with SIGHUP. All other settings need a restart.
    """
    accounts = load_accounts(Settings)
    if accounts.file is None:
        raise click.ClickException("Only ACCOUNTS_FILE is read again, and it is not set.")
    with open_store() as store:
        store.facts.set(RELOAD, repr(store.now()))
    count = f"{len(accounts)} account" + ("s" if len(accounts) != 1 else "")
    say(
        f"{accounts.file} has {count}; workers take it over within {LOOK_EVERY:.0f} seconds "
        "(accounts_reloaded in the log)."
    )
