"""Phone numbers as Planfix wants them: E.164 digits without `+`; short numbers stay as they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

import phonenumbers

LONGEST_SHORT_NUMBER = 6
"""Digits. Short codes, exts and emergency numbers (112, 900, 0611) are never given a country code.
"""

LONGEST_NUMBER = 15
"""Digits of the longest number E.164 allows."""

_DEAR = (phonenumbers.PhoneNumberType.PREMIUM_RATE, phonenumbers.PhoneNumberType.SHARED_COST)

_SCHEME = re.compile(r"^\s*(?:tel|sips?):", re.IGNORECASE)
_FORMATTING = re.compile(r"[ \t().\-/\u00a0\u2010-\u2015]+")
_DIALLED = re.compile(r"[+*#]?[0-9*#]+", re.ASCII)


def load() -> None:
    """Read what is known of every country now: 2.5 MB, 0.1 s.

    By itself each country is read when its first number comes, which fails while no file can be
    opened, in the middle of a call.
    """
    phonenumbers.PhoneMetadata.load_all()
    for region in phonenumbers.SUPPORTED_SHORT_REGIONS:
        phonenumbers.PhoneMetadata.short_metadata_for_region(region)


@lru_cache(maxsize=8192)
def normalize(raw: str, country: str) -> str:
    """Return `raw` as E.164 digits, a short number as it is, or "" if it holds no phone number at
    all.

    raw may be written nationally or internationally, with brackets and dashes, as `tel:`,
    `sip:user@host`, with parameters or an extension after `;`. country is an ISO 3166 code such as
    RU. Never raises.
    """
    text = _user_part(raw[:256])
    if not _DIALLED.fullmatch(text):
        return ""
    digits = text.lstrip("+")
    if "*" in text or "#" in text:
        return text
    if len(digits) <= LONGEST_SHORT_NUMBER and not text.startswith("+"):
        return digits
    return _e164(text, country) or (digits if len(digits) <= LONGEST_NUMBER else "")


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


@lru_cache(maxsize=8192)
def is_whole(raw: str, country: str) -> bool:
    """Tell whether `raw` is a whole phone number, with nothing before it and nothing missing.

    A login, `gw+name`, an ext, or a number behind a routing prefix (`9988` 79161234567) is not.
    """
    text = _user_part(raw[:256])
    if not _DIALLED.fullmatch(text) or "*" in text or "#" in text:
        return False
    is_long = len(text.lstrip("+")) > LONGEST_SHORT_NUMBER
    return is_long and bool(_read_as(text, country, phonenumbers.is_valid_number))


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
    return "" if phonenumbers.region_code_for_number(parsed) in (country, None) else "it is abroad"


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
