"""Events that could not be stored before the end, kept in files until the next start.

A file is a recorded call like those of `explain --export`: `replay` plays it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import structlog

from ..admin.traces import read_trace, switch_of, write_trace
from ..errors import TraceError
from ..freeswitch.events import SwitchEvent

log = structlog.get_logger(__name__)

NAMES_ANOTHER_LEG = (
    *("Other-Leg-Unique-ID", "Bridge-B-Unique-ID", "variable_originating_leg_uuid"),
    *("variable_ent_originate_aleg_uuid", "variable_cc_member_session_uuid"),
    *("variable_fifo_bridge_uuid", "variable_other_loopback_leg_uuid"),
)


def servers(beside: Path) -> set[str]:
    """Return the addresses of all FreeSWITCHes that have files; log files that cannot be read."""
    found = set()
    for file in beside.parent.glob(f"{beside.name}.spool-*.jsonl.gz"):
        try:
            found.add(switch_of(file))
        except TraceError as error:
            log.error("spool_unreadable", problem=str(error))

    return found


class Spool:
    """The files of one FreeSWITCH.

    beside: what their names begin with: the store's path.
    """

    def __init__(self, beside: Path, server: str) -> None:
        self._server = server
        self._folder = beside.parent
        self._name = f"{beside.name}.spool-{re.sub(r'[^A-Za-z0-9.-]', '_', server)}-"

    def keep(self, events: Sequence[SwitchEvent]) -> Path:
        """Write events to a new file, safe from a power cut, and return it.

        Raises TraceError if that fails.
        """
        name = f"{self._name}{uuid4().hex}.jsonl.gz"
        file, unfinished = self._folder / name, self._folder / f".{name}"
        head: dict[str, object] = {
            "scenario": "events that were not stored",
            "what": "kept by fsplanfix when it was stopped; taken up at its next start",
            "freeswitch": self._server,
        }
        bodies = [(event.at, event.raw.decode("utf-8", "surrogateescape")) for event in events]
        # under a name that no start looks for, until all of it is on the disk
        write_trace(unfinished, head, bodies)

        try:
            with unfinished.open("rb") as written:
                os.fsync(written.fileno())
            unfinished.rename(file)
        except OSError as error:
            raise TraceError(f"{file} cannot be written ({error.strerror}).") from None

        return file

    def files(self) -> Iterator[tuple[Path, list[SwitchEvent]]]:
        """Yield each file with its events; leave a file that cannot be read where it is."""
        for file in sorted(self._folder.glob(f"{self._name}*.jsonl.gz")):
            try:
                bodies = [body for _, body in read_trace(file)]
            except TraceError as error:
                log.error("spool_unreadable", server=self._server, problem=str(error))
                continue
            yield file, [SwitchEvent(body.encode("utf-8", "surrogateescape")) for body in bodies]


def without_known(events: Sequence[SwitchEvent], states: Iterable[str]) -> list[SwitchEvent]:
    """Return the events that the states of the open calls do not hold yet.

    states: as the store keeps them. An event belongs to a call if it names one of its legs, or a
    leg that does.
    """
    # Another worker may have received more of a call meanwhile. Fed to what is known of it, the
    # beginning of the call would become a second call.
    known_until: dict[str, int] = {}
    for state in states:
        try:
            found = json.loads(state)
            legs = {found["call"]["first_leg"], *(leg["uuid"] for leg in found["legs"])}
            known_until |= dict.fromkeys(legs, int(found["last_at"]))
        except (ValueError, KeyError, TypeError):
            continue

    # until nothing is added: a leg may belong to a call only through two or three others
    links = [{event.leg, *map(event.get, NAMES_ANOTHER_LEG)} - {""} for event in events]
    before = -1
    while before != len(known_until):
        before = len(known_until)
        for named in links:
            until = max((known_until[leg] for leg in named & known_until.keys()), default=0)
            if until:
                known_until |= dict.fromkeys(named - known_until.keys(), until)

    # Of the last moment known all are returned, since FreeSWITCH's clock ticks every 20 ms: the
    # tracker ignores those it has seen.
    return [event for event in events if event.at >= known_until.get(event.leg, 0)]
