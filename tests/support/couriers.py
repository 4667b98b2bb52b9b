"""A courier of the only company there is."""

from __future__ import annotations

import time
from collections.abc import Callable

from fsplanfix.calls.model import ACCOUNT
from fsplanfix.outbox.claims import Claims
from fsplanfix.outbox.store import Store
from fsplanfix.outbox.upkeep import Upkeep
from fsplanfix.planfix.api import PlanfixApi
from fsplanfix.planfix.courier import Courier
from fsplanfix.planfix.delivery import Delivery, DeliverySettings, OnDelivered
from fsplanfix.planfix.forms import UrlMaker
from fsplanfix.recordings.files import Availability


def only_courier(
    store: Store,
    client: PlanfixApi,
    make_url: UrlMaker,
    settings: DeliverySettings,
    availability_of: Callable[[str, float], Availability],
    now: Callable[[], float] = time.time,
    on_delivered: OnDelivered | None = None,
    has_jumped: Callable[[], bool] = lambda: False,
    has_settled: Callable[[], bool] = lambda: False,
) -> Courier:
    claims = Claims(store, Upkeep(store, now, has_jumped, has_settled), now)
    delivery = Delivery(client, make_url, settings, availability_of, on_delivered)
    return Courier(claims, {ACCOUNT: delivery})
