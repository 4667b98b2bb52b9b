"""Whether Planfix and we have the same key and the same address of ours, as its `ping` says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

from ..outbox.texts import clean
from .keys import Key, PbxKeys

LONGEST_ADDRESS = 100
"""Characters of Planfix's address of us that are shown."""


_ACCOUNT = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)


class Difference(StrEnum):
    """What Planfix holds that is not ours. FORMER_KEY: the one in PBX_TOKEN_OLD, right so far."""

    KEY = "key"
    FORMER_KEY = "former key"
    ADDRESS = "address"


def our_address(public_url: str) -> str:
    """Return what must stand in Planfix as the address of the PBX."""
    return f"{public_url.rstrip('/')}/planfix"


def differences(
    answer: Mapping[str, object], keys: PbxKeys, public_url: str
) -> dict[Difference, str]:
    """Return what differs in an answer to `ping`, and a sentence about each.

    public_url: "" if we do not know how Planfix reaches us; then its address is not compared.
    Nothing of a key is in the sentences.
    """
    found = {}
    key = keys.which(str(answer.get("pbxToken", "")))
    if key is None:
        found[Difference.KEY] = "holds another PBX key"
    elif key is Key.FORMER:
        found[Difference.FORMER_KEY] = "still holds the PBX key of PBX_TOKEN_OLD"

    url = str(answer.get("pbxUrl", ""))
    if public_url and not _is_ours(url, public_url):
        shown = "".join(char for char in clean(url)[:LONGEST_ADDRESS] if char.isprintable())
        found[Difference.ADDRESS] = f"sends clicks to {shown or 'nowhere'}"
    return found


def _is_ours(url: str, public_url: str) -> bool:
    """Tell whether an address is ours, with the name of an account behind it or without."""
    ours, given = our_address(public_url), url.rstrip("/")
    account = given.removeprefix(f"{ours}/")
    return given == ours or (account != given and bool(_ACCOUNT.fullmatch(account)))


def hint(difference: Difference, public_url: str) -> str:
    """Return what to do about a difference."""
    if difference is Difference.ADDRESS:
        return f"enter {our_address(public_url)} in Planfix, or fix PUBLIC_URL"
    if difference is Difference.FORMER_KEY:
        return "enter PBX_TOKEN in Planfix as the PBX key, then remove PBX_TOKEN_OLD"
    return "enter PBX_TOKEN in Planfix as the PBX key"
