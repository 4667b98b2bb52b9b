"""Commands for notices that Planfix rejected."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime

import click

from ..admin import colors
from ..outbox.queue import Queue
from ..outbox.records import Queued
from ..outbox.schema import State
from ..printable import WIDTH, printable
from .root import cli, errors_as_one_line, open_store, say

MOST = 1_000_000
"""Notices that --all means."""


@cli.group("queue")
def queue_group() -> None:
    """Manage notices that Planfix rejected."""


@queue_group.command("list")
@click.option("--all", "everything", is_flag=True, help="Include notices still waiting to be sent.")
@click.option("--limit", default=100, show_default=True, help="Show at most this many.")
@errors_as_one_line
def queue_list_command(everything: bool, limit: int) -> None:
    """List rejected notices with Planfix's answer.

    Times are those of this machine.
    """
    with open_store() as store:
        queue = Queue(store)
        backlog = queue.backlog()
        states = [State.REJECTED]
        if everything:
            states.append(State.WAITING)

        found = queue.listed(states, limit)
        if found:
            head = f"{'number':>8}  {'when':<20}{'client':<13}{'ext':<6}what"
            colors.show(head, is_bold=True)
        for item in found:
            _show(item)

        paused = "; paused: Planfix does not accept our token" if backlog.unauthorized else ""
        say(f"{backlog.waiting} waiting, {backlog.rejected} rejected{paused}")


def _show(item: Queued) -> None:
    """Print a notice, its call and Planfix's answer."""
    notice, when = item.notice, f"{datetime.fromtimestamp(item.created):%Y-%m-%d %H:%M:%S}"
    row = f"{item.id:>8}  {when:<20}{notice.phone:<13}{notice.ext or '-':<6}{notice.what}"
    if item.state is State.WAITING:
        row += " (waiting)"
    say(printable(row)[:WIDTH])

    indent = " " * 10
    say(f"{indent}{printable(f'call {notice.callid}')}")
    if item.answer:
        is_rejected = item.state is State.REJECTED
        colors.show(
            f"{indent}{printable(item.answer)}"[:WIDTH], colors.BAD if is_rejected else None
        )


@queue_group.command("retry")
@click.argument("ids", metavar="[NUMBER]...", nargs=-1, type=int)
@click.option("--all", "everything", is_flag=True, help="All rejected notices.")
@errors_as_one_line
def queue_retry_command(ids: tuple[int, ...], everything: bool) -> None:
    """Send rejected notices again."""
    with open_store() as store:
        queue = Queue(store)
        chosen = _chosen(queue, ids, everything)
        say(f"{queue.send_again(chosen, store.now())} will be sent again.")


@queue_group.command("drop")
@click.argument("ids", metavar="[NUMBER]...", nargs=-1, type=int)
@click.option("--all", "everything", is_flag=True, help="All rejected notices.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@errors_as_one_line
def queue_drop_command(ids: tuple[int, ...], everything: bool, yes: bool) -> None:
    """Delete rejected notices; Planfix never gets them."""
    with open_store() as store:
        queue = Queue(store)
        chosen = _chosen(queue, ids, everything)
        if chosen and not yes:
            if not sys.stdin.isatty():
                raise click.UsageError("Nobody can be asked here: add --yes to delete.")
            question = f"Delete {len(chosen)} notices for good? Planfix never gets them."
            click.confirm(question, abort=True)

        say(f"{queue.drop(chosen)} deleted.")


def _chosen(queue: Queue, ids: Sequence[int], everything: bool) -> list[int]:
    """Return the numbers of the notices that are meant."""
    if not ids and not everything:
        raise click.UsageError("Give the numbers that `queue list` shows, or --all.")

    rejected = [item.id for item in queue.listed([State.REJECTED], MOST)]
    if everything:
        return rejected
    unknown = sorted(set(ids) - set(rejected))
    if unknown:
        numbers = ", ".join(map(str, unknown))
        raise click.ClickException(
            f"No rejected notice has the number {numbers}. `fsplanfix queue list` shows them."
        )
    return list(ids)
