"""Answers the commands of Planfix: makeCall and setup.

docs/facts/planfix.md, "What is answered".
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import structlog
from cachetools import TTLCache
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from ..calls.model import Rules
from ..calls.numbers import is_outside_number, normalize, refusal
from ..errors import DialRefused, LinkError

log = structlog.get_logger(__name__)

Answer = tuple[int, dict[str, str]]
"""An HTTP code and a JSON body."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Whom a click calls.

    number: E.164 digits, or a colleague's ext. digits: an extension, dialled after the answer.
    colleagues: the users behind a colleague's ext, none for a client.
    """

    number: str
    digits: str = ""
    colleagues: tuple[str, ...] = ()


Dial = Callable[[str, Sequence[str], Destination], None]
"""Starts a call from an ext's phone.

Takes the ext, its users (the first that can be reached is called) and the destination. Raises
DialRefused with the reason, or LinkError if no FreeSWITCH is linked now.
"""

OnRefused = Callable[[str, str, str], None]
"""Called when a call is refused: with its ext and number, "" if they are malformed, and why."""

INVALID_PARAMETERS: Answer = (400, {"error": "Invalid parameters"})
INVALID_TOKEN: Answer = (401, {"error": "Invalid token"})
NO_SWITCH: Answer = (
    503,
    {"error": "The phone system is not connected right now, try again in a minute"},
)

DOUBLE_CLICK = 5.0
"""Seconds within which a repeated request is taken for the same click."""

_WRITTEN = re.compile(
    r"(?P<number>[0-9+() -]{2,32}?)"
    r"(?: *(?:,+|;ext=|доб\.?|ext\.?|x|\#) *(?P<digits>[0-9*#]{1,10}))?",
    re.IGNORECASE,
)
"""A number as Planfix writes it, with an extension behind it or without."""

_DIGITS = re.compile(r"[0-9]{2,15}", re.ASCII)
_EXT = re.compile(r"[0-9]{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Account:
    """An integration with Planfix: its address, its token, and the token it must send us."""

    url: str
    token: str
    pbx_token: str


@dataclass(frozen=True, slots=True)
class DialLimits:
    """Which numbers may be dialled, and how often.

    allow: matches the allowed numbers (E.164 digits); None allows the country's ordinary ones.
    per_ext, in_all: calls a minute.
    """

    allow: re.Pattern[str] | None = None
    per_ext: int = 20
    in_all: int = 120


class Commands:
    """Answers Planfix's commands.

    dial, on_refused: see Dial and OnRefused. clicks: remembers clicks for DOUBLE_CLICK seconds.
    """

    def __init__(
        self,
        account: Account,
        rules: Rules,
        limits: DialLimits,
        dial: Dial,
        on_refused: OnRefused,
        clicks: TTLCache[tuple[str, str], bool] | None = None,
    ) -> None:
        self._account = account
        self._rules = rules
        self._limits = limits
        self._dial = dial
        self._on_refused = on_refused

        # "is None": an empty cache is false
        self._clicks = TTLCache(10_000, DOUBLE_CLICK) if clicks is None else clicks
        self._rate = MovingWindowRateLimiter(MemoryStorage())

    def answer(self, fields: Mapping[str, str]) -> Answer:
        """Return the HTTP code and the JSON body for a command."""
        if not _same(fields.get("token", ""), self._account.pbx_token):
            return INVALID_TOKEN

        known = {"makeCall": self._make_call, "setup": self._set_up}
        command = known.get(fields.get("cmd", ""))
        if command is None:
            return INVALID_PARAMETERS
        return command(fields)

    # click to call

    def _make_call(self, fields: Mapping[str, str]) -> Answer:
        """Start the call of a click, unless something forbids it."""
        ext = fields.get("from", "")
        to = self._destination(fields.get("to", ""))
        users: list[str] = []
        if _EXT.fullmatch(ext):
            users = self._rules.users_of(ext)

        if to is None or not users:
            self._on_refused("", "", "ext or number is not one")
            return INVALID_PARAMETERS

        # a double click is accepted and makes one call
        click = ext, f"{to.number},{to.digits}"
        if click in self._clicks:
            return 200, {}
        self._clicks[click] = True

        # after a refusal, the next click may try again at once
        try:
            self._check(ext, to)
            self._dial(ext, users, to)
        except DialRefused as problem:
            self._clicks.pop(click, None)
            self._on_refused(ext, to.number, str(problem))
            return 400, {"error": "Invalid parameters", "reason": str(problem)}
        except LinkError:
            self._clicks.pop(click, None)
            self._on_refused(ext, to.number, "no FreeSWITCH is linked")
            return NO_SWITCH

        return 200, {}

    def _destination(self, written: str) -> Destination | None:
        """Return whom a written number means, None if it is malformed."""
        # checked before and after: the digits become part of a command to FreeSWITCH
        found = _WRITTEN.fullmatch(written)
        if found is None:
            return None

        number = normalize(found["number"], self._rules.country)
        if not _DIGITS.fullmatch(number):
            return None

        allow = self._limits.allow
        if is_outside_number(number) or (allow is not None and allow.fullmatch(number)):
            return Destination(number, found["digits"] or "")
        # Planfix shows the exts of colleagues as well. 102 may be an ext and the police: only
        # FreeSWITCH's own users are rung this way.
        return Destination(number, "", tuple(self._rules.users_of(number)))

    def _check(self, ext: str, to: Destination) -> None:
        """Raise DialRefused if this number, or one more call now, is not allowed."""
        allow, number = self._limits.allow, to.number
        if not to.colleagues:
            if allow is not None and not allow.fullmatch(number):
                raise DialRefused(f"{number} is not among the numbers that DIAL_ALLOW allows")

            if allow is None and (reason := refusal(number, self._rules.country)):
                raise DialRefused(f"{number} is not dialled: {reason}; DIAL_ALLOW can allow it")

        for rate, key in ((self._limits.per_ext, ext), (self._limits.in_all, "")):
            if not self._rate.hit(RateLimitItemPerMinute(rate), key or "all"):
                whose = f"extension {key}" if key else "the whole company"
                raise DialRefused(
                    f"More than {rate} calls in a minute for {whose}: wait a moment and click again"
                )

    # setup

    def _set_up(self, fields: Mapping[str, str]) -> Answer:
        """Answer the command that Planfix sends when the integration is switched on.

        Nothing changes here: a request must never redirect a running integration
        (docs/facts/planfix.md, "What is answered").
        """
        problem = self._mismatch(fields.get("planfix_url", ""), fields.get("planfix_token", ""))
        if problem:
            log.error("setup_refused", problem=problem)
            return 400, {"error": problem}

        log.info("setup_accepted")
        return 200, {}

    def _mismatch(self, url: str, token: str) -> str:
        """Return what differs from the settings and how to fix it, "" if nothing does."""
        # https, unless it is the very address in the settings (docs/facts/planfix.md)
        if not url.startswith("https://") and not _same(url, self._account.url):
            return "The address in planfix_url must begin with https://."

        if not _same(_plain(url), _plain(self._account.url)):
            return (
                "The PBX is connected to another Planfix address: "
                "put this one into PLANFIX_URL and restart fsplanfix."
            )

        if not _same(token, self._account.token):
            return (
                "The PBX has another Planfix token: "
                "put the one shown here into PLANFIX_TOKEN and restart fsplanfix."
            )

        return ""


def _same(given: str, ours: str) -> bool:
    """Tell whether two secrets are equal, in constant time."""
    # surrogatepass: a text that UTF-8 cannot encode is a wrong secret, not an error of ours
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), ours.encode())


def _plain(url: str) -> str:
    """Return an address in one spelling: a lower-case host, no slash at the end."""
    try:
        parts = urlsplit(url)
        return parts._replace(netloc=parts.netloc.lower()).geturl().rstrip("/")
    except ValueError:
        return url
