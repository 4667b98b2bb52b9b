"""One call detail record: what FreeSWITCH wrote of a leg when it had ended.

mod_json_cdr and mod_xml_cdr write the same fields (docs/facts/freeswitch.md, "Call detail
records"). A record may come from anybody who can write into the folder, so nothing in it is
trusted: it gives strings and times, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote
from xml.sax import SAXException
from xml.sax.handler import ContentHandler

from defusedxml import DefusedXmlException
from defusedxml.sax import parseString

from ..errors import RecordError
from ..freeswitch.events import LONGEST_VALUE, is_uuid, moment
from ..freeswitch.headers import OURS

LARGEST = 4 * 1024 * 1024
"""Bytes of a record. A real one has 6 to 25 kB."""

KEPT = frozenset(
    (
        *("uuid", "direction", "channel_name", "start_stamp", "hangup_cause", "loopback_leg"),
        *("originating_leg_uuid", "ent_originate_aleg_uuid", "cc_member_session_uuid"),
        *("fifo_bridge_uuid", "other_loopback_leg_uuid", "att_xfer_kill_uuid"),
        *("user_name", "sip_auth_username", "number_alias", "presence_id", "dialed_user"),
        *("sip_gateway_name", "sip_req_uri", "sip_to_user", "pre_transfer_caller_id_number"),
        *("last_bridge_to", "bridge_uuid", "originated_legs", "originate_disposition"),
        *("sip_term_status", "proto_specific_hangup_cause", "conference_name"),
        *("recording_follow_transfer", "record_completion_cause", "record_ms", "record_path"),
        *("record_name", "cc_record_filename", "RECORD_ANSWER_REQ", "RECORD_BRIDGE_REQ"),
        *("domain_name", "dialed_domain", "cc_queue", "digits_dialed"),
    )
)
"""The channel variables of a leg that anything reads, of about 200; besides those of OUR_PREFIX."""

OUR_PREFIX = OURS.removeprefix("variable_")

MOST_OF_OURS = 500
APPLICATIONS = frozenset(("record_session", "stop_record_session", "conference"))
"""The dialplan applications that anything reads."""

CALLER = frozenset(("caller_id_number", "destination_number", "context", "chan_name"))
"""The fields of a caller profile that anything reads."""

MOST_PROFILES = 200
MOST_APPLICATIONS = 5_000
"""Of one leg."""

ARRAY, BETWEEN = "ARRAY::", "|:"
"""What a variable with several values begins with, and what stands between them."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What the leg was between two transfers, as FreeSWITCH's dialplan saw it.

    caller: the fields of its caller profile. others: the legs it was called for or bridged with.
    times: microseconds since 1970 by name (`bridged`, `hangup` …); what did not happen is missing.
    """

    caller: Mapping[str, str]
    others: frozenset[str]
    times: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Application:
    """A dialplan application that the leg ran. stamp: microseconds since 1970."""

    name: str
    data: str
    stamp: int


@dataclass(frozen=True, slots=True)
class Record:
    """What a leg did.

    core: the Core-UUID of its FreeSWITCH. variables: its channel variables at its end. profiles:
    the oldest first, at least one.
    """

    uuid: str
    core: str
    variables: Mapping[str, str]
    profiles: tuple[Profile, ...]
    applications: tuple[Application, ...] = field(default=())

    def variable(self, name: str) -> str:
        """Return a channel variable, "" if it was not set."""
        return self.variables.get(name, "")

    def first(self, what: str) -> int:
        """Return when something happened first (microseconds since 1970), 0 if it did not."""
        return min((p.times[what] for p in self.profiles if what in p.times), default=0)

    @property
    def created(self) -> int:
        """Return when the leg was created, microseconds since 1970."""
        return self.first("created")

    @property
    def ended(self) -> int:
        """Return when it hung up, microseconds since 1970."""
        return max((p.times["hangup"] for p in self.profiles if "hangup" in p.times), default=0)


def read_record(raw: bytes) -> Record:
    """Read a record of either kind. Raises RecordError, which says what is wrong with it."""
    if len(raw) > LARGEST:
        raise RecordError("it is too large")
    if b"\0" in raw:
        raise RecordError("it has NULs")

    is_xml = raw.lstrip()[:1] == b"<"
    found = _from_xml(raw) if is_xml else _from_json(raw)
    return _checked(found)


def _is_kept(name: str) -> bool:
    return name in KEPT or name.startswith(OUR_PREFIX)


@dataclass(slots=True)
class _Found:
    """The fields of a record as they stand in it."""

    core: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    applications: list[tuple[str, str, str]] = field(default_factory=list)
    flow: list[_Flow] = field(default_factory=list)


@dataclass(slots=True)
class _Flow:
    caller: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    times: dict[str, str] = field(default_factory=dict)
    index: str = ""


def _checked(found: _Found) -> Record:
    variables = _decoded(found.variables)
    ours = [name for name in variables if name.startswith(OUR_PREFIX)][:MOST_OF_OURS]
    variables = {name: variables[name] for name in (*KEPT & variables.keys(), *ours)}
    uuid = variables.get("uuid", "")
    if not is_uuid(uuid):
        raise RecordError("it names no leg (`uuid`)")

    flow = sorted(found.flow, key=lambda one: moment(one.index))
    profiles = tuple(_profile(one) for one in flow[:MOST_PROFILES])
    applications = (
        Application(name, data[:LONGEST_VALUE], moment(stamp))
        for name, data, stamp in found.applications[:MOST_APPLICATIONS]
        if name in APPLICATIONS
    )
    record = Record(uuid, found.core, variables, profiles, tuple(applications))
    if not record.created or record.ended < record.created:
        raise RecordError("it does not say when its leg began and ended")
    return record


def _profile(flow: _Flow) -> Profile:
    times = {}
    for name, text in flow.times.items():
        if stamp := moment(text):
            times[name.removesuffix("_time")] = stamp
    return Profile(flow.caller, frozenset(filter(is_uuid, flow.others)), times)


def _decoded(variables: dict[str, str]) -> dict[str, str]:
    """Undo `encode-values`, which is on unless the administrator turned it off.

    `start_stamp`, a date and a time, holds a blank, which an encoded value never does.
    """
    if " " in variables.get("start_stamp", ""):
        return variables
    return {name: unquote(value, errors="replace").strip() for name, value in variables.items()}


# mod_json_cdr


def _from_json(raw: bytes) -> _Found:
    try:
        whole = json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):  # RecursionError: nested too deeply
        raise RecordError("it is not whole JSON") from None

    found = _Found()
    whole = _dict(whole)
    found.core = _text(whole.get("core-uuid"))
    variables = _dict(whole.get("variables"))
    found.variables = {name: _text(value) for name, value in variables.items() if _is_kept(name)}

    ran = _list(_dict(whole.get("app_log")).get("applications"))
    for one in map(_dict, ran):
        names = ("app_name", "app_data", "app_stamp")
        name, data, stamp = (_text(one.get(name)) for name in names)
        found.applications.append((name, data, stamp))

    for one in map(_dict, _list(whole.get("callflow"))):
        found.flow.append(_flow_of_json(one))
    return found


def _flow_of_json(one: dict[str, Any]) -> _Flow:
    profile = _dict(one.get("caller_profile"))
    flow = _Flow(index=_text(one.get("profile_index")))
    flow.caller = {name: _text(profile[name]) for name in CALLER & profile.keys()}
    flow.times = {name: _text(stamp) for name, stamp in _dict(one.get("times")).items()}
    for kind in ("originator", "originatee"):
        others = _list(_dict(profile.get(kind)).get(f"{kind}_caller_profiles"))
        flow.others += [_text(other.get("uuid")) for other in map(_dict, others)]
    return flow


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    if isinstance(value, (dict, list)) or value is None:
        return ""
    return str(value)[:LONGEST_VALUE]


# mod_xml_cdr


class _Reader(ContentHandler):
    """Collects the fields of a record.

    It knows no namespaces: the variable `nolocal:lab` becomes an element of that name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found = _Found()
        self._way: list[str] = []
        self._text: list[str] = []

    def startElement(self, name: str, attrs: Any) -> None:  # noqa: N802 - SAX's name
        self._way.append(name)
        self._text = []
        match self._way:
            case ["cdr"]:
                self.found.core = attrs.get("core-uuid", "")
            case ["cdr", "callflow"]:
                self.found.flow.append(_Flow(index=attrs.get("profile_index", "")))
            case ["cdr", "app_log", "application"]:
                names = ("app_name", "app_data", "app_stamp")
                name, data, stamp = (attrs.get(name, "") for name in names)
                self.found.applications.append((name, data, stamp))
            case _ if len(self._way) > 12:
                raise RecordError("it is nested too deeply")

    def characters(self, content: str) -> None:
        self._text.append(content)

    def endElement(self, name: str) -> None:  # noqa: N802 - SAX's name
        text = "".join(self._text)[:LONGEST_VALUE]
        self._text = []
        flow = self.found.flow[-1] if self.found.flow else _Flow()
        match self._way:
            case ["cdr", "variables", _] if _is_kept(name):
                # an array is written as one element for each of its values
                known = self.found.variables.get(name)
                if known is None:
                    self.found.variables[name] = text
                elif len(known) < LONGEST_VALUE:
                    begun = known if known.startswith(ARRAY) else ARRAY + known
                    self.found.variables[name] = f"{begun}{BETWEEN}{text}"
            case ["cdr", "callflow", "times", _]:
                flow.times[name] = text
            case ["cdr", "callflow", "caller_profile", _] if name in CALLER:
                flow.caller[name] = text
            case ["cdr", "callflow", "caller_profile", "originator" | "originatee", _, "uuid"]:
                flow.others.append(text)
        self._way.pop()


def _from_xml(raw: bytes) -> _Found:
    reader = _Reader()
    try:
        # entities and everything external are refused, a DTD as well
        parseString(raw, reader, forbid_dtd=True)
    except (DefusedXmlException, SAXException, ValueError, LookupError):
        raise RecordError("it is not whole XML") from None
    return reader.found


def uuids_of(variable: str) -> Iterator[str]:
    """Yield the legs that a variable such as `originated_legs` lists."""
    for one in variable.removeprefix(ARRAY).split(BETWEEN):
        uuid = one.partition(";")[0]
        if is_uuid(uuid):
            yield uuid
