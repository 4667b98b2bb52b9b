"""Words, times and numbers of the dashboard, in the language and time zone of whoever looks."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, tzinfo
from functools import lru_cache, wraps
from zoneinfo import ZoneInfo

from babel.dates import format_date, get_month_names
from flask import Flask, g, request, session
from flask_babel import gettext

LANGUAGES = ("en", "ru")
ZONE = "zone"
"""The cookie with the browser's time zone, set by dashboard.js."""

_ZONE_NAME = re.compile(r"[A-Za-z0-9_+\-]{1,32}(?:/[A-Za-z0-9_+\-]{1,32}){0,2}", re.ASCII)


def language() -> str:
    """Return the language of the current request: the chosen one, else the browser's."""
    chosen = session.get("language")
    if chosen in LANGUAGES:
        return str(chosen)
    return request.accept_languages.best_match(LANGUAGES, "en") or "en"


def zone() -> tzinfo:
    """Return the time zone of the current request: the browser's, else the machine's."""
    if "zone" not in g:
        g.zone = _zone_named(request.cookies.get(ZONE, ""))
    return g.zone  # type: ignore[no-any-return]


@lru_cache(maxsize=600)
def _known_zone(name: str) -> ZoneInfo | None:
    if not _ZONE_NAME.fullmatch(name):
        return None
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        return None


def _zone_named(name: str) -> tzinfo:
    return _known_zone(name) or datetime.now().astimezone().tzinfo or UTC


def install(app: Flask, number: Callable[[str], str]) -> None:
    """Add the filters of the templates. number: writes one as people do, "" if it is hidden."""
    app.add_template_filter(clock, "clock")
    app.add_template_filter(when, "when")
    app.add_template_filter(length, "length_of")
    app.add_template_filter(answer, "said")
    app.add_template_filter(noted, "noted")
    app.add_template_filter(whole_day, "whole_day")
    app.add_template_filter(short_day, "short_day")

    @app.template_filter("number")
    def shown_number(text: str) -> str:
        shown = number(text)
        return labels()["hidden"] if text and not shown else shown


def clock(at: float) -> str:
    """Return the time of day of a moment (seconds since 1970)."""
    return datetime.fromtimestamp(at, zone()).strftime("%H:%M:%S")


def when(at: float) -> str:
    """Return day and time of a moment (seconds since 1970), with the year if it is another."""
    moment = datetime.fromtimestamp(at, zone())
    year = f" {moment.year}" if moment.year != datetime.now().year else ""
    return f"{short_day(moment.date())}{year}, {moment:%H:%M}"


def short_day(day: date) -> str:
    """Return a day without its year, such as 26 Nov."""
    return f"{day.day} {_months(language())[day.month]}"


@lru_cache
def _months(locale: str) -> dict[int, str]:
    return dict(get_month_names("abbreviated", "format", locale))


def whole_day(day: date) -> str:
    """Return a day with the day of the week and the year."""
    return format_date(day, "full" if language() == "en" else "EEEE, d MMMM y", language())


def length(seconds: int | None) -> str:
    """Return seconds as minutes and seconds, with hours if there are any; a dash for None."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}"


def _by_language(make: Callable[[], dict[str, str]]) -> Callable[[], dict[str, str]]:
    """Keep the words of each language: to look one up takes 20 us, and a page needs hundreds."""
    kept: dict[str, dict[str, str]] = {}

    @wraps(make)
    def found() -> dict[str, str]:
        chosen = language()
        if chosen not in kept:
            kept[chosen] = make()
        return kept[chosen]

    return found


@_by_language
def labels() -> dict[str, str]:
    """Return the words that stand in every row."""
    return {
        "incoming": gettext("incoming"),
        "outgoing": gettext("outgoing"),
        "line": gettext("Line"),
        "by_line": gettext("line %(number)s"),
        "waited": gettext("Waited"),
        "talked": gettext("Talked"),
        "no_ext": gettext("without an ext"),
        "rang_too": gettext("rang too: %(exts)s"),
        "listen": gettext("Listen: %(who)s, %(when)s"),
        "times": gettext("called %(n)s times"),
        "tried": gettext("not reached: %(n)s"),
        "recorded": gettext("recorded"),
        "tries": gettext("tries: %(n)s"),
        "send_again": gettext("Send again"),
        "delete": gettext("Delete"),
        "hidden": gettext("hidden number"),
    }


@_by_language
def results() -> dict[str, str]:
    """Return the words for what a call came to, by Result."""
    return {
        "answered": gettext("answered"),
        "missed": gettext("missed"),
        "busy": gettext("busy"),
        "no answer": gettext("no answer"),
        "unreachable": gettext("unreachable"),
        "not allowed": gettext("not allowed"),
        "canceled": gettext("given up before the answer"),
        "unknown": gettext("end unknown"),
    }


@_by_language
def deeds() -> dict[str, str]:
    """Return the words for what an employee does or did: Planfix's statuses and our own words."""
    return {
        "Success": gettext("talked"),
        "Missed": gettext("missed"),
        "Canceled": gettext("rang too"),
        "Busy": gettext("busy"),
        "NoAnswer": gettext("no answer"),
        "NotAvailable": gettext("unreachable"),
        "NotAllowed": gettext("not allowed"),
        "rings": gettext("ringing"),
        "calls": gettext("calling the client"),
        "talks": gettext("talking"),
    }


@_by_language
def differences() -> dict[str, str]:
    """Return the words for what Planfix holds that is not ours."""
    return {
        "key": gettext("Planfix holds another PBX key: clicks are refused"),
        "former key": gettext("Planfix still holds the former PBX key"),
        "address": gettext("Planfix holds another address of this PBX"),
    }


