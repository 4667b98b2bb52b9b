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
    for that while nothing else is left to wait for. A run stood still once with one test left to
    each worker: what such a thread has said is looked for again within a second.
    """
    while True:
        gevent.sleep(1)


# the process that hands tests out to xdist's workers reads their pipes in native threads
if not HANDS_OUT_TESTS:
    monkey.patch_all()
if IS_XDIST_WORKER:
    gevent.spawn(keep_the_loop_alive)

import shutil  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
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


@contextmanager
def unmeasured() -> Iterator[None]:
    """Measure no coverage meanwhile."""
    tracing = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracing)


def is_measured(item: pytest.Item) -> bool:
    """Tell whether a test may show lines that no other does.

    Those of hypothesis, which it marks, play the same lines a hundred times. What tells PostgreSQL
    from SQLite is in outbox/, and its tests are measured on both.
    """
    if any(item.iter_markers("no_cover")) or any(item.iter_markers("hypothesis")):
        return False
    given = (
        item.callspec.params
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        else {}
    )
    return given.get("store_url") != "postgresql" or item.path.parent.name == "outbox"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Measure what is loaded in one of xdist's processes: it is the same in each."""
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0":
        return (yield)
    with unmeasured():
        return (yield)


def measured(item: pytest.Item) -> Iterator[None]:
    """Run a test, or a part of its fixtures, with or without measuring it.

    For `no_cover`, pytest-cov stops its own measurement, and another one of the same process goes on.
    """
    if is_measured(item):
        return (yield)
    with unmeasured():
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    return (yield from measured(item))


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    return (yield from measured(item))


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    return (yield from measured(item))
