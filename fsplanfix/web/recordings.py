"""Serves recordings to everyone who has a signed URL, and logs who listened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

import structlog
from flask import Response, jsonify, redirect, request, send_file
from flask.typing import ResponseReturnValue

from ..errors import RecordingGone, RecordingUnknown
from ..recordings.files import Elsewhere, Found
from .rate_limit import address

log = structlog.get_logger(__name__)

Find = Callable[[str, str], Found | Elsewhere]
"""Opens the recording behind a URL's two parts; see Library.open."""


def serve(find: Find, signed: str, name: str) -> ResponseReturnValue:
    """Answer with the file or a part of it (Range), or with the way to the bucket that has it.

    404 for a URL that was not signed here, 410 for a recording that was deleted.
    """
    try:
        found = find(signed, name)
    except (RecordingUnknown, RecordingGone) as problem:
        code = 410 if isinstance(problem, RecordingGone) else 404
        log.warning("recording_refused", code=code, address=address())
        return jsonify(error=str(problem)), code

    answer = answer_with(found, name)
    span = answer.headers.get("Content-Range", "whole")
    log.info(
        "recording_served", file=found.name, code=answer.status_code, part=span, address=address()
    )

    return answer


def answer_with(found: Found | Elsewhere, name: str) -> Response:
    """Return the whole file or the part that the request asks for. name: what to call it.

    A file in a bucket: return a redirection to a link that opens it for a short time.
    """
    if isinstance(found, Elsewhere):
        answer = redirect(found.urls[request.method])
        answer.headers["Cache-Control"] = "no-store"
        # the address of our page, with a callid in it, is nothing for the bucket's log
        answer.headers["Referrer-Policy"] = "no-referrer"
        assert isinstance(answer, Response)  # noqa: S101 - for the type checker
        return answer
    try:
        return _answer(found, name)
    except BaseException:
        found.file.close()
        # nobody else closes it: there is no answer that would
        raise


def _answer(found: Found, name: str) -> Response:
    # a URL made before the conversion says .wav where the file is .mp3 now
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

    # send_file does not know the size of an open file, without which there are no parts
    answer.content_length = found.size
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.make_conditional(request.environ, accept_ranges=True, complete_length=found.size)
    return answer
