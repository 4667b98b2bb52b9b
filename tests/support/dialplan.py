"""The dialplan files as an administrator copies them, with the service they ask."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fsplanfix.freeswitch.originate import Callee, DialPlan, originate_command
from fsplanfix.simulators.dialplan import Dialplan
from fsplanfix.simulators.freeswitch import Switch, variables
from fsplanfix.simulators.planfix import Planfix

from .service import Service, running

FOLDER = Path(__file__).parent.parent.parent / "freeswitch-dialplan"
FILES = sorted(FOLDER.rglob("*.xml"))
DOMAIN = "pbx.example.com"
CLIENT, LINE = "79161234567", "74950000001"
FUSION = {"call_direction": "inbound", "domain_name": DOMAIN}
RESCUE = "+3 "
"""When FreeSWITCH takes a call on that nobody lets go, in the files: seconds."""

NEVER = "+3600 "


def name(path: Path) -> str:
    return str(path.relative_to(FOLDER))


def dialplan(
    service: Service | None,
    folder: Path,
    fusion: bool = False,
    group: str = "101,102,103",
    rescue: str = NEVER,
    more: Iterable[tuple[Path, str]] = (),
) -> Dialplan:
    """The files as an administrator copies them: with the address of the service, and what he changes."""
    address = service.socket_app if service else "127.0.0.1:9"
    chosen: list[tuple[Path, str | None]] = [*more]
    for path in FILES:
        if (path.parent.name == "fusionpbx") == fusion:
            text = path.read_text(encoding="utf-8").replace("127.0.0.1:8084", address)
            text = text.replace("planfix_group=101,102,103", f"planfix_group={group}")
            text = text.replace(RESCUE, rescue)
            copy = folder / name(path).replace("/", "_")
            copy.write_text(text, encoding="utf-8")
            context = {"public": "public", "default": "default", "fusionpbx": DOMAIN}.get(
                path.parent.name
            )
            chosen.append((copy, context))
    return Dialplan(chosen, {"domain": DOMAIN, "recordings_dir": str(folder)})


@contextmanager
def house(
    switch: Switch, planfix: Planfix, folder: Path, **settings: str
) -> Iterator[tuple[Service, Dialplan]]:
    switch.speed = 50
    own = {"CONTACT_DEADLINE": "5", "RECORDINGS_DIR": str(folder), **settings}
    with running(switch, planfix, folder, **own) as service:
        yield service, dialplan(service, folder)


def click(context: str, caller_id: str = "", recordings: str = "") -> dict[str, str]:
    """The variables with which a click sends the employee's leg into a context."""
    plan = DialPlan("", context, recordings=recordings)
    callee = Callee(CLIENT, caller_id=caller_id)
    command = originate_command("101", "101", callee, plan, "u-1")
    return variables(command[command.index("{") : command.index("}")])


def told(planfix: Planfix, callid: str) -> list[str]:
    said = []
    for fields in planfix.accepted:
        if fields["callid"] != callid:
            continue
        what = (fields.get("event", fields["cmd"]), fields.get("ext"), fields.get("status"))
        said.append(" ".join(word for word in what if word))
        if "record_link" in fields and "event" in fields:
            said.append("record")
    return said
