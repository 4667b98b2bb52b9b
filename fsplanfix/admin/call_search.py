"""What people type, as a search in the list of calls."""

from __future__ import annotations

import re

from ..calls.numbers import is_whole, normalize
from ..outbox.call_list import Search

_SIGNS = re.compile(r"[ \t().\-/+\u00a0\u2010-\u2015]+")


def client_search(text: str, country: str) -> Search:
    """Return a search for a client's number, or part of it, or name, or part of it.

    country: of numbers without a country code.
    """
    digits = _SIGNS.sub("", text)
    if not digits:
        return Search()
    if not (digits.isascii() and digits.isdigit()):
        return Search(name=" ".join(text.split()))
    if is_whole(text, country):
        return Search(number=normalize(text, country))

    return Search(digits=digits)


def line_digits(text: str) -> str:
    """Return the digits of a line that was typed, or the text if it holds something else."""
    return _SIGNS.sub("", text)
