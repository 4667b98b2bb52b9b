"""Who is logged in to the dashboard, and as what: an administrator, or a viewer."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Protocol
from urllib.parse import urlsplit

import structlog
from flask import Blueprint, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext

from ..errors import StoreError
from .rate_limit import Guesses, address
from .words import LANGUAGES

log = structlog.get_logger(__name__)

ADMIN, VIEWER = "admin", "viewer"
"""The roles. A viewer looks and listens, and changes nothing.

A role may be one company's alone: then its account follows, as in "viewer romashka".
"""

SESSION_LASTS = timedelta(hours=12)
WRONG_PASSWORDS_A_MINUTE = 5
"""Wrong passwords of one network that are answered; after them not even the right one is."""


def parts_of(role: str) -> tuple[str, str]:
    """Return a role without its account, and the account, "" for all."""
    kind, _, account = role.partition(" ")
    return kind, account


class SessionNames(Protocol):
    """Keeps the common names of the sessions that are valid now; see admin/desk.py."""

    def sessions(self, role: str) -> str:
        """Return the common name of a role's sessions. Raises StoreError."""

    def end_sessions(self, role: str) -> None:
        """Change the common name of a role's sessions, which ends them. Raises StoreError."""


class Sessions:
    """The sessions of people who logged in.

    passwords: by role, "" lets nobody in as that. A session lasts until SESSION_LASTS is over,
    anybody of its role logs out, or the role's password changes. Logging out ends all sessions of
    the role, since they share a password: so it also ends one with a stolen cookie.
    """

    def __init__(self, names: SessionNames, passwords: Mapping[str, str]) -> None:
        self._names = names
        # they may be others by the next request (service/reload.py)
        self._given = passwords
        self._last_names: dict[str, str] = {}

    @property
    def _passwords(self) -> dict[str, bytes]:
        return {role: word.encode() for role, word in self._given.items() if word}

    @property
    def is_open(self) -> bool:
        """Tell whether anybody can log in."""
        return bool(self._passwords)

    def role_with(self, password: str) -> str:
        """Return the role that a password belongs to, "" if it is wrong."""
        given = password.encode("utf-8", "surrogatepass")
        # all are compared: how long it takes tells nothing
        fitting = [
            role for role, word in self._passwords.items() if hmac.compare_digest(given, word)
        ]
        return fitting[0] if fitting else ""

    def begin(self, role: str) -> None:
        """Begin a session for the sender of the current request."""
        session["inside"] = self._proof(role)
        session["role"] = role
        session["until"] = time.time() + SESSION_LASTS.total_seconds()

    def role(self) -> str:
        """Return the role of the sender of the current request, "" without a valid session."""
        given, until = session.get("inside"), session.get("until")
        # a session of a release that knew one role
        role = session.get("role", ADMIN)
        if not isinstance(given, str) or not isinstance(role, str):
            return ""
        if not isinstance(until, int | float):
            return ""
        if role not in self._passwords or time.time() >= until:
            return ""

        # its own end: Flask renews the cookie's with each answer
        is_ours = hmac.compare_digest(given.encode(), self._proof(role).encode())
        return str(role) if is_ours else ""

    def end_all(self, role: str) -> None:
        """End all sessions of a role. Raises StoreError, and then none has ended."""
        self._names.end_sessions(role)
        session.pop("inside", None)

    def _proof(self, role: str) -> str:
        """Return what a valid session's cookie holds: it depends on password and common name."""
        try:
            self._last_names[role] = self._names.sessions(role)
        except StoreError:
            # the last known name: people inside should see that the database does not answer
            if role not in self._last_names:
                raise

        name = self._last_names[role].encode()
        return hmac.new(self._passwords[role], name, "sha256").hexdigest()


def cookie_is_lost(public_url: str) -> bool:
    """Tell whether the browser will not keep our cookie: it is for https, and this is not."""
    if not public_url.startswith("https://") or request.is_secure:
        return False

    # A web server in front passes the name on that the browser asked for. Browsers keep such a
    # cookie of their own machine all the same.
    host = urlsplit(f"//{request.host}").hostname or ""
    is_local = host == "localhost" or host.startswith("127.") or host == "::1"
    return not is_local and request.host != urlsplit(public_url).netloc


def our_port() -> str:
    """Return the port at which we listen, whatever a web server in front listens at."""
    port: str = request.environ["SERVER_PORT"]
    return port


def add_login(
    pages: Blueprint,
    sessions: Sessions,
    public_url: str,
    on_wrong_secret: Callable[[str], None],
) -> None:
    """Add logging in and out."""
    guesses = Guesses("password", WRONG_PASSWORDS_A_MINUTE, on_wrong_secret)

    def login_form(wrong: str) -> str:
        lost = public_url if cookie_is_lost(public_url) else ""
        off = not sessions.is_open
        return render_template("login.html", off=off, wrong=wrong, lost=lost, port=our_port())

    @pages.get("/login")
    def login() -> ResponseReturnValue:
        return login_form("")

    @pages.post("/login")
    def enter() -> ResponseReturnValue:
        if guesses.has_too_many(address()):
            return login_form(gettext("Too many failed attempts. Wait a minute.")), 429

        role = sessions.role_with(request.form.get("password", ""))
        if not role:
            guesses.count_wrong(address())
            return login_form(gettext("Wrong password.")), 401

        # a new session, with nothing of the old one but the language
        language = session.get("language")
        session.clear()
        session.permanent = True
        sessions.begin(role)
        if language:
            session["language"] = language

        log.info("dashboard_login", role=role, address=address())
        return redirect(url_for("dashboard.home"))

    @pages.post("/logout")
    def logout() -> ResponseReturnValue:
        role = sessions.role()
        if role:
            sessions.end_all(role)
            log.info("dashboard_sessions_ended", role=role, address=address())
        return redirect(url_for("dashboard.login"))


def add_choice_of_language(pages: Blueprint) -> None:
    """Add the choice of the language."""

    @pages.post("/language")
    def language() -> ResponseReturnValue:
        if request.form.get("language") in LANGUAGES:
            session["language"] = request.form["language"]

        # back to where the button was, if that is one of our own pages
        back = request.form.get("back", "")
        if back.startswith("/") and not back.startswith(("//", "/\\")) and back.isprintable():
            return redirect(back)
        return redirect(url_for("dashboard.home"))
