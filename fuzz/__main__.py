"""Sends hostile input to everything that listens, on both databases; exits 1 if the service errs.

No answer of 500 and above, no hang, no leak, no traceback or secret in the log, and nothing but a
checked ext and digits ever in a command to FreeSWITCH; no sign that steers in the log or on a
terminal.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import re  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections import deque  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402

import click  # noqa: E402
import gevent  # noqa: E402
from gevent import socket  # noqa: E402

from fsplanfix.service import logs  # noqa: E402
from fsplanfix.simulators.planfix import Planfix  # noqa: E402
from tests.support import postgres  # noqa: E402

from .answers import Answers  # noqa: E402
from .inputs import Inputs  # noqa: E402
from .pairing import read_settings, set_up, speak_tls  # noqa: E402
from .target import CDR_SECRET, TOKEN, Target, running  # noqa: E402

AT_ONCE = 64
HANG = 5.0
"""Seconds without an answer."""

UNJUDGED = 60.0
"""The same where no figures are judged: nothing is waited for without end."""

WARM = 0.3
"""Part of the inputs after which memory is first looked at: caches fill at the beginning."""

MOST_GROWTH = 20_000
"""kB of memory the rest may add; a leak of 1 kB a request would add four times as much."""

LONGEST_PAUSE = 20.0
"""Seconds; after failures the link waits up to 15 s before it asks again."""

CONNECTIONS = 110
"""Files and sockets the rest may add: connections to Planfix are kept, a hundred at the most."""

NAME = r"[^\x00-\x1f\"'`\\,;|^:=$&{}\[\]<>%/\x7f-\x9f]{1,60}"
LEG = (
    rf"\[leg_timeout=20(?:,origination_caller_id_name={NAME})?\]"
    r"user/[0-9]{2,5}(?:@[A-Za-z0-9_.:-]{1,255})?"
)
SAID = re.compile(
    r"connect|resume|exit|"
    r"sendmsg\ncall-command: execute\nexecute-app-name: export\nexecute-app-arg: "
    r"planfix_known=true|"
    r"sendmsg\ncall-command: execute\nexecute-app-name: set\nexecute-app-arg: "
    rf"(?:planfix_manager=[0-9]{{2,5}}|(?:effective_caller_id_name|planfix_contact_name)={NAME}"
    rf"|planfix_ring=\{{ignore_early_media=true\}}{LEG}(?:[,|]{LEG}){{0,39}})"
)
"""Everything FreeSWITCH may hear on a channel."""


class Contacts(dict[str, dict[str, object]]):
    """Whoever is asked about, Planfix says something hostile."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self._inputs = inputs

    def get(self, key: str, default: object = None) -> object:  # type: ignore[override]
        """Return a hostile contact."""
        return self._inputs.answer()


class Verdicts(deque[int | str]):
    """Whatever is told to Planfix, it may answer with something hostile."""

    def __init__(self, planfix: Planfix, inputs: Inputs) -> None:
        super().__init__()
        self.given = 0
        self._planfix = planfix
        self._inputs = inputs

    def __bool__(self) -> bool:
        return True

    def popleft(self) -> int:
        """Return the code of the next answer, and have its words said."""
        code, self._planfix.refusal = self._inputs.verdict()
        self.given += code != 200
        return code


def ask_http(target: Target, make: Callable[[], bytes], count: int) -> None:
    """Send requests over kept-alive connections."""
    left, hang = count, target.hang
    while left > 0:
        with socket.create_connection(target.http, timeout=hang) as sock:
            reader = sock.makefile("rb")
            while left > 0:
                left -= 1
                request = make()
                try:
                    sock.sendall(request)
                    code, keep = read_answer(reader, request.startswith(b"HEAD"))
                except TimeoutError:
                    target.problem(f"no answer within {hang:g} s to {request[:200]!r}")
                    break
                except (OSError, ValueError) as error:
                    target.problem(f"{error!r} after {request[:200]!r}")
                    break
                if code >= 500:
                    target.problem(f"{code} to {request!r}")
                if not keep:
                    break


def read_answer(reader: object, is_head: bool) -> tuple[int, bool]:
    """Return an answer's code and if the connection stays. Raises ValueError if it is none."""
    line = reader.readline()  # type: ignore[attr-defined]
    found = re.fullmatch(rb"HTTP/1\.[01] (\d{3}) .*\r\n", line)
    if found is None:
        raise ValueError(f"no answer: {line[:80]!r}")
    headers = {}
    while (line := reader.readline().strip()) != b"":  # type: ignore[attr-defined]
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    length = int(headers.get(b"content-length", b"0"))
    if not is_head and len(reader.read(length)) != length:  # type: ignore[attr-defined]
        raise ValueError("the answer was cut")
    return int(found[1]), headers.get(b"connection", b"").lower() != b"close"


def talk(target: Target, inputs: Inputs, count: int) -> None:
    """Hold conversations with the socket application's server."""
    for _ in range(count):
        begun = time.monotonic()
        try:
            with socket.create_connection(target.socket_app, timeout=target.hang) as sock:
                said = _converse(sock, inputs)
        except TimeoutError:
            target.problem("the socket application's server held a call for too long")
            continue
        except OSError:
            continue  # it closed while we wrote
        if time.monotonic() - begun > target.hang / 2:
            target.problem(f"a call was held for {time.monotonic() - begun:.1f} s")
        for command in said.decode("utf-8", "replace").split("\n\n"):
            if command and not SAID.fullmatch(command):
                target.problem(f"FreeSWITCH heard on its channel: {command!r}")


