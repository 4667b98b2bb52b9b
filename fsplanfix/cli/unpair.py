"""The command that undoes a pairing: unpair."""

from __future__ import annotations

import click

from ..calls.model import ACCOUNT
from ..planfix import pairing
from ..settings import RuleSettings
from ..settings.accounts import load_accounts
from .root import cli, errors_as_one_line, name_of_account, open_store, say


@cli.command("unpair")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")
@click.option("--account", default=ACCOUNT, metavar="NAME", help="Of this company (ACCOUNTS_FILE).")
@errors_as_one_line
def unpair_command(is_sure: bool, account: str) -> None:
    """Forget the Planfix account that paired by `setup`.

    Restart the service afterwards: then it waits for the next `setup`. Notices that wait go to
    whichever account pairs next. PLANFIX_URL and PLANFIX_TOKEN are not touched.
    """
    with open_store() as store:
        partner = pairing.stored_partner(store, account)
        if partner is None:
            name_of_account(account, load_accounts(RuleSettings))
            say("No Planfix account has paired by `setup`.")
            return
        if not is_sure:
            click.confirm(f"Forget {partner.url}?", abort=True)
        pairing.drop(store, account)
        say(f"{partner.url} is forgotten. Restart fsplanfix: it waits for the next `setup` then.")
