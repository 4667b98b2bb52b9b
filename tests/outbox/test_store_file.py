"""An SQLite store whose file is deleted, replaced, emptied or torn while it is in use."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import gevent
import pytest

from fsplanfix.calls.model import Notice
from fsplanfix.errors import StoreError
from fsplanfix.outbox.archive import Archive
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.records import Entry, Places
from fsplanfix.outbox.schema import State
from fsplanfix.outbox.store import Store

from ..support.outbox import FIRST, GROUP, claim, settle
from ..support.store_files import cut_off, fill, write_over, written_through

OTHER = replace(FIRST, callid="c2")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Store:
    """A store with a delivered notice, waiting ones, an open call, a key and a journal."""
    store = Store(f"sqlite:///{path}")
    store.save(GROUP, {"c1": "state"}, "s", now=1.0, alive=7, core="core")
    settle(store, claim(store, 1, 2.0, "me")[0], State.DONE, 2.0)
    store.facts.set_if_absent("secret_key", "kept")
    Archive(store).write_down(Entry(1.0, "a line", "c1"))
    return store


@pytest.mark.parametrize("suffixes", [[""], ["", "-wal"], ["", "-wal", "-shm"]])
def test_a_deleted_file_is_made_anew_with_all_it_held(
    store: Store, path: Path, suffixes: list[str]
) -> None:
    for suffix in suffixes:
        path.with_name(path.name + suffix).unlink()
    store.save([OTHER], {}, "s", now=2.0)
    store.close()
    again = Store(f"sqlite:///{path}")
    assert Queue(again).counts() == {"done": 1, "waiting": len(GROUP)}
    assert again.open_calls("elsewhere", "core") == ["state"]
    assert again.alive("elsewhere", "core") == 7
    assert again.facts.get("secret_key") == "kept"
    assert [entry.what for entry in Archive(again).about("c1")[1]] == ["a line"]
    assert [q.notice for q in Queue(again).listed([State.DONE, State.WAITING], 99)] == [
        *GROUP,
        OTHER,
    ]
    again.close()


def test_what_waits_for_the_lock_of_a_deleted_file_is_not_written_into_it(
    store: Store, path: Path
) -> None:
    """Another had made the file anew meanwhile: nobody would have found what was written."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    idle = store.engine.raw_connection()
    waiting = gevent.spawn(saved, store, OTHER)
    gevent.sleep(0)
    idle.close()
    other.execute("ROLLBACK")
    other.close()

    path.unlink()
    assert saved(store, replace(OTHER, callid="c3"))
    assert not waiting.get(timeout=60)
    assert saved(store, OTHER)
    assert Queue(store).counts() == {"done": 1, "waiting": len(GROUP) + 1}
    store.close()


def saved(store: Store, notice: Notice) -> bool:
    """Tell whether the store took a notice."""
    try:
        store.save([notice], {}, "s", now=2.0)
    except StoreError:
        return False
    return True


def test_two_workers_agree_on_the_new_file(store: Store, path: Path) -> None:
    other = Store(f"sqlite:///{path}")
    Queue(other).counts()
    path.unlink()
    store.save([OTHER], {}, "s", now=2.0)
    other.save([replace(OTHER, callid="c3")], {}, "s", now=2.0)
    for worker in (store, other):
        assert Queue(worker).counts() == {"done": 1, "waiting": len(GROUP) + 1}
        assert [entry.what for entry in Archive(worker).about("c1")[1]] == ["a line"]
        worker.close()


def test_an_older_copy_in_its_place_learns_what_was_settled_since(path: Path) -> None:
    store = Store(f"sqlite:///{path}")
    store.save(GROUP[:1], {}, "s", now=1.0)
    store.close()
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    store = Store(f"sqlite:///{path}")
    settle(store, claim(store, 1, 2.0, "me")[0], State.DONE, 2.0)
    store.save([OTHER], {}, "s", now=2.0)
    copy.rename(path)
    assert Queue(store).counts() == {"done": 1, "waiting": 1}
    store.close()


@pytest.mark.parametrize("content", [b"", b"nonsense " * 1000])
def test_what_is_no_store_is_waited_out(store: Store, path: Path, content: bytes) -> None:
    """It is not written into; once the file is gone or right again, everything goes on."""
    shutil.move(path, path.with_name("moved"))
    path.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        store.save([OTHER], {}, "s", now=2.0)
    assert not caught.value.permanent
    took = [store.takes_writes]
    assert path.read_bytes() == content
    path.unlink()
    store.save([OTHER], {}, "s", now=2.0)
    assert [*took, store.takes_writes] == [False, True]
    assert Queue(store).counts() == {"done": 1, "waiting": len(GROUP)}
    store.close()


