"""A strict Planfix: takes only what the API allows, and shows what an employee would see.

It shares no code with the service. It can be slow, fail with any code, answer HTML and drop
connections.
"""

from __future__ import annotations

import hmac
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gevent
from flask import Flask, Response, jsonify, render_template, request
from gevent import socket
from gevent.event import Event
from gevent.pywsgi import WSGIHandler, WSGIServer

from .page_words import WORDS

EVENT_FIELDS = {"cmd", "type", "event", "phone", "diversion", "ext", "callid", "planfix_token"}
COMPLETED_FIELDS = EVENT_FIELDS | {"duration", "is_recorded", "status", "record_link"}
RECORD_FIELDS = {"cmd", "callid", "is_temp", "record_link", "planfix_token"}
CONTACT_FIELDS = {"cmd", "phone", "callid", "planfix_token"}
STATUSES = {
    "in": {"Success", "Missed", "Canceled"},
    "out": {"Success", "Busy", "NoAnswer", "NotAvailable", "NotAllowed"},
}
STARTS = {"in": "INCOMING", "out": "OUTGOING"}
_PHONE = re.compile(r"[0-9*#]{2,15}|anonymous", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,15}", re.ASCII)
_DATA = re.compile(r"data_[A-Za-z0-9_]{1,64}", re.ASCII)


def problem(form: dict[str, str]) -> str:
    """Return what the API does not allow about a request, "" if all is well."""
    command = form.get("cmd", "")
    checks: dict[str, Callable[[dict[str, str]], str]] = {
        "event": _event,
        "record": _record,
        "contact": _contact,
    }
    if command not in checks:
        return f"unknown cmd {command!r}"

    empty = [name for name, value in form.items() if not value]
    return f"empty fields {empty}" if empty else checks[command](form)


def _event(form: dict[str, str]) -> str:
    way, event = form.get("type", ""), form.get("event", "")
    # data_* is read from COMPLETED only (docs/call-rules.md, rule 14)
    done = event == "COMPLETED"
    unknown = {n for n in form if n not in (COMPLETED_FIELDS if done else EVENT_FIELDS)}
    if done:
        unknown = {name for name in unknown if not _DATA.fullmatch(name)}
    if unknown:
        return f"fields not allowed here: {sorted(unknown)}"
    if way not in STARTS or event not in {STARTS[way], "ACCEPTED", "COMPLETED"}:
        return f"no such event: type {way!r}, event {event!r}"
    if not _PHONE.fullmatch(form.get("phone", "")) or not form.get("callid"):
        return "phone or callid is missing, or phone is not a phone number"

    if not _NUMBER.fullmatch(form.get("ext", "0")) or not _NUMBER.fullmatch(
        form.get("diversion", "0")
    ):
        return "ext or diversion is not a number"

    return _completed(form, way) if done else ""


def _completed(form: dict[str, str], way: str) -> str:
    if form.get("status") not in STATUSES[way]:
        return f"no such status for type {way}: {form.get('status')!r}"
    if not _NUMBER.fullmatch(form.get("duration", "")) or form.get("is_recorded") not in ("0", "1"):
        return "duration or is_recorded is missing or wrong"
    return ""


def _record(form: dict[str, str]) -> str:
    if set(form) - RECORD_FIELDS or not form.get("callid"):
        return "record takes callid, record_link and is_temp"

    link = urllib.parse.urlsplit(form.get("record_link", ""))
    if link.scheme not in ("http", "https") or not link.netloc:
        return "record_link is not a link"
    return ""


def _contact(form: dict[str, str]) -> str:
    if set(form) - CONTACT_FIELDS or not form.get("phone"):
        return "contact takes phone and callid"
    return ""


@dataclass
class Received:
    """One request: its fields (without token), the answer's code, when it came and was answered.

    Times are seconds since 1970. repeated: it had to come again, because we had cut the answer to
    the one before.
    """

    fields: dict[str, str]
    code: int
    came: float
    at: float
    repeated: bool = False


@dataclass
class Part:
    """What one employee sees of a call."""

    ext: str
    state: str
    status: str = ""
    duration: int = 0
    is_recorded: bool = False


@dataclass
class CallCard:
    """One call in the history."""

    callid: str
    type: str
    phone: str
    diversion: str
    at: float
    parts: list[Part] = field(default_factory=list)
    data: dict[str, str] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)


