"""Tells the calls that nobody heard, from FreeSWITCH's call detail records
(docs/call-rules.md, rule 19).

After each time in which no worker listened, the records that were written since are read, and the
calls that the store does not know are told, oldest first and no faster than HISTORY_RATE. Calls
that the store knows are the pipeline's: it asks for the records of their legs here.
"""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Protocol, TypeVar, cast

import gevent
import structlog
from gevent.event import Event
from gevent.lock import RLock

from ..calls.model import MICROSECONDS, Notice
from ..calls.reconcile import Dump
from ..calls.tracker import Tracker
from ..calls.whose import AnyRules
from ..errors import RecordError, StoreError
from ..history.calls import Retold, legs_named, together
from ..history.folder import Folder, Found
from ..history.merge import legs_to_ask_for
from ..history.record import Record, uuids_of
from ..outbox.batch import Batch
from ..outbox.retry import until_store_answers
from ..outbox.store import Store

log = structlog.get_logger(__name__)
T = TypeVar("T")

LOOK_EVERY, SELDOM = 5.0, 30.0
"""Seconds between two looks into the folders while records may come: at first, and after SOON. To
list 100,000 names takes a second of a busy core."""

SOON = 120.0
"""Seconds after an absence within which nearly every record comes."""

COMES_WITHIN = 3600.0
"""Seconds after which no record of an absence is waited for any more."""

SETTLED = 3.0
"""Seconds after which a record counts as older than what a worker has still in hand."""

WHOLE_WITHIN = 60.0
"""Seconds in which a file that cannot be read may still be being written."""

MISSED_WITHIN = 15.0
"""Seconds for which the record of another leg of a call is waited for."""

AT_FIRST = 600.0
"""Seconds before the very first link whose calls are told: our clock may be off by minutes."""

LAST_SIGN = 60.0
"""Seconds before FreeSWITCH's last sign of life whose records are looked at as well: what happened
then may not have reached the store."""

OVERLAP = 5.0
"""Seconds of files that a start reads again behind what was told."""

REST = 0.001
"""Seconds between two files: reading them without a pause holds up windows by 30 ms and more."""

FILES_AT_ONCE = 500
"""Files that are read before their calls are told."""

MOST_WAITING = 20_000
"""Records that wait for those of other legs."""

ROUNDS = 3
"""How often records lead to further records: a transfer to a transfer to a transfer."""

ABSENCE, TOLD_UNTIL = "absence ", "records told until "
"""What the names of facts begin with. After the one comes a Core-UUID, after the other what stands
for the machine and the folder."""


@dataclass(frozen=True, slots=True)
class Absence:
    """A time in which no worker heard a FreeSWITCH.

    since: its last sign of life before that, microseconds since 1970 by its own clock. The end is
    not needed: what was heard afterwards is in the store.
    """

    server: str
    core: str
    since: int

    @property
    def name(self) -> str:
        """Return the name of the fact that keeps it."""
        return ABSENCE + self.core[:50]

    def holds(self, record: Record) -> bool:
        """Tell whether a leg was up then, or later."""
        return record.ended >= self.since - int(LAST_SIGN * MICROSECONDS)


class Records(Protocol):
    """What a pipeline asks of FreeSWITCH's records."""

    @property
    def may_come(self) -> bool:
        """Tell whether there are records at all."""

    def of(self, legs: Collection[str]) -> list[Record]:
        """Return the records of some legs, and of those that these have called."""

    def note_absence(self, server: str, core: str, since: int, until: int) -> None:
        """Note a time in which nobody heard a FreeSWITCH (microseconds since 1970)."""


class _NoRecords:
    may_come = False

    def of(self, _: Collection[str]) -> list[Record]:
        return []

    def note_absence(self, server: str, core: str, since: int, until: int) -> None:
        """Do nothing."""


NO_RECORDS: Records = _NoRecords()
"""For a service that reads none."""


def unheard(
    records: Records, tracker: Tracker, channels: Sequence[Dump]
) -> tuple[list[Record], set[str]]:
    """Return the records of the legs that a tracker has not heard the end of, and of those that
    live legs have called; and the known legs that are gone and have no record yet.

    channels: the live ones.
    """
    if not records.may_come:
        return [], set()

    wanted = legs_to_ask_for(tracker, channels)
    found = records.of(wanted)
    return found, wanted & tracker.book.legs.keys() - {record.uuid for record in found}


