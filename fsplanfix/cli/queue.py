"""Commands for notices that Planfix rejected."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime

import click

from ..admin import colors
from ..calls.model import ACCOUNT
from ..outbox.queue import Queue
from ..outbox.reader import Reader
from ..outbox.records import Queued
from ..outbox.schema import State
from ..outbox.standing import Standing, StandingReader
from ..outbox.store import Store
from ..printable import WIDTH, printable
from .root import ACCOUNT_OPTION, cli, errors_as_one_line, open_store, say, stored_account

MOST = 1_000_000
"""Notices that --all means."""


@cli.group("queue")
def queue_group() -> None:
    """Manage notices that Planfix rejected."""


@queue_group.command("list")
@click.option("--all", "everything", is_flag=True, help="Include notices still waiting to be sent.")
@click.option("--limit", default=100, show_default=True, help="Show at most this many.")
@ACCOUNT_OPTION
@errors_as_one_line
def queue_list_command(everything: bool, limit: int, account: str) -> None:
    """List rejected notices with Planfix's answer, the oldest first, as they are sent.

    Times are those of this machine.
    """
    with open_store() as store:
        stored_account(account, store)
        standing = _standing(store, account)
        states = [State.REJECTED]
        if everything:
            states.append(State.WAITING)

        found = Queue(store).listed(states, limit, account)
        if found:
            head = f"{'number':>8}  {'when':<20}{'client':<13}{'ext':<6}what"
            colors.show(head, is_bold=True)
        has_several = any(item.notice.account != ACCOUNT for item in found)
        for item in found:
            _show(item, item.notice.account if has_several else "")

        paused = "; paused: Planfix does not accept our token" if standing.unauthorized else ""
        say(f"{standing.waiting} waiting, {standing.rejected} rejected{paused}")


def _standing(store: Store, account: str) -> Standing:
    reader = Reader(store)
    try:
        return StandingReader(reader, account).standing(lambda: True)
    finally:
        reader.close()


def _show(item: Queued, account: str) -> None:
    """Print a notice, its call and Planfix's answer. account: "" if there is only one."""
    notice, when = item.notice, f"{datetime.fromtimestamp(item.created):%Y-%m-%d %H:%M:%S}"
    row = f"{item.id:>8}  {when:<20}{notice.phone:<13}{notice.ext or '-':<6}{notice.what}"
    if item.state is State.WAITING:
        row += " (waiting)"
    say(printable(row)[:WIDTH])

    indent = " " * 10
    of_account = f" of {account}" if account else ""
    say(f"{indent}{printable(f'call {notice.callid}{of_account}')}")
    if item.answer:
        is_rejected = item.state is State.REJECTED
        colors.show(
            f"{indent}{printable(item.answer)}"[:WIDTH], colors.BAD if is_rejected else None
        )


@queue_group.command("retry")
@click.argument("ids", metavar="[NUMBER]...", nargs=-1, type=int)
@click.option("--all", "everything", is_flag=True, help="All rejected notices.")
@ACCOUNT_OPTION
@errors_as_one_line
def queue_retry_command(ids: tuple[int, ...], everything: bool, account: str) -> None:
    """Send rejected notices again."""
    with open_store() as store:
        stored_account(account, store)
        queue = Queue(store)
        chosen = _chosen(queue, ids, everything, account)
        say(f"{queue.send_again(chosen, store.now())} will be sent again.")


@queue_group.command("drop")
@click.argument("ids", metavar="[NUMBER]...", nargs=-1, type=int)
@click.option("--all", "everything", is_flag=True, help="All rejected notices.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@ACCOUNT_OPTION
@errors_as_one_line
def queue_drop_command(ids: tuple[int, ...], everything: bool, yes: bool, account: str) -> None:
    """Delete rejected notices; Planfix never gets them."""
    with open_store() as store:
        stored_account(account, store)
        queue = Queue(store)
        chosen = _chosen(queue, ids, everything, account)
        if chosen and not yes:
            if not sys.stdin.isatty():
                raise click.UsageError("Nobody can be asked here: add --yes to delete.")
            question = f"Delete {len(chosen)} notices for good? Planfix never gets them."
            click.confirm(question, abort=True)

        say(f"{queue.drop(chosen)} deleted.")


def _chosen(queue: Queue, ids: Sequence[int], everything: bool, account: str) -> list[int]:
    """Return the numbers of the notices that are meant."""
    if not ids and not everything:
        raise click.UsageError("Give the numbers that `queue list` shows, or --all.")

    rejected = [item.id for item in queue.listed([State.REJECTED], MOST, account)]
    if everything:
        return rejected
    unknown = sorted(set(ids) - set(rejected))
    if unknown:
        numbers = ", ".join(map(str, unknown))
        raise click.ClickException(
            f"No rejected notice has the number {numbers}. `fsplanfix queue list` shows them."
        )
    return list(ids)
