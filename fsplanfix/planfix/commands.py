"""The commands Planfix sends us (shared/planfix-voip-api.txt): checked strictly, answered at once."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..calls.numbers import normalize

Answer = tuple[int, dict[str, str]]
Dialler = Callable[[str, str], bool]
"""Starts a call from an ext to a number, both digits; False if no FreeSWITCH is linked now."""

INVALID_PARAMETERS: Answer = (400, {"error": "Invalid parameters"})
INVALID_TOKEN: Answer = (401, {"error": "Invalid token"})
NO_SWITCH: Answer = (503, {"error": "The phone system is not connected right now, try again in a minute"})

_WRITTEN_NUMBER = re.compile(r"[0-9+() -]{3,32}", re.ASCII)
_DIGITS = re.compile(r"[0-9]{3,15}", re.ASCII)
_EXT = re.compile(r"[0-9]{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Commands:
    """Answers Planfix. allow: which numbers (E.164 digits) may be dialled, None for all."""

    token: str
    ext_pattern: re.Pattern[str]
    country: str
    allow: re.Pattern[str] | None
    dial: Dialler

    def answer(self, fields: Mapping[str, str]) -> Answer:
        """Return the HTTP code and the JSON body for a command."""
        given = fields.get("token", "").encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(given, self.token.encode()):
            return INVALID_TOKEN
        if fields.get("cmd") != "makeCall":
            return INVALID_PARAMETERS
        ext, number = fields.get("from", ""), self._number(fields.get("to", ""))
        if not number or not _EXT.fullmatch(ext) or not self.ext_pattern.fullmatch(ext):
            return INVALID_PARAMETERS
        return (200, {}) if self.dial(ext, number) else NO_SWITCH

    def _number(self, written: str) -> str:
        """Return a number to dial as digits, "" if it may not be dialled."""
        if not _WRITTEN_NUMBER.fullmatch(written):
            return ""
        number = normalize(written, self.country)
        if not _DIGITS.fullmatch(number) or (self.allow is not None and not self.allow.fullmatch(number)):
            return ""
        return number
