"""The commands. Each failure is one sentence on stderr and an exit code, never a traceback."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from textwrap import fill
from typing import Any

import click
import gevent

from . import settings_file
from .admin import check, explain, initial_settings, timeline
from .admin.check import Grade
from .admin.traces import replay, settings_of
from .calls.numbers import normalize
from .errors import FsplanfixError, PortTakenError, SettingsError, StoreError
from .outbox.history import Archive
from .outbox.queue import Queue
from .outbox.schema import State
from .outbox.store import Store
from .planfix.forms import build_form
from .printable import lines, printable
from .recordings.urls import RecordingUrls
from .service import logs
from .service.app import ROLES, App
from .settings import RuleSettings, Settings, StoreSettings, load, unknown_names
from .simulators import demo
from .simulators.freeswitch import Switch
from .simulators.planfix import Planfix
from .simulators.playback import names

WHOLE_WORDS: dict[str, Any] = {"break_on_hyphens": False, "break_long_words": False}
"""Options of textwrap.fill."""


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
@click.version_option(package_name="fsplanfix")
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
    for number in numbers:
        say(f"{number} -> {normalize(number, settings.country) or settings.hidden_number}")


@cli.command("run")
@click.option(
    "--only",
    "roles",
    multiple=True,
    type=click.Choice(ROLES),
    help="Run only this role (can be repeated).",
)
@click.option("--shadow", is_flag=True, help="Dry run: process calls but send nothing to Planfix.")
@errors_as_one_line
def run_command(roles: tuple[str, ...], shadow: bool) -> None:
    """Run the service until SIGTERM or Ctrl-C.

    Roles: "events" follows FreeSWITCH, "courier" sends to Planfix, "web" answers HTTP, "socket"
    tells the dialplan who calls. Without --only, one process runs all of them.
    """
    settings = load(Settings)
    settings_file.become_owner()
    logs.set_up(settings.log_level, settings.log_format, settings.log_mask)
    for unknown in unknown_names():
        logs.log.warning("setting_unknown", name=unknown.name, hint=unknown.hint)
    app = App(settings, roles or ROLES, shadow)
    # gevent's own handlers: they run between greenlets, not in the middle of one
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, app.stop)
    raise SystemExit(app.run())


@cli.command("demo")
@click.option(
    "--serve",
    is_flag=True,
    help="Keep running and print the address of a page with the call windows.",
)
@errors_as_one_line
def demo_command(serve: bool) -> None:
    """Play six recorded calls to a simulated Planfix."""
    raise SystemExit(demo.run(serve, say, timeline.header, timeline.line))


@cli.command("init")
@click.option(
    "--planfix-url", envvar="PLANFIX_URL", help="Address for requests, as Planfix shows it."
)
@click.option(
    "--planfix-token",
    envvar="PLANFIX_TOKEN",
    help="Token, as Planfix shows it (safer in the environment).",
)
@click.option("--public-url", envvar="PUBLIC_URL", help="Public https URL of this service.")
@click.option("--freeswitch", help="Event socket of FreeSWITCH, host:port.")
@click.option("--freeswitch-password", envvar="FREESWITCH_PASSWORD", help="Generated if omitted.")
@click.option("--recordings-dir", help="Folder of FreeSWITCH's recordings.")
@click.option("--store-url", help="Database URL.")
@click.option("--country", help="Country of numbers without a country code, such as RU.")
@click.option(
    "--file", "file", type=click.Path(path_type=Path), help="File to write. Default: --env-file."
)
@click.option("--force", is_flag=True, help="Overwrite the file without asking.")
@errors_as_one_line
def init_command(file: Path | None, force: bool, **given: str | None) -> None:
    """Create the file of settings interactively.

    Generates the secrets and says what to enter in Planfix and FreeSWITCH. Without a terminal
    nothing is asked: options that are missing take their defaults.
    """
    asks = sys.stdin.isatty()
    file = file or initial_settings.default_file()
    if file.exists() and not force:
        if not asks:
            raise SettingsError([f"{file} already exists; use --force to overwrite it."])
        click.confirm(f"{file} already exists. Overwrite it?", abort=True)

    answers = {
        name: _ask(asks, name, given[name], *question)
        for name, question in initial_settings.questions(file).items()
    }
    host, _, port = answers["freeswitch"].rpartition(":")
    # the same password goes into FREESWITCH_ESL and into the text for event_socket.conf.xml
    password = answers["freeswitch_password"] or secrets.token_hex(16)
    values = {
        "PLANFIX_URL": answers["planfix_url"],
        "PLANFIX_TOKEN": answers["planfix_token"],
        "PUBLIC_URL": answers["public_url"],
        "FREESWITCH_ESL": f"esl://:{password}@{host}:{port}",
        "RECORDINGS_DIR": answers["recordings_dir"],
        "STORE_URL": answers["store_url"],
        "COUNTRY": answers["country"],
        **initial_settings.made_up(),
    }
    initial_settings.write(file, {name: value for name, value in values.items() if value})
    say(f"Wrote {file} (readable only by {settings_file.owner_of(file)}).")
    say(initial_settings.what_to_do(file, values, host.strip("[]"), port, password))


def _ask(
    asks: bool, name: str, given: str | None, setting: str, question: str, default: str
) -> str:
    """Return the answer to a question; ask again after a wrong one."""
    while given is None and asks:
        hidden = name in ("planfix_token", "freeswitch_password")
        answer = click.prompt(
            question, default=default, show_default=bool(default), hide_input=hidden
        ).strip()
        # other settings are missing still: only what is wrong with this one counts
        wrong = []
        if setting:
            problems = initial_settings.problems({setting: answer})
            wrong = [text for text in problems if text.startswith(setting)]

        if not wrong:
            return str(answer)

        say(fill(wrong[0], 80))
    return default if given is None else given.strip()


@cli.command("check")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def check_command(as_json: bool) -> None:
    """Check the installation and suggest fixes.

    Exit code: 0 if all is well, 1 if there are warnings, 2 if something is broken.
    """
    worst = Grade.OK
    for finding in _findings():
        worst = max(worst, finding.grade)
        if as_json:
            say(json.dumps({"mark": finding.mark, **asdict(finding)}, ensure_ascii=False))
            continue

        head = f"{finding.mark} {finding.part:<17} "
        indent = " " * len(head)
        what, hint = printable(finding.what), printable(finding.hint)
        for text, first in ((what, head), (hint, indent)):
            if text:
                # a path or an option of a command is copied, so it is not divided
                say(fill(text, 80, initial_indent=first, subsequent_indent=indent, **WHOLE_WORDS))

    raise SystemExit(worst)


def _findings() -> Iterator[check.Finding]:
    try:
        settings = load(Settings)
    except SettingsError as error:
        # what helps with all of them stands once, below the last
        hints = [""] * (len(error.problems) - 1) + [error.hint]
        for problem, hint in zip(error.problems, hints, strict=True):
            yield check.Finding(Grade.BROKEN, "settings", problem, hint)
        return

    unknown, file = unknown_names(), settings_file.find()
    settings_file.become_owner()
    # problems are findings here, not log lines between them
    logs.set_up("CRITICAL")
    yield from check.check_all(settings, file, unknown)


@cli.command("explain")
@click.argument("call", metavar="CALLID|NUMBER", default="")
@click.option("--last", is_flag=True, help="The most recent call.")
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

    with _store() as store:
        archive = Archive(store)
        number = normalize(call, settings.country)
        callids = [archive.last_call()] if last else archive.calls(call, number)
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


@cli.group("queue")
def queue_group() -> None:
    """Manage notices that Planfix rejected."""


@queue_group.command("list")
@click.option("--all", "everything", is_flag=True, help="Include notices still waiting to be sent.")
@click.option("--limit", default=100, show_default=True, help="Show at most this many.")
@errors_as_one_line
def queue_list_command(everything: bool, limit: int) -> None:
    """List rejected notices with Planfix's answer."""
    with _store() as store:
        queue = Queue(store)
        standing = queue.backlog()
        states = [State.REJECTED]
        if everything:
            states.append(State.WAITING)

        for item in queue.listed(states, limit):
            notice = item.notice
            line = f"{item.id:>8}  {item.state:<9}{notice.phone:<13}{notice.ext or '-':<6}"
            say(printable(f"{line}{notice.what}"))
            if item.answer:
                say(f"          {printable(item.answer[:68])[:68]}")

        paused = "; paused: Planfix does not accept our token" if standing.unauthorized else ""
        say(f"{standing.waiting} waiting, {standing.rejected} rejected{paused}")


