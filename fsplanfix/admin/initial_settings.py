"""`fsplanfix init`: makes the secrets, writes .env, shows what to enter elsewhere.

A file that is there keeps every line that no answer changes, and is itself kept as FILE.old.
"""

from __future__ import annotations

import os
import pwd
import secrets
import sys
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import ValidationError

from ..errors import SettingsError
from ..settings import Settings
from ..settings_file import FIRST_WORDS, LOCAL_FILE, SYSTEM_FILE, VARIABLE, sentences


class Question(NamedTuple):
    """A question of `init`.

    setting: "" where the answer is only a part of one. empty: what an empty answer means if there
    is no default. is_secret: the answer is not shown.
    """

    setting: str
    words: str
    default: str = ""
    empty: str = ""
    is_secret: bool = False


QUESTIONS: dict[str, Question] = {
    "planfix_url": Question("PLANFIX_URL", "Address for requests, as Planfix shows it"),
    "planfix_token": Question("PLANFIX_TOKEN", "Token, as Planfix shows it", is_secret=True),
    "public_url": Question("PUBLIC_URL", "Your https address, such as https://pbx.example.com"),
    "freeswitch": Question("", "Event socket of FreeSWITCH", "127.0.0.1:8021"),
    "freeswitch_password": Question(
        "", "Its password", empty="ClueCon so far, and a new one is generated", is_secret=True
    ),
    "recordings_dir": Question(
        "RECORDINGS_DIR", "Folder of the recordings", "/var/lib/freeswitch/recordings"
    ),
    "store_url": Question("STORE_URL", "Database", "sqlite:///fsplanfix.db"),
    "country": Question("COUNTRY", "Country, two letters", "RU"),
    "extension_pattern": Question(
        "EXTENSION_PATTERN", "Which users are exts, as a regular expression", r"^\d{2,5}$"
    ),
    "user_domain": Question("USER_DOMAIN", "Domain of the users", empty="FreeSWITCH's own"),
    "dial_context": Question(
        "DIAL_CONTEXT", "Dialplan context that clicks dial through", empty="a gateway"
    ),
    "dial_string": Question(
        "DIAL_STRING", "How a click dials the client", "sofia/gateway/trunk/{number}"
    ),
}
"""The questions, by option. The last four are asked if FreeSWITCH answers."""

PACKAGE = Path("/usr/lib/fsplanfix")
"""Where the Debian package has its virtual environment."""

USER = "fsplanfix"
"""The user of the service that systemd runs."""


def is_packaged() -> bool:
    """Return whether this program is the Debian package's."""
    return Path(sys.prefix) == PACKAGE


def shipped(path: str) -> str:
    """Return where a file that comes with the program is. path: in the repository."""
    if not is_packaged():
        return path
    return f"/usr/share/fsplanfix/{path.removeprefix('contrib/')}"


