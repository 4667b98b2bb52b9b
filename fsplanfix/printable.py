"""Makes text from outside safe for a terminal and a log. Nothing else in the service does.

Planfix's answers, and names and numbers of strangers, may hold terminal sequences, line breaks that
forge a line, or marks that reverse the order of letters.
"""

from __future__ import annotations

import json
import unicodedata

WIDTH = 80
"""Columns of a terminal, as far as we use them."""


def printable(text: str) -> str:
    r"""Return text as one line, with signs that control a terminal escaped as in JSON.

    ESC becomes \u001b, a line break \n, a right-to-left mark \u202e, half a surrogate pair \ud800.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(sign) if _is_control(sign) else sign for sign in text)


def lines(text: str) -> str:
    """Return text of several lines, each of them printable."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _escape(sign: str) -> str:
    # DEL is the one control character that JSON leaves as it is
    if sign == "\x7f":
        return "\\u007f"
    return json.dumps(sign)[1:-1]


def _is_control(sign: str) -> bool:
    """Return whether a sign is a control, format, private, unknown or separating one."""
    # C: control, format, surrogate, private, unassigned; Zl and Zp separate lines and paragraphs
    category = unicodedata.category(sign)
    return category[0] == "C" or category in ("Zl", "Zp")
