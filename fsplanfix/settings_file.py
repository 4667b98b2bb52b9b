"""Finds the file of settings, and says what is wrong with it."""

from __future__ import annotations

import os
import pwd
import shlex
import sys
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, NamedTuple

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from .errors import SettingsError

VARIABLE = "FSPLANFIX_ENV"
"""Names the file. `--env-file` sets it for one command, and os.devnull stands for no file."""

LOCAL_FILE = Path(".env")
SYSTEM_FILE = Path("/etc/fsplanfix/fsplanfix.env")

FIRST_WORDS = "# Settings of fsplanfix"
"""How our own files begin: what `init` writes, and .env.example."""

PROBABLY_MEANT = 0.8
"""How alike (difflib's ratio) a name and a setting are where other programs may have names, too."""

PERHAPS_MEANT = 0.6
"""How alike they are at least where every name should be a setting."""


class UnknownName(NamedTuple):
    """A name in the file that is not a setting.

    nearest: the setting that is most like it, "" if none is.
    """

    name: str
    nearest: str

    @property
    def hint(self) -> str:
        """Return what to do about it."""
        return f"is it {self.nearest}?" if self.nearest else ".env.example has every setting"


def find() -> Path | None:
    """Return the file of settings, None if there is none.

    Raises SettingsError if the first one there is cannot be read, or VARIABLE names none.
    """
    named = os.environ.get(VARIABLE)
    if named == os.devnull:
        return None
    if named:
        if not _is_there(Path(named)):
            raise SettingsError([f"There is no file {named} (--env-file or {VARIABLE})."])
        _read(Path(named))
        return Path(named)

    for file in (LOCAL_FILE, SYSTEM_FILE):
        if _is_there(file):
            _read(file)
            return file
    return None


def _is_there(file: Path) -> bool:
    """Return whether there is such a file, or may be in a folder that keeps us out."""
    try:
        mode = file.stat().st_mode
    except PermissionError:
        # who stands in another user's folder does not mean the .env there
        return file != LOCAL_FILE
    except OSError:
        return False
    # a folder named .env is a virtual environment
    return file != LOCAL_FILE or not S_ISDIR(mode)


def _read(file: Path) -> str:
    """Return what a file holds. Raises SettingsError with the command that may read it."""
    try:
        # a pipe can be read only once, and a folder not at all
        if not S_ISREG(file.stat().st_mode):
            raise SettingsError([f"{file} cannot be read: it is not a file."])
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingsError([f"{file} cannot be read: it is not text in UTF-8."]) from None
    except PermissionError:
        owner = owner_of(file)
        problem = f"{file} cannot be read: it belongs to {owner}. {_tried(file)}"
        raise SettingsError([problem], f"Use: {_same_command(owner)}") from None
    except OSError as error:
        raise SettingsError([f"{file} cannot be read ({error.strerror}). {_tried(file)}"]) from None


def owner_of(file: Path) -> str:
    """Return the user whom a file belongs to, or the first folder above it that we may see."""
    for path in (file.absolute(), *file.absolute().parents):
        try:
            number = path.stat().st_uid
        except OSError:
            continue
        try:
            return pwd.getpwuid(number).pw_name
        except KeyError:
            return f"#{number}"
    return "root"


def _same_command(user: str) -> str:
    """Return the command that is running, for a user who may read the file."""
    program, *words = sys.argv
    command = [program]
    if Path(program).name == "__main__.py":
        command = [sys.executable, "-m", "fsplanfix"]

    # sudo keeps no variable
    named = os.environ.get(VARIABLE)
    if named and not any(word.startswith("--env-file") for word in words):
        command += ["--env-file", named]
    return shlex.join(["sudo", "-u", user, *command, *words])


def _tried(last: Path | None = None) -> str:
    """Return which files were tried, up to the last."""
    named = os.environ.get(VARIABLE)
    if named:
        return f"Tried: {named} (--env-file or {VARIABLE})."

    files = [LOCAL_FILE] if last == LOCAL_FILE else [LOCAL_FILE, SYSTEM_FILE]
    tried = ", ".join(str(file.absolute()) for file in files)
    return f"Tried: --env-file and {VARIABLE} (not given), {tried}."


def become_owner() -> None:
    """Become the service's user if root uses the settings of the service.

    Otherwise root would make a store that the service cannot open, and find recordings readable
    that the service cannot read.
    """
    if os.geteuid() != 0 or find() != SYSTEM_FILE:
        return
    owner = SYSTEM_FILE.stat()
    if owner.st_uid == 0:
        return
    os.initgroups(owner_of(SYSTEM_FILE), owner.st_gid)
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)


def origin(file: Path | None) -> str:
    """Return where the settings come from, in a sentence or two."""
    if file is not None:
        return f"Settings come from the environment and {file.absolute()}."
    return f"There is no file of settings. {_tried()} `fsplanfix init` creates one."


def unknown_names(file: Path, settings: Collection[str]) -> list[UnknownName]:
    """Return the names in a file that are probably meant for us and are not settings.

    settings: the names of all. Other programs may use ./.env, too: unless it begins as ours do,
    only names that are very like a setting count.
    """
    text = _read(file)
    is_ours = file != LOCAL_FILE or text.startswith(FIRST_WORDS)
    alike = PERHAPS_MEANT if is_ours else PROBABLY_MEANT

    found = []
    for name in dotenv_values(file):
        if name.upper() in settings:
            continue
        nearest = next(iter(get_close_matches(name.upper(), settings, 1, alike)), "")
        if nearest or is_ours:
            found.append(UnknownName(name, nearest))
    return found


_IN_PLAIN_WORDS = {
    "int_parsing": "write a whole number, such as 20.",
    "float_parsing": "write a number, such as 60.",
    "bool_parsing": "write true or false.",
    "greater_than_equal": "the least is {ge:g}.",
    "less_than_equal": "the most is {le:g}.",
    "too_short": "it is empty or too short.",
}
"""Sentences for pydantic's own kinds of errors, which would be hard to act on."""


def sentences(kind: type[BaseSettings], error: ValidationError) -> list[str]:
    """Return a sentence for each setting that is missing or wrong."""
    return [_sentence(kind, problem) for problem in error.errors()]


def _sentence(kind: type[BaseSettings], problem: Any) -> str:
    name = str(problem["loc"][0]) if problem["loc"] else ""
    if problem["type"] == "missing":
        return f"{name.upper()} is missing: {kind.model_fields[name].description}."

    given = problem.get("ctx", {})
    message = _IN_PLAIN_WORDS.get(problem["type"], "").format(**given)
    message = message or str(problem["msg"]).removeprefix("Value error, ")
    description = kind.model_fields[name].description if name in kind.model_fields else None
    if not name:
        return message

    # our own validators say themselves what to write
    hint = ""
    if description and problem["type"] != "value_error":
        hint = f" It is {description}."
    return f"{name.upper()}: {message}{hint}"
