"""An S3-compatible bucket that keeps recordings: the only user of boto3.

Every method asks the bucket and waits: they are called in native threads (`gevent`'s pool), each of
which has a client of its own.
"""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from gevent.monkey import get_original

from ..errors import BucketError

LINK_LASTS = 600
"""Seconds for which a link to the bucket opens: a player asks for parts while somebody listens."""

CONNECT_TIMEOUT, READ_TIMEOUT = 5, 30
"""Seconds."""

_PLAIN_MD5 = re.compile(r'"?([0-9a-f]{32})"?')

# gevent's own get_ident tells greenlets apart, not threads
_thread_number = get_original("_thread", "get_ident")


@dataclass(frozen=True, slots=True)
class Place:
    """Where recordings are kept.

    prefix: the beginning of every key, "" or with a slash at its end. endpoint, region, key: ""
    for what boto3 finds in its own environment. secret: the key's.
    """

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    key: str = ""
    secret: str = field(default="", repr=False)


class Bucket:
    """Stores files in a bucket and makes URLs of them. Its methods raise BucketError."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._clients: dict[int, Any] = {}

    def key_of(self, inside: PurePosixPath) -> str:
        """Return the key of a file. inside: its path below RECORDINGS_DIR."""
        return f"{self._place.prefix}{inside}"

    def store(self, content: BinaryIO, key: str, name: str) -> None:
        """Store a file unless the bucket has the same, and compare size and checksum.

        Raises OSError if the file cannot be read.
        """
        size, digest = _measure(content)
        if self._is_same(self._head(key), size, digest):
            return

        content.seek(0)
        self._ask(
            "put_object",
            Key=key,
            Body=content,
            ContentLength=size,
            # the bucket refuses what arrives otherwise
            ContentMD5=base64.b64encode(digest).decode(),
            ContentType=mimetypes.guess_type(name)[0] or "application/octet-stream",
        )
        if not self._is_same(self._head(key), size, digest):
            raise BucketError("the bucket does not hold what was sent")

    @staticmethod
    def _is_same(found: dict[str, Any] | None, size: int, digest: bytes) -> bool:
        """Tell whether an object is a file. digest: the file's MD5."""
        if found is None or found["ContentLength"] != size:
            return False
        # the ETag of what is encrypted with a key of its own (KMS) is not the MD5
        md5 = _PLAIN_MD5.fullmatch(found.get("ETag", ""))
        is_encrypted = "kms" in found.get("ServerSideEncryption", "")
        return md5 is None or is_encrypted or md5[1] == digest.hex()

    def has(self, key: str) -> bool:
        """Tell whether the bucket has a file under a key."""
        return self._head(key) is not None

    def _head(self, key: str) -> dict[str, Any] | None:
        try:
            return self._ask("head_object", Key=key)
        except BucketError as error:
            if error.code in ("404", "NoSuchKey", "NotFound"):
                return None
            raise

    def delete(self, key: str) -> None:
        """Delete a file."""
        self._ask("delete_object", Key=key)

    def urls(self, key: str, name: str, media_type: str) -> dict[str, str]:
        """Return URLs that open a file for a short time, by the method of the request."""
        shown = {
            "ResponseContentType": media_type,
            "ResponseContentDisposition": f'inline; filename="{_plain(name)}"',
        }
        with _SaidPlainly():
            sign = self._client().generate_presigned_url
            about = {"Bucket": self._place.bucket, "Key": key}
            return {
                "GET": sign("get_object", {**about, **shown}, ExpiresIn=LINK_LASTS),
                "HEAD": sign("head_object", about, ExpiresIn=LINK_LASTS),
            }

    @property
    def origin(self) -> str:
        """Return the beginning of every link: scheme and host, for a Content-Security-Policy."""
        if not self._place.endpoint:
            return "https://*.amazonaws.com"
        parts = urlsplit(self._place.endpoint)
        return f"{parts.scheme}://{parts.netloc}"

    def _ask(self, what: str, **values: Any) -> dict[str, Any]:
        with _SaidPlainly():
            answer: dict[str, Any] = getattr(self._client(), what)(
                Bucket=self._place.bucket, **values
            )
            return answer

    def _client(self) -> Any:
        number = _thread_number()
        if number not in self._clients:
            self._clients[number] = self._make_client()
        return self._clients[number]

    def _make_client(self) -> Any:
        import boto3  # noqa: PLC0415 - an extra
        from botocore.config import Config  # noqa: PLC0415

        place = self._place
        config = Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            # the notice is tried again, so boto3 need not
            retries={"total_max_attempts": 1},
            signature_version="s3v4",
            # only Amazon knows buckets as hosts for certain
            s3={"addressing_style": "path" if place.endpoint else "auto"},
            # newer checksums, which other makers' buckets do not know
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        # a session of its own: boto3's default one is shared between threads
        session = boto3.session.Session(
            aws_access_key_id=place.key or None,
            aws_secret_access_key=place.secret or None,
            region_name=place.region or None,
        )
        # without any region boto3 signs nothing, and many buckets know none
        region = session.region_name or "us-east-1"
        return session.client(
            "s3", endpoint_url=place.endpoint or None, region_name=region, config=config
        )


class _SaidPlainly:
    """Turns the errors of boto3 into BucketError. No key is in their words."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None or isinstance(error, OSError):
            return
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - an extra

        if isinstance(error, ClientError):
            code = str(error.response.get("Error", {}).get("Code", ""))
            raise BucketError(f"the bucket answered {code}", code) from None
        if isinstance(error, BotoCoreError):
            raise BucketError(f"the bucket cannot be used ({type(error).__name__})") from None


def is_installed() -> bool:
    """Tell whether boto3 is installed."""
    try:
        import boto3  # noqa: F401, PLC0415
    except ModuleNotFoundError:
        return False
    return True


def _measure(content: BinaryIO) -> tuple[int, bytes]:
    """Return the size and the MD5 of a file."""
    digest = hashlib.md5(usedforsecurity=False)
    size = 0
    while block := content.read(1 << 20):
        digest.update(block)
        size += len(block)
    return size, digest.digest()


def _plain(name: str) -> str:
    """Return a name that may stand in a header."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)
