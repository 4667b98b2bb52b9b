"""The commands. Each failure is one sentence on stderr and an exit code, never a traceback."""

from __future__ import annotations

import json
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

from . import checks, installing, logs, timeline
from . import explain as explaining
from .app import ROLES, App
from .calls.numbers import normalize as normalize_number
from .errors import FsplanfixError, PortTakenError, SettingsError
from .outbox.archive import Archive
from .outbox.queue import Queue
from .outbox.store import Store
from .outbox.tables import DEAD, WAITING
from .planfix.messages import form
from .printable import lines, printable
from .recordings.links import Links
from .replay import replay as replay_trace
from .replay import settings_of
from .settings import RuleSettings, Settings, StoreSettings, load
from .simulators import demo as demonstration
from .simulators.crm import Planfix
from .simulators.playback import names
from .simulators.switch import Switch


def explained(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn our own errors into one sentence and exit code 1."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except FsplanfixError as error:
            raise click.ClickException(lines(str(error))) from None

    return run


def say(text: str) -> None:
    """Print a line or several; nothing in them steers the terminal."""
    click.echo(lines(text))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fsplanfix")
def cli() -> None:
    """Connect FreeSWITCH to the CRM Planfix: call windows, history, click-to-call."""


@cli.command()
@click.argument("traces", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON object a line for each request Planfix would get.",
)
@explained
def replay(traces: tuple[Path, ...], as_json: bool) -> None:
    """Show what Planfix would be told about recorded calls."""
    links = Links("http://127.0.0.1:8080", ["replay"])
    for trace in traces:
        callid = ""
        rules = load(RuleSettings, settings_of(trace)).rules()
        for notice in replay_trace(trace, rules):
            fields = form(notice, links.link)
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


@cli.command()
@click.argument("numbers", nargs=-1, required=True)
@explained
def normalize(numbers: tuple[str, ...]) -> None:
    """Show how phone numbers are written for Planfix."""
    settings = load(RuleSettings)
    for number in numbers:
        say(f"{number} -> {normalize_number(number, settings.country) or settings.hidden_number}")


@cli.command()
@click.option(
    "--only",
    "roles",
    multiple=True,
    type=click.Choice(ROLES),
    help="Take on this role only; repeatable.",
)
@click.option(
    "--shadow", is_flag=True, help="Do everything but send: try it beside another PBX connector."
)
@explained
def run(roles: tuple[str, ...], shadow: bool) -> None:
    """Follow FreeSWITCH and tell Planfix, until stopped.

    SIGTERM or Ctrl-C stops it in order. The roles: events follows FreeSWITCH, courier sends to
    Planfix, web answers over HTTP, socket tells the dialplan who calls. Without --only this process
    takes on all of them.
    """
    settings = load(Settings)
    logs.set_up(settings.log_level, settings.log_format, settings.log_mask)
    app = App(settings, roles or ROLES, shadow)
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, app.stop)
    raise SystemExit(app.run())


@cli.command()
@click.option(
    "--serve",
    is_flag=True,
    help="Keep running, with more calls, and print the address of Planfix's page.",
)
@explained
def demo(serve: bool) -> None:
    """Show six calls from FreeSWITCH to Planfix, both simulated."""
    raise SystemExit(demonstration.run(serve, say, timeline.header, timeline.line))


