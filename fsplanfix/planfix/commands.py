"""The commands Planfix sends: checked strictly, answered at once.

docs/facts/planfix.md, "What is answered".
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import structlog
from cachetools import TTLCache
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from ..calls.model import Rules
from ..calls.numbers import normalize, refusal
from ..errors import DialRefused, LinkError

log = structlog.get_logger(__name__)

Answer = tuple[int, dict[str, str]]
Dial = Callable[[str, Sequence[str], str], None]
"""Starts a call: for an ext's first user that can be reached, to a number (E.164 digits).

Raises DialRefused with the reason, or LinkError if no FreeSWITCH is linked now.
"""

OnRefused = Callable[[str, str, str], None]
"""Is told of a call that was refused: its ext and number as far as they are sound, and why."""

INVALID_PARAMETERS: Answer = (400, {"error": "Invalid parameters"})
INVALID_TOKEN: Answer = (401, {"error": "Invalid token"})
NO_SWITCH: Answer = (
    503,
    {"error": "The phone system is not connected right now, try again in a minute"},
)

DOUBLE_CLICK = 5.0
"""Seconds within which the same request again is the same click."""

_WRITTEN_NUMBER = re.compile(r"[0-9+() -]{3,32}", re.ASCII)
_DIGITS = re.compile(r"[0-9]{3,15}", re.ASCII)
_EXT = re.compile(r"[0-9]{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Account:
    """What both sides agreed on: Planfix's address and token, and the token it must send us."""

    url: str
    token: str
    pbx_token: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be dialled, and how often.

    allow: which numbers (E.164 digits), None for the country's ordinary ones.
    """

    allow: re.Pattern[str] | None = None
    per_ext: int = 20
    in_all: int = 120


@dataclass(frozen=True, slots=True)
class Commands:
    """Answers Planfix. dial and on_refused: see Dial and OnRefused."""

    account: Account
    rules: Rules
    limits: Limits
    dial: Dial
    on_refused: OnRefused
    _clicks: TTLCache[tuple[str, str], bool] = field(
        default_factory=lambda: TTLCache(10_000, DOUBLE_CLICK)
    )
    _rate: MovingWindowRateLimiter = field(
        default_factory=lambda: MovingWindowRateLimiter(MemoryStorage())
    )

    def answer(self, fields: Mapping[str, str]) -> Answer:
        """Return the HTTP code and the JSON body for a command."""
        if not _same(fields.get("token", ""), self.account.pbx_token):
            return INVALID_TOKEN
        known = {"makeCall": self._make_call, "setup": self._set_up}
        command = known.get(fields.get("cmd", ""))
        return command(fields) if command else INVALID_PARAMETERS

    # click to call

    def _make_call(self, fields: Mapping[str, str]) -> Answer:
        ext, number = fields.get("from", ""), self._number(fields.get("to", ""))
        users = self.rules.users_of(ext) if _EXT.fullmatch(ext) else []
        if not number or not users:
            self.on_refused("", "", "ext or number is not one")
            return INVALID_PARAMETERS
        if (ext, number) in self._clicks:
            return 200, {}
        self._clicks[ext, number] = True
        try:
            self._check(ext, number)
            self.dial(ext, users, number)
        except DialRefused as problem:
            self._clicks.pop((ext, number), None)
            self.on_refused(ext, number, str(problem))
            return 400, {"error": "Invalid parameters", "reason": str(problem)}
        except LinkError:
            self._clicks.pop((ext, number), None)
            self.on_refused(ext, number, "no FreeSWITCH is linked")
            return NO_SWITCH
        return 200, {}

    def _number(self, written: str) -> str:
        """Return a number to dial as digits, "" if it is none."""
        number = (
            normalize(written, self.rules.country) if _WRITTEN_NUMBER.fullmatch(written) else ""
        )
        return number if _DIGITS.fullmatch(number) else ""

    def _check(self, ext: str, number: str) -> None:
        """Raise DialRefused if this number, or one more call now, is not allowed."""
        allow = self.limits.allow
        if allow is not None and not allow.fullmatch(number):
            raise DialRefused(f"{number} is not among the numbers that DIAL_ALLOW allows")
        if allow is None and (reason := refusal(number, self.rules.country)):
            raise DialRefused(f"{number} is not dialled: {reason}; DIAL_ALLOW can allow it")
        for rate, key in ((self.limits.per_ext, ext), (self.limits.in_all, "")):
            if not self._rate.hit(RateLimitItemPerMinute(rate), key or "all"):
                whose = f"extension {key}" if key else "the whole company"
                raise DialRefused(
                    f"More than {rate} calls in a minute for {whose}: wait a moment and click again"
                )

    # setup

    def _set_up(self, fields: Mapping[str, str]) -> Answer:
        """Answer Planfix when the integration is switched on; it changes nothing here."""
        problem = self._mismatch(fields.get("planfix_url", ""), fields.get("planfix_token", ""))
        if problem:
            log.error("setup_refused", problem=problem)
            return 400, {"error": problem}
        log.info("setup_accepted")
        return 200, {}

    def _mismatch(self, url: str, token: str) -> str:
        if not url.startswith("https://") and not _same(url, self.account.url):
            return "The address in planfix_url must begin with https://."
        if not _same(_plain(url), _plain(self.account.url)):
            return (
                "The PBX is connected to another Planfix address: "
                "put this one into PLANFIX_URL and restart fsplanfix."
            )
        if not _same(token, self.account.token):
            return (
                "The PBX has another Planfix token: "
                "put the one shown here into PLANFIX_TOKEN and restart fsplanfix."
            )
        return ""


def _same(given: str, ours: str) -> bool:
    """Compare secrets in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), ours.encode())


def _plain(url: str) -> str:
    """Return an address in one spelling: the host in small letters, no slash at the end."""
    try:
        parts = urlsplit(url)
        return parts._replace(netloc=parts.netloc.lower()).geturl().rstrip("/")
    except ValueError:
        return url
