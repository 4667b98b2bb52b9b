"""The dashboard: behind a password, live, in English and Russian.

Every change carries a token of its own.
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
STAYS = timedelta(hours=12)
REFRESH_EVERY = 1.0
"""Seconds between two looks at what has changed."""

SAY_AGAIN_AFTER = 15.0
"""Seconds after which a page is told again what has not changed, so that the line stays open."""

OPEN_TO_ALL = ("dashboard.login", "dashboard.enter", "dashboard.static", "dashboard.language")
WRONG_PASSWORDS_A_MINUTE = 5
"""Wrong passwords of one network that are answered; then not even the right one is."""

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; media-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Desk(Protocol):
    """What the dashboard asks and does; see admin/overview.py."""

    def overview(self) -> Any:
        """Return how everything stands."""

    def story(self, callid: str) -> list[str]:
        """Return the timeline of a call."""

    def recordings(self, callid: str) -> list[str]:
        """Return links to a call's recordings."""

    def send_again(self, ids: Collection[int]) -> int:
        """Send rejected notices again."""

    def drop(self, ids: Collection[int]) -> int:
        """Delete rejected notices."""

    def sessions(self) -> str:
        """Return what names the sessions that hold now."""

    def end_sessions(self) -> None:
        """Give it another name: none of them holds any more."""


@dataclass(frozen=True, slots=True)
class DashboardConfig:
    """What the dashboard needs.

    password: "" if there is none, then nobody gets in. secret: signs the sessions' cookies.
    is_https: whether browsers reach us that way.
    """

    desk: Desk
    password: str
    secret: str
    is_https: bool