@queue_group.command("retry")
@click.argument("ids", nargs=-1, type=int)
@click.option("--all", "everything", is_flag=True, help="All rejected notices.")
@errors_as_one_line
def queue_retry_command(ids: tuple[int, ...], everything: bool) -> None:
    """Send rejected notices again."""
    with _store() as store:
        found = Queue(store).send_again(_chosen(store, ids, everything), store.now())
        say(f"{found} will be sent again.")


@queue_group.command("drop")
@click.argument("ids", nargs=-1, type=int)
@click.option("--all", "everything", is_flag=True, help="All rejected notices.")
@errors_as_one_line
def queue_drop_command(ids: tuple[int, ...], everything: bool) -> None:
    """Delete rejected notices; Planfix never gets them."""
    with _store() as store:
        say(f"{Queue(store).drop(_chosen(store, ids, everything))} deleted.")


@contextmanager
def _store() -> Iterator[Store]:
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


def _chosen(store: Store, ids: tuple[int, ...], everything: bool) -> list[int]:
    if not ids and not everything:
        raise click.UsageError("Give the numbers that `queue list` shows, or --all.")
    if not everything:
        return list(ids)
    return [item.id for item in Queue(store).listed([State.REJECTED], 1_000_000)]


@cli.group("simulate")
def simulate_group() -> None:
    """Run a simulated FreeSWITCH or Planfix."""


