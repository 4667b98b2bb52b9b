"""Commands that look at calls: explain, replay, normalize."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..admin import calls_command, explain, timeline
from ..admin.traces import replay, settings_of
from ..calls.numbers import normalize
from ..outbox.history import Archive
from ..planfix.forms import build_form
from ..printable import printable
from ..recordings.urls import RecordingUrls
from ..settings import RuleSettings, load
from .root import cli, errors_as_one_line, open_store, say

cli.command("calls")(errors_as_one_line(calls_command.show_calls))


@cli.command("explain")
@click.argument("call", metavar="CALLID|NUMBER", default="")
@click.option(
    "--last", is_flag=True, help="The most recent call; with --export, the last that is over."
)
@click.option(
    "--export",
    "file",
    type=click.Path(path_type=Path),
    help="Write the call as a trace that `replay` plays.",
)
@click.option("--mask", is_flag=True, help="With --export: replace phone numbers by made-up ones.")
@errors_as_one_line
def explain_command(call: str, last: bool, file: Path | None, mask: bool) -> None:
    """Explain what happened in a call.

    Shows the events of FreeSWITCH, the rule behind each notice, and Planfix's answers. The rules
    are listed in docs/call-rules.md.
    """
    settings = load(RuleSettings)
    if not call and not last:
        raise click.UsageError("Give a callid or a phone number, or --last.")

    with open_store() as store:
        archive = Archive(store)
        number = normalize(call, settings.country)
        if last:
            # the events of a call are stored when it is over
            callids = [archive.last_call() if file is None else archive.last_ended_call()]
        else:
            callids = archive.calls(call, number)
        if file is not None:
            _export(archive, [callid for callid in callids if callid][-1:], file, mask)
            return

        stories = [explain.story(archive, settings.rules(), callid) for callid in callids if callid]
        told = ["\n".join(story) for story in stories if story]
        # a click that was refused led to no call: only its number is known
        refused = []
        if number and not last:
            refused = [explain.refusal(entry) for entry in archive.refused(number)]

        if not told and not refused:
            if not call:
                raise click.ClickException("No calls yet.")
            raise click.ClickException(f"No record of call or number {printable(call[:80])}.")

        if refused:
            told.append("\n".join(refused))
        say("\n\n".join(told))


def _export(archive: Archive, callids: list[str], file: Path, mask: bool) -> None:
    packed = archive.heard(callids[0]) if callids else b""
    if not packed:
        raise click.ClickException(
            "The events of this call are not stored, or the call is not over yet."
        )

    count = explain.export(packed, file, callids[0], mask)
    say(f"Wrote {count} events of call {callids[0]} to {file}.")
    say(f"To play them: fsplanfix replay {file}")


@cli.command("replay")
@click.argument("traces", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object per request to Planfix.",
)
@errors_as_one_line
def replay_command(traces: tuple[Path, ...], as_json: bool) -> None:
    """Show what Planfix would be told about recorded calls (traces)."""
    # the same key each time: the same trace gives the same output
    urls = RecordingUrls("http://127.0.0.1:8080", ["replay"])
    for trace in traces:
        callid = ""
        rules = load(RuleSettings, settings_of(trace)).rules()
        for notice in replay(trace, rules):
            fields = build_form(notice, urls.url)
            if as_json:
                say(json.dumps(fields, ensure_ascii=False))
                continue
            if notice.callid != callid:
                callid = notice.callid
                say(timeline.header({**fields, "type": notice.type, "phone": notice.phone}))

            say(timeline.line(fields, notice.at))

        if not as_json and not callid:
            say(
                f"{trace.name}: Planfix is told nothing "
                "(no client took part, or the call is ignored)."
            )


@cli.command("normalize")
@click.argument("numbers", nargs=-1, required=True)
@errors_as_one_line
def normalize_command(numbers: tuple[str, ...]) -> None:
    """Show how phone numbers are written for Planfix."""
    settings = load(RuleSettings)
    numbering = settings.rules().numbering
    for raw in numbers:
        number = numbering.normalize(raw)
        line = f"{raw} -> {number or settings.hidden_number}"
        rule = numbering.rule_for(raw)
        if rule is not None:
            line += f"  (NUMBER_RULES: {rule})"
        if number and numbering.dialled(number) != number:
            line += f"  dialled as {numbering.dialled(number)}"
        say(line)
