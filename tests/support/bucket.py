"""A real S3 server, moto's, as a program of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import gevent

from fsplanfix.recordings.bucket import Place

from .service import environment

KEY, SECRET = "a-key-id", "a-bucket-secret"


@dataclass
class S3:
    """A running server. url: its address."""

    url: str

    @property
    def place(self) -> Place:
        return Place("recordings", "pbx/", self.url, "ru-central1", KEY, SECRET)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "RECORDINGS_S3": "s3://recordings/pbx",
            "RECORDINGS_S3_ENDPOINT": self.url,
            "RECORDINGS_S3_REGION": "ru-central1",
            "RECORDINGS_S3_KEY": KEY,
            "RECORDINGS_S3_SECRET": SECRET,
        }

    def _client(self) -> Any:
        return boto3.session.Session(KEY, SECRET, region_name="us-east-1").client(
            "s3", endpoint_url=self.url
        )

    def make_bucket(self) -> None:
        self._client().create_bucket(Bucket="recordings")

    def stored(self) -> list[str]:
        """The keys of everything in the bucket."""
        found = self._client().list_objects_v2(Bucket="recordings")
        return sorted(one["Key"] for one in found.get("Contents", []))

    def read(self, key: str) -> bytes:
        content: bytes = self._client().get_object(Bucket="recordings", Key=key)["Body"].read()
        return content

    def write(self, key: str, content: bytes) -> None:
        self._client().put_object(Bucket="recordings", Key=key, Body=content)


@contextmanager
def s3_server(port: int = 0) -> Iterator[S3]:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"Running on (http://\S+)", line):
                break
        else:
            raise AssertionError(f"moto ended with {process.wait()}")
        made = S3(found[1])
        made.make_bucket()
        # it writes a line for each request
        reader = gevent.spawn(lambda: [None for _ in process.stderr or ()])
        yield made
        process.kill()
        reader.join()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
