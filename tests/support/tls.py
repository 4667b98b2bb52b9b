"""Throw-away certificates, a Planfix that speaks https, and programs that trust it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gevent
import trustme
from gevent import socket
from gevent.server import StreamServer

from fsplanfix.simulators.planfix import Planfix


def write_certificate(folder: Path, authority: trustme.CA, name: str = "localhost") -> None:
    """Write cert.pem and key.pem as a certificate authority issues them."""
    issued = authority.issue_cert(name)
    (folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())


def trusting(folder: Path, authority: trustme.CA) -> dict[str, str]:
    """The environment of a program that trusts this authority and no other."""
    bundle, module = folder / "authority.pem", folder / "trust" / "certifi.py"
    authority.cert_pem.write_to_path(str(bundle))
    module.parent.mkdir(exist_ok=True)
    module.write_text(f"def where():\n    return {str(bundle)!r}\n")
    return {"PYTHONPATH": str(module.parent)}


@contextmanager
def by_https(planfix: Planfix, authority: trustme.CA) -> Iterator[str]:
    """Serve a Planfix by https; give its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    port = urlsplit(planfix.url).port
    authority.issue_cert("localhost").configure_cert(context)

    def serve(peer: Any, _: Any) -> None:
        behind = socket.create_connection(("127.0.0.1", port))
        gevent.joinall([gevent.spawn(_pass, peer, behind), gevent.spawn(_pass, behind, peer)])

    server = StreamServer(("127.0.0.1", 0), serve, ssl_context=context)
    server.start()
    yield f"https://localhost:{server.server_port}/tel/api"
    server.stop(timeout=0.1)


def _pass(source: Any, target: Any) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.close()
