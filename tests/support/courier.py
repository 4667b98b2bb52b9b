"""A courier whose time stands still, and that is asked to send everything."""

import time

from fsplanfix.planfix.courier import Courier
from fsplanfix.recordings.files import Availability
from fsplanfix.recordings.urls import RecordingUrls

from .outbox import GROUP

COMPLETED = GROUP[-2]
URLS = RecordingUrls("https://pbx.example.com", ["key"])


def complete(path: str, _: float) -> Availability:
    """Tell that a recording is final."""
    return Availability()


class Clock:
    """A time that stands still, and is moved at will."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._begun = time.time()

    def __call__(self) -> float:
        return self._begun + self.ahead


def send_all(courier: Courier) -> None:
    while courier.step():
        courier.finish(10)