class History:
    """Reads FreeSWITCH's records for one worker.

    folders: where they are; without one, nothing is ever done. rate: calls told in a second.
    on_saved: called after each write. on_notice: called with each notice.
    steady: a clock that never jumps, in seconds.
    told: how many calls were told. passed_over: how many files could not be used.
    """

    def __init__(
        self,
        folders: Sequence[Folder],
        rules: AnyRules,
        store: Store,
        rate: float,
        on_saved: Callable[[], None],
        on_notice: Callable[[Notice], None],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.told = 0
        self.passed_over = 0
        self._folders = folders
        self._rules = rules
        self._store = store
        self._rate = rate
        self._on_saved = on_saved
        self._on_notice = on_notice
        # no file's time is compared with our own clock, which may be off
        self._steady = steady
        self._noted: dict[str, float] = {}
        self._seen: dict[str, float] = {}
        self._unread: dict[str, float] = {}
        self._wake = Event()
        self._lock = RLock()
        self._read: dict[Folder, dict[str, float]] = {folder: {} for folder in folders}
        self._begin: dict[Folder, float] = {}
        self._waiting: dict[str, tuple[float, Record]] = {}

    # for the pipelines

    @property
    def may_come(self) -> bool:
        """Tell whether there are records at all."""
        return bool(self._folders)

    def of(self, legs: Collection[str]) -> list[Record]:
        """Return the records of some legs, and of those that these have called."""
        found: dict[str, Record] = {}
        wanted = set(legs)
        for _ in range(ROUNDS):
            wanted -= found.keys()
            if not wanted or not self._folders:
                break
            for folder in self._folders:
                for record in in_a_thread(partial(folder.find, sorted(wanted))):
                    found.setdefault(record.uuid, record)
            wanted = {
                uuid
                for record in found.values()
                for uuid in uuids_of(record.variable("originated_legs"))
            }
        return list(found.values())

    def note_absence(self, server: str, core: str, since: int, until: int) -> None:
        """Note a time in which nobody heard a FreeSWITCH; its calls will be told.

        since: its last sign of life, 0 if it was never heard. until: when a worker listened again,
        by our own clock. Both in microseconds since 1970. Raises StoreError.
        """
        if not self._folders:
            return

        # all workers may be killed before the first sign of life is stored
        since = since or until - int(AT_FIRST * MICROSECONDS)
        with self._lock:
            absence = Absence(server, core, since)
            if (known := self._absences().get(absence.name)) is not None:
                absence = replace(absence, since=min(since, known.since))
            self._store.facts.set(absence.name, json.dumps(asdict(absence)))
            self._noted[absence.name] = self._steady()

            # records that were of no interest before may be so now
            begin = since / MICROSECONDS - LAST_SIGN
            for folder, read in self._read.items():
                self._move(folder, begin, is_back=True)
                self._begin.pop(folder, None)
                for name in [name for name, written in read.items() if written >= begin]:
                    del read[name]
        self._wake.set()

    # by itself

    def run(self) -> None:
        """Work for ever."""
        while True:
            if not self.look():
                self._wake.wait()
            self._wake.clear()
            self._wake.wait(self._pause())

    def _pause(self) -> float:
        latest = max(self._noted.values(), default=0.0)
        return LOOK_EVERY if self._steady() - latest < SOON else SELDOM

    def look(self) -> bool:
        """Tell what the records have that the store does not; return whether more may come."""
        try:
            absences = self._absences()
            if absences:
                self._tell_all(list(absences.values()))
            self._forget(absences)
        except StoreError as error:
            log.error("history_waits", problem=str(error))
            return True

        if not absences:
            self._waiting.clear()
            self._seen.clear()
            self._begin.clear()
            for read in self._read.values():
                read.clear()
        return bool(absences)

    def _forget(self, absences: Iterable[str]) -> None:
        """Let go of absences of which no record comes any more."""
        now = self._steady()
        with self._lock:
            for name in absences:
                if now - self._noted.setdefault(name, now) > COMES_WITHIN:
                    self._store.facts.drop(name)
                    del self._noted[name]

    def _tell_all(self, absences: list[Absence]) -> None:
        begin = min(absence.since for absence in absences) / MICROSECONDS - LAST_SIGN
        files = [(found, folder) for folder in self._folders for found in self._new(folder, begin)]
        files.sort(key=lambda one: one[0])

        for n in range(0, len(files), FILES_AT_ONCE):
            for found, folder in files[n : n + FILES_AT_ONCE]:
                self._take(folder, found)
                gevent.sleep(REST)
            self._tell_complete(absences, is_all=False)
            self._remember()

        self._tell_complete(absences, is_all=True)
        self._remember()

    def _new(self, folder: Folder, begin: float) -> list[Found]:
        try:
            if folder not in self._begin:
                told_until = float(self._store.facts.get(_told_until(folder)) or 0)
                self._begin[folder] = max(begin, told_until - OVERLAP)
            # a file of an older date may still come
            begin = self._begin[folder]
            return in_a_thread(partial(folder.since, begin, self._read[folder]))
        except OSError as error:
            log.error("records_unreadable", folder=str(folder.path), problem=error.strerror)
            return []

    def _take(self, folder: Folder, found: Found) -> None:
        """Read a file; one that is not whole yet is read later."""
        try:
            record = in_a_thread(partial(folder.read, found.name))
        except FileNotFoundError:
            self._unread.pop(found.name, None)
            return
        except RecordError as error:
            if self._since(found.name) < WHOLE_WITHIN:
                self._unread[found.name] = found.written
                return
            self.passed_over += 1
            log.warning("record_passed_over", file=found.name[:200], problem=str(error))
        else:
            self._waiting[record.uuid] = found.written, record
            self._seen[record.uuid] = self._steady()
        self._seen.pop(found.name, None)
        self._unread.pop(found.name, None)
        self._read[folder][found.name] = found.written

    def _tell_complete(self, absences: Sequence[Absence], is_all: bool) -> None:
        """Tell the calls whose legs all have a record; is_all: all files have been read."""
        followed = open_legs(self._store)
        records = [record for _, record in self._waiting.values()]
        for call in in_a_thread(partial(together, records)):
            legs = {record.uuid for record in call}
            named = set[str]().union(*map(legs_named, call)) - legs
            # the pipeline follows it
            if followed & (legs | named):
                continue

            age = min(map(self._since, legs))
            is_late = is_all and age > MISSED_WITHIN
            if (named and not is_late and len(self._waiting) < MOST_WAITING) or age < SETTLED:
                continue

            if any(absence.holds(record) for absence in absences for record in call):
                self._tell(call, absences)
            for uuid in legs:
                del self._waiting[uuid], self._seen[uuid]

    def _since(self, what: str) -> float:
        """Return the seconds since a file or the record of a leg was seen first."""
        now = self._steady()
        return now - self._seen.setdefault(what, now)

    def _tell(self, call: Sequence[Record], absences: Sequence[Absence]) -> None:
        try:
            retold = in_a_thread(partial(Retold, call, self._rules))
        except Exception as error:  # whatever a stranger may have put into the folder
            self.passed_over += 1
            log.error("call_not_told", legs=len(call), problem=repr(error))
            return

        if not retold.callids - self._store.closed(retold.callids):
            return
        core = call[0].core
        place = next((absence for absence in absences if absence.core == core), absences[0])
        store_call(retold, self._store, place.server, core)

        if retold.notices:
            self.told += 1
            self._on_saved()
            first = retold.notices[0]
            log.info("call_told_afterwards", callid=first.callid, phone=first.phone)
            for notice in retold.notices:
                self._on_notice(notice)
            gevent.sleep(1 / self._rate)

    # what is kept in the store

    def _absences(self) -> dict[str, Absence]:
        found = {}
        for name, text in self._store.facts.beginning(ABSENCE).items():
            with suppress(ValueError, TypeError):
                found[name] = Absence(**json.loads(text))
        return found

    def _remember(self) -> None:
        """Remember up to which time the files were told: not beyond one that waits."""
        waiting = [*self._unread.values(), *(written for written, _ in self._waiting.values())]
        with self._lock:
            for folder, read in self._read.items():
                if read:
                    self._move(folder, min([max(read.values()), *waiting]), is_back=False)

    def _move(self, folder: Folder, moment: float, is_back: bool) -> None:
        """Move the time up to which a folder's files count as told (seconds since 1970)."""
        name = _told_until(folder)
        known = float(self._store.facts.get(name) or 0)
        if moment < known if is_back else moment > known:
            self._store.facts.set(name, str(moment))


def _told_until(folder: Folder) -> str:
    place = f"{socket.gethostname()} {folder.path}"
    # a fact's name has 64 characters at most
    return TOLD_UNTIL + hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:32]


def open_legs(store: Store) -> set[str]:
    """Return the legs of the calls that a worker follows."""
    legs: set[str] = set()
    for state in store.all_open_calls():
        with suppress(ValueError, KeyError, TypeError):
            found = json.loads(state)
            legs.update(leg["uuid"] for leg in found["legs"])
            legs.add(found["call"]["first_leg"])
    return legs


def store_call(retold: Retold, store: Store, server: str, core: str) -> int:
    """Store what was retold, as calls that are over; return how many pieces were refused."""
    calls = dict.fromkeys(sorted(retold.callids))
    stories = {callid: packed for callid, packed in retold.stories.items() if packed}
    batch = Batch(retold.notices, calls, stories)
    return batch.write(store, server, core, None, until_store_answers)


def in_a_thread(work: Callable[[], T]) -> T:
    """Do something that blocks, or computes for long, beside everything else.

    Raises what it raises.
    """

    def attempt() -> tuple[T | None, Exception | None]:
        # gevent prints a traceback of what a thread raises
        try:
            return work(), None
        except Exception as error:
            return None, error

    result, error = gevent.get_hub().threadpool.apply(attempt)
    if error is not None:
        raise error
    return cast(T, result)
