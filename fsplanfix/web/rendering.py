"""Makes pages in small pieces: a page of fifty calls at once would hold up events for 20 ms."""

from __future__ import annotations

import time
from typing import Any

import gevent
from flask import Flask, current_app, url_for
from gevent.lock import BoundedSemaphore

from . import words

MOST_AT_ONCE = 0.001
"""Seconds that a page is made before events, notices and answers get their turn."""

HIGHEST_PRIORITY = 2
"""An idle watcher at this priority runs after one poll of sockets and timers, even under load."""


_next_page = BoundedSemaphore()


def give_way() -> None:
    """Let events, notices and answers have their turn, and only one page go on after it.

    Pages that wait for the same turn would hold up a call one after the other.
    """
    with _next_page:
        gevent.idle(HIGHEST_PRIORITY)


def rendered(template: str, **values: Any) -> str:
    """Return a template as HTML. Other greenlets run while it is made.

    Only what stands in a template's own loops is made in pieces; a macro is one piece.
    """
    app = current_app
    context = {**_common(), **values}
    app.update_template_context(context)

    pieces = []
    begun = time.perf_counter()
    for piece in app.jinja_env.get_template(template).generate(context):
        pieces.append(piece)
        if time.perf_counter() - begun > MOST_AT_ONCE:
            give_way()
            begun = time.perf_counter()
    return "".join(pieces)


def _common() -> dict[str, Any]:
    """Return what the rows of calls need: found once for a page and not once for each row."""
    return {
        "W": words.labels(),
        "RESULTS": words.results(),
        "DEEDS": words.deeds(),
        "DIFFERENCES": words.differences(),
        "EVENTS": words.events(),
        "STATES": words.states(),
        "CALLS": url_for("dashboard.calls"),
    }


def warm_up(app: Flask) -> None:
    """Compile every template and load every language now.

    The first reader of each would hold up calls for 50 ms.
    """
    for name in app.jinja_env.list_templates(extensions=["html"]):
        app.jinja_env.get_template(name)
    for chosen in words.LANGUAGES:
        with app.test_request_context(headers={"Accept-Language": chosen}):
            _common()
            words.when(time.time())
