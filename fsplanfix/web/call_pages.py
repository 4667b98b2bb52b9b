"""The pages about calls that are over: the list, figures, one call's story, its recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import tzinfo
from typing import Any, Protocol

import structlog
from flask import Blueprint, Response, abort, g, request, stream_with_context
from flask.typing import ResponseReturnValue
from flask_babel import gettext

from ..errors import RecordingGone, RecordingUnknown
from ..recordings.files import Found
from . import words
from .rate_limit import address
from .recordings import answer_with
from .rendering import rendered

log = structlog.get_logger(__name__)

FIELDS = ("client", "ext", "line", "since", "until", "way", "result")
"""The fields of the search, as they are called in addresses."""

LONGEST_FIELD = 100

SPANS = ("day", "week", "month")


class CallDesk(Protocol):
    """Gives what the pages show; see admin/desk.py. Raises StoreError."""

    def calls(self, asked: Mapping[str, str], zone: tzinfo, is_wanted: Callable[[], bool]) -> Any:
        """Return a page of the list of calls."""

    def csv(self, asked: Mapping[str, str], zone: tzinfo, separator: str) -> Iterator[str]:
        """Yield the list of calls as CSV."""

    def figures(self, span: str, day: str, zone: tzinfo, is_wanted: Callable[[], bool]) -> Any:
        """Return the figures of a period."""

    def story(self, callid: str, say: Callable[[str], str], clock: Callable[[float], str]) -> Any:
        """Return what is known of a call, None if nothing is."""

    def recording(self, callid: str, number: int) -> str:
        """Return the path of a call's recording, "" if there is none."""


def add_call_pages(
    pages: Blueprint,
    desk: Callable[[], CallDesk],
    find_recording: Callable[[str, str], Found],
    problem: Callable[[str, int], ResponseReturnValue],
) -> None:
    """Add the pages. desk: returns that of the current request's sender. problem: returns a page
    with a message and a code."""
    _add_lists(pages, desk)
    _add_one_call(pages, desk, find_recording, problem)


def _add_lists(pages: Blueprint, desk: Callable[[], CallDesk]) -> None:
    """Add the list of calls, as a page and as CSV, and the figures."""

    @pages.get("/calls")
    def calls() -> ResponseReturnValue:
        asked = _asked()
        found = desk().calls(asked, words.zone(), _is_wanted())
        search = {name: asked[name] for name in FIELDS if asked.get(name)}
        return rendered("calls.html", page=found, search=search, is_first="after" not in asked)

    @pages.get("/calls.csv")
    def csv() -> ResponseReturnValue:
        # a spreadsheet splits at the separator of its language, and takes UTF-8 by its mark
        separator = ";" if words.language() == "ru" else ","
        lines = desk().csv(_asked(), words.zone(), separator)
        log.info("calls_downloaded", role=g.sender, address=address())
        answer = Response(stream_with_context(_marked(lines)), mimetype="text/csv")
        answer.headers["Content-Disposition"] = "attachment; filename=calls.csv"
        return answer

    @pages.get("/figures")
    def figures() -> ResponseReturnValue:
        asked = _asked("span", "day")
        span = asked.get("span", "")
        found = desk().figures(
            span if span in SPANS else "day", asked.get("day", ""), words.zone(), _is_wanted()
        )
        return rendered("figures.html", figures=found)


def _add_one_call(
    pages: Blueprint,
    desk: Callable[[], CallDesk],
    find_recording: Callable[[str, str], Found],
    problem: Callable[[str, int], ResponseReturnValue],
) -> None:
    """Add the story of a call and its recordings."""

    @pages.get("/calls/<path:callid>")
    def call(callid: str) -> ResponseReturnValue:
        # PostgreSQL's text holds no NUL: such a callid is unknown, not an error of the database
        found = None
        if callid.isprintable():
            found = desk().story(callid, gettext, words.clock)
        if found is None:
            return problem(gettext("There is no record of this call."), 404)

        return rendered("call.html", story=found)

    @pages.get("/recording/<int:number>/<path:callid>")
    def recording(number: int, callid: str) -> ResponseReturnValue:
        path = desk().recording(callid, number) if callid.isprintable() else ""
        if not path:
            return problem(gettext("There is no such recording."), 404)
        try:
            found = find_recording(path, g.get("account", ""))
        except RecordingGone:
            return problem(gettext("This recording was deleted."), 410)
        except RecordingUnknown:
            return problem(gettext("There is no such recording."), 404)

        # a player asks for parts: each listening is logged once, with who it was
        if not request.range or request.range.ranges[0][0] == 0:
            log.info(
                "recording_listened",
                callid=callid,
                file=found.name,
                role=g.sender,
                address=address(),
            )
        return answer_with(found, found.name)


def _asked(*names: str) -> dict[str, str]:
    """Return the fields of the current request's address."""
    names = names or (*FIELDS, "after")
    given = {name: request.args.get(name, "") for name in names}
    if any(len(value) > LONGEST_FIELD for name, value in given.items() if name != "after"):
        abort(400)
    return {name: value for name, value in given.items() if value}


def _is_wanted() -> Callable[[], bool]:
    """Return the function that tells whether the current request's sender still waits."""
    is_gone = request.environ.get("fsplanfix.peer_is_gone", lambda: False)
    return lambda: not is_gone()


def _marked(lines: Iterator[str]) -> Iterator[str]:
    yield "\ufeff"
    yield from lines
