"""What `fsplanfix check` looks at on this machine: ports, disks and recordings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
from gevent import socket

from ..errors import TransportError
from ..freeswitch.socket_app import is_answering, reachable
from ..recordings.files import TYPES
from ..settings import Address, Settings
from .findings import Finding, Grade, short
from .probes import fetch

LONGEST_WAIT = 2.0
"""Seconds that a port of this machine may take to answer."""

LEAST_SPACE = 500_000_000
"""Bytes that should be free on a disk."""

LARGEST_RECORDING = 100_000_000
"""Bytes of a recording that Planfix transcribes (docs/facts/planfix.md)."""

MOST_LOOKED_AT = 1000
"""Recordings; in a large archive any of them will do."""


def check_ports(settings: Settings) -> Iterator[Finding]:
    """Check that the service itself answers at its addresses, and say who does otherwise."""
    listen = settings.http_listen
    is_web = _is_web_server(listen)
    yield _port("web", listen, "HTTP_LISTEN", is_web, "Planfix cannot reach it")

    listen = settings.esl_listen
    is_socket = is_answering(*listen, LONGEST_WAIT)
    yield _port("socket", listen, "ESL_LISTEN", is_socket, "phones show no names")


def _port(part: str, listen: Address, setting: str, is_ours: bool, without: str) -> Finding:
    if is_ours:
        return Finding(f"{part}.listens", Grade.OK, part, f"fsplanfix answers at {listen}")
    if not _is_taken(listen):
        what = f"nothing listens at {listen} ({setting})"
        hint = f"is `fsplanfix run` running? Without it, {without}"
        return Finding(f"{part}.nobody", Grade.WARNING, part, what, hint)

    what = f"{_program_at(listen.port)} listens at {listen} ({setting}), and not fsplanfix"
    hint = f"stop it or change {setting}"
    return Finding(f"{part}.taken", Grade.BROKEN, part, what, hint)


def _is_web_server(listen: Address) -> bool:
    address = Address(reachable(listen.host), listen.port)
    try:
        _, content = fetch(f"http://{address}/health/live", LONGEST_WAIT)
    except TransportError:
        return False
    return b'"status"' in content


def _is_taken(listen: Address) -> bool:
    try:
        socket.create_connection((reachable(listen.host), listen.port), LONGEST_WAIT).close()
    except OSError:
        return False
    return True


def _program_at(port: int) -> str:
    """Return the name of the program that listens at a port, as far as we may know it."""
    # another user's programs are named to root only
    with suppress(psutil.Error, OSError):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr[1:] == (port,) and one.pid:
                return f"{short(psutil.Process(one.pid).name())} (process {one.pid})"
    return "another program"


def check_disks(folders: Mapping[str, Path]) -> Iterator[Finding]:
    """Check that there is room. folders: by what is kept there."""
    for what, folder in folders.items():
        try:
            free = shutil.disk_usage(folder).free
        except OSError:  # a folder that cannot be read is reported elsewhere
            continue
        if free < LEAST_SPACE:
            text = f"{free / 1_000_000:.0f} MB are free at {folder} ({what})"
            hint = "make room; without any, events wait in memory"
            yield Finding("disk.full", Grade.WARNING, "disk", text, hint)


def check_recordings(settings: Settings) -> Iterator[Finding]:
    """Check that recordings can be read, and that Planfix takes them."""
    folder, part = settings.recordings_dir, "recordings"
    try:
        sounds = list(_sound_files(folder))
        newest = max(sounds, key=lambda entry: entry.stat().st_mtime, default=None)
        if newest is not None:
            newest.open("rb").close()
        sizes = {entry: entry.stat().st_size for entry in sounds}
    except OSError as error:
        hint = "set RECORDINGS_DIR to the folder where FreeSWITCH puts them"
        if isinstance(error, PermissionError):
            hint = "let our user read it: adduser fsplanfix freeswitch, then start the service anew"
        what = f"{error.filename} cannot be read ({error.strerror})"
        yield Finding("recordings.unreadable", Grade.BROKEN, part, what, hint)
        return

    if newest is None:
        what = f"{folder} holds none yet (freeswitch-dialplan/ shows how to record calls)"
        yield Finding("recordings.none", Grade.OK, part, what)
        return

    yield Finding("recordings.readable", Grade.OK, part, f"{folder} can be read")
    large = [entry for entry, size in sizes.items() if size > LARGEST_RECORDING]
    if large:
        what = f"{len(large)} have more than 100 MB, such as {short(large[0].name)}"
        hint = "Planfix transcribes up to 100 MB; set RECORDINGS_CONVERT=mp3"
        yield Finding("recordings.large", Grade.WARNING, part, what, hint)


def check_mailboxes(settings: Settings) -> Iterator[Finding]:
    """Check that the messages in mailboxes can be linked; without VOICEMAIL say nothing."""
    folder, part = settings.voicemail_dir, "voicemail"
    if not settings.voicemail:
        return
    if folder is None:
        what = "VOICEMAIL_DIR is not set: only messages in RECORDINGS_DIR are linked"
        hint = "set it to FreeSWITCH's folder of mailboxes, like /var/lib/freeswitch/storage"
        yield Finding("voicemail.no-folder", Grade.WARNING, part, what, hint)
        return

    try:
        for file in _sound_files(folder):
            file.open("rb").close()
    except OSError as error:
        what = f"{error.filename} cannot be read ({error.strerror})"
        hint = "let our user read it: adduser fsplanfix freeswitch, then start the service anew"
        yield Finding("voicemail.unreadable", Grade.BROKEN, part, what, hint)
        return
    yield Finding("voicemail.readable", Grade.OK, part, f"{folder} can be read")


def _sound_files(folder: Path) -> Iterator[Path]:
    """Yield up to MOST_LOOKED_AT sound files."""
    # raises OSError, where os.walk passes over a folder that cannot be read
    os.listdir(folder)
    found = (Path(where, name) for where, _, names in os.walk(folder) for name in names)
    sounds = (
        file
        for file in found
        if file.suffix.lower() in TYPES and file.is_file() and not file.is_symlink()
    )
    for _, file in zip(range(MOST_LOOKED_AT), sounds, strict=False):
        yield file