@cli.command()
@click.option(
    "--planfix-url", envvar="PLANFIX_URL", help="The address for requests that Planfix shows."
)
@click.option(
    "--planfix-token",
    envvar="PLANFIX_TOKEN",
    help="The token it shows (better in the environment).",
)
@click.option(
    "--public-url", envvar="PUBLIC_URL", help="The https address under which Planfix reaches us."
)
@click.option("--freeswitch", help="Its event socket, host:port.")
@click.option("--freeswitch-password", envvar="FREESWITCH_PASSWORD", help="Made up if not given.")
@click.option("--recordings-dir", help="Where FreeSWITCH records.")
@click.option("--store-url", help="The database.")
@click.option("--country", help="Two letters: whose numbers have no country code.")
@click.option("--file", "file", default=".env", show_default=True, type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the file without asking.")
@explained
def init(file: Path, force: bool, **given: str | None) -> None:
    """Ask a few questions, make the secrets, write .env, say what to enter elsewhere.

    Without a terminal nothing is asked: what has no option takes its default.
    """
    asks = sys.stdin.isatty()
    if file.exists() and not force:
        if not asks:
            raise SettingsError([f"{file} is there already: say --force to replace it."])
        click.confirm(f"{file} is there already. Replace it?", abort=True)
    answers = {
        name: _ask(asks, name, given[name], *question) for name, question in QUESTIONS.items()
    }
    host, _, port = answers["freeswitch"].rpartition(":")
    password = answers["freeswitch_password"] or installing.made_up()["PBX_TOKEN"]
    values = {
        "PLANFIX_URL": answers["planfix_url"],
        "PLANFIX_TOKEN": answers["planfix_token"],
        "PUBLIC_URL": answers["public_url"],
        "FREESWITCH_ESL": f"esl://:{password}@{host}:{port}",
        "RECORDINGS_DIR": answers["recordings_dir"],
        "STORE_URL": answers["store_url"],
        "COUNTRY": answers["country"],
        **installing.made_up(),
    }
    installing.write(file, {name: value for name, value in values.items() if value})
    say(f"Written: {file}, readable for you alone.")
    say(installing.what_to_do(values, host.strip("[]"), port, password))


QUESTIONS: dict[str, tuple[str, str, str]] = {
    "planfix_url": ("PLANFIX_URL", "Address for requests, as Planfix shows it", ""),
    "planfix_token": ("PLANFIX_TOKEN", "Token, as Planfix shows it", ""),
    "public_url": ("PUBLIC_URL", "Your https address, such as https://pbx.example.com", ""),
    "freeswitch": ("", "Event socket of FreeSWITCH", "127.0.0.1:8021"),
    "freeswitch_password": ("", "Its password (empty: a new one is made)", ""),
    "recordings_dir": (
        "RECORDINGS_DIR",
        "Folder of the recordings",
        "/var/lib/freeswitch/recordings",
    ),
    "store_url": ("STORE_URL", "Database", "sqlite:///fsplanfix.db"),
    "country": ("COUNTRY", "Country, two letters", "RU"),
}
"""Of `init`: the setting an answer becomes ("" if not by itself), the question, the default."""


def _ask(
    asks: bool, name: str, given: str | None, setting: str, question: str, default: str
) -> str:
    """Return the answer to a question; a wrong one is asked again."""
    while given is None and asks:
        hidden = name in ("planfix_token", "freeswitch_password")
        answer = click.prompt(
            question, default=default, show_default=bool(default), hide_input=hidden
        ).strip()
        wrong = (
            [text for text in installing.problems({setting: answer}) if text.startswith(setting)]
            if setting
            else []
        )
        if not wrong:
            return str(answer)
        say(fill(wrong[0], 80))
    return default if given is None else given.strip()


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def check(as_json: bool) -> None:
    """Look at everything that can be wrong, and say how to mend it.

    Exits with 0 if all is well, 1 if something is odd, 2 if something is broken.
    """
    worst = checks.OK
    for finding in _findings():
        worst = max(worst, finding.grade)
        if as_json:
            say(json.dumps({"mark": finding.mark, **asdict(finding)}, ensure_ascii=False))
            continue
        head = f"{finding.mark} {finding.part:<17} "
        say(
            fill(
                printable(finding.what), 80, initial_indent=head, subsequent_indent=" " * len(head)
            )
        )
        if finding.cure:
            say(
                fill(
                    printable(finding.cure),
                    80,
                    initial_indent=" " * len(head),
                    subsequent_indent=" " * len(head),
                )
            )
    raise SystemExit(worst)


def _findings() -> Iterator[checks.Finding]:
    try:
        settings = load(Settings)
    except SettingsError as error:
        yield from (
            checks.Finding(checks.BROKEN, "settings", problem) for problem in error.problems
        )
        return
    logs.set_up("CRITICAL")
    yield from checks.everything(settings)


@cli.command()
@click.argument("call", metavar="CALLID|NUMBER", default="")
@click.option("--last", is_flag=True, help="The call that was heard of last.")
@click.option(
    "--export",
    "file",
    type=click.Path(path_type=Path),
    help="Write it as a recording that `replay` plays.",
)
@click.option(
    "--mask", is_flag=True, help="With --export: made-up phone numbers in place of the real ones."
)
@explained
def explain(call: str, last: bool, file: Path | None, mask: bool) -> None:
    """Show what is known about a call: what FreeSWITCH said, the rule, Planfix's answer.

    The rules are listed in docs/call-rules.md.
    """
    settings = load(RuleSettings)
    if not call and not last:
        raise click.UsageError("Name a call by its callid or its client's number, or say --last.")
    with _store() as store:
        archive = Archive(store)
        number = normalize_number(call, settings.country)
        callids = [archive.last_call()] if last else archive.calls(call, number)
        if file is not None:
            _export(archive, [callid for callid in callids if callid][-1:], file, mask)
            return
        stories = [
            explaining.story(archive, settings.rules(), callid) for callid in callids if callid
        ]
        told = ["\n".join(story) for story in stories if story]
        refused = (
            [explaining.refusal(entry) for entry in archive.refused(number)]
            if number and not last
            else []
        )
        if not told and not refused:
            raise click.ClickException(
                f"Nothing is kept about {printable(call[:80]) or 'any call'}."
            )
        say("\n\n".join([*told, *(["\n".join(refused)] if refused else [])]))


def _export(archive: Archive, callids: list[str], file: Path, mask: bool) -> None:
    packed = archive.heard(callids[0]) if callids else b""
    if not packed:
        raise click.ClickException(
            "Nothing that FreeSWITCH said is kept about this call (or it is not over yet)."
        )
    count = explaining.export(packed, file, callids[0], mask)
    say(f"{count} events of call {callids[0]} in {file}; fsplanfix replay {file} plays them.")


@cli.group()
def queue() -> None:
    """Look after the notices that Planfix refused."""


@queue.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that only wait for their turn.")
@click.option("--limit", default=100, show_default=True, help="How many at the most.")
@explained
def list_queue(everything: bool, limit: int) -> None:
    """Show the notices that were set aside, with Planfix's answer."""
    with _store() as store:
        standing = Queue(store).backlog()
        for item in Queue(store).listed([DEAD, WAITING] if everything else [DEAD], limit):
            notice = item.notice
            line = f"{item.id:>8}  {item.state:<8}{notice.phone:<13}{notice.ext or '-':<6}"
            say(printable(f"{line}{notice.what}"))
            if item.answer:
                say(f"          {printable(item.answer[:68])[:68]}")
        paused = (
            "; Planfix does not know our token, everything is kept" if standing.unauthorized else ""
        )
        say(f"{standing.waiting} waiting, {standing.dead} set aside{paused}")


@queue.command()
@click.argument("ids", nargs=-1, type=int)
@click.option("--all", "everything", is_flag=True, help="All that were set aside.")
@explained
def retry(ids: tuple[int, ...], everything: bool) -> None:
    """Send notices that were set aside again."""
    with _store() as store:
        found = Queue(store).send_again(_chosen(store, ids, everything), store.now())
        say(f"{found} will be sent again.")


@queue.command()
@click.argument("ids", nargs=-1, type=int)
@click.option("--all", "everything", is_flag=True, help="All that were set aside.")
@explained
def drop(ids: tuple[int, ...], everything: bool) -> None:
    """Delete notices that were set aside; Planfix never gets them."""
    with _store() as store:
        say(f"{Queue(store).drop(_chosen(store, ids, everything))} deleted.")


@contextmanager
def _store() -> Iterator[Store]:
    store = Store(load(StoreSettings).store_url, create=False)
    try:
        yield store
    finally:
        store.close()


def _chosen(store: Store, ids: tuple[int, ...], everything: bool) -> list[int]:
    if not ids and not everything:
        raise click.UsageError(
            "Name the notices by the numbers that `queue list` shows, or say --all."
        )
    return [item.id for item in Queue(store).listed([DEAD], 1_000_000)] if everything else list(ids)


@cli.group()
def simulate() -> None:
    """Stand-ins to try fsplanfix against."""


@simulate.command()
@click.option(
    "--listen", default="127.0.0.1:8021", show_default=True, help="Address of the event socket."
)
@click.option("--password", default="ClueCon", show_default=True)
@click.option("--speed", default=1.0, show_default=True, help="How many times as fast as recorded.")
@click.option(
    "--play",
    "recordings",
    multiple=True,
    type=click.Choice(names()),
    metavar="NAME",
    help=f"Play only this: {', '.join(names())}.",
)
@explained
def freeswitch(listen: str, password: str, speed: float, recordings: tuple[str, ...]) -> None:
    """A FreeSWITCH that plays recorded calls to whoever follows it, over and over."""
    switch = Switch(_address(listen), password, speed=speed)
    _start(switch, listen)
    say(f"Event socket on 127.0.0.1:{switch.port}; Ctrl-C ends it.")
    with _until_interrupted():
        while True:
            for recording in recordings or names():
                switch.wait_for_subscriber(timeout=10**9)
                say(f"playing {recording}")
                switch.play(recording)


@simulate.command()
@click.option(
    "--listen", default="127.0.0.1:8090", show_default=True, help="Address of the API and the page."
)
@click.option(
    "--token", default="planfix-demo-token", show_default=True, help="The planfix_token it accepts."
)
@click.option(
    "--pbx-url", default="", help="Where to send makeCall, such as http://127.0.0.1:8080/planfix."
)
@click.option("--pbx-token", default="", help="The token to send with it.")
@explained
def planfix(listen: str, token: str, pbx_url: str, pbx_token: str) -> None:
    """A strict Planfix with a page of call windows and history."""
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
            f"'{text}' is no address; write it like 127.0.0.1:8021.", param_hint="--listen"
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
