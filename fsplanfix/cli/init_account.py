"""What `init --account` asks and says: a company more on a switch of several."""

from __future__ import annotations

from collections.abc import Mapping

import click

from .. import settings_file
from ..admin.check_planfix import ping
from ..admin.findings import Grade
from ..admin.new_account import add_account, file_of_accounts, is_account
from ..errors import SettingsError
from ..settings import Settings, load
from .root import say

ALSO = ("country", "extension_pattern", "user_domain", "dial_context", "dial_string")
"""Settings that an option may give, and nobody is asked about."""

NEXT = """\

In Planfix: Integrations, Virtual PBX, Planfix API for telephony. Enter

   address of your PBX   {base}/planfix
   key of your PBX       {key}
"""

NOT_NAMED_YET = """\
The settings do not name {file} yet. Once every company of the switch is in it,
also the one of the settings so far, set ACCOUNTS_FILE={file}
"""


def add(name: str, options: Mapping[str, str | None], asks: bool) -> None:
    """Add an account to the file, with answers from options or, in a terminal, from a person.

    options: by setting. Raises SettingsError.
    """
    given = {setting: text for setting, text in options.items() if text is not None}
    file, is_named = file_of_accounts(settings_file.find())
    if is_account(file, name):
        raise SettingsError([f"There is an account {name} in {file} already: change it there."])

    url = _answer(given, "planfix_url", "Address for requests, as Planfix shows it", asks)
    token = ""
    if url:
        token = _answer(given, "planfix_token", "Token, as Planfix shows it", asks, hidden=True)
    domains = _answer(given, "domains", "Domains of its users, with commas", asks)
    lines = _answer(given, "lines", "Numbers of its lines, with commas", asks)
    if asks and url:
        found, _ = ping(url, token)
        say(f"Planfix: {found.what}")
        if found.grade is not Grade.OK:
            say(f"Hint: {found.hint}")
            click.confirm("Write it anyway?", default=False, abort=True)

    others = {name: given.get(name, "") for name in ALSO}
    values: dict[str, str | list[str]] = {
        **others,
        "planfix_url": url,
        "planfix_token": token,
        "domains": _listed(domains),
        "lines": _listed(lines),
    }
    key = add_account(file, name, values)
    say(f"Added {name} to {file} (readable only by {settings_file.owner_of(file)}).")
    say(NEXT.format(base=_base(), key=key))
    if not is_named:
        say(NOT_NAMED_YET.format(file=file.absolute()))
    else:
        say(f"Then: fsplanfix reload, and: fsplanfix check --account {name}")


def _answer(
    given: dict[str, str], setting: str, words: str, asks: bool, *, hidden: bool = False
) -> str:
    if setting in given or not asks:
        return given.get(setting, "").strip()
    text = click.prompt(f"{words} (empty: none)", default="", show_default=False, hide_input=hidden)
    return str(text).strip()


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _base() -> str:
    """Return our address for Planfix."""
    try:
        address = load(Settings).public_url
    except SettingsError:
        address = None
    return (address or "https://pbx.example.com").rstrip("/")
