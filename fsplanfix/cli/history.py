"""The command that tells calls from FreeSWITCH's call detail records by hand."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import click

from ..admin.calls_command import since_when
from ..calls.model import MICROSECONDS
from ..errors import FolderError, RecordError
from ..history.calls import Retold, legs_named, together
from ..history.folder import ENDINGS, Folder
from ..history.record import Record
from ..outbox.store import Store
from ..printable import printable
from ..service.history import open_legs, store_call
from ..settings import RecordSettings, RuleSettings, Settings, load
from ..settings.accounts import Accounts, load_accounts
from .requests import show_requests
from .root import ACCOUNT_OPTION, cli, errors_as_one_line, name_of_account, open_store, say

DAY = 86400.0


@cli.command("history")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option(
    "--since",
    required=True,
    metavar="T",
    help="Calls that ended since a time: 2h, 3d, 2026-11-18T14:00 (this machine's).",
)
@click.option("--dry-run", is_flag=True, help="Print what would be told, and store nothing.")
@click.option(
    "--json", "as_json", is_flag=True, help="With --dry-run: one JSON object per request."
)
@ACCOUNT_OPTION
@errors_as_one_line
def history_command(
    since: str, folder: Path | None, dry_run: bool, as_json: bool, account: str
) -> None:
    """Tell calls from FreeSWITCH's call detail records.

    The service does that by itself for calls it could not hear. This command does it for any time:
    what the service knows already stays as it is. FOLDER is CDR_DIR, unless you name one.
    """
    if as_json and not dry_run:
        raise click.UsageError("--json needs --dry-run.")

    moment = since_when(since, datetime.now().astimezone())
    name_of_account(account, load_accounts(RuleSettings))
    calls = list(_calls_since(moment, _folders(folder)))
    if dry_run:
        rules = load_accounts(RuleSettings).rules()
        for call in calls:
            notices = Retold(call, rules).notices
            show_requests([n for n in notices if account in ("", n.account)], as_json, rules)
        return

    accounts = load_accounts(Settings)
    settings = accounts.machine
    if settings.keep_days and time.time() - moment > settings.keep_days * DAY:
        raise click.ClickException(
            "That is longer ago than KEEP_DAYS: it is not known any more which of these calls "
            "were told already."
        )
    with open_store() as store:
        told = _tell(calls, accounts, store, account)
    say(f"{len(calls)} calls were read, {told} of them are new and will be sent to Planfix.")


def _folders(folder: Path | None) -> list[Folder]:
    settings = load(RecordSettings)
    if folder is not None:
        return [Folder(folder, kind) for kind in ENDINGS]
    if settings.cdr_dir is None:
        raise click.UsageError("Name the folder of the records, or set CDR_DIR.")
    return [Folder(settings.cdr_dir, settings.cdr_kind)]


def _calls_since(moment: float, folders: Iterable[Folder]) -> Iterator[list[Record]]:
    """Yield the records of each call that ended since a moment (seconds since 1970)."""
    found: dict[str, Record] = {}
    for folder in folders:
        try:
            files = folder.since(moment)
        except OSError as error:
            raise FolderError(f"{folder.path} cannot be read ({error.strerror}).") from None
        for file in files:
            try:
                record = folder.read(file.name)
            except (RecordError, FileNotFoundError) as error:
                click.echo(f"{printable(file.name)}: {printable(str(error))}", err=True)
                continue
            found[record.uuid] = record

    for call in together(found.values()):
        if max(record.ended for record in call) >= moment * MICROSECONDS:
            yield call


def _tell(
    calls: Iterable[list[Record]], accounts: Accounts[Settings], store: Store, account: str
) -> int:
    """Store what the store does not know, of one account or, with "", of all; return how many
    calls that were."""
    rules, settings = accounts.rules(), accounts.machine
    told = 0
    for call in calls:
        legs = {record.uuid for record in call}
        if open_legs(store) & legs.union(*map(legs_named, call)):
            continue
        retold = Retold(call, rules)
        if account and any(notice.account != account for notice in retold.notices):
            continue
        known = store.closed(retold.callids)
        if not retold.notices or not retold.callids - known:
            continue

        store_call(retold, store, settings.freeswitch_esl[0].name, call[0].core)
        told += 1
        time.sleep(1 / settings.history_rate)
    return told