class History:
    """The calls as an employee sees them, and every request that made no sense in its place."""

    def __init__(self) -> None:
        self.cards: dict[str, CallCard] = {}
        self.surprises: list[str] = []

    def take(self, form: dict[str, str]) -> None:
        """Apply an accepted request."""
        if form["cmd"] == "record":
            self._take_record(form)
        elif form["cmd"] == "event":
            self._take_event(form)

    def _take_event(self, form: dict[str, str]) -> None:
        card = self.cards.get(form["callid"])
        if card is None:
            way = form["type"], form["phone"], form.get("diversion", "")
            card = self.cards[form["callid"]] = CallCard(form["callid"], *way, at=time.time())

        ext, event = form.get("ext", ""), form["event"]
        part = next((p for p in reversed(card.parts) if p.ext == ext and p.state != "done"), None)
        if event in STARTS.values():
            if part is not None:
                self.surprises.append(f"{event} twice for {ext or 'nobody'} in {card.callid}")
            card.parts.append(Part(ext, "ringing" if event == "INCOMING" else "calling"))
        elif part is None:
            self.surprises.append(
                f"{event} for {ext or 'nobody'} without a beginning in {card.callid}"
            )
        elif event == "ACCEPTED":
            part.state = "talking"
        else:
            self._complete(card, part, form)

    def _complete(self, card: CallCard, part: Part, form: dict[str, str]) -> None:
        part.state, part.status = "done", form["status"]
        part.duration, part.is_recorded = int(form["duration"]), form["is_recorded"] == "1"
        card.data |= {name: value for name, value in form.items() if name.startswith("data_")}
        if "record_link" in form:
            card.links.append(form["record_link"])

    def _take_record(self, form: dict[str, str]) -> None:
        card = self.cards.get(form["callid"])
        if card is None or any(part.state != "done" for part in card.parts):
            self.surprises.append(f"record before the call {form['callid']} was over")
        if card is not None:
            card.links.append(form["record_link"])


class Handler(WSGIHandler):
    """Lets a view cut the connection, and keeps the console quiet."""

    def __init__(self, sock: socket.socket, address: Any, server: WSGIServer) -> None:
        super().__init__(sock, address, server)
        # headers and body go separately: 40 ms otherwise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get_environ(self) -> dict[str, Any]:
        """Add the socket to what a view sees."""
        environ: dict[str, Any] = super().get_environ()
        environ["simulator.socket"] = self.socket
        environ["simulator.came"] = time.time()
        return environ

    def log_request(self) -> None:
        """Log nothing."""

    def handle_error(self, t: Any, v: Any, tb: Any) -> None:
        """Ignore a client that left early; show any other error."""
        if not isinstance(v, OSError):
            super().handle_error(t, v, tb)


