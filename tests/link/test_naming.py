"""Which interfaces are called by a word of the configuration file."""

import socket

import pytest

from aoe.link.interface import look_up
from aoe.link.naming import Known, all_known, called

HERE = [
    Known("lo", is_ethernet=False),
    Known("eth0", ("enp1s0", "storage-a"), bytes.fromhex("020000000001"), bytes.fromhex("020000000001")),
    Known("eth0.5", (), bytes.fromhex("020000000001")),
    Known("eth1", ("enp2s0",), bytes.fromhex("020000000099"), bytes.fromhex("020000000002")),
    Known("eth[1]", (), bytes.fromhex("020000000003")),
    Known("tun0", is_ethernet=False),
]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("eth1", ["eth1"]),
        ("storage-a", ["eth0"]),
        ("enp*", ["eth0", "eth1"]),
        ("eth?", ["eth0", "eth1"]),
        ("*", ["eth0", "eth0.5", "eth1", "eth[1]"]),
        ("eth[1]", ["eth[1]"]),
        ("eth[01]", ["eth0", "eth1"]),
        ("02:00:00:00:00:01", ["eth0"]),
        ("02:00:00:00:00:02", ["eth1"]),
        ("02:00:00:00:00:99", ["eth1"]),
        ("02:00:00:00:00:77", []),
        ("tun0", ["tun0"]),
        ("tun*", []),
        ("ETH1", []),
        ("eth", []),
    ],
)
def test_an_interface_is_found_by_what_it_is_called(text: str, names: list[str]) -> None:
    assert called(text, HERE) == names


def test_the_interfaces_of_this_host_are_those_that_the_system_lists() -> None:
    known = all_known()
    assert [it.name for it in known] == [name for _, name in socket.if_nameindex()]
    (loopback,) = [it for it in known if it.name == "lo"]
    assert not loopback.is_ethernet
    for it in known:
        seen = look_up(it.name)
        assert seen is not None
        if it.is_ethernet:
            assert it.mac == seen.mac
