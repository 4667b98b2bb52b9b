"""Builds the Flask application: commands, recordings, health, metrics, the dashboard."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flask import Flask, abort, jsonify, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from werkzeug.exceptions import HTTPException

from . import dashboard
from .health import Health
from .rate_limit import Guesses, address
from .recordings import Find, serve
from .records import RecordsConfig, taker

LARGEST_REQUEST = 64 * 1024
"""Bytes of a request's body."""

WRONG_TOKENS_A_MINUTE = 20
"""Wrong tokens of one network that are answered as such; the right token always is.

Otherwise wrong ones through a proxy that sets no X-Forwarded-For would lock Planfix out.
"""

ABOUT = (
    "This is the address for Planfix: enter it in Planfix under Integrations, Virtual PBX, "
    "Planfix API for telephony, with your PBX_TOKEN as the key. It answers POST only."
)

CommandAnswer = Callable[[Mapping[str, str], str], tuple[int, dict[str, str]]]
"""Answers the fields of a command, and the account in the address, "" for none."""


def make(
    commands: CommandAnswer,
    health: Health,
    find_recording: Find,
    metrics: Callable[[], bytes],
    board: dashboard.DashboardConfig,
    on_wrong_secret: Callable[[str], None],
    records: RecordsConfig | None = None,
) -> Flask:
    """Return the application.

    commands: answers Planfix (Companies.answer). metrics: returns the text of /metrics.
    on_wrong_secret: called for each wrong secret with its kind: "token", "password", "cdr_secret".
    records: what is done with the records that FreeSWITCH sends; None takes none.
    """
    app = Flask(__name__, static_folder=None)
    guard = dashboard.install(app, board, on_wrong_secret)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_REQUEST
    guesses = Guesses("token", WRONG_TOKENS_A_MINUTE, on_wrong_secret)

    @app.get("/planfix")
    def about() -> ResponseReturnValue:
        return jsonify(message=ABOUT)

    def planfix(account: str = "") -> ResponseReturnValue:
        if request.mimetype != "application/x-www-form-urlencoded":
            return jsonify(error="Send the fields as application/x-www-form-urlencoded"), 415

        # of a body in chunks, without a length, werkzeug only reads the first LARGEST_REQUEST bytes
        fields = request.form
        if request.environ["wsgi.input"].read(1):
            abort(413)

        code, body = commands(fields, account)
        if code == 401 and not guesses.count_wrong(address()):
            return jsonify(
                error="Too many wrong tokens from your address: try again in a minute"
            ), 429

        return jsonify(body), code

    @app.get("/recordings/<signed>/<path:name>")
    def recording(signed: str, name: str) -> ResponseReturnValue:
        return serve(find_recording, signed, name)

    @app.get("/metrics")
    def numbers() -> ResponseReturnValue:
        return metrics(), {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}

    # exempt from the forms' tokens: Planfix sends its own secret
    app.add_url_rule("/planfix", view_func=guard.exempt(planfix), methods=["POST"])
    app.add_url_rule("/planfix/<account>", endpoint="planfix", methods=["POST"])
    if records is not None:
        wrong = Guesses("cdr_secret", WRONG_TOKENS_A_MINUTE, on_wrong_secret)
        app.add_url_rule("/cdr", view_func=guard.exempt(taker(records, wrong)), methods=["POST"])
    app.add_url_rule("/health/live", view_func=health.live)
    app.add_url_rule("/health/ready", view_func=health.ready)
    app.register_error_handler(HTTPException, _as_json)
    return app


def _as_json(error: HTTPException) -> ResponseReturnValue:
    """Answer a mistake in a request as JSON, and a person who looks for a page with a page."""
    accepted = request.accept_mimetypes
    if error.code == 404 and accepted.best == "text/html":
        return dashboard.problem(gettext("There is no such page."), 404)

    answer = jsonify(error=error.name)

    # 405 must name the methods, 416 the size
    for name, value in error.get_headers():
        if name in ("Allow", "Content-Range"):
            answer.headers.add(name, value)

    return answer, error.code or 500
