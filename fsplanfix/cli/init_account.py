"""What `init --account` asks and says: a company more on a switch of several."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill

import click

from .. import settings_file
from ..admin.answers import understood
from ..admin.check_planfix import ping
from ..admin.findings import Grade
from ..admin.new_account import add_account, examine_name, file_of_accounts, is_account
from ..errors import SettingsError
from ..printable import WIDTH
from ..settings import Settings, load
from .root import WHOLE_WORDS, say

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
    settings = settings_file.find()
    file, is_named = file_of_accounts(settings)
    examine_name(name)
    if is_account(file, name):
        raise SettingsError([f"There is an account {name} in {file} already: change it there."])

    url, token = _planfix(given, asks)
    domains, lines = _whose(given, asks)
    while asks and not (domains or lines or given.keys() & {"domains", "lines"}):
        say("Name domains or lines: they say which calls are this company's.")
        domains, lines = _whose(given, asks)

    others = {name: given.get(name, "") for name in ALSO}
    values: dict[str, str | list[str]] = {
        **others,
        "planfix_url": url,
        "planfix_token": token,
        "domains": _listed(domains),
        "lines": _listed(lines),
    }
    key = add_account(file, name, values, settings)
    say(f"Added {name} to {file} (readable only by {settings_file.owner_of(file)}).")
    say(NEXT.format(base=_base(), key=key))
    if not is_named:
        say(NOT_NAMED_YET.format(file=file.absolute()))
    else:
        say(f"Then: fsplanfix reload, and: fsplanfix check --account {name}")


def _planfix(given: dict[str, str], asks: bool) -> tuple[str, str]:
    """Return the address and token of its Planfix, once it answers or they shall be written."""
    while True:
        url = _answer(given, "planfix_url", "Address for requests, as Planfix shows it", asks)
        if not url:
            return "", ""
        token = _answer(given, "planfix_token", "Token, as Planfix shows it", asks, hidden=True)
        if not asks:
            return url, token

        found, _ = ping(url, token)
        say(f"Planfix: {found.what}")
        if found.grade is Grade.OK:
            return url, token
        say(f"Hint: {found.hint}")
        if click.confirm("Write it anyway?", default=False):
            return url, token
        given.pop("planfix_url", None)
        given.pop("planfix_token", None)


def _whose(given: dict[str, str], asks: bool) -> tuple[str, str]:
    """Return the domains and the lines."""
    domains = _answer(given, "domains", "Domains of its users, with commas", asks)
    return domains, _answer(given, "lines", "Numbers of its lines, with commas", asks)


def _answer(
    given: dict[str, str], setting: str, words: str, asks: bool, *, hidden: bool = False
) -> str:
    """Return an answer; ask again after a wrong one. Raises SettingsError if an option is wrong."""
    while True:
        text = given.get(setting, "")
        is_asked = asks and setting not in given
        if is_asked:
            question = words if hidden else f"{words} (empty: none)"
            text = click.prompt(question, default="", show_default=False, hide_input=hidden)
        try:
            value, note = understood(setting, setting.upper(), text.strip())
        except SettingsError as error:
            if not is_asked:
                raise
            say(fill(error.problems[0], WIDTH, **WHOLE_WORDS))
            continue
        if note:
            say(note)
        return value


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _base() -> str:
    """Return our address for Planfix."""
    try:
        address = load(Settings).public_url
    except SettingsError:
        address = None
    return (address or "https://pbx.example.com").rstrip("/")
