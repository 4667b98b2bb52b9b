"""What `fsplanfix check` says about FreeSWITCH's call detail records."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from ..errors import RecordError
from ..freeswitch.connection import Connection
from ..history.folder import ENDINGS, Folder, Found
from ..history.record import Record
from ..settings import Settings
from .findings import Finding, Grade
from .initial_settings import shipped

OLD = 86400.0
"""Seconds without a new record after which that is worth a line."""

LOOKED_AT = 100
"""Records, the newest."""

MODULES = {"json": "mod_json_cdr", "xml": "mod_xml_cdr"}
HOW = f"see {shipped('contrib/cdr/README.md')}"


def check_records(settings: Settings) -> Iterator[Finding]:
    """Check that records reach us, and those of both legs; without CDR_DIR say nothing."""
    if settings.cdr_dir is None:
        return

    kind, where = settings.cdr_kind, str(settings.cdr_dir)
    folder = Folder(settings.cdr_dir, kind)
    try:
        found = folder.since(0)
    except OSError as error:
        what = f"CDR_DIR={where} cannot be read ({error.strerror})"
        hint = "let the service's user read it: usermod -aG freeswitch fsplanfix"
        yield _finding("unreadable", Grade.BROKEN, what, hint)
        return

    if not found:
        yield _none_at_all(settings, kind)
        return

    age = time.time() - found[-1].written
    if age > OLD:
        what = f"the newest in {where} is {age / 86400:.0f} days old"
        yield _finding("old", Grade.WARNING, what, f"does FreeSWITCH still write here? {HOW}")

    yield from _both_legs(folder, found[-LOOKED_AT:])


def _none_at_all(settings: Settings, kind: str) -> Finding:
    other = next(name for name in ENDINGS if name != kind)
    if settings.cdr_dir is not None and Folder(settings.cdr_dir, other).since(0):
        what = f"CDR_DIR has records of {MODULES[other]}, not of {MODULES[kind]}"
        return _finding("other-kind", Grade.BROKEN, what, f"set CDR_KIND={other}")
    what = f"no records in CDR_DIR={settings.cdr_dir} yet"
    return _finding("none", Grade.WARNING, what, f"place a call; if none comes, {HOW}")


def _both_legs(folder: Folder, newest: Sequence[Found]) -> Iterator[Finding]:
    read: list[Record] = []
    for file in newest:
        try:
            read.append(folder.read(file.name))
        except (RecordError, FileNotFoundError):
            continue

    if not read:
        what = f"none of the newest {len(newest)} can be read"
        yield _finding("broken", Grade.BROKEN, what, f"is CDR_KIND right? {HOW}")
    elif any(record.variable("originating_leg_uuid") for record in read):
        yield _finding("sound", Grade.OK, "of both legs reach us")
    # a call that nobody was rung for has one leg only
    elif any(record.variable("originated_legs") for record in read):
        what = "only the callers' legs are recorded: whose phones rang cannot be told"
        yield _finding("one-leg", Grade.BROKEN, what, "log-b-leg must be true in the module's file")


def check_module(settings: Settings, connection: Connection) -> Iterator[Finding]:
    """Check that the module that writes the records is loaded."""
    if settings.cdr_dir is None and not settings.cdr_secret.get_secret_value():
        return

    name = MODULES[settings.cdr_kind if settings.cdr_dir is not None else "json"]
    # FreeSWITCH may forbid the command: then nothing is said
    if connection.api(f"module_exists {name}").strip() == "false":
        what = f"{name} is not loaded: no call can be told afterwards"
        hint = f"load it in modules.conf.xml; {HOW}"
        part = connection.server.name
        yield Finding("records.no-module", Grade.BROKEN, part, what, hint)


def _finding(reason: str, grade: Grade, what: str, hint: str = "") -> Finding:
    return Finding(f"records.{reason}", grade, "records", what, hint)
