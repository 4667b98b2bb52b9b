"""gevent patches the standard library before any test module is imported, as the service does."""

import os
import re
import sys

import gevent
from gevent import monkey

IS_XDIST_WORKER = "PYTEST_XDIST_WORKER" in os.environ
WORKERS = re.search(r" (?:-n|--numprocesses)[ =]?(\w+)", " ".join(["", *sys.argv[1:]]))
HANDS_OUT_TESTS = not IS_XDIST_WORKER and WORKERS is not None and WORKERS[1] != "0"


def keep_the_loop_alive() -> None:
    """Wait for ever.

    An xdist worker is told of its next test by a native thread. gevent raises LoopExit if it waits
    for that while nothing else is left to wait for.
    """
    while True:
        gevent.sleep(3600)


# the process that hands tests out to xdist's workers reads their pipes in native threads
if not HANDS_OUT_TESTS:
    monkey.patch_all()
if IS_XDIST_WORKER:
    gevent.spawn(keep_the_loop_alive)

import shutil  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import hypothesis  # noqa: E402
import pytest  # noqa: E402

from fsplanfix.outbox.store import Store  # noqa: E402
from fsplanfix.simulators.freeswitch import Switch  # noqa: E402
from fsplanfix.simulators.planfix import Planfix  # noqa: E402

from .support import forked  # noqa: E402
from .support.postgres import drop_database, empty_database, server, without_waiting_for_the_disk  # noqa: E402

hypothesis.settings.register_profile(
    "same every time", derandomize=True, deadline=None, database=None
)
hypothesis.settings.load_profile("same every time")


MEMORY = Path("/dev/shm")  # noqa: S108
ENOUGH = 1 << 30
"""Bytes: a whole run keeps about 100 MB."""

# Databases wait for the disk at each commit, SQLite up to 6 ms a time; files in memory are as good
# here.
IS_MEMORY_FREE = (
    MEMORY.is_dir()
    and os.access(MEMORY, os.W_OK)
    and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
    and shutil.disk_usage(MEMORY).free > ENOUGH
)
if IS_MEMORY_FREE:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A real PostgreSQL, for as long as the tests run; gives the address of its server."""
    # not among pytest's folders: started by root, the server runs as another user, and whoever runs
    # pytest next takes the way to them from all others
    place = MEMORY if IS_MEMORY_FREE else None
    with (
        tempfile.TemporaryDirectory(prefix="fsplanfix-tests-", dir=place) as folder,
        server(Path(folder)) as address,
    ):
        without_waiting_for_the_disk(address)
        yield address


@pytest.fixture(scope="session", autouse=True)
def loader() -> Iterator[None]:
    """A process that has loaded the program, of which those that tests start are forks."""
    forked.loader = forked.Loader()
    yield
    forked.loader.end()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty store: each test that asks runs on both databases."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/store.db"
        return

    server_address = request.getfixturevalue("postgres")
    address = empty_database(server_address)
    yield address
    # hundreds of them, of 300 files each, took minutes to delete at the end
    drop_database(server_address, address)


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = Store(store_url)
    yield opened
    opened.close()


@pytest.fixture
def switch() -> Iterator[Switch]:
    simulated = Switch()
    simulated.start()
    yield simulated
    simulated.stop()


@pytest.fixture
def planfix() -> Iterator[Planfix]:
    stand_in = Planfix(token="planfix-token")
    stand_in.start()
    yield stand_in
    stand_in.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long tests, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Let `no_cover` hold in xdist's workers as well, and for every test of hypothesis.

    pytest-cov stops its own measurement there, and another one of the same process goes on.
    Hypothesis marks its tests: they play the same lines a hundred times.
    """
    if not any(item.iter_markers("no_cover")) and not any(item.iter_markers("hypothesis")):
        return (yield)
    tracing = sys.gettrace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracing)
