"""Calls that nobody heard, told from a folder of records."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fsplanfix.admin.explain import story
from fsplanfix.calls.model import Notice, Rules
from fsplanfix.errors import StoreError
from fsplanfix.history.folder import Folder
from fsplanfix.history.record import Record
from fsplanfix.outbox.archive import Archive
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.store import Store
from fsplanfix.service.history import COMES_WITHIN, MISSED_WITHIN, WHOLE_WITHIN, History

from ..support.accounts import accounts, positions
from ..support.records import files, records
from ..support.traces import by_ext, events, shorthand, wanted
from ..support.worker import SERVER, Worker, by_ext_of, heartbeat, success, upto

NAME = "group_answered"
CORE = records(NAME)[0].core


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/store.db")
    yield store
    store.close()


@dataclass
class Desk:
    """A history whose clock a test moves, and the folder it reads."""

    store: Store
    path: Path
    kind: str = "json"
    now: float = 0.0
    said: list[Notice] = field(default_factory=list)
    history: History = field(init=False)

    def __post_init__(self) -> None:
        self.path.mkdir(exist_ok=True)
        self.now = self.now or max(r.ended for r in records(NAME)) / 1_000_000 + 60
        self.history = History(
            [Folder(self.path, self.kind)],
            Rules(),
            self.store,
            1e6,
            lambda: None,
            self.said.append,
            lambda: self.now,
        )

    def write(self, name: str, *, but: str = "no such leg", kind: str = "json") -> None:
        for file, raw in files()[name].items():
            if file.startswith(f"{kind}/") and but not in file:
                self.put(file.partition("/")[2], raw)

    def put(self, name: str, raw: bytes) -> Path:
        path = self.path / name
        path.write_bytes(raw)
        os.utime(path, (self.now, self.now))
        return path

    def was_away(self, name: str = NAME) -> None:
        """Nobody heard the call."""
        self.history.note_absence(SERVER, CORE, events(name)[0].at, events(name)[-1].at)

    def look(self, later: float = 5.0) -> bool:
        """Look at what is new, and once more some time later."""
        self.history.look()
        self.now += later
        return self.history.look()

    def told(self) -> dict[str, list[str]]:
        return {tokens[0].split()[1]: tokens[1:] for tokens in shorthand(self.said).values()}


@pytest.fixture
def desk(store: Store, tmp_path: Path) -> Desk:
    return Desk(store, tmp_path / "cdr")


def assert_told_once(desk: Desk) -> None:
    [tokens] = shorthand(desk.said).values()
    assert by_ext(tokens[1:]) == by_ext(wanted(NAME))
    assert sum(Queue(desk.store).counts().values()) == len(wanted(NAME))


@pytest.mark.parametrize("kind", ["json", "xml"])
def test_a_call_that_nobody_heard_is_told(store: Store, tmp_path: Path, kind: str) -> None:
    desk = Desk(store, tmp_path / "cdr", kind)
    desk.write(NAME, kind=kind)
    desk.was_away()
    desk.look()
    assert_told_once(desk)
    assert all(notice.afterwards for notice in desk.said)
    assert desk.history.told == 1


def test_explain_says_that_a_call_was_told_afterwards(desk: Desk) -> None:
    desk.write(NAME)
    desk.was_away()
    desk.look()
    callid = desk.said[0].callid
    lines = " ".join("\n".join(story(Archive(desk.store), Rules(), callid)).split())
    assert lines.count("told from FreeSWITCH's records (rule 19)") == len(wanted(NAME))
    assert "client calls" in lines


def test_without_an_absence_nothing_is_told(desk: Desk) -> None:
    desk.write(NAME)
    assert not desk.look()
    assert desk.said == []


def test_a_call_before_the_absence_is_not_told(desk: Desk) -> None:
    desk.write(NAME)
    long_after = events(NAME)[-1].at + 3_600_000_000
    desk.history.note_absence(SERVER, CORE, long_after, long_after)
    desk.look(3600)
    assert desk.said == []


def test_records_that_come_late_twice_and_again_are_told_once(desk: Desk) -> None:
    desk.was_away()
    assert desk.look()
    for _ in range(3):
        desk.write(NAME)
        desk.look()
        desk.look()
    assert_told_once(desk)


def test_a_record_of_another_leg_is_waited_for(desk: Desk) -> None:
    desk.was_away()
    desk.write(NAME, but="/a_")
    desk.look()
    assert desk.said == []
    desk.write(NAME)
    desk.look()
    assert_told_once(desk)


def test_a_call_without_the_records_of_other_legs_is_told_in_the_end(desk: Desk) -> None:
    """mod_json_cdr without `log-b-leg`."""
    desk.was_away()
    for file, raw in files()[NAME].items():
        if file.startswith("json/a_"):
            desk.put(file.partition("/")[2], raw)
    desk.look()
    assert desk.said == []
    desk.look(MISSED_WITHIN)
    assert desk.told() == {"79161234567": ["I-", "M-"]}


def test_after_an_hour_nothing_is_waited_for(desk: Desk) -> None:
    desk.was_away()
    assert desk.look()
    desk.look(COMES_WITHIN)
    assert not desk.look()
    desk.write(NAME)
    desk.look()
    assert desk.said == []


def test_a_file_that_is_still_written_is_read_when_it_is_whole(desk: Desk) -> None:
    desk.write(NAME)
    path = next(desk.path.glob("a_*"))
    whole = path.read_bytes()
    desk.put(path.name, whole[:500])
    desk.was_away()
    with capture_logs() as logs:
        desk.look()
    assert desk.said == []
    assert logs == []
    desk.put(path.name, whole)
    desk.look()
    assert_told_once(desk)


def test_a_broken_file_is_passed_over_with_one_line(desk: Desk) -> None:
    desk.write(NAME)
    desk.was_away()
    desk.put("a\nlevel=error.cdr.json", b'{"variables": 1')
    (desk.path / "link.cdr.json").symlink_to("/etc/hostname")
    os.mkfifo(desk.path / "pipe.cdr.json")
    (desk.path / "folder.cdr.json").mkdir()
    huge = desk.put("huge.cdr.json", b"{")
    os.truncate(huge, 1024**3)
    desk.put("nul.cdr.json", b"\0" * 100)
    desk.put("other.txt", b"nothing of ours")
    with capture_logs() as logs:
        for _ in range(3):
            desk.look(WHOLE_WITHIN)
    passed = [line for line in logs if line["event"] == "record_passed_over"]
    assert sorted(line["file"] for line in passed) == [
        "a\nlevel=error.cdr.json",
        "huge.cdr.json",
        "nul.cdr.json",
    ]
    assert desk.history.passed_over == 3
    assert_told_once(desk)
    assert len(list(desk.path.iterdir())) == 4 + 7  # nothing is moved or deleted


def test_a_folder_that_cannot_be_read_is_reported(desk: Desk) -> None:
    desk.path.rmdir()
    desk.was_away()
    with capture_logs() as logs:
        assert desk.look()
    assert {line["event"] for line in logs} == {"records_unreadable"}
    desk.path.mkdir()
    desk.write(NAME)
    desk.look()
    assert_told_once(desk)


def test_what_was_told_is_not_read_again_by_the_next_start(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.was_away()
    desk.write(NAME)
    desk.now += 100
    desk.write("in_one_answered")
    desk.look(100)
    assert desk.history.told == 2

    again = Desk(desk.store, desk.path, now=desk.now)
    again.write("out_busy")
    read: list[str] = []
    known = Folder.read

    def noted(self: Folder, name: str) -> Record:
        read.append(name)
        return known(self, name)

    monkeypatch.setattr(Folder, "read", noted)
    assert all(len(name) <= 64 for name in desk.store.facts.beginning("records told"))
    again.look(100)
    of_the_first = {Path(file).name for file in files()[NAME]}
    assert read
    assert not of_the_first & {*read}


def test_a_store_that_does_not_answer_loses_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.was_away()
    desk.write(NAME)
    known = desk.store.closed

    def away(_: object) -> set[str]:
        raise StoreError("away")

    monkeypatch.setattr(desk.store, "closed", away)
    with capture_logs():
        assert desk.look()
    monkeypatch.setattr(desk.store, "closed", known)
    desk.look()
    assert_told_once(desk)


def test_a_call_that_a_worker_follows_is_left_to_it(desk: Desk) -> None:
    half, rest = upto(NAME, "CHANNEL_BRIDGE")
    worker = Worker(desk.store)
    worker.hear(*half)
    desk.was_away()
    desk.write(NAME)
    desk.look(MISSED_WITHIN)
    assert desk.said == []
    worker.hear(*rest)
    desk.look()
    assert desk.said == []
    assert by_ext_of(worker) == by_ext(wanted(NAME))


def test_a_call_that_was_heard_is_not_told_again(desk: Desk) -> None:
    worker = Worker(desk.store)
    worker.hear(*events(NAME))
    desk.was_away()
    desk.write(NAME)
    desk.look()
    assert desk.said == []


# a call of which a part was heard


def test_a_talk_whose_end_was_not_heard_has_its_true_length(desk: Desk) -> None:
    talk, _ = upto(NAME, "CHANNEL_BRIDGE")
    Worker(desk.store).hear(*talk)
    desk.write(NAME)
    second = Worker(desk.store, records=desk.history)
    second.relink([])
    assert success(second.said).duration == 2
    assert success(second.said).is_recorded


def told_in_the_story(desk: Desk, worker: Worker) -> str:
    callid = worker.said[0].callid
    return " ".join("\n".join(story(Archive(desk.store), Rules(), callid)).split())


def test_the_story_says_that_records_filled_the_silence(desk: Desk) -> None:
    talk, _ = upto(NAME, "CHANNEL_BRIDGE")
    Worker(desk.store).hear(*talk)
    desk.write(NAME)
    second = Worker(desk.store, records=desk.history)
    second.relink([])
    said = told_in_the_story(desk, second)
    assert re.search(r"to [\d:]+; FreeSWITCH's records tell what happened", said)
    assert "unknown" not in said
    assert "talked 2 s" in said
    assert "rule 4: the talk is over; told from FreeSWITCH's records (rule 19)" in said


def test_the_story_of_a_silence_that_no_record_fills_says_that_it_is_unknown(desk: Desk) -> None:
    talk, _ = upto(NAME, "CHANNEL_BRIDGE")
    Worker(desk.store).hear(*talk)
    second = Worker(desk.store, records=desk.history)
    second.relink([])
    second.compare([])
    assert "unknown: the service was not listening from" in told_in_the_story(desk, second)


def test_a_phone_that_rang_unheard_is_told_of_while_the_call_goes_on(desk: Desk) -> None:
    """sequential_second_answers: 101 was rung and gave up while nobody listened."""
    name = "sequential_second_answers"
    stream, where = events(name), positions(name)
    rings = [at for at, event in enumerate(stream) if event.name == "CHANNEL_PROGRESS"]
    gone = next(e.leg for e in stream if e.name == "CHANNEL_HANGUP_COMPLETE")
    Worker(desk.store).hear(stream[0])
    for file, raw in files()[name].items():
        if file.startswith("json/") and gone in file:
            desk.put(file.partition("/")[2], raw)
    second = Worker(desk.store, records=desk.history)
    cut = rings[-1] + 1
    second.relink(accounts(name)[where[cut]])
    second.hear(*stream[cut:])
    assert by_ext_of(second) == by_ext(wanted(name))


def test_the_end_of_a_leg_without_a_record_waits_for_the_next_comparison(desk: Desk) -> None:
    talk, _ = upto(NAME, "CHANNEL_BRIDGE")
    Worker(desk.store).hear(*talk)
    second = Worker(desk.store, records=desk.history)
    second.relink([])
    assert second.said == []
    desk.write(NAME)
    second.compare([])
    assert success(second.said).duration == 2
    assert second.pipeline.unknown == 0


def test_a_talk_that_nobody_heard_begin_is_told_by_a_late_record(desk: Desk) -> None:
    """Other calls are heard while the record is waited for."""
    ringing, _ = upto(NAME, "CHANNEL_PROGRESS", 3)
    Worker(desk.store).hear(*ringing)
    second = Worker(desk.store, records=desk.history)
    second.relink([])
    second.hear(heartbeat(events(NAME)[-1].at + 40_000_000))
    desk.write(NAME)
    second.compare([])
    said = [*by_ext_of(second)["101"], *by_ext_of(second)["102"]]
    assert said == ["X101", "A102", "S102!"]
    assert success(second.said).duration == 2


def test_without_any_record_a_leg_ends_at_the_last_moment_known(desk: Desk) -> None:
    talk, _ = upto(NAME, "CHANNEL_BRIDGE")
    Worker(desk.store).hear(*talk)
    second = Worker(desk.store, records=desk.history)
    second.relink([])
    second.compare([])
    assert success(second.said).duration == 0
    assert second.pipeline.unknown == 1


def test_a_freeswitch_that_is_gone_leaves_nothing_waiting(desk: Desk) -> None:
    talk, _ = upto(NAME, "CHANNEL_BRIDGE")
    Worker(desk.store).hear(*talk)
    desk.write(NAME)
    last = Worker(desk.store, records=desk.history)
    last.end_all(CORE)
    assert success(last.said).duration == 2


def test_an_absence_is_noted_when_the_link_is_back(desk: Desk) -> None:
    Worker(desk.store).hear(*upto(NAME, "CHANNEL_BRIDGE")[0])
    Worker(desk.store, records=desk.history).relink([])
    [(name, fact)] = desk.store.facts.beginning("absence ").items()
    assert len(name) <= 64
    assert json.loads(fact)["since"] == upto(NAME, "CHANNEL_BRIDGE")[0][-1].at


def test_workers_that_died_before_the_first_sign_of_life_lose_no_call(desk: Desk) -> None:
    """All of them were killed within seconds of the very first start."""
    desk.history.note_absence(SERVER, CORE, 0, events(NAME)[0].at)
    desk.write(NAME)
    again = Desk(desk.store, desk.path, now=desk.now)
    again.look()
    assert_told_once(again)
