"""What an employee hears while the client's phone rings, as FreeSWITCH's tone strings.

`%(800,3200,425)` is a tone of 800 ms, a pause of 3200 ms and a frequency of 425 Hz; FreeSWITCH
repeats it. `;` joins several. The tones are those of FreeSWITCH's vars.xml and, where that has
none, of Asterisk's indications.conf, which has them from the ITU (E.180, Supplement 2).
"""

from __future__ import annotations

import re

EUROPEAN = "%(1000,4000,425)"
"""The tone of most of Europe, and of every country without an entry below."""

_AMERICAN = "%(2000,4000,440,480)"
_SWEDISH = "%(1000,5000,425)"

BY_COUNTRY = {
    "AT": "%(1000,5000,420)",
    "BE": "%(1000,3000,425)",
    "CA": _AMERICAN,
    "CN": "%(1000,4000,450)",
    "ES": "%(1500,3000,425)",
    "FR": "%(1500,3500,440)",
    "GB": "%(400,200,400,450);%(400,2000,400,450)",
    "HU": "%(1250,3750,425)",
    "IL": "%(1000,3000,400)",
    "PT": _SWEDISH,
    "RU": "%(800,3200,425)",
    "SE": _SWEDISH,
    "TR": "%(2000,4000,450)",
    "US": _AMERICAN,
}
"""Ringback tones other than EUROPEAN, by country."""

_PART = r"%\([1-9][0-9]{2,3},[0-9]{1,4}(?:,[1-9][0-9]{1,3}){1,4}\)"
# FreeSWITCH ends the call if there is nothing to play (switch_ivr_originate.c): 100 ms at least
_TONE = rf"{_PART}(?:;{_PART}){{0,3}}"
_FILE = r"/[A-Za-z0-9_./-]{1,200}\.[A-Za-z0-9]{1,5}"
_LOCAL_STREAM = r"local_stream://[A-Za-z0-9_./-]{1,100}"
_KNOWN = re.compile(f"{_TONE}|{_FILE}|{_LOCAL_STREAM}", re.ASCII)
_TONE_STREAM = re.compile(rf"tone_stream://({_TONE})(?:;loops=-1)?", re.ASCII)


def ringback(country: str) -> str:
    """Return the ringback tone of a country, given by its two letters."""
    return BY_COUNTRY.get(country, EUROPEAN)


def read(value: str) -> str:
    """Return a ringback as FreeSWITCH takes it: a tone, a sound file or a local_stream://.

    A tone_stream:// becomes its tone: FreeSWITCH repeats a tone, but ends the call when a
    tone_stream:// without loops is over. Raises ValueError for anything else.
    """
    # The tone inside is taken: FreeSWITCH repeats a tone by itself.
    stream = _TONE_STREAM.fullmatch(value)
    if stream:
        return stream[1]

    if not _KNOWN.fullmatch(value):
        raise ValueError(
            f"'{value}' cannot be played; write a tone like %(1000,4000,425), "
            "a sound file like /srv/sounds/ring.wav, or local_stream://moh."
        )

    return value
