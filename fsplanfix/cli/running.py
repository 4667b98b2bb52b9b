"""Commands that run until they are ended: run, demo, simulate."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial

import click
import gevent

from .. import settings_file
from ..admin import colors, timeline
from ..errors import PortTakenError
from ..service import logs
from ..service.app import ROLES, App
from ..settings import Settings, unknown_names
from ..settings.accounts import load_accounts
from ..simulators import demo
from ..simulators.freeswitch import Switch
from ..simulators.planfix import Planfix
from ..simulators.playback import names
from .root import cli, errors_as_one_line, say

DEMO_PORT = 8090
"""Where `demo --serve` shows the call windows, as `simulate planfix` does."""


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
    tells the dialplan who calls. Without --only, one process runs all of them. SIGHUP reads
    ACCOUNTS_FILE again.
    """
    accounts = load_accounts(Settings)
    settings = accounts.machine
    settings_file.become_owner()
    logs.set_up(settings.log_level, settings.log_format, settings.log_mask)
    for unknown in unknown_names():
        logs.log.warning("setting_unknown", name=unknown.name, hint=unknown.hint)
    if shadow:
        logs.log.warning("shadow_mode", hint="calls are processed, nothing is sent to Planfix")
    app = App(accounts, roles or ROLES, shadow)
    # gevent's own handlers: they run between greenlets, not in the middle of one
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, app.stop)
    gevent.signal_handler(signal.SIGHUP, app.reload if accounts.file else app.stop)
    raise SystemExit(app.run())


@cli.command("demo")
@click.option(
    "--serve",
    is_flag=True,
    help="Keep running, with a page of call windows and the dashboard.",
)
@click.option(
    "--port", type=int, help="Port of the page with the call windows. With --serve: 8090."
)
@errors_as_one_line
def demo_command(serve: bool, port: int | None) -> None:
    """Play seven recorded calls to a simulated Planfix."""
    if port is None:
        port = DEMO_PORT if serve else 0
    voice = demo.Voice(
        say=say,
        title=partial(colors.show, is_bold=True),
        header=timeline.header,
        request=_show_request,
        day=timeline.day,
    )
    planfix = Planfix(("127.0.0.1", port))
    _start(planfix, f"127.0.0.1:{port}")
    raise SystemExit(demo.run(serve, planfix, voice))


def _show_request(fields: Mapping[str, str], at: float) -> None:
    color = colors.BY_EVENT.get(fields.get("status") or fields.get("event", ""))
    colors.show(timeline.line(fields, at, is_short=True), color)


@cli.group("simulate")
def simulate_group() -> None:
    """Run a simulated FreeSWITCH or Planfix."""


@simulate_group.command("freeswitch")
@click.option(
    "--listen", default="127.0.0.1:8021", show_default=True, help="Address of the event socket."
)
@click.option(
    "--password", default="ClueCon", show_default=True, help="Password of the event socket."
)
@click.option(
    "--speed",
    default=1.0,
    show_default=True,
    help="Playback speed; 2 is twice as fast as recorded.",
)
@click.option(
    "--play",
    "traces",
    multiple=True,
    type=click.Choice(names()),
    metavar="NAME",
    help=f"Play only this trace (can be repeated): {', '.join(names())}.",
)
@click.option("--recordings-dir", default="", help="Leave a recording of each call here, a tone.")
@errors_as_one_line
def simulate_freeswitch_command(
    listen: str, password: str, speed: float, traces: tuple[str, ...], recordings_dir: str
) -> None:
    """Simulate FreeSWITCH: play recorded calls to every client, in a loop."""
    switch = Switch(_address(listen), password, speed=speed)
    switch.recordings_dir = recordings_dir
    _start(switch, listen)
    url = f"esl://:{password}@127.0.0.1:{switch.port}"
    say(f"Set FREESWITCH_ESL={url} to follow it. Ctrl-C ends it.")
    with _until_interrupted():
        while True:
            for trace in traces or names():
                switch.wait_for_subscriber(timeout=10**9)
                say(f"playing {trace}")
                switch.play(trace)


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
