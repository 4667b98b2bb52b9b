"""Events in files: those that could not be stored before the end, and those set aside.

A file is a recorded call like those of `explain --export`: `replay` plays it.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from ..admin.traces import read_trace, switch_of, write_trace
from ..errors import TraceError
from ..freeswitch.events import SwitchEvent

if TYPE_CHECKING:
    from .pipeline import Pipeline

log = structlog.get_logger(__name__)


def servers(beside: Path) -> set[str]:
    """Return the addresses of all FreeSWITCHes that have files; log files that cannot be read."""
    found = set()
    for file in beside.parent.glob(f"{glob.escape(beside.name)}.spool-*.jsonl.gz"):
        try:
            found.add(switch_of(file))
        except TraceError as error:
            log.error("spool_unreadable", problem=str(error))

    return found


class Spool:
    """The files of one FreeSWITCH.

    beside: what their names begin with: the store's path. aside: the file of events set aside.
    """

    def __init__(self, beside: Path, server: str) -> None:
        self._server = server
        self._folder = beside.parent
        in_names = re.sub(r"[^A-Za-z0-9.-]", "_", server)
        self._name = f"{beside.name}.spool-{in_names}-"
        self.aside = self._folder / f"{beside.name}.set-aside-{in_names}.jsonl.gz"

    def keep(self, events: Sequence[SwitchEvent]) -> Path:
        """Write events to a new file, safe from a power cut, and return it.

        Raises TraceError if that fails.
        """
        file = self._folder / f"{self._name}{uuid4().hex}.jsonl.gz"
        self._write(file, events, "kept by fsplanfix when it was stopped; its next start reads it")
        return file

    def keep_aside(self, events: Sequence[SwitchEvent]) -> None:
        """Write the events that could not be processed to one file, for a report."""
        try:
            self._write(self.aside, events, "events that fsplanfix could not process")
        except TraceError as error:
            log.error("events_set_aside_not_kept", server=self._server, problem=str(error))

    def _write(self, file: Path, events: Sequence[SwitchEvent], what: str) -> None:
        head: dict[str, object] = {
            "scenario": "events that were not stored",
            "what": what,
            "freeswitch": self._server,
        }
        bodies = [(event.at, event.raw.decode("utf-8", "surrogateescape")) for event in events]
        # under a name that no start looks for, until all of it is on the disk
        unfinished = file.with_name(f".{file.name}")
        write_trace(unfinished, head, bodies)

        try:
            with unfinished.open("rb") as written:
                os.fsync(written.fileno())
            unfinished.rename(file)
        except OSError as error:
            raise TraceError(f"{file} cannot be written ({error.strerror}).") from None

    def files(self) -> Iterator[tuple[Path, list[SwitchEvent]]]:
        """Yield each file with its events, the one that begins first at first.

        A file that cannot be read stays where it is.
        """
        found = []
        for file in self._folder.glob(f"{glob.escape(self._name)}*.jsonl.gz"):
            try:
                bodies = [body for _, body in read_trace(file)]
            except TraceError as error:
                log.error("spool_unreadable", server=self._server, problem=str(error))
                continue
            events = [SwitchEvent(body.encode("utf-8", "surrogateescape")) for body in bodies]
            begun = next((event.at for event in events if event.at), 0)
            found.append((begun, file, events))

        # an outage may last through two ends, and the names of files say nothing of their order
        for _, file, events in sorted(found, key=lambda one: one[:2]):
            yield file, events

    def remove(self, file: Path) -> None:
        """Delete a file whose events are in the store."""
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            self._report_stuck(file, error)

    def reject(self, file: Path) -> None:
        """Rename a file whose events cannot be taken, so that no start reads it again."""
        try:
            file.rename(file.with_suffix(".failed"))
        except OSError as error:
            self._report_stuck(file, error)

    def _report_stuck(self, file: Path, error: OSError) -> None:
        log.error(
            "spool_stuck",
            server=self._server,
            file=str(file),
            problem=error.strerror,
            hint="delete it; until then each start reads it again, which does no harm",
        )


def keep_unsaved_events(pipelines: Iterable[Pipeline]) -> bool:
    """Write to files what pipelines that have ended could not store; return whether nothing was."""
    is_whole = True
    for pipeline in pipelines:
        try:
            file = pipeline.keep_the_rest()
        except Exception as error:  # the other pipelines' events are to be kept all the same
            is_whole = False
            log.error("events_lost", server=pipeline.server, problem=str(error) or repr(error))
            continue
        if file is not None:
            is_whole = False
            log.error(
                "events_kept",
                server=pipeline.server,
                file=str(file),
                hint="the store did not answer; the next start takes them up",
            )

    return is_whole
