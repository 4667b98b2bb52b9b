"""Builds every part, starts and stops them: the only place that knows all of them."""

from __future__ import annotations

import gc
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from typing import Any

import gevent
import structlog
from gevent.event import Event
from prometheus_client import CollectorRegistry

from . import headroom
from .calls import numbers
from .desk import Desk
from .errors import LinkError, PortTakenError, RecordingFileError, RecordingUnknown, StoreError
from .freeswitch import tones
from .freeswitch.link import Connection, Link, Server, live_channels
from .freeswitch.originate import Click, Dialler, DialPlan
from .freeswitch.socket_app import SocketApp
from .greenlets import keep_running
from .lookup import Lookup
from .metrics import Standing, Tally, exposition
from .outbox.archive import Archive
from .outbox.queue import Queue
from .outbox.rows import Entry
from .outbox.store import Store
from .pipeline import Pipeline
from .planfix import contacts
from .planfix.client import Client
from .planfix.commands import Account, Commands, Limits
from .planfix.contacts import Contacts
from .planfix.courier import Courier, Manner
from .readiness import Readiness
from .recordings import convert
from .recordings.convert import Converter
from .recordings.files import Files, Found
from .recordings.links import Links, elsewhere
from .settings import RuleSettings, Settings
from .supervision import Supervision
from .web import factory
from .web.health import Health
from .web.server import Bounds, WebServer

log = structlog.get_logger(__name__)

TIME_TO_FINISH = 10.0
"""Seconds that requests under way are given at the end."""