@simulate_group.command("freeswitch")
@click.option(
    "--listen", default="127.0.0.1:8021", show_default=True, help="Address of the event socket."
)
@click.option("--password", default="ClueCon", show_default=True)
@click.option(
    "--speed",
    default=1.0,
    show_default=True,
    help="Playback speed; 2 is twice as fast as recorded.",
)
@click.option(
    "--play",
    "recordings",
    multiple=True,
    type=click.Choice(names()),
    metavar="NAME",
    help=f"Play only this trace (can be repeated): {', '.join(names())}.",
)
@errors_as_one_line
def simulate_freeswitch_command(
    listen: str, password: str, speed: float, recordings: tuple[str, ...]
) -> None:
    """Simulate FreeSWITCH: play recorded calls to every client, in a loop."""
    switch = Switch(_address(listen), password, speed=speed)
    _start(switch, listen)
    say(f"Event socket on 127.0.0.1:{switch.port}; Ctrl-C ends it.")
    with _until_interrupted():
        while True:
            for recording in recordings or names():
                switch.wait_for_subscriber(timeout=10**9)
                say(f"playing {recording}")
                switch.play(recording)


@simulate_group.command("planfix")
@click.option(
    "--listen",
    default="127.0.0.1:8090",
    show_default=True,
    help="Address of the API and of the page.",
)
@click.option(
    "--token", default="planfix-demo-token", show_default=True, help="The token it accepts."
)
@click.option(
    "--pbx-url", default="", help="Where clicks are sent, such as http://127.0.0.1:8080/planfix."
)
@click.option("--pbx-token", default="", help="The token it sends with clicks.")
@errors_as_one_line
def simulate_planfix_command(listen: str, token: str, pbx_url: str, pbx_token: str) -> None:
    """Simulate Planfix, with a page of call windows and history."""
    crm = Planfix(_address(listen), token, pbx_url, pbx_token)
    _start(crm, listen)
    say(f"Set PLANFIX_URL={crm.url} and PLANFIX_TOKEN={token}.")
    say(f"Call windows and history: {crm.page}   Ctrl-C ends it.")
    with _until_interrupted():
        while True:
            gevent.sleep(3600)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(
            f"'{text}' is not an address; write it like 127.0.0.1:8021.", param_hint="--listen"
        )
    return host.strip("[]"), int(port)


def _start(simulator: Switch | Planfix, listen: str) -> None:
    try:
        simulator.start()
    except OSError as error:
        raise PortTakenError(
            f"{listen} cannot be used ({error.strerror or error}): choose another port."
        ) from None


@contextmanager
def _until_interrupted() -> Iterator[None]:
    with suppress(KeyboardInterrupt):
        yield
