"""Serves recordings to whoever has a link we signed, and writes down who listened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

import structlog
from flask import Response, jsonify, request, send_file
from flask.typing import ResponseReturnValue

from ..errors import RecordingGone, RecordingUnknown
from ..recordings.files import Found
from .rate_limit import address

log = structlog.get_logger(__name__)

Find = Callable[[str, str], Found]
"""Takes a link's two parts, opens the recording. Raises RecordingUnknown or RecordingGone."""


def serve(find: Find, signed: str, name: str) -> ResponseReturnValue:
    """Answer with the file or a part of it (Range).

    404 for a link we did not sign, 410 for one that is deleted.
    """
    try:
        found = find(signed, name)
    except (RecordingUnknown, RecordingGone) as problem:
        code = 410 if isinstance(problem, RecordingGone) else 404
        log.warning("recording_refused", code=code, address=address())
        return jsonify(error=str(problem)), code
    try:
        answer = _answer(found, name)
    except BaseException:
        found.file.close()
        raise
    span = answer.headers.get("Content-Range", "whole")
    log.info(
        "recording_served", file=found.name, code=answer.status_code, part=span, address=address()
    )
    return answer


def _answer(found: Found, name: str) -> Response:
    shown = PurePosixPath(name).with_suffix(PurePosixPath(found.name).suffix).name
    answer = send_file(
        found.file,
        mimetype=found.type,
        download_name=shown,
        etag=found.etag,
        last_modified=found.changed,
        max_age=0,
        conditional=False,
    )
    answer.content_length = found.size
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.make_conditional(request.environ, accept_ranges=True, complete_length=found.size)
    return answer
