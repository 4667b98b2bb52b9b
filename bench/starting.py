"""From the start of the program until it is ready: linked to FreeSWITCH, and the store writes.

The reference is a Python that imports what the service imports, and ends.
"""

from __future__ import annotations

import subprocess
import sys
import time

import gevent
import requests

from .programs import connector

IMPORTS = (
    "from gevent import monkey; monkey.patch_all(); "
    "import ahocorasick_rs, cachetools, circuitbreaker, click, flask, flask_babel, flask_wtf, "
    "gevent.pywsgi, geventhttpclient, greenswitch, itsdangerous, limits, phonenumbers, "
    "prometheus_client, pydantic, pydantic_settings, requests, sdnotify, "
    "sqlalchemy.dialects.postgresql, sqlalchemy.dialects.sqlite, structlog"
)


def ready(cdr_dir: str = "", store_url: str = "") -> float:
    """Return the seconds from the start of `fsplanfix run` to the first 200 of /health/ready.

    cdr_dir: CDR_DIR, "" for none. store_url: STORE_URL, "" for an empty one.
    """
    begun = time.monotonic()
    with connector(store_url=store_url, CDR_DIR=cdr_dir) as stage, requests.Session() as session:
        session.trust_env = False
        address = stage.program.said(r"web_listening address=(\S+)")
        while session.get(f"{address}/health/ready", timeout=5).status_code != 200:
            gevent.sleep(0.005)
        return time.monotonic() - begun


def imported() -> float:
    """Return the seconds a Python takes that only imports the same dependencies."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)  # noqa: S603
    return time.monotonic() - begun