def install(
    app: Flask, config: DashboardConfig, on_wrong_secret: Callable[[str], None]
) -> CSRFProtect:
    """Put the dashboard at `/`; return what guards its forms.

    on_wrong_secret: hears of each wrong password.
    """
    app.config.update(
        SECRET_KEY=config.secret,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_SECURE=config.is_https,
        PERMANENT_SESSION_LIFETIME=STAYS,
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
    chosen = session.get("language")
    return (
        chosen
        if chosen in LANGUAGES
        else request.accept_languages.best_match(LANGUAGES, "en") or "en"
    )


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")


def _forged(error: CSRFError) -> ResponseReturnValue:
    """A form that is old, or not ours: nothing is changed."""
    log.warning("dashboard_refused", reason=error.description, address=address())
    return _problem(
        gettext("This form is out of date. Go back, reload the page and try again."), 400
    )


def _no_store(_: StoreError) -> ResponseReturnValue:
    return _problem(
        gettext(
            "The database does not respond. Nothing is lost: events are kept until it is back."
        ),
        503,
    )


def _problem(text: str, code: int) -> ResponseReturnValue:
    return render_template("problem.html", text=text), code


def _pages(desk: Desk, password: str, on_wrong_secret: Callable[[str], None]) -> Blueprint:
    pages = Blueprint("dashboard", __name__, "static", "/static", "templates")
    sessions = Sessions(desk, password)
    _gate(pages, sessions)
    _doors(
        pages, password, Guesses("password", WRONG_PASSWORDS_A_MINUTE, on_wrong_secret), sessions
    )
    _views(pages, desk, sessions)
    return pages


class Sessions:
    """Who is inside: until `STAYS` is over, somebody logs out, or ADMIN_PASSWORD changes.

    There is one password, so whoever logs out ends all sessions: also one whose cookie was stolen.
    """

    def __init__(self, desk: Desk, password: str) -> None:
        self._desk = desk
        self._password = password.encode()
        self._last_name = ""

    def begin(self) -> None:
        """Let in who asks."""
        session["inside"] = self._proof()
        session["until"] = time.time() + STAYS.total_seconds()

    def holds(self) -> bool:
        """Tell whether who asks is inside."""
        given, until = session.get("inside"), session.get("until")
        if not isinstance(given, str) or not isinstance(until, int | float):
            return False
        return time.time() < until and hmac.compare_digest(given.encode(), self._proof().encode())

    def end_all(self) -> None:
        """Let nobody stay. Raises StoreError, then nothing has changed."""
        self._desk.end_sessions()
        session.pop("inside", None)

    def _proof(self) -> str:
        """Return what only a session of now can hold."""
        try:
            self._last_name = self._desk.sessions()
        except StoreError:  # who is inside sees that the database does not answer
            if not self._last_name:
                raise
        return hmac.new(self._password, self._last_name.encode(), "sha256").hexdigest()


def _gate(pages: Blueprint, sessions: Sessions) -> None:
    @pages.before_request
    def guard() -> ResponseReturnValue | None:
        g.language = _language()
        g.inside = request.endpoint not in OPEN_TO_ALL and sessions.holds()
        if request.endpoint in OPEN_TO_ALL or g.inside:
            return None
        return redirect(url_for("dashboard.login"))

    @pages.after_request
    def harden(answer: Response) -> Response:
        answer.headers["Content-Security-Policy"] = POLICY
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["Referrer-Policy"] = "no-referrer"
        if request.endpoint != "dashboard.static":
            answer.headers["Cache-Control"] = "no-store"
        return answer


def _doors(pages: Blueprint, password: str, guesses: Guesses, sessions: Sessions) -> None:

    def form(wrong: str) -> str:
        return render_template("login.html", off=not password, wrong=wrong)

    @pages.get("/login")
    def login() -> ResponseReturnValue:
        return form("")

    @pages.post("/login")
    def enter() -> ResponseReturnValue:
        if guesses.too_many(address()):
            return form(gettext("Too many failed attempts. Wait a minute.")), 429
        given = request.form.get("password", "").encode("utf-8", "surrogatepass")
        if not password or not hmac.compare_digest(given, password.encode()):
            guesses.note(address())
            return form(gettext("Wrong password.")), 401
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


def _views(pages: Blueprint, desk: Desk, sessions: Sessions) -> None:
    look = Look(desk)

    @pages.get("/")
    def home() -> ResponseReturnValue:
        return render_template("home.html", now=_fragment(look.now()))

    @pages.get("/live")
    def live() -> ResponseReturnValue:
        peer_is_gone = request.environ.get("fsplanfix.peer_is_gone", lambda: False)

        def changes() -> Iterator[str]:
            shown, seen, quiet = "", None, math.inf
            while sessions.holds():
                now = look.of_late()
                if now != seen or quiet > SAY_AGAIN_AFTER:
                    seen, fragment = now, _fragment(now)
                    if fragment != shown or quiet > SAY_AGAIN_AFTER:
                        shown, quiet = fragment, 0.0
                        yield "".join(f"data: {line}\n" for line in shown.splitlines()) + "\n"
                gevent.sleep(REFRESH_EVERY)
                quiet += REFRESH_EVERY
                if peer_is_gone():
                    return
            yield "event: over\ndata:\n\n"

        return Response(stream_with_context(changes()), mimetype="text/event-stream")

    @pages.get("/calls/<path:callid>")
    def call(callid: str) -> ResponseReturnValue:
        lines = desk.story(callid) if callid.isprintable() else []
        if not lines:
            return _problem(gettext("There is no record of this call."), 404)
        return render_template(
            "call.html", callid=callid, lines=lines, recordings=desk.recordings(callid)
        )

    @pages.post("/rejected/<int:number>/<any(retry, drop):what>")
    def rejected(number: int, what: str) -> ResponseReturnValue:
        if number >= 2**63:
            abort(404)
        done = (desk.send_again if what == "retry" else desk.drop)([number])
        log.info("dashboard_rejected", what=what, notice=number, done=done, address=address())
        return redirect(url_for("dashboard.home"))


class Look:
    """How everything stands, read once for all open pages, and only while one asks."""

    def __init__(self, desk: Desk, clock: Callable[[], float] = time.monotonic) -> None:
        self._desk = desk
        self._clock = clock
        self._read_at = -math.inf
        self._found: Any = None
        self._lock = BoundedSemaphore()

    def now(self) -> Any:
        """Return how everything stands now, None if the store does not answer."""
        with self._lock:
            return self._read()

    def of_late(self) -> Any:
        """Return how everything stood within the last second, None if the store did not answer."""
        with self._lock:  # whoever waited for another's look takes that
            is_old = self._clock() >= self._read_at + REFRESH_EVERY
            return self._read() if is_old else self._found

    def _read(self) -> Any:
        try:
            self._found = self._desk.overview()
        except StoreError:
            self._found = None
        self._read_at = self._clock()
        return self._found


def _fragment(now: Any) -> str:
    return render_template("now.html", now=now)
