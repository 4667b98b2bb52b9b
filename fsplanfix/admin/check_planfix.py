"""What `fsplanfix check` asks Planfix, and whether Planfix could reach us."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import TransportError
from ..planfix.agreement import Difference, differences, hint, our_address
from ..planfix.api import PlanfixApi
from ..planfix.keys import PbxKeys
from ..planfix.pairing import Partner
from ..recordings.library import TEST_RECORDING, silence
from ..recordings.urls import RecordingUrls
from ..settings import Settings
from .findings import Finding, Grade
from .probes import days_left, fetch

LONGEST_WAIT = 10.0
"""Seconds that Planfix, or our own address, may take to answer."""

OURS = b"This is the address for Planfix"
"""What stands in our answer to a browser that opens /planfix."""

NO_NUMBER = "70000000000"
"""A number that no client can have."""

SHORT_CERTIFICATE = 14
"""Days before its end at which a certificate is reported."""


def check_planfix(settings: Settings, partner: Partner | None) -> Iterator[Finding]:
    """Check that Planfix accepts our token and has our address (docs/facts/planfix.md).

    partner: the Planfix we belong to, None if `setup` has not told it yet.
    """
    if partner is None:
        what = "none has paired yet: calls are kept until `setup` comes from Planfix"
        ours = "your PUBLIC_URL with /planfix"
        if settings.public_url:
            ours = our_address(settings.public_url)
        fix = (
            f"enter {ours} and PBX_TOKEN in Planfix and save it there, "
            "or set PLANFIX_URL and PLANFIX_TOKEN"
        )
        yield Finding("planfix.unpaired", Grade.WARNING, "Planfix", what, fix)
        return
    if not settings.planfix_url:
        yield Finding("planfix.paired", Grade.OK, "Planfix", f"paired by `setup`: {partner.url}")

    yield from _check_certificate("PLANFIX_URL", partner.url, "is this Planfix?")
    found, known = ping(partner.url, partner.token)
    yield found
    if known is not None:
        yield from _check_agreement(settings, known)


def ping(url: str, token: str) -> tuple[Finding, dict[str, object] | None]:
    """Ask Planfix for a sign of life; also return what it knows of us, None if it does not say."""
    client = PlanfixApi(url, token, 1)
    try:
        known = client.ask({"cmd": "ping"}, LONGEST_WAIT)
    except TransportError as error:
        return _ask_without_ping(client, error), None
    finally:
        client.close()
    return Finding("planfix.sound", Grade.OK, "Planfix", "reachable, token accepted"), known


def _ask_without_ping(client: PlanfixApi, error: TransportError) -> Finding:
    """Ask for a contact instead: Planfix of before 2025 does not know `ping`."""
    if error.permanent:
        try:
            client.ask({"cmd": "contact", "phone": NO_NUMBER}, LONGEST_WAIT)
        except TransportError as second:
            error = second
        else:
            what = "reachable, token accepted (it does not know `ping`)"
            return Finding("planfix.sound", Grade.OK, "Planfix", what)

    if error.unauthorized:
        fix = "put the token that Planfix shows into PLANFIX_TOKEN"
        return Finding("planfix.token", Grade.BROKEN, "Planfix", str(error), fix)
    fix = "is PLANFIX_URL right?"
    # the text of a web page ends with it
    what = str(error).removesuffix(f": {fix}")
    return Finding("planfix.unreachable", Grade.BROKEN, "Planfix", what, fix)


def _check_agreement(settings: Settings, known: dict[str, object]) -> Iterator[Finding]:
    """Compare the key and the address that Planfix uses with ours."""
    # without it Planfix's address of us cannot be judged, and that it is missing is said once
    ours = settings.public_url or ""
    for difference, what in differences(known, PbxKeys(*settings.pbx_keys()), ours).items():
        code, grade = _DIFFERENCES[difference]
        yield Finding(code, grade, "Planfix", what, hint(difference, ours))


_DIFFERENCES = {
    Difference.KEY: ("planfix.pbx-key", Grade.BROKEN),
    Difference.FORMER_KEY: ("planfix.former-key", Grade.WARNING),
    Difference.ADDRESS: ("planfix.pbx-url", Grade.WARNING),
}


def check_public_url(settings: Settings, keys: list[str]) -> Iterator[Finding]:
    """Ask our own address as Planfix would: for clicks, and for a recording."""
    base, part = settings.public_url, "PUBLIC_URL"
    if not base:
        return
    yield from _check_certificate(part, base, "renew it")

    front = "the web server in front must forward {} to " + str(settings.http_listen)
    try:
        code, content = fetch(f"{base.rstrip('/')}/planfix", LONGEST_WAIT)
    except TransportError as error:
        hint = (
            "is it the address that the Internet sees? "
            f"The web server in front must forward to {settings.http_listen}"
        )
        yield Finding("public-url.unreachable", Grade.BROKEN, part, f"{error}", hint)
        return
    if code != 200 or OURS not in content:
        hint = f"{front.format('/planfix')}, where `fsplanfix run` listens"
        if base.rstrip("/").endswith("/planfix"):
            hint = "leave /planfix out of PUBLIC_URL: fsplanfix adds it"
        what = f"/planfix answers {code}, and not from fsplanfix: clicks cannot arrive"
        yield Finding("public-url.clicks", Grade.BROKEN, part, what, hint)
        return
    yield Finding("public-url.clicks", Grade.OK, part, "/planfix was reached")

    if not keys or settings.recordings_url:
        return
    try:
        url = RecordingUrls(base, keys).url("check", TEST_RECORDING)
        code, content = fetch(url, LONGEST_WAIT)
    except TransportError as error:
        yield Finding(
            "public-url.recordings", Grade.BROKEN, part, f"{error}", front.format("/recordings/")
        )
        return
    if code == 200 and content == silence():
        yield Finding("public-url.recordings", Grade.OK, part, "a test recording was fetched")
    else:
        hint = f"{front.format('/recordings/')}, where `fsplanfix run` listens"
        what = f"/recordings/ answers {code}: recordings cannot be played"
        yield Finding("public-url.recordings", Grade.BROKEN, part, what, hint)


def _check_certificate(name: str, url: str, fix: str) -> Iterator[Finding]:
    """Check how long a certificate lasts. One that is not trusted fails every request anyway."""
    days = days_left(url, LONGEST_WAIT)
    if days is None:
        return
    what = f"its certificate is valid for {days:.0f} more days"
    if days < SHORT_CERTIFICATE:
        yield Finding("certificate.ends", Grade.WARNING, name, what, fix)
    else:
        yield Finding("certificate.sound", Grade.OK, name, what)
