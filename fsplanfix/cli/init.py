"""The command that makes the settings, and makes them again: init."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import click

from .. import settings_file
from ..admin import initial_settings
from ..admin.answers import present_server, server_at, understood
from ..admin.check import DEFAULT_PASSWORD
from ..admin.check_planfix import ping
from ..admin.findings import Grade
from ..admin.fs_cli_file import FS_CLI_FILE, write_fs_cli
from ..admin.next_steps import what_to_do
from ..admin.switch_survey import Survey, survey
from ..errors import LinkError, SettingsError
from ..freeswitch.connection import Server
from ..printable import WIDTH
from . import init_account
from .root import cli, errors_as_one_line, say

AFTER_FREESWITCH = ("extension_pattern", "user_domain", "dial_context", "dial_string")
"""Questions that make sense only with FreeSWITCH's own account of itself."""

NONE = "-"
"""The answer that replaces a default by nothing."""

WRITE_ANYWAY = "Write it anyway? (No asks again)"


class Socket(NamedTuple):
    """What is known about the event socket.

    server: None if FREESWITCH_ESL stays as it is. found: None if FreeSWITCH did not answer.
    """

    server: Server | None
    found: Survey | None

    @property
    def is_accepted(self) -> bool:
        """Return whether FreeSWITCH has the password of the settings."""
        known = self.found.password if self.found else None
        return self.server is not None and known == self.server.password


@cli.command("init")
@click.option(
    "--planfix-url",
    envvar="PLANFIX_URL",
    help="Address for requests, as Planfix shows it. Without it Planfix tells it itself (setup).",
)
@click.option(
    "--planfix-token",
    envvar="PLANFIX_TOKEN",
    help="Token, as Planfix shows it (safer in the environment).",
)
@click.option("--public-url", envvar="PUBLIC_URL", help="Public https URL of this service.")
@click.option("--freeswitch", help="Event socket of FreeSWITCH, host:port.")
@click.option("--freeswitch-password", envvar="FREESWITCH_PASSWORD", help="Generated if omitted.")
@click.option("--recordings-dir", help="Folder of FreeSWITCH's recordings.")
@click.option("--store-url", help="Database URL.")
@click.option("--country", help="Country of numbers without a country code, such as RU.")
@click.option("--extension-pattern", help="Which users are exts, as a regular expression.")
@click.option("--user-domain", help="Domain of FreeSWITCH's users.")
@click.option("--dial-context", help="Dialplan context that clicks dial through.")
@click.option("--dial-string", help="How a click dials, such as sofia/gateway/trunk/{number}.")
@click.option(
    "--fs-cli",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value=FS_CLI_FILE,
    help=f"Write the event socket's password where fs_cli finds it. Default: {FS_CLI_FILE}.",
)
@click.option(
    "--new-secrets",
    is_flag=True,
    help="Replace PBX_TOKEN, SECRET_KEY and ADMIN_PASSWORD; old links to recordings still work.",
)
@click.option(
    "--file", "file", type=click.Path(path_type=Path), help="File to write. Default: --env-file."
)
@click.option("--account", metavar="NAME", help="Add a company to ACCOUNTS_FILE, and nothing else.")
@click.option("--domains", help="With --account: the domains of its users, with commas.")
@click.option("--lines", help="With --account: the numbers of its lines, with commas.")
@click.option("--force", is_flag=True, help="Change a file that is there without asking.")
@errors_as_one_line
def init_command(
    file: Path | None, force: bool, new_secrets: bool, fs_cli: Path | None, **given: str | None
) -> None:
    """Create the file of settings interactively, or change it.

    Generates the secrets, tries Planfix and FreeSWITCH, and says what to enter there. A file that
    is there keeps its secrets and all settings that are not asked about; FILE.old is how it was.
    Without a terminal nothing is asked or tried: options that are missing take their defaults.
    """
    asks = sys.stdin.isatty()
    if account := given.pop("account"):
        init_account.add(account, given, asks)
        return
    file = file or initial_settings.default_file()
    is_there = os.path.exists(file)
    if is_there and not asks and not force:
        raise SettingsError([f"{file} already exists; use --force to change it."])
    present = initial_settings.present(file)
    if is_there and asks and not force:
        say(f"{file} already exists. Its values are offered, and its other lines stay.")
        click.confirm("Change it?", default=True, abort=True)
        new_secrets = new_secrets or click.confirm(
            "Replace its secrets (PBX_TOKEN, SECRET_KEY, ADMIN_PASSWORD)?", default=False
        )

    interview = Interview(asks, given, present, initial_settings.questions(file))
    values = interview.planfix()
    socket = interview.socket()
    values |= interview.rest(socket.found)
    if socket.server is not None:
        values["FREESWITCH_ESL"] = f"esl://:{socket.server.password}@{socket.server.name}"
    values |= initial_settings.generated(present, new_secrets)

    if initial_settings.write(file, values):
        say(f"\nWrote {file} (readable only by {settings_file.owner_of(file)}).")
        if is_there:
            say(f"{file}.old is the file as it was.")
    else:
        say(f"\n{file} stays as it is.")

    if fs_cli is None and asks and socket.server is not None and not socket.is_accepted:
        question = f"Write the new password into {FS_CLI_FILE}, where fs_cli finds it?"
        fs_cli = FS_CLI_FILE if click.confirm(question, default=False) else None
    problem = None
    if fs_cli is not None:
        try:
            _write_fs_cli(fs_cli, socket.server)
        except SettingsError as error:
            # what remains to be done is said all the same
            problem, fs_cli = error, None

    settings = {**present, **values}
    is_accepted = socket.is_accepted
    say(what_to_do(file, settings, socket.server, is_accepted=is_accepted, fs_cli=fs_cli))
    if problem is not None:
        raise problem


