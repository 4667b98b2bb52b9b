"""The dashboard: pages behind a password, in English and Russian.

Every form carries a CSRF token.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

import structlog
from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    g,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_babel import Babel, gettext
from flask_wtf.csrf import CSRFError, CSRFProtect

from ..errors import StoreError
from ..recordings.files import Elsewhere, Found
from . import words
from .call_pages import CallDesk, add_call_pages
from .live import OverviewDesk, add_overview
from .rate_limit import address
from .rendering import give_way, warm_up
from .sessions import (
    ADMIN,
    SESSION_LASTS,
    SessionNames,
    Sessions,
    add_choice_of_language,
    add_login,
    cookie_is_lost,
    our_port,
    parts_of,
)

log = structlog.get_logger(__name__)

VERSION = version("fsplanfix")

OPEN_TO_ALL = ("dashboard.login", "dashboard.enter", "dashboard.static", "dashboard.language")
"""The endpoints that need no session."""

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; media-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

MOST_IDS = 10_000
"""Notices that one form may name."""


class Desk(SessionNames, OverviewDesk, CallDesk, Protocol):
    """What the dashboard shows and does; see admin/desk.py."""

    def number(self, number: str) -> str:
        """Return a number as people write it, "" if it stands for a hidden one."""

    def rejected_ids(self) -> list[int]:
        """Return the numbers of all rejected notices."""

    def send_again(self, ids: Collection[int]) -> int:
        """Send rejected notices again."""

    def drop(self, ids: Collection[int]) -> int:
        """Delete rejected notices."""


@dataclass(frozen=True, slots=True)
class DashboardConfig:
    """The settings of the dashboard.

    passwords: by role (sessions.py), "" lets nobody in as that. secret: signs the cookies of the
    sessions. public_url: how browsers reach us, "" if not said. find_recording: opens a recording
    by its path, of an account or, with "", of any. desk_of: gives the desk of one company, where
    there are several. media_from: tells from where else recordings of an account or, with "", of
    all are played, "" for nowhere.
    """

    desk: Desk
    passwords: Mapping[str, str]
    secret: str
    public_url: str
    find_recording: Callable[[str, str], Found | Elsewhere]
    desk_of: Callable[[str], Desk] | None = None
    media_from: Callable[[str], str] = lambda _: ""

    def current_desk(self) -> Desk:
        """Return the desk of whoever sent the current request."""
        account = g.get("account", "")
        return self.desk_of(account) if self.desk_of is not None and account else self.desk


def install(
    app: Flask, config: DashboardConfig, on_wrong_secret: Callable[[str], None]
) -> CSRFProtect:
    """Put the dashboard at `/`; return the protection of its forms.

    on_wrong_secret: called for each wrong password.
    """
    # forms have no time limit of their own: the session has one
    app.config.update(
        SECRET_KEY=config.secret,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_SECURE=config.public_url.startswith("https://"),
        PERMANENT_SESSION_LIFETIME=SESSION_LASTS,
        WTF_CSRF_TIME_LIMIT=None,
        WTF_CSRF_SSL_STRICT=False,
        MEDIA_FROM=config.media_from,
    )

    Babel(app, locale_selector=words.language)
    guard = CSRFProtect(app)
    words.install(app, lambda number: config.current_desk().number(number))
    app.context_processor(lambda: _surroundings(config))
    app.register_blueprint(_pages(config, on_wrong_secret))
    warm_up(app)
    app.register_error_handler(CSRFError, lambda error: _forged(error, config.public_url))
    app.register_error_handler(StoreError, _no_store)
    return guard


def _surroundings(config: DashboardConfig) -> dict[str, Any]:
    """Return what every page may show."""
    account = g.get("account", "")
    return {
        "language": words.language(),
        "role": g.get("role", ""),
        "is_admin": g.get("role", "") == ADMIN,
        "account": account,
        "names_accounts": config.desk_of is not None and not account,
        "version": VERSION,
    }


def _forged(error: CSRFError, public_url: str) -> ResponseReturnValue:
    """Answer a form that is out of date or not ours."""
    log.warning("dashboard_refused", reason=error.description, address=address())
    if cookie_is_lost(public_url):
        return problem(how_to_open(public_url), 400)
    return problem(
        gettext("This form is out of date. Go back, reload the page and try again."), 400
    )


def how_to_open(public_url: str) -> str:
    """Return how to reach the dashboard, for a browser that cannot log in at this address."""
    text: str = gettext(
        "Your browser does not keep the log-in at this address, because it is not encrypted. "
        "Open %(url)s, or come through ssh: ssh -L %(port)s:127.0.0.1:%(port)s SERVER, then "
        "http://127.0.0.1:%(port)s.",
        url=public_url,
        port=our_port(),
    )
    return text


def _no_store(_: StoreError) -> ResponseReturnValue:
    """Answer while the database does not."""
    return problem(
        gettext(
            "The database does not respond. Nothing is lost: events are kept until it is back."
        ),
        503,
    )


def problem(text: str, code: int) -> ResponseReturnValue:
    """Return a page with a message."""
    return harden(Response(render_template("problem.html", text=text), code))


def harden(answer: Response) -> Response:
    """Add the headers of a page that shows only our own and is kept nowhere."""
    own = "media-src 'self'"
    # strangers, and other companies, need not know whose buckets there are
    media_from = current_app.config["MEDIA_FROM"](g.account) if g.get("role") else ""
    media = f"{own} {media_from}".strip()
    answer.headers["Content-Security-Policy"] = POLICY.replace(own, media)
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "no-referrer"

    # pages hold phone numbers: none stays in a browser's cache after logging out
    if request.endpoint != "dashboard.static":
        answer.headers["Cache-Control"] = "no-store"
    return answer


def _pages(config: DashboardConfig, on_wrong_secret: Callable[[str], None]) -> Blueprint:
    """Return all pages of the dashboard."""
    pages = Blueprint("dashboard", __name__, "static", "/static", "templates")
    sessions = Sessions(config.desk, config.passwords)

    @pages.before_request
    def guard() -> ResponseReturnValue | None:
        give_way()
        g.sender = "" if request.endpoint in OPEN_TO_ALL else sessions.role()
        g.role, g.account = parts_of(g.sender)
        if request.endpoint in OPEN_TO_ALL or g.role:
            return None

        return redirect(url_for("dashboard.login"))

    pages.after_request(harden)
    add_login(pages, sessions, config.public_url, on_wrong_secret)
    add_choice_of_language(pages)
    add_overview(pages, config.current_desk, sessions)
    add_call_pages(pages, config.current_desk, config.find_recording, problem)
    _add_rejected(pages, config.current_desk)
    return pages


def _add_rejected(pages: Blueprint, current_desk: Callable[[], Desk]) -> None:
    """Add what may be done with rejected notices."""

    @pages.post("/rejected/<any(retry, drop):what>")
    def rejected(what: str) -> ResponseReturnValue:
        if g.role != ADMIN:
            return problem(gettext("Only an administrator may do this."), 403)

        desk, everything = current_desk(), request.form.get("all") == "yes"
        ids = desk.rejected_ids() if everything else _ids(request.form.get("ids", ""))
        if not ids:
            return redirect(url_for("dashboard.home"))

        # without the confirmation nothing is deleted for good
        if what == "drop" and request.form.get("sure") != "yes":
            return render_template("sure.html", ids=ids, everything=everything)

        done = (desk.send_again if what == "retry" else desk.drop)(ids)
        log.info(
            "dashboard_rejected",
            what=what,
            notices=",".join(map(str, ids[:50])),
            done=done,
            address=address(),
        )
        return redirect(url_for("dashboard.home"))


def _ids(text: str) -> list[int]:
    """Return the numbers of notices that a form names; none if one of them is no number."""
    found = text.split(",")
    # of 18 digits at most: the databases' integers end there
    are_numbers = all(one.isascii() and one.isdigit() and len(one) <= 18 for one in found)
    return list(map(int, found)) if are_numbers and len(found) <= MOST_IDS else []
