"""Whose an address is."""

import pytest

from fsplanfix.web.rate_limit import is_loopback, network


@pytest.mark.parametrize(
    ("address", "whose"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("", ""),
    ],
)
def test_an_address_of_ipv6_stands_for_its_network(address: str, whose: str) -> None:
    assert network(address) == whose
    assert network(whose.partition("/")[0]) == whose


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_this_machine_is_known(address: str) -> None:
    assert is_loopback(address)
    assert is_loopback(network(address))


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::1", "fe80::1%eth0", "2001:db8::/64"])
def test_others_are_not_this_machine(address: str) -> None:
    assert not is_loopback(address)
