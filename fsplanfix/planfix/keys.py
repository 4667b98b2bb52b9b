"""The key that Planfix sends with its commands: PBX_TOKEN, and for a while PBX_TOKEN_OLD."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from enum import StrEnum


class Key(StrEnum):
    """One of our keys, by its setting."""

    PRESENT = "PBX_TOKEN"
    FORMER = "PBX_TOKEN_OLD"


@dataclass(frozen=True, slots=True)
class PbxKeys:
    """The keys that are right. former: "" if there is none."""

    present: str = field(repr=False)
    former: str = field(default="", repr=False)

    def which(self, given: str) -> Key | None:
        """Return which key was given, None if it is wrong."""
        # both are compared, so that the time tells nothing
        is_present = same(given, self.present)
        is_former = same(given, self.former) and bool(self.former)
        if is_present:
            return Key.PRESENT
        if is_former:
            return Key.FORMER
        return None


def same(given: str, ours: str) -> bool:
    """Tell whether two secrets are equal, in constant time."""
    # surrogatepass: a text that UTF-8 cannot encode is a wrong secret, not an error of ours
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), ours.encode())
