"""What `fsplanfix check` looks at, each with the cure. So far: Planfix."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import TransportError
from .planfix.client import Client
from .settings import Settings

PATIENCE = 10.0
"""Seconds Planfix has to answer."""

NO_NUMBER = "70000000000"
"""A client who cannot exist."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check. grade: 0 in order, 1 to be looked at, 2 broken. cure: "" if there is nothing to do."""

    grade: int
    what: str
    cure: str = ""

    @property
    def mark(self) -> str:
        """Return ✓, ! or ✗."""
        return "✓!✗"[self.grade]


def planfix(settings: Settings) -> Iterator[Finding]:
    """Ask Planfix whether it knows our token, and what it knows of us (`ping`, planfix-facts.md)."""
    client = Client(settings.planfix_url, settings.planfix_token.get_secret_value(), 1)
    try:
        known = client.ask({"cmd": "ping"}, PATIENCE)
    except TransportError as error:
        yield from _without_ping(client, error)
        return
    finally:
        client.close()
    yield Finding(0, "Planfix answers and knows our token")
    yield from _agreement(settings, known)


def _without_ping(client: Client, error: TransportError) -> Iterator[Finding]:
    """A Planfix of before 2025 does not know ping: whether it knows our token shows in any other request."""
    if error.permanent:
        try:
            client.ask({"cmd": "contact", "phone": NO_NUMBER}, PATIENCE)
        except TransportError as second:
            error = second
        else:
            yield Finding(0, "Planfix answers and knows our token (it cannot tell what it knows of us)")
            return
    cure = "put the token that Planfix shows into PLANFIX_TOKEN" if error.unauthorized else "is PLANFIX_URL right?"
    yield Finding(2, str(error), cure)


def _agreement(settings: Settings, known: dict[str, object]) -> Iterator[Finding]:
    """Compare what Planfix will send with what we wait for."""
    token, url = str(known.get("pbxToken", "")), str(known.get("pbxUrl", ""))
    if not hmac.compare_digest(token.encode("utf-8", "replace"), settings.pbx_token.get_secret_value().encode()):
        yield Finding(2, "Planfix has another key of the PBX", "enter PBX_TOKEN in Planfix as the PBX's key")
    ours = f"{(settings.public_url or f'http://{settings.http_listen}').rstrip('/')}/planfix"
    if url.rstrip("/") != ours:
        shown = "".join(char for char in url[:100] if char.isprintable())
        yield Finding(
            1, f"Planfix sends clicks to {shown or 'nowhere'}", f"enter {ours} in Planfix, or mend PUBLIC_URL"
        )
