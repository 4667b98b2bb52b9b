"""Permanent, unguessable links to recordings: PUBLIC_URL/recordings/<signed path>/<callid>.<ext>.

Planfix may open a link years later (docs/facts/planfix.md), so it carries the path itself,
signed, and no date.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import quote

from itsdangerous import BadSignature, URLSafeSerializer
from itsdangerous.encoding import base64_decode, base64_encode

_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}", re.ASCII)


class Links:
    """Makes and reads links to recordings.

    keys: the secrets, the oldest first; the last one signs, all are read.
    """

    def __init__(self, public_url: str, keys: Sequence[str]) -> None:
        self._base = public_url.rstrip("/")
        self._keys = list(keys)

    def link(self, callid: str, path: str) -> str:
        """Return the link to the recording at `path` (as FreeSWITCH named it)."""
        suffix = PurePosixPath(path).suffix
        name = callid + (suffix if _SUFFIX.fullmatch(suffix) else "")
        return f"{self._base}/recordings/{self._signer(name).dumps(path)}/{quote(name, safe='')}"

    def path(self, signed: str, name: str) -> str | None:
        """Return the path in a link's signed part, None if we did not sign it with this name."""
        try:
            path = self._signer(name).loads(signed)
        except (BadSignature, RecursionError):
            return None
        return path if isinstance(path, str) and _is_canonical(signed.rpartition(".")[2]) else None

    def _signer(self, name: str) -> URLSafeSerializer:
        return URLSafeSerializer(
            self._keys, salt=f"fsplanfix.recording.{name}".encode("utf-8", "surrogatepass")
        )


def _is_canonical(signature: str) -> bool:
    """Tell whether a signature is spelled as we spell it: base64 leaves two of its bits unused."""
    return base64_encode(base64_decode(signature)) == signature.encode()


def elsewhere(base: str, path: str, folder: str) -> str:
    """Return the link to a recording that another server serves from RECORDINGS_URL (`base`).

    What lies inside `folder` (RECORDINGS_DIR) keeps its place below it; anything else goes by its
    file name alone.
    """
    where = PurePosixPath(path)
    inside = where.is_relative_to(folder) and ".." not in where.parts
    parts = where.relative_to(folder).parts if inside else (where.name,)
    return "/".join([base.rstrip("/"), *(quote(part, safe="") for part in parts)])
