"""Answers the commands of Planfix: makeCall and setup.

docs/facts/planfix.md, "What is answered".
"""

from __future__ import annotations

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
from ..calls.numbers import Numbering, is_outside_number, refusal
from ..errors import DialRefused, LinkError, StoreError
from ..outbox.records import whose
from .api import is_postable
from .keys import Key, PbxKeys, same
from .pairing import Pairing, Partner, plain

log = structlog.get_logger(__name__)

Answer = tuple[int, dict[str, str]]
"""An HTTP code and a JSON body."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Whom a click calls.

    number: E.164 digits, or a colleague's ext. digits: an extension, dialled after the answer.
    colleagues: the users behind a colleague's ext, or the mobile of his that was clicked; none for
    a client.
    """

    number: str
    digits: str = ""
    colleagues: tuple[str, ...] = ()


Dial = Callable[[str, Sequence[str], Destination], None]
"""Starts a call from an ext's phone.

Takes the ext, its users (the first that can be reached is called) and the destination. Raises
DialRefused with the reason, or LinkError if no FreeSWITCH is linked now.
"""

OnKey = Callable[[Key], None]
"""Called with the key of each command that had a right one."""

OnRefused = Callable[[str, str, str], None]
"""Called when a call is refused: with its ext and number, "" if they are malformed, and why."""

INVALID_PARAMETERS: Answer = (400, {"error": "Invalid parameters"})
INVALID_TOKEN: Answer = (401, {"error": "Invalid token"})
NO_SWITCH: Answer = (
    503,
    {"error": "The phone system is not connected right now, try again in a minute"},
)

NOT_STORED: Answer = (503, {"error": "The PBX cannot store this right now, try again in a minute"})

LONGEST_ADDRESS = 300
LONGEST_TOKEN = 300
"""Characters of what `setup` may tell us."""

DOUBLE_CLICK = 5.0
"""Seconds within which a repeated request is taken for the same click."""

