"""Permanent, unguessable URLs of recordings: PUBLIC_URL/recordings/<signed path>/<callid>.<ext>.

With several companies the account stands before the signed path.

Planfix may open a URL years later (docs/facts/planfix.md), so it carries the path itself,
signed, and no date.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import parse_qsl, quote, urlsplit

from itsdangerous import BadSignature, URLSafeSerializer
from itsdangerous.encoding import base64_decode, base64_encode

# a suffix that may stand in a URL: letters and digits, no slash, no question mark
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}", re.ASCII)


# mod_http_cache's own prefix, and a file's parameters in braces
_PREFIX = re.compile(
    r"(?:\{[^{}]*\})?(?:http_cache://)?(?:\{[^{}]*\})?(?=https?://)", re.IGNORECASE
)

_DATED = frozenset(("expires", "x-amz-expires", "x-goog-expires"))
"""Parameters of addresses that an object store has signed for a short time."""


class RecordingUrls:
    """Makes and reads URLs of recordings.

    public_url: PUBLIC_URL. keys: the secrets, the oldest first; the last one signs, all are
    accepted. account: whose recordings, "" if there is one company. A URL of one account opens
    nothing of another.
    """

    def __init__(self, public_url: str, keys: Sequence[str], account: str = "") -> None:
        self._base = "/".join([public_url.rstrip("/"), "recordings", *filter(None, [account])])
        # no name of a file begins like that: what follows "recording" is a dot there
        self._salt = f"fsplanfix.recording of {account}" if account else "fsplanfix.recording"
        self._keys = list(keys)

    def url(self, callid: str, path: str) -> str:
        """Return the URL of the recording at `path` (as FreeSWITCH named it)."""
        name = callid
        suffix = PurePosixPath(path).suffix
        if _SUFFIX.fullmatch(suffix):
            name += suffix

        signed = self._signer(name).dumps(path)
        return f"{self._base}/{signed}/{quote(name, safe='')}"

    def path(self, signed: str, name: str) -> str | None:
        """Return the path in a URL's signed part, None unless it was signed with this name.

        name: the last part of the URL.
        """
        try:
            path = self._signer(name).loads(signed)
        except (BadSignature, RecursionError):
            return None

        if not isinstance(path, str):
            return None
        if not _is_canonical(signed.rpartition(".")[2]):
            return None
        return path

    def _signer(self, name: str) -> URLSafeSerializer:
        """Return what signs paths for a name: a URL opens its file under no other name."""
        return URLSafeSerializer(
            self._keys, salt=f"{self._salt}.{name}".encode("utf-8", "surrogatepass")
        )


def _is_canonical(signature: str) -> bool:
    """Tell whether a signature is spelled as `url` spells it."""
    # base64 leaves two bits of it unused, so four last characters decode to the same signature
    return base64_encode(base64_decode(signature)) == signature.encode()


def web_address(path: str) -> str:
    """Return the web address under which FreeSWITCH recorded, "" if it recorded into a file.

    mod_http_cache uploads to such an address; a script may name the bucket it moves files to.
    """
    prefix = _PREFIX.match(path)
    if prefix is None:
        return ""
    address = quote(path[prefix.end() :], safe="%/:=&?~#+!$,;'@()*[]")
    try:
        host = urlsplit(address).hostname
    except ValueError:
        return ""
    return address if host else ""


def is_short_lived(address: str) -> bool:
    """Tell whether a web address was signed for a short time only."""
    return any(name.lower() in _DATED for name, _ in parse_qsl(urlsplit(address).query))


def url_elsewhere(base: str, path: str, folder: str) -> str:
    """Return the URL of a recording that another server serves from RECORDINGS_URL (`base`).

    A file inside `folder` (RECORDINGS_DIR) keeps its place below it. Any other file goes by its
    name alone.
    """
    where = PurePosixPath(path)
    inside = where.is_relative_to(folder) and ".." not in where.parts
    parts: tuple[str, ...] = (where.name,)
    if inside:
        parts = where.relative_to(folder).parts

    return "/".join([base.rstrip("/"), *(quote(part, safe="") for part in parts)])