TIME_TO_DIE = 1.0
"""Seconds that what is ended may take to tidy up."""


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _listen(address: str) -> socket.socket:
    """Take the web server's port at once, before anything else is begun."""
    host, port = _parts(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise PortTakenError(
            f"HTTP_LISTEN={address} cannot be used ({reason}): "
            "stop what listens there or choose another port."
        ) from None


ROLES = ("events", "courier", "web", "socket")
COMPARE_EVERY = 60.0
"""Seconds between comparisons of FreeSWITCH's channels with our open calls (call-rules.md, 16)."""

LOOK_FOR_OLD_EVERY = 3600.0
"""Seconds between deletions of old recordings."""

LINKED_ROLES = {"events", "web"}
"""Those that need a link to FreeSWITCH."""


class App:
    """The service, or some of its roles.

    They are: following FreeSWITCH, sending to Planfix, answering over HTTP, answering the
    dialplan's socket. shadow: do everything but send.

    Raises StoreError or PortTakenError if it cannot start.
    """

    def __init__(
        self, settings: Settings, roles: Collection[str] = ROLES, shadow: bool = False
    ) -> None:
        numbers.load()
        spare = headroom.spare()
        self._settings = settings
        self._shadow = shadow
        self._roles = roles
        listener = _listen(settings.http_listen) if "web" in roles else None
        self.address = "http://{}:{}".format(*listener.getsockname()[:2]) if listener else ""
        self._store = Store(settings.store_url)
        self._keep_shadow_apart()
        self._registry = CollectorRegistry()
        self._tally = Tally(self._registry)
        self._keys = self._read_keys()
        self._recording_links = Links(
            settings.public_url or self.address or f"http://{settings.http_listen}", self._keys
        )
        self._files = self._recordings()
        token = settings.planfix_token.get_secret_value()
        self._client = Client(settings.planfix_url, token, settings.planfix_concurrency)
        self._socket_app = self._name_callers(token, spare) if "socket" in roles else None
        self._courier = Courier(
            self._store,
            self._client,
            self._link,
            _manner(settings, shadow),
            self._files.ready,
            now=self._store.now,
            told=self._tally.delivered,
            jumped=self._store.now.jumped,
        )
        self._pipelines: list[Pipeline] = []
        self._links = (
            [self._follow(Server(*parts)) for parts in settings.servers()]
            if LINKED_ROLES & set(roles)
            else []
        )
        courier = self._courier if "courier" in roles else None
        self._readiness = Readiness(self._store, self._pipelines, courier)
        self._web: WebServer | None = None
        if listener is not None:
            self._registry.register(Standing(self._store, self._links, self._pipelines))
            web = factory.make(
                self._commands().answer,
                self._health(),
                self._find_recording,
                exposition(self._registry),
                self._board(),
                self._tally.guessed,
            )
            places = min(Bounds().in_all, spare // headroom.HTTP_SHARE)
            self._web = WebServer(listener, web, Bounds(in_all=places))
        self._workers: list[gevent.Greenlet[..., Any]] = []
        self._helpers: list[gevent.Greenlet[..., Any]] = []
        self._stopping = Event()

    def _follow(self, server: Server) -> Link:
        """Make the link to a FreeSWITCH: with its events, or only to dial through it."""
        if "events" not in self._roles:
            return Link(
                server,
                [],
                on_event=_pass_over,
                on_up=lambda _, let_through: _pass_over(let_through()),
            )
        pipeline = Pipeline(
            server.name, self._settings.rules(), self._store, self._courier.call, self._tally.said
        )
        self._pipelines.append(pipeline)
        return Link(server, pipeline.tracker.event_names, pipeline.put, pipeline.resync)

    def _compare(self, pipeline: Pipeline) -> None:
        """Compare FreeSWITCH's channels with our open calls, once a minute while it is linked.

        At once if an event could not be taken.
        """
        link = next(link for link in self._links if link.server.name == pipeline.server)
        while True:
            pipeline.in_doubt.wait(COMPARE_EVERY)
            pipeline.in_doubt.clear()
            if (connection := link.connection) is not None:
                with suppress(LinkError):  # the link says so itself, and asks again once it is back
                    pipeline.compare(partial(live_channels, connection))

    def _keep_shadow_apart(self) -> None:
        """Refuse a store that another kind of worker writes.

        What a shadow only says, a worker that sends would never send.
        """
        mode = "shadow" if self._shadow else "sends"
        found = self._store.known("mode") or ("sends" if Queue(self._store).counts() else mode)
        self._store.fact("mode", found)
        if found != mode:
            raise StoreError(
                "STORE_URL is used by a worker that sends: give `run --shadow` one of its own."
                if self._shadow
                else "STORE_URL was written by `run --shadow`, which sends nothing: "
                "start with a new one."
            )

    def _read_keys(self) -> list[str]:
        """Return the keys that sign links, the oldest first.

        One that was made by us is read for ever.
        """
        given = self._settings.secret_key.get_secret_value()
        older = [key.strip() for key in self._settings.secret_key_old.get_secret_value().split(",")]
        made = (
            self._store.known("secret_key")
            if given
            else self._store.fact("secret_key", secrets.token_urlsafe(32))
        )
        return [key for key in (*older, made, given) if key]

    def _recordings(self) -> Files:
        settings = self._settings
        wanted = bool(settings.recordings_convert) and "courier" in self._roles
        if wanted and not convert.installed():
            log.error(
                "ffmpeg_missing",
                cure="recordings stay as they are: install ffmpeg (apt-get install ffmpeg)",
            )
        converter = Converter(self._converted) if wanted and convert.installed() else None
        finished = converter.finished if converter else None
        return Files(
            settings.recordings_dir,
            settings.recordings_map,
            settings.recordings_keep_days,
            finished,
        )

    def _converted(self) -> None:
        self._courier.call()

    def _link(self, callid: str, path: str) -> str:
        linked = self._files.linked(path)
        if self._settings.recordings_url:
            return elsewhere(
                self._settings.recordings_url,
                self._files.local(linked),
                str(self._settings.recordings_dir),
            )
        return self._recording_links.link(callid, linked)

    def _find_recording(self, signed: str, name: str) -> Found:
        path = self._recording_links.path(signed, name)
        if path is None:
            raise RecordingUnknown("There is no such recording.")
        return self._files.find(self._files.linked(path))

    def _delete_old_recordings(self) -> None:
        while True:
            gone = gevent.get_hub().threadpool.apply(self._files.delete_old, (time.time(),))
            log.info(
                "recordings_deleted",
                files=gone,
                older_than_days=self._settings.recordings_keep_days,
            )
            gevent.sleep(LOOK_FOR_OLD_EVERY)

    def _name_callers(self, token: str, spare: int) -> SocketApp:
        """Make what answers the dialplan.

        It has a session to Planfix of its own: notices need not wait for it.
        """
        settings = self._settings
        client = Client(settings.planfix_url, token, contacts.MOST_AT_ONCE)
        known = Contacts(
            _nothing if self._shadow else client.ask,
            settings.contact_deadline,
            self._tally.looked_up,
        )
        lookup = Lookup(settings.rules(), known)
        listen = _parts(settings.esl_listen)
        return SocketApp(
            listen,
            settings.esl_allow,
            lookup.variables,
            settings.contact_deadline,
            spare // headroom.SOCKET_SHARE,
        )

    def _commands(self) -> Commands:
        settings, rules = self._settings, self._settings.rules()
        plan = DialPlan(
            settings.dial_string,
            settings.dial_context,
            settings.user_domain,
            settings.outbound_caller_id,
            settings.auto_answer,
            settings.ringback or tones.ringback(settings.country),
        )
        allow = re.compile(settings.dial_allow, re.ASCII) if settings.dial_allow else None
        return Commands(
            Account(
                settings.planfix_url,
                settings.planfix_token.get_secret_value(),
                settings.pbx_token.get_secret_value(),
            ),
            rules,
            Limits(allow, settings.dial_limit_per_ext, settings.dial_limit),
            Dialler(self._connections, plan, rules.is_outside, self._clicked).start,
            self._click_refused,
        )

    def _board(self) -> tuple[Desk, str, str, bool]:
        """Return what the dashboard needs."""
        settings = self._settings
        desk = Desk(
            self._store, settings.rules(), self._linked, Links("", self._keys).link, self._shadow
        )
        https = (settings.public_url or "").startswith("https://")
        return desk, settings.admin_password.get_secret_value(), self._keys[-1], https

    def _connections(self) -> list[Connection]:
        return [link.connection for link in self._links if link.connection is not None]

    def _clicked(self, click: Click) -> None:
        """Keep what came of a click, for the numbers and for `explain`."""
        self._tally.clicks.labels(click.cause).inc()
        what = f"click to call: {click.outcome or 'the employee picked up'}"
        self._write_down(Entry(time.time(), what, click.callid, click.ext, click.number))

    def _click_refused(self, ext: str, number: str, reason: str) -> None:
        self._tally.clicks.labels("REFUSED").inc()
        log.warning("click_refused", ext=ext, reason=reason)
        if number:
            self._write_down(
                Entry(time.time(), f"click to call refused: {reason}", "", ext, number)
            )

    def _write_down(self, entry: Entry) -> None:
        try:
            Archive(self._store).write_down(entry)
        except StoreError as error:
            log.error("store_unavailable", problem=str(error))

    def _health(self) -> Health:
        return Health(
            {
                "freeswitch": lambda: all(self._linked().values()),
                "store": self._readiness.store_works,
                "pipeline": self._readiness.pipeline_gets_on,
                "courier": self._readiness.courier_gets_on,
            }
        )

    def _linked(self) -> dict[str, bool]:
        return {link.server.name: link.connection is not None for link in self._links}

    def _compare_rules(self) -> None:
        """Warn if workers that share a store follow different rules.

        They write the same notices only under the same rules.
        """
        ours = self._settings.model_dump(mode="json", include=set(RuleSettings.model_fields))
        before = self._store.replace_fact("rules", json.dumps(ours, sort_keys=True))
        theirs = json.loads(before) if before else ours
        differing = sorted(name.upper() for name in ours if ours[name] != theirs.get(name))
        if differing:
            log.warning(
                "rules_changed",
                settings=",".join(differing),
                hint="if another worker shares this store, "
                "give it the same settings and restart it",
            )

    def start(self) -> None:
        """Start every part."""
        if self._web is not None:
            self._web.start()
            log.info("web_listening", address=self.address)
        if "events" in self._roles:
            self._compare_rules()
        for pipeline in self._pipelines:
            self._workers.append(keep_running(f"pipeline {pipeline.server}", pipeline.run))
        if "courier" in self._roles:
            self._workers.append(keep_running("courier", self._courier.run))
            for name, work in (
                ("leases", self._courier.keep_leases),
                ("watch", self._courier.watch),
                ("housekeeping", self._courier.keep_house),
            ):
                self._helpers.append(keep_running(name, work))
            log.info("courier_ready", owner=self._courier.owner)
        if "web" in self._roles and self._settings.recordings_keep_days:
            self._helpers.append(keep_running("retention", self._delete_old_recordings))
        if self._socket_app is not None:
            self._helpers.append(keep_running("socket", self._socket_app.run))
        self._helpers.append(keep_running("readiness", self._readiness.prove))
        for link in self._links:
            self._helpers.append(keep_running(f"link {link.server.name}", link.run))
        for pipeline in self._pipelines:
            work = partial(self._compare, pipeline)
            self._helpers.append(keep_running(f"comparison {pipeline.server}", work))

    def run(self) -> int:
        """Start, work until `stop` is called, and end in order.

        Return the exit code: 1 if events or answers could not be stored.
        """
        self.start()
        # what was imported and built stays: to walk through it at every collection held windows up
        # for 40 ms
        gc.freeze()
        supervision = Supervision(self._readiness.gets_on)
        self._helpers.append(keep_running("supervision", supervision.run))
        supervision.ready()
        self._stopping.wait()
        log.info("stopping")
        supervision.ending()
        if self._socket_app is not None:
            self._socket_app.stop()
        linked = self._linked()
        for pipeline in self._pipelines:
            pipeline.stop(is_linked=linked.get(pipeline.server, False))
        self._courier.stop()
        gevent.joinall(self._workers, timeout=TIME_TO_FINISH)
        unwritten = self._courier.finish(TIME_TO_FINISH)
        _kill(self._helpers)
        is_whole = self._keep_the_rest() and not unwritten
        if self._web is not None:
            self._web.stop(timeout=1)
        self._client.close()
        self._store.close()
        return 0 if is_whole else 1

    def _keep_the_rest(self) -> bool:
        """Write events that are not stored to files; tell if there were none."""
        for pipeline in self._pipelines:
            pipeline.give_up()
        gevent.joinall(self._workers, timeout=TIME_TO_FINISH)
        _kill(self._workers)
        is_whole = True
        for pipeline in self._pipelines:
            try:
                file = pipeline.keep_the_rest()
            except RecordingFileError as error:
                is_whole = False
                log.error("events_lost", server=pipeline.server, problem=str(error))
                continue
            if file is not None:
                is_whole = False
                log.error(
                    "events_kept",
                    server=pipeline.server,
                    file=str(file),
                    hint="the store did not answer; the next start takes them up",
                )
        return is_whole

    def stop(self) -> None:
        """Ask for the end."""
        self._stopping.set()


def _kill(greenlets: Collection[gevent.Greenlet[..., Any]]) -> None:
    """End greenlets; one that waits for a frozen connection even then is left behind."""
    with gevent.Timeout(TIME_TO_DIE, False):  # type: ignore[arg-type] # raises nothing
        gevent.killall(greenlets)


def _pass_over(_: object) -> None:
    """Do nothing with events that another worker follows."""


def _nothing(_: object, __: float) -> dict[str, object]:
    """Answer for Planfix in shadow mode: it knows nobody."""
    return {}


def _manner(settings: Settings, shadow: bool) -> Manner:
    return Manner(
        settings.planfix_concurrency,
        settings.popup_ttl,
        settings.planfix_canceled,
        settings.keep_days,
        shadow,
    )