def default_file() -> Path:
    """Return where `init` writes the settings."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    # where every other command finds the settings (settings_file.find)
    is_used = os.path.exists(SYSTEM_FILE) and not os.path.exists(LOCAL_FILE)
    return SYSTEM_FILE if is_packaged() or is_used else LOCAL_FILE


def questions(file: Path) -> dict[str, Question]:
    """Return the questions for a file of settings."""
    if file != SYSTEM_FILE:
        return QUESTIONS
    # the one folder that the unit of systemd lets the service write into
    store = "sqlite:////var/lib/fsplanfix/fsplanfix.db"
    return {**QUESTIONS, "store_url": QUESTIONS["store_url"]._replace(default=store)}


def present(file: Path) -> dict[str, str]:
    """Return the settings in a file, {} if there is none. Raises SettingsError if it is unusable.

    A wrong value that `init` does not ask about is reported before the first question.
    """
    try:
        found = {name: value or "" for name, value in dotenv_values(file).items()}
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise SettingsError([f"{file} cannot be read ({reason})."], _hint(file)) from None

    asked = {question.setting for question in QUESTIONS.values()} | {"FREESWITCH_ESL", "PBX_TOKEN"}
    others = {name: value for name, value in found.items() if name not in asked and value}
    wrong = [text for name in others for text in problem_with(name, others[name])]
    if wrong:
        raise SettingsError(wrong, f"Fix it in {file} first.")
    return found


def generated(old: Mapping[str, str], new_secrets: bool) -> dict[str, str]:
    """Return the secrets to write, by setting: those that are missing, or new ones for all.

    old: the settings so far, {} for a new file. What is left out of an older file stays out.
    """
    made = {
        "PBX_TOKEN": secrets.token_hex(16),
        "SECRET_KEY": secrets.token_urlsafe(32),
        "ADMIN_PASSWORD": secrets.token_urlsafe(12),
    }
    if not old:
        return made

    if not new_secrets:
        is_missing = not old.get("PBX_TOKEN") and not old.get("PBX_TOKEN_FILE")
        return {"PBX_TOKEN": made["PBX_TOKEN"]} if is_missing else {}

    made = {name: value for name, value in made.items() if old.get(name)}
    if "SECRET_KEY" in made:
        # the links that Planfix holds are signed with the former key
        former = (old["SECRET_KEY"], old.get("SECRET_KEY_OLD", ""))
        made["SECRET_KEY_OLD"] = ",".join(filter(None, former))
    return made


def problems(values: Mapping[str, str]) -> list[str]:
    """Return a sentence for each setting that is wrong or missing."""
    try:
        given: dict[str, Any] = {name.lower(): value for name, value in values.items()}
        Settings(_env_file=None, **given)  # type: ignore[call-arg]
    except ValidationError as error:
        return sentences(Settings, error)
    return []


def problem_with(name: str, value: str, beside: Mapping[str, str] | None = None) -> list[str]:
    """Return a sentence if a value cannot be that of a setting, alone or beside other settings."""
    others = {other: text for other, text in (beside or {}).items() if text and other != name}
    # others are missing still, or wrong already: only what comes with this value counts
    known = problems(others)
    new = [text for text in problems({**others, name: value}) if text not in known]
    return [text for text in new if " is missing: " not in text or text.startswith(name)]


FIRST_LINE = f"{FIRST_WORDS}, written by `fsplanfix init`. .env.example explains all there are.\n"


def write(file: Path, values: Mapping[str, str]) -> bool:
    """Write settings to a file that only its owner can read; return whether it had to change.

    values: by name; an empty one is left out. Other lines of an older file stay as they are. It is
    replaced completely or not at all, and kept as FILE.old. Raises SettingsError if the settings
    are wrong or the file cannot be written.
    """
    try:
        before = file.read_bytes().decode("utf-8") if file.exists() else ""
        old = dotenv_values(stream=StringIO(before))
        wanted = {**old, **values}
        kept = {name: value for name, value in wanted.items() if value or name not in values}
        if found := problems({name: value for name, value in kept.items() if value}):
            raise SettingsError(found)

        after = _changed(before or FIRST_LINE, old, values)
        if after == before:
            return False
        new = file.with_name(f"{file.name}.new")
        write_private(new, after, file)
        # read back as the service will read it
        if dotenv_values(new) != kept:
            new.unlink()
            raise SettingsError(
                ["A value has characters that .env cannot hold: use letters and digits."]
            )

        if before:
            former = file.with_name(f"{file.name}.old")
            write_private(former, before, file)
        os.replace(new, file)
        return True
    except OSError as error:
        problem = (
            f"{file} cannot be written ({error.strerror}): "
            f"may our user write to {file.resolve().parent}?"
        )
        raise SettingsError([problem], _hint(file)) from None


def _hint(file: Path) -> str:
    """Return what may help where a file cannot be used."""
    return "Use: sudo fsplanfix init" if file == SYSTEM_FILE and os.geteuid() else ""


def _changed(text: str, old: Mapping[str, str | None], values: Mapping[str, str]) -> str:
    """Return the text of a file with the lines of these settings changed, removed and added."""
    # a value that stays may be written in another way
    new = {name: value for name, value in values.items() if value != (old.get(name) or "")}
    found = []
    for line in parse_stream(StringIO(text)):
        if line.key not in new:
            found.append(line.original.string)
        elif value := new[line.key]:
            found.append(f"{line.key}={_quoted(value)}\n")
            new[line.key] = ""

    if found and not found[-1].endswith("\n"):
        found.append("\n")
    found += [f"{name}={_quoted(value)}\n" for name, value in new.items() if value]
    return "".join(found)


def write_private(path: Path, text: str, beside: Path) -> None:
    """Write a file that only the owner of another one can read."""
    # created with its mode: it holds secrets before a later chmod could take effect
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as out:
        os.fchown(descriptor, *_owner(beside))
        out.write(text)


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
