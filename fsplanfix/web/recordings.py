"""Serves recordings to whoever has a link we signed, and only files really inside RECORDINGS_DIR."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flask import abort, send_file
from flask.typing import ResponseReturnValue

PathOf = Callable[[str], str | None]
"""Takes a link's signed part, returns the path in it or None."""

TYPES = {".wav": "audio/wav", ".mp3": "audio/mpeg", ".ogg": "audio/ogg"}


def serve(path: str | None, folder: str, name: str) -> ResponseReturnValue:
    """Answer with the file, or 404. Range, ETag and HEAD are Flask's."""
    found = inside(path, folder)
    if found is None or found.suffix.lower() not in TYPES:
        abort(404)
    return send_file(found, mimetype=TYPES[found.suffix.lower()], download_name=name, conditional=True, max_age=0)


def inside(path: str | None, folder: str) -> Path | None:
    """Return the file behind `path` if it is a plain file inside `folder`, symbolic links followed."""
    if not path or "\0" in path:
        return None
    try:
        real = Path(folder, path).resolve(strict=True)
        if real.is_file() and real.is_relative_to(Path(folder).resolve(strict=True)):
            return real
    except OSError:
        return None
    return None