@_by_language
def events() -> dict[str, str]:
    """Return the words for what Planfix is told: an event or how a part ended."""
    return {
        "INCOMING": gettext("the phone rings, a call window opens"),
        "OUTGOING": gettext("the client is called, a call window opens"),
        "ACCEPTED": gettext("talk begins"),
        "Success": gettext("talk is over"),
        "Missed": gettext("missed"),
        "Canceled": gettext("the call went elsewhere"),
        "Busy": gettext("the client is busy"),
        "NoAnswer": gettext("the client does not answer"),
        "NotAvailable": gettext("the client cannot be reached"),
        "NotAllowed": gettext("the call is not allowed"),
        "record": gettext("link to the recording"),
    }


@_by_language
def states() -> dict[str, str]:
    """Return the words for the states of a notice."""
    return {
        "done": gettext("Planfix has it"),
        "waiting": gettext("waits to be sent"),
        "rejected": gettext("rejected by Planfix"),
        "skipped": gettext("not sent"),
        "shadow": gettext("dry run, not sent"),
    }


def answer(text: str) -> str:
    """Return what we say of an answer of Planfix in the reader's language.

    What Planfix itself says is kept.
    """
    for known, words in _answers().items():
        found = re.match(known, text)
        if found:
            named = found.groupdict()
            return f"{words % named} {named.get('rest', '').strip()}".strip()
    return text


UNSENT = "not (sent|linked)"
"""How the reason begins for which Planfix is not told of a recording; the second before 0.2.0."""


@_by_language
def _answers() -> dict[str, str]:
    return {
        r"Planfix rejected it: (?P<rest>400\b.*)": gettext("Planfix rejected it:"),
        r"Planfix does not know our token: 401$": gettext("Planfix does not know our token."),
        r"Planfix asks us to wait: (?P<rest>\d+)$": gettext("Planfix asks us to wait:"),
        r"Planfix did not answer in time$": gettext("Planfix did not answer in time."),
        r"Planfix cannot be reached(?P<rest>.*)": gettext("Planfix cannot be reached"),
        r"Planfix's certificate is not trusted": gettext("Planfix's certificate is not trusted."),
        r"a web page came back.* is (?P<setting>\w+) right": gettext(
            "A web page came back instead of Planfix's answer. Is %(setting)s right?"
        ),
        r"Planfix answered (?P<rest>.*)": gettext("Planfix answered"),
        r"too late to show$": gettext("Too late to show."),
        r"sent with the COMPLETED$": gettext("Sent with the end of the call."),
        rf"{UNSENT}: the file is empty$": gettext("Recording not sent: the file is empty."),
        rf"{UNSENT}: ": gettext("Recording not sent: the file cannot be opened from here."),
    }


_TRY = re.compile(r"try (?P<n>\d+) to send (?P<what>\w+): (?P<answer>.*)", re.DOTALL)
_CLICK = re.compile(r"click to call: (?P<outcome>.*)", re.DOTALL)
_LOOKUP = re.compile(
    r"caller looked up: (?P<what>.*?)(?:, manager (?P<manager>[\w, +-]+))? "
    r"\((?:(?P<how>asked|remembered from before), )?(?P<ms>\d+) ms\)",
    re.DOTALL,
)


def noted(text: str) -> str:
    """Return a line of a call's story in the reader's language, if it is one of the journal's.

    Names, numbers and what FreeSWITCH says are kept.
    """
    words = _journal()
    if found := _TRY.fullmatch(text):
        what = events().get(found["what"], found["what"])
        problem = answer(found["answer"])
        shown: str = gettext(
            "try %(n)s to send “%(what)s”: %(problem)s", n=found["n"], what=what, problem=problem
        )
        return shown
    if found := _CLICK.fullmatch(text):
        outcome = words.get(found["outcome"], found["outcome"])
        return f"{words['click to call']}: {outcome}"
    if found := _LOOKUP.fullmatch(text):
        known = [words.get(found["what"], found["what"])]
        if found["manager"]:
            known.append(f"{words['manager']} {found['manager']}")
        how = [words[found["how"]]] if found["how"] else []
        took = ", ".join([*how, f"{found['ms']} {words['ms']}"])
        return f"{words['caller looked up']}: {', '.join(known)} ({took})"
    return text


@_by_language
def _journal() -> dict[str, str]:
    return {
        "click to call": gettext("click to call"),
        "the employee picked up": gettext("the employee picked up"),
        "the employee did not pick up": gettext("the employee did not pick up"),
        "the employee declined": gettext("the employee declined"),
        "the employee's phone did not answer": gettext("the employee's phone did not answer"),
        "the employee's phone is busy": gettext("the employee's phone is busy"),
        "the employee's phone is off": gettext("the employee's phone is off"),
        "FreeSWITCH's directory has no such user": gettext(
            "FreeSWITCH's directory has no such user"
        ),
        "caller looked up": gettext("caller looked up"),
        "no name": gettext("no name"),
        "manager": gettext("manager"),
        "asked": gettext("asked"),
        "remembered from before": gettext("remembered from before"),
        "ms": gettext("ms"),
        "Planfix does not know the number": gettext("Planfix does not know the number"),
        "Planfix does not know the number, or could not say": gettext(
            "Planfix does not know the number, or could not say"
        ),
        "Planfix gave no answer that can be used": gettext(
            "Planfix gave no answer that can be used"
        ),
        "Planfix did not answer in time": gettext("Planfix did not answer in time"),
        "Planfix was not asked, because it failed several times in a row": gettext(
            "Planfix was not asked, because it failed several times in a row"
        ),
    }
