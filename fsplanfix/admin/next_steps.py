"""What `fsplanfix init` tells to enter in Planfix and FreeSWITCH."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..freeswitch.connection import Server
from ..settings_file import SYSTEM_FILE
from .check import DEFAULT_PASSWORD
from .initial_settings import shipped

EVENT_SOCKET = """\
<configuration name="event_socket.conf" description="Socket Client">
  <settings>
    <param name="listen-ip" value="{host}"/>
    <param name="listen-port" value="{port}"/>
    <param name="password" value="{password}"/>
  </settings>
</configuration>"""

PAIRS = """

   Save it there while fsplanfix runs and can be reached from outside: then
   Planfix tells its own address and token (setup), and fsplanfix keeps them."""


def what_to_do(
    file: Path,
    values: Mapping[str, str],
    server: Server | None,
    *,
    is_accepted: bool = False,
    fs_cli: Path | None = None,
) -> str:
    """Return what remains to be entered in Planfix and FreeSWITCH.

    values: the settings. server: None if it is not ours to change. is_accepted: FreeSWITCH has this
    password already. fs_cli: the file where `fs_cli` finds the password, if it was written.
    """
    base = values.get("PUBLIC_URL") or "https://pbx.example.com"
    pairs = "" if values.get("PLANFIX_URL") else PAIRS
    steps = [
        f"""\
In Planfix: Integrations, Virtual PBX, Planfix API for telephony. Enter

   address of your PBX   {base.rstrip("/")}/planfix
   key of your PBX       {values.get("PBX_TOKEN") or "the one in PBX_TOKEN_FILE"}{pairs}"""
    ]
    if server is not None and not is_accepted:
        steps.append(_event_socket(server, fs_cli))

    reload = "fs_cli -x reloadxml"
    if server is not None and fs_cli is None and server.password != DEFAULT_PASSWORD:
        reload = "fs_cli -p PASSWORD -x reloadxml"
    start = "fsplanfix run, and in another window: fsplanfix check"
    if file == SYSTEM_FILE:
        start = "sudo systemctl restart fsplanfix, then: sudo fsplanfix check"
    steps += [
        f"""\
Names on the phones, the client's manager first, recordings: copy what you
   want from {shipped("freeswitch-dialplan/")}
   (its README.md says where to), then: {reload}
   Calls that pass while fsplanfix does not run can be told afterwards: see
   {shipped("contrib/cdr/README.md")}""",
        start,
    ]
    if password := values.get("ADMIN_PASSWORD"):
        steps.append(f"See it: http://127.0.0.1:8080/ with the password {password}")
    return "\n" + "\n\n".join(f"{n}. {step}" for n, step in enumerate(steps, 1)) + "\n"


def _event_socket(server: Server, fs_cli: Path | None) -> str:
    # FreeSWITCH listens on an address, not on a name
    host = "127.0.0.1" if server.host == "localhost" else server.host
    xml = EVENT_SOCKET.format(host=host, port=server.port, password=server.password)
    needs = """\
From then on fs_cli needs the new password: fs_cli -p PASSWORD -x ...
   `fsplanfix init --fs-cli` writes it into /etc/fs_cli.conf, and then fs_cli
   finds it there."""
    if fs_cli is not None:
        needs = f"From then on fs_cli finds the new password in {fs_cli}."
    return f"""\
In FreeSWITCH: autoload_configs/event_socket.conf.xml

{xml}

   then, with the password of before (ClueCon if nobody changed it):

   fs_cli -p ClueCon -x 'reload mod_event_socket'

   {needs}"""
