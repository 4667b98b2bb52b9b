"""Our own https: HTTP_CERT and HTTP_KEY, read again when they change."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import structlog
from gevent import ssl

from ..errors import SettingsError

log = structlog.get_logger(__name__)

Stamp = tuple[tuple[int, int, int], ...]
"""Of each file: inode, size, time of its last change (ns)."""


def certificate(cert: Path | None, key: Path | None) -> Certificate | None:
    """Return the certificate of the settings, None if they name none. Raises SettingsError.

    key: None if it is in the file of the certificate.
    """
    if cert is None and key is None:
        return None
    if cert is None:
        raise SettingsError(["HTTP_CERT is missing: the certificate that HTTP_KEY belongs to."])
    return Certificate(cert, key or cert)


class Certificate:
    """A certificate with its chain, and its key, as PEM.

    Raises SettingsError with a sentence if the files cannot be used. Once they could, wrong ones
    are only logged, and the connections get the certificate of before.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._files = cert, key
        self._stamp = self._stamp_now()
        self._context = _read(cert, key)

    def context(self) -> Any:
        """Return the SSLContext for a new connection. Open connections keep theirs."""
        # two stat calls take microseconds, a handshake takes a millisecond
        stamp = self._stamp_now()
        if stamp != self._stamp:
            self._stamp = stamp
            self._renew()
        return self._context

    def _renew(self) -> None:
        try:
            self._context = _read(*self._files)
        except SettingsError as error:
            log.error("certificate_wrong", problem=str(error), hint="the one of before goes on")
        else:
            log.info("certificate_renewed", file=str(self._files[0]))

    def _stamp_now(self) -> Stamp:
        found = []
        for file in self._files:
            try:
                now = os.stat(file)
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((now.st_ino, now.st_size, now.st_mtime_ns))
        return tuple(found)


def _read(cert: Path, key: Path) -> Any:
    texts = {}
    for name, file in (("HTTP_CERT", cert), ("HTTP_KEY", key)):
        try:
            texts[name] = file.read_bytes()
        except OSError as error:
            reason = error.strerror or str(error)
            raise SettingsError([f"{name}: {file} cannot be read ({reason})."]) from None

    if b"-----BEGIN CERTIFICATE-----" not in texts["HTTP_CERT"]:
        raise SettingsError([f"HTTP_CERT: {cert} is not a certificate in PEM form."])
    if b"PRIVATE KEY-----" not in texts["HTTP_KEY"]:
        raise SettingsError([f"HTTP_KEY: {key} is not a private key in PEM form."])
    if b"ENCRYPTED" in texts["HTTP_KEY"]:
        raise SettingsError([f"HTTP_KEY: {key} has a password; remove it from the key."])

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    try:
        # without a password OpenSSL would ask for one on the terminal
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            problem = f"HTTP_KEY: {key} is not the key of the certificate in {cert}."
        else:
            problem = f"HTTP_CERT: {cert} or the key in {key} is damaged ({error.reason})."
        raise SettingsError([problem]) from None
    except OSError as error:
        raise SettingsError([f"HTTP_CERT: {cert} cannot be read ({error.strerror})."]) from None
    return context
