"""What the tests of the event socket share."""

from collections.abc import Iterator

import pytest

from fsplanfix.freeswitch.connection import Connection, Server
from fsplanfix.simulators.freeswitch import Switch


@pytest.fixture
def connection(switch: Switch) -> Iterator[Connection]:
    made = Connection(Server("127.0.0.1", switch.port, "ClueCon"), lambda _: None)
    made.connect()
    yield made
    made.stop()
