"""`fsplanfix init --account`: adds a company to the file of accounts, and changes no other line."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from ..errors import SettingsError
from ..settings import AccountSettings, Settings, load
from ..settings.accounts import load_accounts, wrong_name
from ..settings_file import LOCAL_FILE
from .initial_settings import write_private

NAME_OF_FILE = "accounts.toml"

FIRST_LINE = "# The companies on this switch; docs/accounts.md explains the file.\n"


def file_of_accounts(settings_file: Path | None) -> tuple[Path, bool]:
    """Return the file of accounts, and whether the settings name it.

    If they do not, it is to be beside the file of settings.
    """
    named = load(AccountSettings).accounts_file
    if named is not None:
        return named, True
    return (settings_file or LOCAL_FILE).with_name(NAME_OF_FILE), False


def examine_name(name: str) -> None:
    """Raise SettingsError if no account can have this name."""
    if problem := wrong_name(name):
        raise SettingsError([problem])


def add_account(
    file: Path, name: str, values: Mapping[str, str | list[str]], settings: Path | None = None
) -> str:
    """Add an account to a file, which may be new; return the key made for its Planfix.

    values: by setting; an empty one is left out. settings: the file of settings; a new file belongs
    to its owner, for the service must read both. The file is replaced completely or not at all.
    Raises SettingsError if the whole would not do, or cannot be written.
    """
    examine_name(name)
    key = secrets.token_hex(16)
    lines = [f"[{name}]"]
    for setting, value in {**values, "pbx_token": key}.items():
        if value:
            lines.append(f"{setting} = {json.dumps(value, ensure_ascii=False)}")

    new = file.with_name(f"{file.name}.new")
    try:
        before = file.read_text(encoding="utf-8") if file.exists() else FIRST_LINE
        gap = "" if before.endswith("\n") else "\n"
        beside = file if file.exists() or settings is None else settings
        write_private(new, f"{before}{gap}\n" + "\n".join(lines) + "\n", beside)
        try:
            # read back as the service will read it
            load_accounts(Settings, {"ACCOUNTS_FILE": str(new)})
        except SettingsError as error:
            new.unlink()
            raise SettingsError(error.problems, f"{file} stays as it is.") from None
        os.replace(new, file)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise SettingsError([f"{file} cannot be changed ({reason})."]) from None
    return key


def is_account(file: Path, name: str) -> bool:
    """Return whether a file has an account already. Raises SettingsError if it cannot be read."""
    return file.exists() and name in load_accounts(Settings, {"ACCOUNTS_FILE": str(file)})
