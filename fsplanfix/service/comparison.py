"""Compares FreeSWITCH's channels with our open calls while it is linked."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from ..errors import LinkError
from ..freeswitch.connection import live_channels
from ..freeswitch.link import Link
from .pipeline import Pipeline

COMPARE_EVERY = 45.0
"""Seconds. Two comparisons and their answers take less than two minutes.

docs/call-rules.md, rule 16.
"""


def keep_comparing(pipeline: Pipeline, link: Link) -> None:
    """Compare again and again, and at once after an event that could not be processed."""
    while True:
        pipeline.in_doubt.wait(COMPARE_EVERY)
        pipeline.in_doubt.clear()
        connection = link.connection
        if connection is not None and link.is_caught_up:
            with suppress(LinkError):  # the link says so itself, and asks again once it is back
                pipeline.inbox.compare(partial(live_channels, connection))