_PLAIN = str.maketrans("\u00a0\u202f\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "  -------")
"""Spaces and hyphens as texts for people have them."""

_WRITTEN = re.compile(
    r"""
    (?P<number>[0-9+()./\ -]{2,32}?)
    (?:\ *,?\ *\(\ *(?:доб(?:\.|авочный)?|ext\.?|x)\ *(?P<in_brackets>[0-9*\#]{1,10})\ *\)
    |\ *(?:,+|;ext=|,?\ *(?:доб(?:\.|авочный)?|ext\.?|x)|\#)\ *(?P<behind>[0-9*\#]{1,10})
    |\ *,+\ *)?
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""A number as Planfix writes it, with an extension behind it or without.

Of its mask `+7(###)###-##-##,###` a number without an extension may keep the comma.
"""

_DIGITS = re.compile(r"[0-9]{2,15}", re.ASCII)
_TOKEN = re.compile(rf"[\x21-\x7e]{{1,{LONGEST_TOKEN}}}", re.ASCII)
_EXT = re.compile(r"[0-9]{1,15}", re.ASCII)


def number_clicked(written: str, rules: Rules) -> tuple[str, str]:
    """Return the number that Planfix writes (E.164 digits), and the extension behind it.

    The number is "" if it is malformed, the extension if there is none.
    """
    found = _WRITTEN.fullmatch(written.translate(_PLAIN))
    if found is None:
        return "", ""
    # NUMBER_RULES are for what FreeSWITCH shows, and this comes from Planfix
    numbering = Numbering(rules.country, rules.area_code)
    digits = found["in_brackets"] or found["behind"] or ""
    return numbering.normalize(found["number"]), digits


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

    dial, on_refused, on_key: see Dial, OnRefused and OnKey. clicks: remembers clicks for
    DOUBLE_CLICK seconds.
    """

    def __init__(
        self,
        pairing: Pairing,
        keys: PbxKeys,
        rules: Rules,
        limits: DialLimits,
        dial: Dial,
        on_refused: OnRefused,
        on_key: OnKey = lambda _: None,
        clicks: TTLCache[tuple[str, str], bool] | None = None,
    ) -> None:
        self._pairing = pairing
        self._whose = whose(pairing.account)
        self._keys = keys
        self._rules = rules
        self._limits = limits
        self._dial = dial
        self._on_refused = on_refused
        self._on_key = on_key
        self._saw_former_key = False

        # "is None": an empty cache is false
        self._clicks = TTLCache(10_000, DOUBLE_CLICK) if clicks is None else clicks
        self._rate = MovingWindowRateLimiter(MemoryStorage())

    def answer(self, fields: Mapping[str, str]) -> Answer:
        """Return the HTTP code and the JSON body for a command."""
        key = self._keys.which(fields.get("token", ""))
        if key is None:
            return INVALID_TOKEN
        self._on_key(key)
        if key is Key.FORMER and not self._saw_former_key:
            # logged once: what is to be done stays the same
            self._saw_former_key = True
            hint = self._pairing.in_words("enter PBX_TOKEN in Planfix as the PBX key")
            log.warning("former_pbx_token", hint=hint, **self._whose)

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
            reason = self._pairing.in_words(str(problem))
            self._on_refused(ext, to.number, reason)
            return 400, {"error": "Invalid parameters", "reason": reason}
        except LinkError:
            self._clicks.pop(click, None)
            self._on_refused(ext, to.number, "no FreeSWITCH is linked")
            return NO_SWITCH

        return 200, {}

    def _destination(self, written: str) -> Destination | None:
        """Return whom a written number means, None if it is malformed."""
        # checked before and after: the digits become part of a command to FreeSWITCH
        number, digits = number_clicked(written, self._rules)
        if not _DIGITS.fullmatch(number):
            return None

        colleague = self._rules.aliases.get(number, "") if is_outside_number(number) else ""
        if colleague and not digits:
            return Destination(colleague, "", (number,))

        allow = self._limits.allow
        if is_outside_number(number) or (allow is not None and allow.fullmatch(number)):
            return Destination(number, digits)
        # Planfix shows the exts of colleagues as well. 102 may be an ext and the police: only
        # FreeSWITCH's own users are rung this way.
        return Destination(number, "", tuple(self._rules.users_of(number)))

    def _check(self, ext: str, to: Destination) -> None:
        """Raise DialRefused if this number, or one more call now, is not allowed."""
        allow, number = self._limits.allow, to.number
        if number == ext:
            raise DialRefused(f"{number} is your own extension: click a colleague's or a client's")

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

        The first Planfix that sends it is stored, if the settings name none. A request must never
        redirect a running integration (docs/facts/planfix.md, "What is answered").
        """
        given = Partner(fields.get("planfix_url", ""), fields.get("planfix_token", ""))
        try:
            problem = self._pair(given)
        except StoreError as error:
            log.error("store_unavailable", problem=str(error))
            return NOT_STORED

        if problem:
            log.error("setup_refused", problem=problem, **self._whose)
            return 400, {"error": problem}
        return 200, {}

    def _pair(self, given: Partner) -> str:
        """Pair with a Planfix if there is none yet; return what is wrong, "" if nothing is."""
        ours = self._pairing.partner
        if ours is None:
            if problem := _unfit(given):
                return problem
            ours = self._pairing.take(given)
            if ours == given:
                log.info("setup_paired", planfix=urlsplit(ours.url).hostname, **self._whose)
                return ""

        problem = self._mismatch(given, ours)
        if not problem:
            log.info("setup_accepted", **self._whose)
        return problem

    def _mismatch(self, given: Partner, ours: Partner) -> str:
        """Return what differs from the Planfix we belong to and how to fix it, "" if nothing."""
        # https, unless it is the very address we have (docs/facts/planfix.md)
        if not given.url.startswith("https://") and not same(given.url, ours.url):
            return NOT_HTTPS

        if same(plain(given.url), plain(ours.url)):
            if same(given.token, ours.token):
                return ""
            what, setting, value = (
                "has another Planfix token",
                "PLANFIX_TOKEN",
                "the one shown here",
            )
        else:
            what, setting, value = (
                "is connected to another Planfix address",
                "PLANFIX_URL",
                "this one",
            )

        if self._pairing.by_setup:
            return f"The PBX {what}: run fsplanfix unpair there, restart it and save this again."
        setting = self._pairing.in_words(setting)
        return f"The PBX {what}: put {value} into {setting} and restart fsplanfix."


NOT_HTTPS = "The address in planfix_url must begin with https://."


def _unfit(partner: Partner) -> str:
    """Return why we cannot belong to a Planfix of this address and token, "" if we can."""
    if not partner.url.startswith("https://"):
        return NOT_HTTPS
    if len(partner.url) > LONGEST_ADDRESS or not is_postable(partner.url):
        return "planfix_url is not the address of a Planfix account."
    if not _TOKEN.fullmatch(partner.token):
        return f"planfix_token must be 1 to {LONGEST_TOKEN} characters without spaces."
    return ""
