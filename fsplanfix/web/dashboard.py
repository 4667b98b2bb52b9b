"""The dashboard: live pages behind a password, in English and Russian.

Every form carries a CSRF token.
"""

from __future__ import annotations

import hmac
import math
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import gevent
import structlog
from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    g,
    redirect,
    render_template,
    request,
    session,
    stream_with_context,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_babel import Babel, gettext
from flask_wtf.csrf import CSRFError, CSRFProtect
from gevent.lock import BoundedSemaphore

from ..errors import StoreError
from .rate_limit import Guesses, address

log = structlog.get_logger(__name__)

LANGUAGES = ("en", "ru")
SESSION_LASTS = timedelta(hours=12)
REFRESH_EVERY = 1.0
"""Seconds between two readings of the overview."""

REPEAT_AFTER = 15.0
"""Seconds after which an unchanged overview is sent again, so that the connection stays open."""

OPEN_TO_ALL = ("dashboard.login", "dashboard.enter", "dashboard.static", "dashboard.language")
"""The endpoints that need no session."""

WRONG_PASSWORDS_A_MINUTE = 5
"""Wrong passwords of one network that are answered; after them not even the right one is."""

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; media-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Desk(Protocol):
    """What the dashboard shows and does; see admin/overview.py."""

    def overview(self) -> Any:
        """Return the values of the home page."""

    def story(self, callid: str) -> list[str]:
        """Return the timeline of a call."""

    def recordings(self, callid: str) -> list[str]:
        """Return URLs of a call's recordings."""

    def send_again(self, ids: Collection[int]) -> int:
        """Send rejected notices again."""

    def drop(self, ids: Collection[int]) -> int:
        """Delete rejected notices."""

    def sessions(self) -> str:
        """Return the common name of the sessions that are valid now. Raises StoreError."""

    def end_sessions(self) -> None:
        """Change the sessions' common name, which ends them all. Raises StoreError."""


@dataclass(frozen=True, slots=True)
class DashboardConfig:
    """The settings of the dashboard.

    password: ADMIN_PASSWORD, "" lets nobody in. secret: signs the cookies of the sessions.
    is_https: whether browsers use https.
    """

    desk: Desk
    password: str
    secret: str
    is_https: bool


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
        SESSION_COOKIE_SECURE=config.is_https,
        PERMANENT_SESSION_LIFETIME=SESSION_LASTS,
        WTF_CSRF_TIME_LIMIT=None,
        WTF_CSRF_SSL_STRICT=False,
    )

    Babel(app, locale_selector=_language)
    guard = CSRFProtect(app)
    app.register_blueprint(_pages(config.desk, config.password, on_wrong_secret))
    app.register_error_handler(CSRFError, _forged)
    app.register_error_handler(StoreError, _no_store)
    app.add_template_filter(_clock, "clock")
    return guard


def _language() -> str:
    """Return the language of the current request: the chosen one, else the browser's."""
    chosen = session.get("language")
    if chosen in LANGUAGES:
        return str(chosen)
    return request.accept_languages.best_match(LANGUAGES, "en") or "en"


def _clock(at: float) -> str:
    """Return the local time of day of a moment (seconds since 1970)."""
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")


def _forged(error: CSRFError) -> ResponseReturnValue:
    """Answer a form that is out of date or not ours."""
    log.warning("dashboard_refused", reason=error.description, address=address())
    return _problem(
        gettext("This form is out of date. Go back, reload the page and try again."), 400
    )


def _no_store(_: StoreError) -> ResponseReturnValue:
    """Answer while the database does not."""
    return _problem(
        gettext(
            "The database does not respond. Nothing is lost: events are kept until it is back."
        ),
        503,
    )


def _problem(text: str, code: int) -> ResponseReturnValue:
    """Return a page with a message."""
    return render_template("problem.html", text=text), code


def _pages(desk: Desk, password: str, on_wrong_secret: Callable[[str], None]) -> Blueprint:
    """Return all pages of the dashboard."""
    pages = Blueprint("dashboard", __name__, "static", "/static", "templates")
    sessions = Sessions(desk, password)
    guesses = Guesses("password", WRONG_PASSWORDS_A_MINUTE, on_wrong_secret)

    _add_guards(pages, sessions)
    _add_login(pages, password, guesses, sessions)
    _add_views(pages, desk, sessions)
    return pages


class Sessions:
    """The sessions of people who logged in.

    They last until SESSION_LASTS is over, anybody logs out, or ADMIN_PASSWORD changes. Logging out
    ends all of them, since there is one password: so it also ends one with a stolen cookie.
    """

    def __init__(self, desk: Desk, password: str) -> None:
        self._desk = desk
        self._password = password.encode()
        self._last_name = ""

    def begin(self) -> None:
        """Begin a session for the sender of the current request."""
        session["inside"] = self._proof()
        session["until"] = time.time() + SESSION_LASTS.total_seconds()

    def is_valid(self) -> bool:
        """Tell whether the sender of the current request has a valid session."""
        given = session.get("inside")
        until = session.get("until")
        if not isinstance(given, str) or not isinstance(until, int | float):
            return False

        # its own end: Flask renews the cookie's with each answer
        return time.time() < until and hmac.compare_digest(given.encode(), self._proof().encode())

    def end_all(self) -> None:
        """End all sessions. Raises StoreError, and then none has ended."""
        self._desk.end_sessions()
        session.pop("inside", None)

    def _proof(self) -> str:
        """Return what a valid session's cookie holds: it depends on password and common name."""
        try:
            self._last_name = self._desk.sessions()
        except StoreError:
            # the last known name: people inside should see that the database does not answer
            if not self._last_name:
                raise

        return hmac.new(self._password, self._last_name.encode(), "sha256").hexdigest()