def _converse(sock: socket.socket, inputs: Inputs) -> bytes:
    said = b""
    data = inputs.channel()
    while received := sock.recv(65536):
        said += received
        if inputs.leaves():
            break
        for _ in range(received.count(b"\n\n")):
            sock.sendall(data)
            data = inputs.reply()
    return said


def emit(target: Target, inputs: Inputs, count: int) -> None:
    """Send the events of hostile calls; one call more may end what is left of them."""
    left = count
    while left > 0:
        for body in inputs.events(target.switch.core)[:left]:
            target.switch.emit(body)
            left -= 1
            gevent.sleep(0)


def relink(target: Target, count: int) -> None:
    """Cut the link again and again: FreeSWITCH is asked for all it knows each time."""
    switch, before = target.switch, target.switch.asked
    while switch.asked - before < count:
        told = switch.accounts
        switch.drop()
        try:
            with gevent.Timeout(target.hang + LONGEST_PAUSE):
                while switch.accounts == told:
                    gevent.sleep(0.01)
        except gevent.Timeout:
            target.problem("FreeSWITCH is not asked for its channels any more")
            return
        target.ask_check()
    target.wait_for_link()


def spread(work: Callable[[int], None], count: int) -> None:
    """Let many share the work."""
    jobs = [gevent.spawn(work, count // AT_ONCE + (n < count % AT_ONCE)) for n in range(AT_ONCE)]
    gevent.joinall(jobs, raise_error=True)


def judge(target: Target, before: tuple[int, int], after: tuple[int, int]) -> None:
    """Note what has grown: memory in kB, and open files."""
    if after[0] - before[0] > MOST_GROWTH:
        target.problem(f"memory grew from {before[0]} to {after[0]} kB")
    if after[1] > before[1] + CONNECTIONS:
        target.problem(f"open files grew from {before[1]} to {after[1]}")


@contextmanager
def databases() -> Iterator[dict[str, str]]:
    """Give the address of an empty SQLite file and of an empty, real PostgreSQL."""
    with (
        tempfile.TemporaryDirectory(prefix="fsplanfix-fuzz-") as name,
        postgres.server(Path(name)) as address,
    ):
        yield {"SQLite": f"sqlite:///{name}/store.db", "PostgreSQL": address}


def attack(store_url: str, count: int, seed: int, figures: bool) -> int:
    """Fuzz a running service over one database; print what came of it, return the problems."""
    begun = time.monotonic()
    with running(store_url) as target:
        target.hang = HANG if figures else UNJUDGED
        inputs = Inputs(seed, TOKEN, target.link, CDR_SECRET)
        target.planfix.contacts = Contacts(inputs)  # type: ignore[assignment]
        verdicts = target.planfix.answers = Verdicts(target.planfix, inputs)
        target.switch.answers = Answers(seed, inputs)
        share = {
            "commands over HTTP": (
                count * 49 // 100,
                lambda n: ask_http(target, inputs.request, n),
            ),
            "links to recordings": (
                count * 29 // 100,
                lambda n: ask_http(target, inputs.listen, n),
            ),
            "call detail records": (count // 100, lambda n: ask_http(target, inputs.record, n)),
            "socket conversations": (count * 15 // 100, lambda n: talk(target, inputs, n)),
            "events": (count * 5 // 100, lambda n: emit(target, inputs, n)),
        }
        for amount, work in share.values():
            spread(work, int(amount * WARM))
        answers = count // 100
        relink(target, int(answers * WARM))
        before = target.memory(), target.descriptors()
        for name, (amount, work) in share.items():
            spread(work, amount - int(amount * WARM))
            print(f"{name:<22}{amount:>8}   {time.monotonic() - begun:>6.0f} s", flush=True)
        relink(target, answers - int(answers * WARM))
        inside = count // 400
        logs.set_up("CRITICAL")
        for attempt in (read_settings, set_up, speak_tls):
            attempt(inputs, inside, target.problem)
        print(f"{'settings, setups, TLS':<22}{inside:>8}   {time.monotonic() - begun:>6.0f} s")
        asked = target.switch.asked
        print(f"{'answers of FreeSWITCH':<22}{asked:>8}   {time.monotonic() - begun:>6.0f} s")
        print(f"{'answers of Planfix':<22}{verdicts.given:>8}", flush=True)
        target.check_records()
        target.check_honest_call()
        target.check_commands()
        target.check_log()
        target.check_shown()
        gevent.sleep(1.5)
        after = target.memory(), target.descriptors()
        if figures:
            judge(target, before, after)
        print(f"memory {before[0]} -> {after[0]} kB, open files {before[1]} -> {after[1]}")
        print(
            f"calls placed {len(target.switch.originated)}, "
            f"{sum('send_dtmf' in one for one in target.switch.originated)} with an extension, "
            f"Planfix asked {target.planfix.asked} times"
        )
        print("".join(f"{problem}\n" for problem in target.problems), flush=True)
        return target.count


@click.command()
@click.option(
    "--inputs", "count", default=200_000, show_default=True, help="How many inputs in all."
)
@click.option("--seed", default=1, show_default=True)
@click.option(
    "--figures/--no-figures",
    default=True,
    help="Whether seconds, memory and open files are judged, or only what is said.",
)
@click.option("--database", type=click.Choice(["SQLite", "PostgreSQL"]), help="One of them only.")
def main(count: int, seed: int, figures: bool, database: str | None) -> None:
    """Fuzz a running service: commands, recordings, dialplan's socket, events, Planfix."""
    problems = 0
    with databases() as urls:
        chosen = {name: url for name, url in urls.items() if database in (None, name)}
        for name, url in chosen.items():
            print(name, flush=True)
            problems += attack(url, count // len(chosen), seed, figures)
    print(f"{problems} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
