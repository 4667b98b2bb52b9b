"""URLs of recordings, and the one that Planfix is given."""

from fsplanfix.recordings.urls import RecordingUrls
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from .deliveries import link_to_the_recording
from .service import Service

BASE = "https://pbx.example.com"
URLS = RecordingUrls(BASE, ["key"])
WHERE = "/var/lib/freeswitch/recordings"
LONG_AGO = 1_700_000_000


def parts(link: str) -> tuple[str, str]:
    signed, _, name = link.partition("/recordings/")[2].partition("/")
    return signed, name


def link_of(service: Service, planfix: Planfix, switch: Switch) -> str:
    switch.play("in_one_answered", speed=0)
    return link_to_the_recording(planfix)