def _write_fs_cli(file: Path, server: Server | None) -> None:
    if server is None:
        raise SettingsError(
            [f"{file} is not written: FREESWITCH_ESL does not name one FreeSWITCH."]
        )
    write_fs_cli(file, server)
    say(f"Wrote {file}.")


class Interview:
    """Asks the questions. given: answers from options, by option. present: the settings so far."""

    def __init__(
        self,
        asks: bool,
        given: Mapping[str, str | None],
        present: Mapping[str, str],
        questions: Mapping[str, initial_settings.Question],
    ) -> None:
        self._asks = asks
        self._given = {name: text.strip() for name, text in given.items() if text is not None}
        self._present = dict(present)
        self._questions = questions
        self._answers: dict[str, str] = {}

    def planfix(self) -> dict[str, str]:
        """Return what Planfix needs, once it answers or shall be written anyway."""
        if self._asks and "planfix_url" not in self._given:
            say(f"Planfix can tell its address and token itself: then answer {NONE} here.")
        while True:
            url = self.answer("planfix_url")
            values = {"PLANFIX_URL": url}
            if not url and not self._given.get("planfix_token"):
                # Planfix tells both (planfix/pairing.py), and neither may stand here alone
                values |= {"PLANFIX_TOKEN": "", "PLANFIX_TOKEN_FILE": ""}
            # a token in a file of its own stays there
            elif not self._present.get("PLANFIX_TOKEN_FILE"):
                values["PLANFIX_TOKEN"] = self.answer("planfix_token")
            values["PUBLIC_URL"] = self.answer("public_url")
            if not self._asks or not url or "PLANFIX_TOKEN" not in values:
                return values

            say(f"Asking Planfix at {url} ...")
            found, _ = ping(url, values["PLANFIX_TOKEN"])
            if self._may_go_on(f"Planfix: {found.what}", found.grade is Grade.OK, found.hint):
                return values
            self._ask_again(values, "planfix_url", "planfix_token", "public_url")

    def socket(self) -> Socket:
        """Return the event socket, once FreeSWITCH answers or it shall be written anyway."""
        given = self._given.keys() & {"freeswitch", "freeswitch_password"}
        is_elsewhere = self._present.get("FREESWITCH_ESL_FILE")
        before = present_server(self._present.get("FREESWITCH_ESL", ""))
        if not given and (is_elsewhere or (self._present.get("FREESWITCH_ESL") and not before)):
            say("FREESWITCH_ESL stays as it is.")
            return Socket(None, None)

        while True:
            address = self.answer("freeswitch", before.name if before else "")
            known = before.password if before else ""
            typed = self.answer("freeswitch_password", known)
            # the same password goes into FREESWITCH_ESL and into the text for event_socket.conf.xml
            server = server_at(address, typed or secrets.token_hex(16))
            if not self._asks:
                return Socket(server, None)

            say(f"Asking FreeSWITCH at {server.name} ...")
            passwords = [password for password in (typed, DEFAULT_PASSWORD) if password]
            try:
                found = survey(server.host, server.port, list(dict.fromkeys(passwords)))
            except LinkError as error:
                if self._may_go_on(str(error), False):
                    return Socket(server, None)
                self._given.pop("freeswitch", None)
                self._given.pop("freeswitch_password", None)
                before = server if typed else before
                continue

            for sentence in found.sentences():
                _show(sentence)
            if found.password != server.password:
                _show("It still has the default password; step 2 below puts in the new one.")
            return Socket(server, found)

    def rest(self, found: Survey | None) -> dict[str, str]:
        """Return the answers to the other questions. found: what FreeSWITCH said of itself."""
        names = ["recordings_dir", "store_url", "country"]
        proposed = found.proposals() if found else {}
        names += [name for name in AFTER_FREESWITCH if found or name in self._given]

        values: dict[str, str] = {}
        for name in names:
            # with a context the dialplan chooses the gateway
            if name == "dial_string" and values.get("DIAL_CONTEXT") and name not in self._given:
                continue
            question = self._questions[name]
            value = self.answer(name, proposed.get(name, ""))
            # a default that nobody changed needs no line
            is_default = name in AFTER_FREESWITCH and value == question.default
            values[question.setting] = "" if is_default else value
        return values

    def answer(self, option: str, proposal: str = "") -> str:
        """Return the answer to a question; ask again after a wrong one.

        Raises SettingsError if an option of the command is wrong.
        """
        question = self._questions[option]
        beside = {**self._present, **self._answers}
        if option in self._given:
            value, note = understood(option, question.setting, self._given[option], beside)
            if note:
                say(note)
            return self._noted(question.setting, value)

        default = self._present.get(question.setting) or proposal or question.default
        while self._asks:
            text = click.prompt(
                _words(question, default),
                default=default,
                show_default=bool(default) and not question.is_secret,
                hide_input=question.is_secret,
            ).strip()
            if text == NONE and not question.default:
                text = ""
            try:
                value, note = understood(option, question.setting, text, beside)
            except SettingsError as error:
                _show(error.problems[0])
                continue
            if note:
                _show(note)
            return self._noted(question.setting, value)
        return default

    def _noted(self, setting: str, value: str) -> str:
        """Return an answer; those that follow must fit it."""
        if setting:
            self._answers[setting] = value
        return value

    def _may_go_on(self, what: str, is_sound: bool, hint: str = "") -> bool:
        """Show what a trial found; return whether its answers shall be written."""
        _show(what)
        if is_sound:
            return True
        if hint:
            _show(f"Hint: {hint}")
        return click.confirm(WRITE_ANYWAY, default=False)

    def _ask_again(self, values: Mapping[str, str], *options: str) -> None:
        """Offer these values at the next turn, those of options, too."""
        self._present |= values
        for option in options:
            self._given.pop(option, None)


def _words(question: initial_settings.Question, default: str) -> str:
    """Return a question with what an empty answer means, or how to give one."""
    if question.is_secret and default:
        return f"{question.words} (empty: the present one)"
    if question.empty and not default:
        return f"{question.words} (empty: {question.empty})"
    if question.empty:
        return f"{question.words} ({NONE}: {question.empty})"
    return question.words


def _show(text: str) -> None:
    say(fill(text, WIDTH, break_on_hyphens=False, break_long_words=False))