class Planfix:
    """The stand-in.

    canceled: how it spells that status.
    knows_ping: whether it knows `ping`, which came in 2025.
    retry_after: the header it sends with 429 and 503.
    answers: what the next requests get instead: a code, "html", "drop" or "drop after".
    refusal: the body it sends with such a code, "" for its own.
    before: called with a request's fields before it is answered; it may keep the request waiting.
    """

    def __init__(
        self,
        address: tuple[str, int] = ("127.0.0.1", 0),
        token: str = "planfix-demo-token",  # noqa: S107 - a stand-in's
        pbx_url: str = "",
        pbx_token: str = "",
    ) -> None:
        self.token = token
        self.pbx_url = pbx_url
        self.pbx_token = pbx_token
        self.delay = 0.0
        self.before: Callable[[dict[str, str]], object] = lambda _: None
        self.canceled = "Canceled"
        self.retry_after = ""
        self.refusal: str | bytes = ""
        self.knows_ping = False
        self.answers: deque[int | str] = deque()
        self.received: list[Received] = []
        self.asked = 0
        self.history = History()
        self._cut: list[dict[str, str]] = []
        self.contacts: dict[str, dict[str, str]] = {
            "79161234567": {"contact_name": "Ivan Petrov", "manager": "102"}
        }
        self._change = Event()
        self._version = 0
        self._server = WSGIServer(
            address, self._app(), handler_class=Handler, log=None, error_log=None
        )

    def start(self) -> None:
        """Listen. Raises OSError if the address is taken."""
        self._server.start()

    def stop(self) -> None:
        """Stop listening and close all connections."""
        self._server.stop(timeout=0.1)

    @property
    def url(self) -> str:
        """Return the address requests go to."""
        return f"{self.page}tel/api"

    @property
    def page(self) -> str:
        """Return the address of the page with the call windows."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def port(self) -> int:
        """Return the port it listens on."""
        return self._server.server_port or 0

    @property
    def accepted(self) -> list[dict[str, str]]:
        """Return the fields of the accepted requests, in order."""
        return [item.fields for item in self.received if item.code == 200]

    def wait_for(self, condition: Callable[[Planfix], bool], timeout: float = 60.0) -> None:
        """Wait until a condition holds, tried after each request. Raises gevent.Timeout."""
        with gevent.Timeout(timeout):
            while not condition(self):
                self._change.wait()

    def follow(self) -> Iterator[Received]:
        """Yield each request as it comes, for ever."""
        seen = 0
        while True:
            while seen == len(self.received):
                self._change.wait()
            yield self.received[seen]
            seen += 1

    # the API

    def _app(self) -> Flask:
        app = Flask(__name__)
        app.add_url_rule("/tel/api", view_func=self._api, methods=["POST"])
        app.add_url_rule("/", view_func=self._page)
        app.add_url_rule("/stream", view_func=self._stream)
        app.add_url_rule("/call", view_func=self._make_call, methods=["POST"])
        return app

    def _api(self) -> Response:
        self.asked += 1
        self._tell()
        form = {key: value for key, value in request.form.items() if key != "planfix_token"}
        self.before(form)
        gevent.sleep(self.delay)
        planned = self.answers.popleft() if self.answers else 200
        if planned == "drop":
            return self._drop()

        if planned == "html":
            return self._answer(
                form, 200, Response("<html><body>Under maintenance</body></html>", status=502)
            )

        if isinstance(planned, int) and planned != 200:
            answer = Response(self.refusal) if self.refusal else jsonify(error="Planned failure")
            if planned in (429, 503) and self.retry_after:
                answer.headers["Retry-After"] = self.retry_after
            return self._answer(form, planned, answer)

        code, body = self._judge(form)
        # the same request once more, since we cut the answer to the first
        if code == 200 and form in self._cut:
            self._cut.remove(form)
            return self._answer(form, code, jsonify(body), repeated=True)
        if code == 200:
            self.history.take(form)

        answer = self._answer(form, code, jsonify(body))
        if planned == "drop after" and code == 200:
            self._cut.append(form)
            return self._drop()

        return answer

    def _judge(self, form: dict[str, str]) -> tuple[int, dict[str, str]]:
        if not hmac.compare_digest(request.form.get("planfix_token", ""), self.token):
            return 401, {"error": "Invalid token"}

        # a field that stands twice is refused as well
        fields = list(request.form.items(multi=True))
        is_form = request.mimetype == "application/x-www-form-urlencoded"
        if not is_form or len(request.form) != len(fields):
            return 400, {"error": "Invalid parameters"}

        if form.get("cmd") == "ping" and self.knows_ping:
            return 200, {"pbxToken": self.pbx_token, "pbxUrl": self.pbx_url}

        spelled = {**form, "status": "Canceled"} if form.get("status") == self.canceled else form
        if problem(spelled) or (form.get("status") == "Canceled" and self.canceled != "Canceled"):
            return 400, {"error": "Invalid parameters", "why": problem(spelled)}

        if form["cmd"] == "contact":
            return 200, self.contacts.get(form["phone"], {})
        return 200, {}

    def _answer(
        self, form: dict[str, str], code: int, response: Response, repeated: bool = False
    ) -> Response:
        if response.status_code == 200:
            response.status_code = code

        came: float = request.environ["simulator.came"]
        self.received.append(Received(form, response.status_code, came, time.time(), repeated))
        self._version += 1
        self._tell()

        return response

    def _tell(self) -> None:
        # wakes all who wait now, and nobody who comes later
        self._change.set()
        self._change.clear()

    def _drop(self) -> Response:
        request.environ["simulator.socket"].shutdown(socket.SHUT_RDWR)
        return Response(status=200)

    # the page

    def _page(self) -> str:
        language = request.accept_languages.best_match(list(WORDS), "en")
        can_call = bool(self.pbx_url)
        return render_template(
            "crm.html", can_call=can_call, language=language, words=WORDS[language]
        )

    def _state(self) -> str:
        cards = sorted(self.history.cards.values(), key=lambda card: -card.at)
        return json.dumps(
            {
                "calls": [
                    {**vars(card), "parts": [vars(part) for part in card.parts]} for card in cards
                ]
            }
        )

    def _stream(self) -> Response:
        def states() -> Iterator[str]:
            sent = -1
            while True:
                if sent == self._version:
                    self._change.wait(timeout=15)
                sent = self._version
                yield f"data: {self._state()}\n\n"

        return Response(
            states(), mimetype="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    def _make_call(self) -> Response:
        code, body = self.click(request.form.get("ext", ""), request.form.get("number", ""))
        return jsonify(code=code, body=body)

    def click(self, ext: str, number: str) -> tuple[int, str]:
        """Click a number as an employee does; return the PBX's answer, code 0 if none came."""
        fields = {"cmd": "makeCall", "from": ext, "to": number, "token": self.pbx_token}
        form = urllib.parse.urlencode(fields).encode()
        call = urllib.request.Request(self.pbx_url, form)  # noqa: S310
        try:
            with urllib.request.urlopen(call, timeout=10) as answer:  # noqa: S310 - our own service
                return answer.status, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")
        except OSError as error:
            return 0, str(error)
