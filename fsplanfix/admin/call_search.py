"""What people type, as a search in the list of calls."""

from __future__ import annotations

import re

from ..calls.numbers import FORMATTING, Numbering, is_whole
from ..outbox.call_list import Search

_SIGNS = re.compile(f"[{FORMATTING}+]+")


def client_search(text: str, numbering: Numbering) -> Search:
    """Return a search for a client's number, or part of it, or name, or part of it.

    numbering: of the numbers that FreeSWITCH shows. Whoever searches may have one of these.
    """
    digits = _SIGNS.sub("", text)
    if not digits:
        return Search()
    if not (digits.isascii() and digits.isdigit()):
        return Search(name=" ".join(text.split()))
    number = numbering.normalize(text)
    # seven digits that AREA_CODE completes may as well be a part of another number
    is_part = digits in number and not is_whole(text, numbering.country)
    if numbering.is_whole(text) and not is_part:
        return Search(number=number)

    return Search(digits=digits)


def line_digits(text: str, numbering: Numbering) -> str:
    """Return the digits of a line that was typed, or the text if it holds something else."""
    return client_search(text, numbering).number or _SIGNS.sub("", text)
