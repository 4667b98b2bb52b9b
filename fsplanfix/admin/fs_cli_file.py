"""The file where FreeSWITCH's own `fs_cli` finds the password of the event socket."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import SettingsError
from ..freeswitch.connection import Server

FS_CLI_FILE = Path("/etc/fs_cli.conf")
"""Where `fs_cli` looks if its user has no ~/.fs_cli_conf."""

_PROFILE = re.compile(r"^\[default\][^\n]*\n(?:(?!\[)[^\n]*(?:\n|\Z))*", re.MULTILINE)


def write_fs_cli(file: Path, server: Server) -> None:
    """Put a FreeSWITCH into the profile that `fs_cli` uses by default; keep other profiles.

    The former file is kept as FILE.old. Raises SettingsError if it cannot be written.
    """
    profile = (
        "[default]\n"
        f"host     => {server.host}\n"
        f"port     => {server.port}\n"
        f"password => {server.password}\n"
    )
    try:
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        others = _PROFILE.sub("", before)
        new = file.with_name(f"{file.name}.new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            if before:
                # who could read it before still can
                os.fchown(descriptor, file.stat().st_uid, file.stat().st_gid)
                os.fchmod(descriptor, file.stat().st_mode & 0o770)
            out.write(profile + (f"\n{others.lstrip()}" if others.strip() else ""))
        if before:
            os.replace(file, file.with_name(f"{file.name}.old"))
        os.replace(new, file)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise SettingsError([f"{file} cannot be written ({reason})."], "Use sudo.") from None
