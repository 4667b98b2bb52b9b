"""Builds every part, starts and stops them: the only place that knows all of them."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import structlog
from gevent.event import Event
from prometheus_client import CollectorRegistry

from ..admin.desk import Desk
from ..calls import numbers
from ..calls.model import ACCOUNT
from ..errors import StoreError
from ..freeswitch.connection import Connection, Server
from ..freeswitch.link import Link, NoFollower
from ..freeswitch.socket_app import SocketApp
from ..history.folder import Folder
from ..outbox.claims import Claims
from ..outbox.cleanup import Cleanup
from ..outbox.signing_keys import made_key
from ..outbox.store import Store
from ..outbox.store_file import keep_flushing
from ..outbox.unlisted import keep_listing
from ..outbox.upkeep import Upkeep
from ..outbox.wakeups import keep_waking
from ..planfix.courier import MOST_AT_ONCE, Courier
from ..planfix.pairing import keep_looking
from ..recordings import convert
from ..recordings.convert import Converter
from ..settings import DOMAIN, Settings
from ..settings.accounts import Accounts
from ..web import app as web_app
from ..web import tls
from ..web.dashboard import DashboardConfig
from ..web.health import Health
from ..web.records import RecordsConfig
from ..web.server import Bounds, WebServer, listen
from . import file_limits, resolver
from .agreement import Agreement, keep_asking
from .alarms import start_alarms
from .companies import Companies
from .company import Company, Machine
from .comparison import keep_comparing
from .greenlets import keep_running
from .history import History
from .leftovers import Leftovers
from .metrics import AccountLabel, Standing, Tally, exposition
from .pipeline import Pipeline
from .reachable import Reachable
from .readiness import Readiness
from .received import Received
from .reload import Reload
from .spool import keep_unsaved_events
from .store_guard import keep_shadow_apart, warn_of_other_rules
from .systemd import Supervision
from .uploading import check_installed

log = structlog.get_logger(__name__)

TIME_TO_FINISH = 10.0
"""Seconds that requests under way are given at the end."""

TIME_TO_DIE = 1.0
"""Seconds that a greenlet which is ended may take to tidy up."""

ROLES = ("events", "courier", "web", "socket")
LINKED_ROLES = {"events", "web", "socket"}
"""Roles that need a link to FreeSWITCH."""


class App:
    """The service, or some of its roles.

    The roles: following FreeSWITCH, sending to Planfix, answering over HTTP, answering the
    dialplan's socket. shadow: do everything but send.

    Raises StoreError or PortTakenError if it cannot start.
    """

    def __init__(
        self, accounts: Accounts[Settings], roles: Collection[str] = ROLES, shadow: bool = False
    ) -> None:
        check_installed(accounts)
        numbers.load()
        spare = self._spare = file_limits.spare()
        self._accounts = accounts
        self._rules = accounts.rules()
        settings = self._settings = accounts.machine
        self._shadow = shadow
        self._roles = roles

        # the port first, before anything else is begun
        listener, address = None, settings.http_listen
        self.address, self._certificate = "", None
        if "web" in roles:
            self._certificate = tls.certificate(settings.http_cert, settings.http_key)
            listener = listen(*address, f"HTTP_LISTEN={address}")
            scheme = "https" if self._certificate else "http"
            self.address = "{}://{}:{}".format(scheme, *listener.getsockname()[:2])

        self._store = Store(settings.store_url)
        keep_shadow_apart(self._store, shadow)
        self._registry = CollectorRegistry()
        self._label = AccountLabel(accounts if accounts.file else ())
        self._tally = Tally(self._registry, self._label)
        self._passwords = _passwords(settings, accounts)
        self._desks: dict[str, Desk] = {}
        self._made_key = made_key(self._store, settings.secret_key.get_secret_value())
        self._pipelines: list[Pipeline] = []
        self._links: list[Link] = []
        machine = self._machine()
        made = {name: Company(name, own, machine) for name, own in accounts.items()}
        former = made.get(ACCOUNT) or Company(ACCOUNT, _before_accounts(settings), machine)
        self._keys = former.signing_keys
        self._companies = Companies(made, self._rules, former.recordings)
        self._courier = self._make_courier()
        for company in self._companies.values():
            company.pairing.then(self._courier.call)
        make = partial(Company, machine=machine)
        self._reload = Reload(
            accounts, self._rules, self._companies, self._courier, make, self._on_taken_over
        )
        self._received = self._make_received()
        self._history = self._make_history()
        if LINKED_ROLES & set(roles):
            self._links = [self._follow(server) for server in settings.freeswitch_esl]

        self._socket_app = self._make_socket_app(spare) if "socket" in roles else None
        self._leftovers = self._make_leftovers()
        courier = self._courier if "courier" in roles else None
        self._readiness = Readiness(self._store, self._pipelines, courier)
        self._web = self._web_server(listener, spare) if listener is not None else None

        self._workers: list[gevent.Greenlet[..., Any]] = []
        self._helpers: list[gevent.Greenlet[..., Any]] = []
        self._stopping = Event()

    def _machine(self) -> Machine:
        """Return what all companies share."""
        settings = self._settings
        return Machine(
            store=self._store,
            tally=self._tally,
            connections=self._connections,
            address=settings.public_url or self.address or f"http://{settings.http_listen}",
            public_url=settings.public_url or "",
            made_key=self._made_key,
            convert=self._make_convert(),
            on_uploaded=self._wake,
            reachable=Reachable(self._connections, self._pipelines, self._store),
            shadow=self._shadow,
            has_many=not self._rules.is_one,
            owner_of=self._rules.account_of_domain,
        )

    def _wake(self) -> None:
        self._courier.call()

    def _make_courier(self) -> Courier:
        """Return the part that sends to every Planfix."""
        now = self._store.now
        upkeep = Upkeep(self._store, now, now.has_jumped, now.has_settled)
        deliveries = {name: company.delivery for name, company in self._companies.items()}
        most = self._spare // file_limits.COURIER_SHARE
        return Courier(Claims(self._store, upkeep, now), deliveries, min(most, MOST_AT_ONCE))

    def _web_server(self, listener: socket.socket, spare: int) -> WebServer:
        """Return the web server. spare: how many files it may share with others."""
        standing = Standing(self._store, self._links, self._pipelines, self._label)
        self._registry.register(standing)
        web = web_app.make(
            self._companies.answer,
            self._health(),
            self._companies.open,
            exposition(self._registry),
            self._dashboard(),
            self._tally.on_wrong_secret,
            self._records(),
        )
        places = min(Bounds().in_all, spare // file_limits.HTTP_SHARE)
        return WebServer(listener, web, Bounds(in_all=places), self._certificate)

    def _follow(self, server: Server) -> Link:
        """Return the link to a FreeSWITCH: with its events, or only to dial through it."""
        if "events" not in self._roles:
            return Link(server, [], NoFollower())

        pipeline = Pipeline(
            server.name,
            self._rules,
            self._store,
            self._courier.call,
            self._tally.on_notice,
            self._settings.freeswitch_gone_after,
            self._history,
        )
        self._pipelines.append(pipeline)
        return Link(server, pipeline.tracker.event_names, pipeline.inbox)

    def _make_leftovers(self) -> Leftovers:
        """Return the part that ends the calls of FreeSWITCHes that no worker is linked to."""
        return Leftovers(
            self._store,
            self._rules,
            self._courier.call,
            self._tally.on_notice,
            self._settings.freeswitch_gone_after,
            [pipeline.server for pipeline in self._pipelines],
            records=self._history,
        )

    def _make_received(self) -> Received | None:
        """Return the keeper of the records that FreeSWITCH sends, None if it sends none."""
        if not self._settings.cdr_secret.get_secret_value():
            return None
        beside = self._store.beside
        return Received(beside.with_name(f"{beside.name}.records"))

    def _records(self) -> RecordsConfig | None:
        if self._received is None:
            return None
        secret = self._settings.cdr_secret.get_secret_value()
        return RecordsConfig(secret, self._settings.esl_allow, self._received.keep)

    def _make_history(self) -> History:
        """Return the part that tells the calls nobody heard, by FreeSWITCH's records."""
        settings = self._settings
        folders = [Folder(settings.cdr_dir, settings.cdr_kind)] if settings.cdr_dir else []
        if self._received is not None:
            folders.append(self._received.folder)
        return History(
            folders,
            self._rules,
            self._store,
            settings.history_rate,
            self._courier.call,
            self._tally.on_notice,
        )

    def _make_convert(self) -> Callable[[Path], bool] | None:
        """Return what begins to convert a recording, None if this worker converts none."""
        all_settings = self._accounts.values()
        if "courier" not in self._roles or not any(one.recordings_convert for one in all_settings):
            return None
        if convert.is_installed():
            return Converter(self._wake).submit

        hint = "recordings stay as they are: install ffmpeg (apt-get install ffmpeg)"
        log.error("ffmpeg_missing", hint=hint)
        return None

    def _make_socket_app(self, spare: int) -> SocketApp:
        """Return the part that answers the dialplan."""
        settings = self._settings
        return SocketApp(
            settings.esl_listen,
            settings.esl_allow,
            self._companies.find_variables,
            max(one.contact_deadline for one in self._accounts.values()),
            spare // file_limits.SOCKET_SHARE,
        )

    def _dashboard(self) -> DashboardConfig:
        settings = self._settings
        desk = Desk(
            self._store,
            self._rules,
            self._is_linked,
            self._companies.name_of,
            self._shadow,
            self._is_paired,
            wake=self._wake,
        )
        self._desk = desk
        return DashboardConfig(
            desk=desk,
            passwords=self._passwords,
            secret=self._keys[-1],
            public_url=settings.public_url or "",
            find_recording=self._companies.find_recording,
            desk_of=self._desk_of if self._accounts.file else None,
            media_from=self._companies.media_from,
        )

    def _desk_of(self, account: str) -> Desk:
        """Return the desk of one company."""
        if account not in self._desks:
            self._desks[account] = self._desk.of(account)
        return self._desks[account]

    def _is_paired(self, account: str) -> bool:
        """Tell whether it is known which Planfix an account belongs to, or "" all of them."""
        looked_at = [self._companies[account]] if account else self._companies.values()
        return all(company.pairing.partner is not None for company in looked_at)

    def _agreements(self) -> list[Agreement]:
        return [company.agreement for company in self._companies.values()]

    def _connections(self) -> list[Connection]:
        return [link.connection for link in self._links if link.connection is not None]

    def _health(self) -> Health:
        return Health(
            {
                "freeswitch": lambda: len(self._connections()) == len(self._links),
                "store": self._readiness.store_works,
                "pipeline": self._readiness.pipeline_gets_on,
                "courier": self._readiness.courier_gets_on,
            }
        )

    def _is_linked(self) -> dict[str, bool]:
        return {link.server.name: link.is_caught_up for link in self._links}

    def start(self) -> None:
        """Start every part."""
        resolver.install()
        if self._web is not None:
            self._web.start()
            log.info("web_listening", address=self.address)
        pairings = [company.pairing for company in self._companies.values()]
        looking = partial(keep_looking, self._store, pairings)
        self._helpers.append(keep_running("pairing", looking))
        if "events" in self._roles:
            warn_of_other_rules(self._store, self._accounts)

        for pipeline in self._pipelines:
            self._workers.append(keep_running(f"pipeline {pipeline.server}", pipeline.run))

        if "courier" in self._roles:
            self._start_courier()
        if "web" in self._roles:
            deleting = self._companies.keep_deleting_recordings
            self._helpers.append(keep_running("retention", deleting))
        if "web" in self._roles and self._received is not None:
            work = self._received.keep_deleting_old
            self._helpers.append(keep_running("old records", work))
        if self._socket_app is not None:
            self._helpers.append(keep_running("socket", self._socket_app.run))

        self._helpers.append(keep_running("readiness", self._readiness.prove))
        if "events" in self._roles:
            self._helpers.append(keep_running("leftovers", self._leftovers.run))
            self._helpers.append(keep_running("history", self._history.run))
            self._helpers += start_alarms(
                self._settings, self._store, self._is_linked, self._companies.partners
            )

        reloading = partial(self._reload.keep_looking, self._store)
        self._helpers.append(keep_running("reload", reloading))
        self._helpers.append(keep_running("flush", partial(keep_flushing, self._store.flush)))
        self._helpers.append(keep_running("store's file", self._readiness.look_over))
        self._helpers.append(keep_running("store's file, glance", self._readiness.glance))
        for link in self._links:
            work = link.run
            if self._pipelines:
                # whoever finds the same FreeSWITCH under another address goes on with its calls
                work = partial(self._leftovers.then, link.run)
            self._helpers.append(keep_running(f"link {link.server.name}", work))

        for pipeline in self._pipelines:
            link = next(link for link in self._links if link.server.name == pipeline.server)
            work = partial(keep_comparing, pipeline, link)
            self._helpers.append(keep_running(f"comparison {pipeline.server}", work))

    def _start_courier(self) -> None:
        """Start sending, and what belongs to it."""
        self._store.now.begin()
        self._workers.append(keep_running("courier", self._courier.run))
        cleanup = partial(Cleanup(self._store).keep_deleting_old, self._settings.keep_days)
        for name, work in (
            ("leases", self._courier.claims.leases.keep_renewing),
            ("wake-ups", partial(keep_waking, self._store, self._courier.call)),
            ("cleanup", cleanup),
            ("agreement", partial(keep_asking, self._store, self._agreements)),
            ("older calls", partial(keep_listing, self._store)),
        ):
            self._helpers.append(keep_running(name, work))

        log.info("courier_ready", owner=self._courier.claims.leases.owner)

    def run(self) -> int:
        """Start, work until `stop` is called, and end in order.

        Return the exit code: 1 if events or answers could not be stored.
        """
        self.start()
        # What was imported and built stays. Walking through it at every collection held windows up
        # for 40 ms (docs/performance.md).
        gc.freeze()
        supervision = Supervision(self._readiness.gets_on)
        self._helpers.append(keep_running("supervision", supervision.run))
        supervision.ready()
        self._stopping.wait()

        log.info("stopping")
        supervision.ending()
        # nothing new first, then what is under way, and last what the others need
        if self._socket_app is not None:
            self._socket_app.stop()

        linked = self._is_linked()
        for pipeline in self._pipelines:
            pipeline.inbox.stop(is_linked=linked.get(pipeline.server, False))

        self._courier.stop()
        gevent.joinall(self._workers, timeout=TIME_TO_FINISH)
        unwritten = self._courier.finish(TIME_TO_FINISH)
        _kill(self._helpers)

        # until here a pipeline has asked the store again and again
        for pipeline in self._pipelines:
            pipeline.give_up()
        gevent.joinall(self._workers, timeout=TIME_TO_FINISH)
        _kill(self._workers)
        is_whole = keep_unsaved_events(self._pipelines)
        unwritten += self._courier.claims.keep_the_rest()
        if self._web is not None:
            self._web.stop(timeout=1)
        for company in self._companies.values():
            company.close()
        self._store.close()
        return 0 if is_whole and not unwritten else 1

    def reload(self) -> None:
        """Read the file of accounts again."""
        self._reload.take_over()

    def _on_taken_over(self, accounts: Accounts[Settings], changed: list[Company]) -> None:
        former, self._accounts = self._accounts, accounts
        self._label.add(accounts)
        self._passwords.clear()
        self._passwords |= _passwords(self._settings, accounts)
        self._desks.clear()
        unpaired = [company.pairing for company in changed if company.pairing.partner is None]
        looking = partial(keep_looking, self._store, unpaired)
        self._helpers.append(keep_running("pairing", looking))
        if "events" in self._roles:
            with suppress(StoreError):
                warn_of_other_rules(self._store, accounts, former)

    def stop(self) -> None:
        """Ask for the end."""
        self._stopping.set()


def _before_accounts(settings: Settings) -> Settings:
    """Return the settings by which links of the time with one company are opened."""
    folder = str(settings.recordings_dir).partition(DOMAIN)[0]
    return settings.model_copy(update={"recordings_dir": Path(folder)})


def _passwords(machine: Settings, accounts: Accounts[Settings]) -> dict[str, str]:
    """Return the passwords of the dashboard by role."""
    found = _passwords_of(machine)
    if accounts.file:
        for name, own in accounts.items():
            found |= {f"{role} {name}": word for role, word in _passwords_of(own).items()}
    return found


def _passwords_of(settings: Settings) -> dict[str, str]:
    return {
        "admin": settings.admin_password.get_secret_value(),
        "viewer": settings.view_password.get_secret_value(),
    }


def _kill(greenlets: Collection[gevent.Greenlet[..., Any]]) -> None:
    """End greenlets; leave behind one that waits for a frozen connection even then."""
    with gevent.Timeout(TIME_TO_DIE, False):  # type: ignore[arg-type] # raises nothing
        gevent.killall(greenlets)
