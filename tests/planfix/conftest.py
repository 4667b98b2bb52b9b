"""A courier against the strict stand-in."""

from collections.abc import Iterator

import pytest

from fsplanfix.outbox.store import Store
from fsplanfix.planfix.api import PlanfixApi
from fsplanfix.planfix.courier import Courier
from fsplanfix.planfix.delivery import DeliverySettings
from fsplanfix.simulators.planfix import Planfix

from ..support.courier import URLS, Clock, complete
from ..support.couriers import only_courier


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
    return only_courier(store, client, URLS.url, DeliverySettings(), complete, now=clock)
