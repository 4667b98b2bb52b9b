"""A courier against the strict stand-in."""

from collections.abc import Iterator

import pytest

from fsplanfix.outbox.store import Store
from fsplanfix.planfix.api import PlanfixApi
from fsplanfix.planfix.courier import Courier, DeliverySettings
from fsplanfix.simulators.planfix import Planfix

from ..support.courier import URLS, Clock, complete


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(planfix: Planfix) -> Iterator[PlanfixApi]:
    made = PlanfixApi(planfix.url, "planfix-token", concurrency=16)
    yield made
    made.close()


@pytest.fixture
def courier(store: Store, client: PlanfixApi, clock: Clock) -> Courier:
    return Courier(store, client, URLS.url, DeliverySettings(), complete, now=clock)
