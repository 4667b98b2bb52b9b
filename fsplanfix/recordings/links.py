"""Permanent, unguessable links to recordings: PUBLIC_URL/recordings/<signed path>/<callid>.<ext>.

Planfix may open a link years later (shared/planfix-facts.md), so it carries the path itself, signed, and no date.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import quote

from itsdangerous import BadSignature, URLSafeSerializer

_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}", re.ASCII)


class Links:
    """Makes and reads links to recordings."""

    def __init__(self, public_url: str, secret_key: str) -> None:
        self._base = public_url.rstrip("/")
        self._signer = URLSafeSerializer(secret_key, salt="fsplanfix.recording")

    def link(self, callid: str, path: str) -> str:
        """Return the link to the recording at `path` (as FreeSWITCH named it)."""
        signed = self._signer.dumps(path)
        suffix = PurePosixPath(path).suffix
        name = callid + (suffix if _SUFFIX.fullmatch(suffix) else "")
        return f"{self._base}/recordings/{signed}/{quote(name, safe='')}"

    def path(self, signed: str) -> str | None:
        """Return the path in a link's signed part, None if we did not sign it."""
        try:
            path = self._signer.loads(signed)
        except BadSignature:
            return None
        return path if isinstance(path, str) else None