def _add_guards(pages: Blueprint, sessions: Sessions) -> None:
    """Add the check of the session before each page, and the headers after it."""

    @pages.before_request
    def guard() -> ResponseReturnValue | None:
        g.language = _language()
        g.inside = request.endpoint not in OPEN_TO_ALL and sessions.is_valid()
        if request.endpoint in OPEN_TO_ALL or g.inside:
            return None

        return redirect(url_for("dashboard.login"))

    @pages.after_request
    def harden(answer: Response) -> Response:
        answer.headers["Content-Security-Policy"] = POLICY
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["Referrer-Policy"] = "no-referrer"

        # pages hold phone numbers: none stays in a browser's cache after logging out
        if request.endpoint != "dashboard.static":
            answer.headers["Cache-Control"] = "no-store"
        return answer


def _add_login(pages: Blueprint, password: str, guesses: Guesses, sessions: Sessions) -> None:
    """Add logging in and out, and the choice of the language."""

    def login_form(wrong: str) -> str:
        return render_template("login.html", off=not password, wrong=wrong)

    @pages.get("/login")
    def login() -> ResponseReturnValue:
        return login_form("")

    @pages.post("/login")
    def enter() -> ResponseReturnValue:
        if guesses.has_too_many(address()):
            return login_form(gettext("Too many failed attempts. Wait a minute.")), 429

        given = request.form.get("password", "").encode("utf-8", "surrogatepass")
        if not password or not hmac.compare_digest(given, password.encode()):
            guesses.count_wrong(address())
            return login_form(gettext("Wrong password.")), 401

        # a new session, with nothing of the old one but the language
        language = session.get("language")
        session.clear()
        session.permanent = True
        sessions.begin()
        if language:
            session["language"] = language

        return redirect(url_for("dashboard.home"))

    @pages.post("/logout")
    def logout() -> ResponseReturnValue:
        sessions.end_all()
        log.info("dashboard_sessions_ended", address=address())
        return redirect(url_for("dashboard.login"))

    @pages.post("/language")
    def language() -> ResponseReturnValue:
        if request.form.get("language") in LANGUAGES:
            session["language"] = request.form["language"]
        return redirect(url_for("dashboard.home"))


def _add_views(pages: Blueprint, desk: Desk, sessions: Sessions) -> None:
    """Add the pages with the overview and the calls, and what can be done there."""
    look = Look(desk)

    @pages.get("/")
    def home() -> ResponseReturnValue:
        return render_template("home.html", now=_fragment(look.read_now()))

    @pages.get("/live")
    def live() -> ResponseReturnValue:
        peer_is_gone = request.environ.get("fsplanfix.peer_is_gone", lambda: False)
        changes = _changes(look, sessions, peer_is_gone)
        return Response(stream_with_context(changes), mimetype="text/event-stream")

    @pages.get("/calls/<path:callid>")
    def call(callid: str) -> ResponseReturnValue:
        # PostgreSQL's text holds no NUL: such a callid is unknown, not an error of the database
        lines: list[str] = []
        if callid.isprintable():
            lines = desk.story(callid)
        if not lines:
            return _problem(gettext("There is no record of this call."), 404)

        return render_template(
            "call.html", callid=callid, lines=lines, recordings=desk.recordings(callid)
        )

    @pages.post("/rejected/<int:number>/<any(retry, drop):what>")
    def rejected(number: int, what: str) -> ResponseReturnValue:
        # the databases' integers end there
        if number >= 2**63:
            abort(404)

        act = desk.send_again if what == "retry" else desk.drop
        done = act([number])
        log.info("dashboard_rejected", what=what, notice=number, done=done, address=address())
        return redirect(url_for("dashboard.home"))


def _changes(look: Look, sessions: Sessions, peer_is_gone: Callable[[], bool]) -> Iterator[str]:
    """Yield the overview as server-sent events, whenever it has changed."""
    seen: Any = None
    shown = ""
    quiet = math.inf

    # checked every time: a page left open must not outlive its session
    while sessions.is_valid():
        now = look.read_recent()
        if now != seen or quiet > REPEAT_AFTER:
            seen = now
            fragment = _fragment(now)
            if fragment != shown or quiet > REPEAT_AFTER:
                shown = fragment
                quiet = 0.0
                yield "".join(f"data: {line}\n" for line in shown.splitlines()) + "\n"

        gevent.sleep(REFRESH_EVERY)
        quiet += REFRESH_EVERY

        # else a closed page would be noticed only when the next change is written to it
        if peer_is_gone():
            return

    yield "event: over\ndata:\n\n"


class Look:
    """The overview, read once for all open pages, and only if one asks for it.

    With 150,000 notices, reading it for each page took 52 ms a second.
    """

    def __init__(self, desk: Desk, clock: Callable[[], float] = time.monotonic) -> None:
        self._desk = desk
        self._clock = clock
        self._read_at = -math.inf
        self._found: Any = None
        self._lock = BoundedSemaphore()

    def read_now(self) -> Any:
        """Return the overview of now, None if the store does not answer."""
        with self._lock:
            return self._read()

    def read_recent(self) -> Any:
        """Return the overview of the last second, None if the store did not answer."""
        # the time is compared inside the lock: a page that waited for another's reading uses it
        with self._lock:
            if self._clock() >= self._read_at + REFRESH_EVERY:
                return self._read()
            return self._found

    def _read(self) -> Any:
        try:
            self._found = self._desk.overview()
        except StoreError:
            self._found = None
        self._read_at = self._clock()
        return self._found


def _fragment(now: Any) -> str:
    """Return the overview as HTML."""
    return render_template("now.html", now=now)
