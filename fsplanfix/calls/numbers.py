"""Phone numbers as Planfix wants them: E.164 digits without `+`; short numbers stay as they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import phonenumbers

from .number_rules import NumberRule, rewritten, rule_for

LONGEST_SHORT_NUMBER = 6
"""Digits. Short codes, exts and emergency numbers (112, 900, 0611) are never given a country code.
"""

LONGEST_NUMBER = 15
"""Digits of the longest number E.164 allows."""

LOCAL_NUMBER = 7
"""Digits of a local number, which AREA_CODE completes."""

_DEAR = (phonenumbers.PhoneNumberType.PREMIUM_RATE, phonenumbers.PhoneNumberType.SHARED_COST)

_SCHEME = re.compile(r"^\s*(?:tel|sips?):", re.IGNORECASE)
FORMATTING = r" \t().\-/\u00a0\u202f\u2010-\u2015\u2212"
"""What people and Planfix write between digits, as it stands in a set of a pattern."""

_FORMATTING = re.compile(f"[{FORMATTING}]+")
_DIALLED = re.compile(r"[+*#]?[0-9*#]+", re.ASCII)
_DIALLABLE = re.compile(r"[0-9*#]{2,20}", re.ASCII)


def load() -> None:
    """Read what is known of every country now: 2.5 MB, 0.1 s.

    By itself each country is read when its first number comes, which fails while no file can be
    opened, in the middle of a call.
    """
    phonenumbers.PhoneMetadata.load_all()
    for region in phonenumbers.SUPPORTED_SHORT_REGIONS:
        phonenumbers.PhoneMetadata.short_metadata_for_region(region)


@dataclass(frozen=True, slots=True)
class Numbering:
    """How numbers are written here.

    country: an ISO 3166 code such as RU. area_code: of local numbers of seven digits, "" for none.
    rules: from what FreeSWITCH shows to what Planfix knows. dial_rules: from what Planfix sends to
    what is dialled.
    """

    country: str = "RU"
    area_code: str = ""
    rules: tuple[NumberRule, ...] = ()
    dial_rules: tuple[NumberRule, ...] = ()

    def normalize(self, raw: str) -> str:
        """Return a number that FreeSWITCH shows as Planfix knows it; see the function."""
        return _normalized(raw, self)

    def is_whole(self, raw: str) -> bool:
        """Tell whether `raw` is a whole phone number; see the function."""
        return _is_whole(raw, self)

    def rule_for(self, raw: str) -> NumberRule | None:
        """Return the rule that fits a number that FreeSWITCH shows, None if none does."""
        return rule_for(_user_part(raw[:256]), self.rules)

    def dialled(self, number: str) -> str:
        """Return what is dialled for a number (E.164 digits): digits, `*` and `#`."""
        found = rewritten(number, self.dial_rules)
        return found if _DIALLABLE.fullmatch(found) else number


def normalize(raw: str, country: str) -> str:
    """Return `raw` as E.164 digits, a short number as it is, or "" if it holds no phone number at
    all.

    raw may be written nationally or internationally, with brackets and dashes, as `tel:`,
    `sip:user@host`, with parameters or an extension after `;`. country is an ISO 3166 code such as
    RU. Never raises.
    """
    return _normalized(raw, Numbering(country))


@lru_cache(maxsize=8192)
def _normalized(raw: str, numbering: Numbering) -> str:
    text = _as_planfix_knows(raw, numbering)
    if not _DIALLED.fullmatch(text):
        return ""
    digits = text.lstrip("+")
    if "*" in text or "#" in text:
        return text.lstrip("+")
    if len(digits) <= LONGEST_SHORT_NUMBER and not text.startswith("+"):
        return digits

    found = _local(text, numbering) or _e164(text, numbering.country)
    if not found and len(digits) <= LONGEST_NUMBER:
        return digits
    return found


def _as_planfix_knows(raw: str, numbering: Numbering) -> str:
    """Return the number in a SIP or tel address, without formatting, rewritten by the rules."""
    text = _user_part(raw[:256])
    if not numbering.rules or not _DIALLED.fullmatch(text):
        return text
    found = rewritten(text, numbering.rules)
    return found if _DIALLED.fullmatch(found) else text


def _local(text: str, numbering: Numbering) -> str:
    """Return the E.164 digits of a local number, "" if it is none or has an area code already."""
    if not numbering.area_code or len(text) != LOCAL_NUMBER or not text.isdigit():
        return ""
    return _read_as(numbering.area_code + text, numbering.country, phonenumbers.is_valid_number)


@lru_cache(maxsize=8192)
def written(number: str) -> str:
    """Return E.164 digits as people write them, such as +7 916 123-45-67.

    What is no such number is returned as it is. Never raises.
    """
    if not is_outside_number(number):
        return number
    try:
        parsed = phonenumbers.parse("+" + number, None)
    except phonenumbers.NumberParseException:
        return number
    if not phonenumbers.is_possible_number(parsed):
        return number
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


def is_outside_number(number: str) -> bool:
    """Tell whether a normalized number is too long to be an ext or a short number."""
    return len(number) > LONGEST_SHORT_NUMBER and number.isascii() and number.isdigit()


def is_whole(raw: str, country: str) -> bool:
    """Tell whether `raw` is a whole phone number, with nothing before it and nothing missing.

    A login, `gw+name`, an ext, or a number behind a routing prefix (`9988` 79161234567) is not.
    """
    return _is_whole(raw, Numbering(country))


@lru_cache(maxsize=8192)
def _is_whole(raw: str, numbering: Numbering) -> bool:
    text = _as_planfix_knows(raw, numbering)
    if not _DIALLED.fullmatch(text) or "*" in text or "#" in text:
        return False
    is_long = len(text.lstrip("+")) > LONGEST_SHORT_NUMBER
    if not is_long:
        return False
    if _local(text, numbering):
        return True
    return bool(_read_as(text, numbering.country, phonenumbers.is_valid_number))


def is_service_number(number: str, country: str) -> bool:
    """Tell whether a short number is a public one, such as 112, and so no ext."""
    try:
        parsed = phonenumbers.parse(number, country)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_valid_short_number_for_region(parsed, country)


def refusal(number: str, country: str) -> str:
    """Return why a number (E.164 digits) is not dialled unless DIAL_ALLOW names it, "" if nothing
    speaks against it.

    Toll fraud lives on numbers abroad, premium-rate numbers and satellite phones; whoever needs
    them allows them.
    """
    try:
        parsed = phonenumbers.parse("+" + number, None)
    except phonenumbers.NumberParseException:
        return "this is not a phone number with a country code"
    if not phonenumbers.is_possible_number(parsed):
        return "this is not a phone number with a country code"
    if phonenumbers.number_type(parsed) in _DEAR:
        return "it is a premium-rate number"
    if parsed.country_code != phonenumbers.country_code_for_region(country):
        return "it is abroad"

    # several countries share a code: 7 is Russia's and Kazakhstan's
    if phonenumbers.region_code_for_number(parsed) not in (country, None):
        return "it is abroad"
    return ""


def _user_part(raw: str) -> str:
    """Cut a SIP or tel address down to the number in it, without formatting."""
    text = _SCHEME.sub("", raw.strip().strip("<>"))
    text = text.split("@", 1)[0].split(";", 1)[0]
    return _FORMATTING.sub("", text)


def _e164(text: str, country: str) -> str:
    """Return the E.164 digits of a long number, of one that exists before one that only could."""
    checks = (phonenumbers.is_valid_number, _is_possible)
    readings = (_read_as(text, country, check) for check in checks)
    return next((digits for digits in readings if digits), "")


def _read_as(text: str, country: str, check: Callable[[phonenumbers.PhoneNumber], bool]) -> str:
    """Return the E.164 digits of the first reading of a long number that passes a check, or "".

    The country's own writing is tried first, unless the number begins with `+` or the country's own
    code.
    """
    international = "+" + text.lstrip("+").removeprefix("00")
    attempts = [(text, country), (international, None)]
    own_code = str(phonenumbers.country_code_for_region(country))
    if text.startswith(("+", own_code)):
        attempts = [(international, None), (text.lstrip("+"), country)]
    for written, region in attempts:
        try:
            number = phonenumbers.parse(written, region)
        except phonenumbers.NumberParseException:
            continue
        if check(number):
            return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)[1:]
    return ""


def _is_possible(number: phonenumbers.PhoneNumber) -> bool:
    """Tell whether a number has the length of a whole number, not of a local one without its area
    code."""
    return (
        phonenumbers.is_possible_number_with_reason(number)
        == phonenumbers.ValidationResult.IS_POSSIBLE
    )