# a file that is torn


def looked_over(store: Store) -> bool:
    store.look_over()
    return store.is_working


@pytest.mark.parametrize("damage", ["a page", "the end", "the head"])
def test_a_torn_file_is_noticed_though_nothing_asks_for_what_was_there(
    store: Store, path: Path, damage: str
) -> None:
    at, size = written_through(path, "journal")
    works = [looked_over(store)]
    whole = path.read_bytes()
    if damage == "the end":
        with path.open("r+b") as file:
            file.truncate(len(whole) // size // 2 * size)
    else:
        write_over(path, 0 if damage == "the head" else at, bytes(size))
    works.append(looked_over(store))
    write_over(path, 0, whole)
    works.append(looked_over(store))
    assert works == [True, False, True]
    store.close()


LARGE = 70
"""Megabytes: more than can be searched every few seconds."""


def glanced_at(store: Store) -> bool:
    store.glance()
    return store.is_working


def never(*_: object) -> None:
    pytest.fail("the whole file was read")


@pytest.mark.parametrize("damage", ["the end", "the head", "notices", "open_calls", "facts"])
def test_what_the_work_needs_is_missed_at_once_in_a_large_file(
    store: Store, path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fsplanfix.outbox.store_file.damage_in", never)
    fill(path, LARGE)
    works = [glanced_at(store)]
    if damage == "the end":
        cut_off(path, LARGE << 19)
    elif damage == "the head":
        write_over(path, 0, bytes(4096))
    else:
        at, size = written_through(path, damage)
        write_over(path, at, bytes(size))
    works.append(glanced_at(store))
    assert works == [True, False]
    store.close()


def test_an_end_that_is_missing_behind_newer_writes_is_noticed_at_once(
    store: Store, path: Path
) -> None:
    """SQLite takes the file's length from its log of writes, if there are any."""
    store.facts.swap("name", "value")
    written_through(path, "facts")
    fill(path, 8)
    store.facts.swap("name", "another")
    cut_off(path, 4 << 20)
    works = [glanced_at(store)]
    store.close()
    assert works == [False]


def test_an_end_that_the_log_might_hold_is_searched_for(store: Store, path: Path) -> None:
    """The log of writes is longer than what is missing, so the length alone proves nothing."""
    fill(path, 1)
    works = [glanced_at(store)]
    for number in range(50):
        store.facts.swap("name", str(number))
    cut_off(path, 5 * 4096)
    works.append(glanced_at(store))
    assert works == [True, False]
    store.close()


def test_a_file_that_became_shorter_as_it_should_is_sound(store: Store, path: Path) -> None:
    fill(path, 8)
    works = [glanced_at(store)]
    before = path.stat().st_size
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("DELETE FROM heard")
        other.execute("VACUUM")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    works.append(glanced_at(store))
    store.save([OTHER], {}, "s", now=2.0)
    works.append(glanced_at(store))
    assert path.stat().st_size < before
    assert works == [True, True, True]
    store.close()


@pytest.mark.parametrize(
    "ask", [Queue.backlog, lambda queue: queue.settle_and_claim([], Places(1), 2.0, "me")]
)
def test_whoever_meets_damage_says_so_for_all(
    store: Store, path: Path, ask: Callable[[Queue], object]
) -> None:
    """What is written elsewhere in the file is still taken, which is no reason to be ready."""
    at, size = written_through(path, "notices")
    store.close()
    write_over(path, at, bytes(size))
    again = Store(f"sqlite:///{path}")
    with pytest.raises(StoreError, match="malformed") as caught:
        ask(Queue(again))
    assert not caught.value.permanent
    again.facts.swap("name", "value")
    assert (again.takes_writes, again.is_working) == (True, False)
    again.close()


def test_a_sound_copy_in_the_place_of_a_torn_file_is_gone_on_with(
    store: Store, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at, size = written_through(path, "notices")
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    store.close()
    write_over(path, at, bytes(size))
    again = Store(f"sqlite:///{path}")
    again.look_over()
    copy.rename(path)
    again.save([OTHER], {}, "s", now=2.0)
    assert again.is_working
    assert Queue(again).counts() == {"done": 1, "waiting": len(GROUP)}
    assert "what the old one held could not be read" in capsys.readouterr().out
    again.close()
