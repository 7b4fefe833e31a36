"""What the kernel says of interfaces, as bytes: messages in datagrams, as netlink(7) has them."""

import errno
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from aoe import limits
from aoe.link import netlink

NEWLINK, ERROR, DONE, NOOP = 16, 2, 3, 1
MULTI, TORN = 0x2, 0x10
NAME = 3

Ask = Callable[..., list[str]]


def message(kind: int, body: bytes = b"", flags: int = MULTI) -> bytes:
    head = struct.pack("IHHII", 16 + len(body), kind, flags, 0, 0)
    return head + body + bytes(-len(body) % 4)


def interface(name: str, flags: int = MULTI) -> bytes:
    said = name.encode() + b"\0"
    attribute = struct.pack("HH", 4 + len(said), NAME) + said
    return message(NEWLINK, struct.pack("BxHiII", 0, 1, 7, 0, 0) + attribute, flags)


def done(number: int = 0, flags: int = MULTI) -> bytes:
    return message(DONE, struct.pack("i", number), flags)


@pytest.fixture
def kernel() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Ours, and the kernel's end. It has answered before it is asked."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, its:
        ours.settimeout(30)
        yield ours, its


@pytest.fixture
def ask(kernel: tuple[socket.socket, socket.socket]) -> Ask:
    """The names, where the kernel says these datagrams."""
    ours, its = kernel

    def asked(*datagrams: bytes) -> list[str]:
        for it in datagrams:
            its.send(it)
        return [netlink.text(told.said[NAME]) for told in netlink.every(ours)]

    return asked


@pytest.mark.parametrize(
    "datagrams",
    [
        [interface("a") + interface("bcd") + done()],
        [interface("a") + interface("bcd"), done()],
        [interface("a"), interface("bcd") + done()],
        [interface("a"), interface("bcd"), done()],
        [message(NOOP) + interface("a"), message(NOOP, b"12345"), interface("bcd") + message(NOOP) + done()],
        [interface("a") + interface("bcd") + message(DONE)],
        [interface("a"), interface("bcd") + done() + interface("behind the end")],
    ],
)
def test_the_end_may_be_anywhere_in_a_datagram(ask: Ask, datagrams: list[bytes]) -> None:
    assert ask(*datagrams) == ["a", "bcd"]


def test_nothing_is_left_for_the_next_question(ask: Ask) -> None:
    assert ask(interface("a") + done()) == ["a"]
    assert ask(interface("b"), done()) == ["b"]


@pytest.mark.parametrize("last", [done(-errno.EPERM), message(ERROR, struct.pack("i", -errno.EPERM))])
def test_an_error_is_one(ask: Ask, last: bytes) -> None:
    """As where a sandbox keeps it from asking; it is not waited for more."""
    with pytest.raises(PermissionError):
        ask(interface("a"), last)
    with pytest.raises(PermissionError):
        ask(interface("a") + last)


@pytest.mark.parametrize("torn", [[interface("a", MULTI | TORN), done()], [interface("a") + done(0, TORN)]])
def test_what_changed_meanwhile_is_asked_for_again(ask: Ask, torn: list[bytes]) -> None:
    """One may be missing."""
    assert ask(*torn, interface("a"), interface("b") + done()) == ["a", "b"]


def test_where_it_changes_all_the_time_what_was_seen_last_is_good_enough(ask: Ask) -> None:
    them = [interface(f"i{n}", MULTI | TORN) + done() for n in range(limits.NETLINK_TRIES)]
    assert ask(*them) == [f"i{limits.NETLINK_TRIES - 1}"]


def test_one_that_is_gone_is_none(kernel: tuple[socket.socket, socket.socket]) -> None:
    ours, its = kernel
    its.send(message(ERROR, struct.pack("i", -errno.ENODEV)))
    assert netlink.one(7, ours) is None
    its.send(message(NOOP) + interface("a"))
    told = netlink.one(7, ours)
    assert told is not None
    assert (told.number, told.kind, told.said) == (7, 1, {NAME: b"a\0"})
