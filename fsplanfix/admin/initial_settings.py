"""`fsplanfix init`: makes the secrets, writes .env, shows what to enter elsewhere."""

from __future__ import annotations

import os
import pwd
import secrets
import sys
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError

from ..errors import SettingsError
from ..settings import Settings, sentences
from ..settings_file import LOCAL_FILE, SYSTEM_FILE, VARIABLE

EVENT_SOCKET = """\
<configuration name="event_socket.conf" description="Socket Client">
  <settings>
    <param name="listen-ip" value="{host}"/>
    <param name="listen-port" value="{port}"/>
    <param name="password" value="{password}"/>
  </settings>
</configuration>"""

QUESTIONS: dict[str, tuple[str, str, str]] = {
    "planfix_url": ("PLANFIX_URL", "Address for requests, as Planfix shows it", ""),
    "planfix_token": ("PLANFIX_TOKEN", "Token, as Planfix shows it", ""),
    "public_url": ("PUBLIC_URL", "Your https address, such as https://pbx.example.com", ""),
    "freeswitch": ("", "Event socket of FreeSWITCH", "127.0.0.1:8021"),
    "freeswitch_password": ("", "Its password (empty: generate a new one)", ""),
    "recordings_dir": (
        "RECORDINGS_DIR",
        "Folder of the recordings",
        "/var/lib/freeswitch/recordings",
    ),
    "store_url": ("STORE_URL", "Database", "sqlite:///fsplanfix.db"),
    "country": ("COUNTRY", "Country, two letters", "RU"),
}
"""The questions of `init`, by option: the setting, the words, the default.

The setting is "" where the answer is only a part of one.
"""

PACKAGE = Path("/usr/lib/fsplanfix")
"""Where the Debian package has its virtual environment."""

USER = "fsplanfix"
"""The user of the service that systemd runs."""


def is_packaged() -> bool:
    """Return whether this program is the Debian package's."""
    return Path(sys.prefix) == PACKAGE


def default_file() -> Path:
    """Return where `init` writes the settings."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    return SYSTEM_FILE if is_packaged() else LOCAL_FILE


def questions(file: Path) -> dict[str, tuple[str, str, str]]:
    """Return the questions for a file of settings."""
    if file != SYSTEM_FILE:
        return QUESTIONS
    # the one folder that the unit of systemd lets the service write into
    setting, words, _ = QUESTIONS["store_url"]
    store = "sqlite:////var/lib/fsplanfix/fsplanfix.db"
    return {**QUESTIONS, "store_url": (setting, words, store)}


def made_up() -> dict[str, str]:
    """Return new secrets, by setting."""
    return {
        "PBX_TOKEN": secrets.token_hex(16),
        "SECRET_KEY": secrets.token_urlsafe(32),
        "ADMIN_PASSWORD": secrets.token_urlsafe(12),
    }


def problems(values: Mapping[str, str]) -> list[str]:
    """Return a sentence for each setting that is wrong or missing."""
    try:
        given: dict[str, Any] = {name.lower(): value for name, value in values.items()}
        Settings(_env_file=None, **given)  # type: ignore[call-arg]
    except ValidationError as error:
        return sentences(Settings, error)
    return []


def write(file: Path, values: Mapping[str, str]) -> None:
    """Write settings to a file that only its owner can read.

    An older file is replaced completely or not at all. Raises SettingsError if the settings are
    wrong or the file cannot be written.
    """
    if found := problems(values):
        raise SettingsError(found)

    kept = {name: value for name, value in values.items() if value}
    new = file.with_name(f"{file.name}.new")
    try:
        # created with its mode: it holds secrets before a later chmod could take effect
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            os.fchown(descriptor, *_owner(file))
            out.write(
                "# Settings of fsplanfix, written by `fsplanfix init`. "
                ".env.example explains all there are.\n"
            )
            out.writelines(f"{name}={_quoted(value)}\n" for name, value in kept.items())

        # read back as the service will read it
        if dotenv_values(new) != kept:
            new.unlink()
            raise SettingsError(
                ["A value has characters that .env cannot hold: use letters and digits."]
            )

        os.replace(new, file)
    except OSError as error:
        where = file.resolve().parent
        hint = "Use: sudo fsplanfix init" if file == SYSTEM_FILE and os.geteuid() else ""
        raise SettingsError(
            [f"{file} cannot be written ({error.strerror}): may our user write to {where}?"], hint
        ) from None


def _owner(file: Path) -> tuple[int, int]:
    """Return the user and the group whom a new file belongs to; -1 stands for our own."""
    # only root may give files away
    if os.geteuid() != 0:
        return -1, -1
    try:
        if file.exists():
            return file.stat().st_uid, file.stat().st_gid
        if file == SYSTEM_FILE:
            found = pwd.getpwnam(USER)
            return found.pw_uid, found.pw_gid
    except KeyError:
        pass
    return -1, -1


def _quoted(value: str) -> str:
    """Return a value as .env holds it.

    Without quotes if it can be read so: `docker run --env-file` takes quotes for a part of the
    value. Between single quotes only the quote and the backslash have a meaning.
    """
    # a shell and docker compose replace $ and what follows it
    if "$" not in value and dotenv_values(stream=StringIO(f"X={value}\n")) == {"X": value}:
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def what_to_do(file: Path, values: Mapping[str, str], host: str, port: str, password: str) -> str:
    """Return what remains to be entered in Planfix and FreeSWITCH."""
    start = "fsplanfix run, and in another window: fsplanfix check"
    if file == SYSTEM_FILE:
        start = "sudo systemctl restart fsplanfix, then: sudo fsplanfix check"
    base = values.get("PUBLIC_URL", "https://pbx.example.com").rstrip("/")
    return f"""
1. In Planfix: Integrations, Virtual PBX, Planfix API for telephony. Enter

   address of your PBX   {base}/planfix
   key of your PBX       {values["PBX_TOKEN"]}

2. In FreeSWITCH: autoload_configs/event_socket.conf.xml

{EVENT_SOCKET.format(host=host, port=port, password=password)}

   then: fs_cli -x 'reload mod_event_socket'

3. Names on the phones, the client's manager first, recordings: copy what you
   want from {"/usr/share/fsplanfix/" if is_packaged() else ""}freeswitch-dialplan/
   (its README.md says where to), then: fs_cli -x reloadxml

4. {start}

5. See it: http://127.0.0.1:8080/ with the password {values["ADMIN_PASSWORD"]}
"""
