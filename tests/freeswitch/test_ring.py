"""The dial string of a ring holds nothing but what was checked."""

import re

from hypothesis import given
from hypothesis import strategies as st

from fsplanfix.freeswitch.ring import MOST_RUNG, Phone, Shown, ring_string

GATEWAY = "sofia/gateway/trunk/{number}"
_LEG = re.compile(
    r"\[leg_timeout=20(,origination_caller_id_name=[^\[\]{}|,'\"\\$<>&;:=/\x00-\x1f]{1,60})?\]"
    r"(user/[A-Za-z0-9_.-]{1,32}(@[A-Za-z0-9_.:-]+)?|sofia/gateway/trunk/[0-9*#]{2,20})"
)


def written(steps: list[list[Phone]], name: str = "", number: str = "", domain: str = "") -> str:
    return ring_string(steps, 20, Shown(name, number), domain, GATEWAY)


def test_steps_follow_each_other_and_phones_of_a_step_ring_together() -> None:
    steps = [[Phone("103")], [Phone("79260000003", is_outside=True)], [Phone("101"), Phone("102")]]
    assert written(steps, "Ivan Petrov", "79161234567", "pbx.example.com") == (
        "{ignore_early_media=true}"
        "[leg_timeout=20,origination_caller_id_name=Ivan Petrov]user/103@pbx.example.com"
        "|[leg_timeout=20,origination_caller_id_name=79161234567]sofia/gateway/trunk/79260000003"
        "|[leg_timeout=20,origination_caller_id_name=Ivan Petrov]user/101@pbx.example.com"
        ",[leg_timeout=20,origination_caller_id_name=Ivan Petrov]user/102@pbx.example.com"
    )


def test_nobody_gives_nothing() -> None:
    assert written([]) == written([[]]) == written([[Phone("user/101")], []]) == ""


def test_a_long_ring_is_cut() -> None:
    ring = written([[Phone(str(n)) for n in range(100, 500)], [Phone("99")]])
    assert ring.count("user/") == MOST_RUNG
    assert not ring.endswith("|")


PHONES = st.builds(Phone, st.text(max_size=40) | st.from_regex(r"[0-9]{2,11}"), st.booleans())


@given(
    st.lists(st.lists(PHONES, max_size=3), max_size=3),
    st.text(max_size=80),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_no_name_number_or_domain_adds_anything(
    steps: list[list[Phone]], name: str, number: str, domain: str
) -> None:
    ring = written(steps, name, number, domain)
    if ring:
        legs = re.split(r"[,|](?=\[)", ring.removeprefix("{ignore_early_media=true}"))
        assert all(_LEG.fullmatch(leg) for leg in legs), ring
