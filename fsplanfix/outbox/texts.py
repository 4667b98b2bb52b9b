"""Text as a database can hold it. Only here is text cleaned on its way into the store."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import Dialect, String, Text, TypeDecorator

_UNFIT = re.compile("[\x00\ud800-\udfff]")
"""What a database refuses: PostgreSQL's text holds no NUL, UTF-8 no half of a surrogate pair."""

UTF_8 = "utf-8"


def clean(text: str) -> str:
    """Return a text with U+FFFD in place of each character that a database refuses."""
    # nearly all texts are ASCII: a callid, a number, an ext
    if text.isascii() and "\x00" not in text:
        return text
    return _UNFIT.sub("\ufffd", text)


class CleanText(TypeDecorator[str]):
    """A column of cleaned text. Values in conditions are cleaned too, so that rows are found again.

    In a database with a small alphabet, such as LATIN1, all other letters become `?`.
    """

    impl: Any = Text
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[str | None], Any]:
        """Return the function that cleans a value on its way into the database."""

        def process(value: str | None) -> str | None:
            if value is None or (value.isascii() and "\x00" not in value):
                return value

            codec = getattr(dialect, "text_codec", UTF_8)
            text = clean(value)
            if codec == UTF_8:
                return text
            return text.encode(codec, "replace").decode(codec)

        return process


class CleanString(CleanText):
    """A column of cleaned text with a maximal length, in characters."""

    impl = String
    cache_ok = True
