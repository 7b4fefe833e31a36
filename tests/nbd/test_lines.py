"""What a supervisor writes to the kernel's log, which takes as one line what is written at once."""

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.labs.scripted_kernel import linked

PREFIX = b"<5>aoe-door: "
LINE = 800
"""Of one that is longer, each piece is a line."""
KERNEL_MAX = 1024 - 48
"""What it takes of older kernels; of more, nothing."""


class Log:
    """The kernel's, and what a door writes to, which is not the log."""

    def __init__(self, door: ctypes.CDLL) -> None:
        self._door = door
        self._log, self._logs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._read, self._write = os.pipe2(os.O_NONBLOCK)
        door.say_all_anew()
        door.say_to_kernel(self._logs.fileno())

    def comes(self, data: bytes) -> None:
        """From a door."""
        os.write(self._write, data)
        self._door.say_what_comes(self._read)

    def ends(self, data: bytes = b"") -> None:
        """That was its last."""
        os.write(self._write, data)
        self._door.say_last_of(self._read)

    def says(self, text: str) -> None:
        """The supervisor itself."""
        self._door.say(b"%s", text.encode())

    def lines(self) -> list[str]:
        """What was written since, each time a whole line."""
        found = []
        with suppress(BlockingIOError):
            while True:
                data = self._log.recv(1 << 16, socket.MSG_DONTWAIT)
                assert data.startswith(PREFIX)
                assert data.find(b"\n") == len(data) - 1
                assert len(data) <= KERNEL_MAX
                found.append(data[len(PREFIX) : -1].decode())
        return found

    def close(self) -> None:
        """The next one begins with nothing."""
        self._door.say_last_of(self._read)
        for fd in (self._read, self._write):
            os.close(fd)
        self._log.close()
        self._logs.close()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return linked(tmp_path_factory.mktemp("lines"))


@pytest.fixture
def log(door: ctypes.CDLL) -> Iterator[Log]:
    made = Log(door)
    yield made
    made.close()


def test_a_line_in_pieces_is_one(log: Log) -> None:
    for byte in b"@nbdkit: aoe[1]: error: a path is gone\nnext\n":
        log.comes(bytes([byte]))
    assert log.lines() == ["a path is gone", "next"]


def test_lines_that_come_at_once_are_as_many(log: Log) -> None:
    log.comes(b"one\n\ntwo\nthr")
    assert log.lines() == ["one", "two"]
    log.comes(b"ee\n")
    assert log.lines() == ["three"]


def test_what_the_supervisor_says_meanwhile_stands_alone(log: Log) -> None:
    log.comes(b"half of it")
    log.says("the disk has grown")
    log.comes(b", and the rest\n")
    assert log.lines() == ["the disk has grown", "half of it, and the rest"]


@pytest.mark.parametrize("length", [LINE - 1, LINE, LINE + 1, 2 * LINE, 5000])
@pytest.mark.parametrize("piece", [1000, 7])
def test_a_line_that_is_too_long_is_some(log: Log, length: int, piece: int) -> None:
    text = "".join(chr(ord("a") + at % 26) for at in range(length))
    for at in range(0, length, piece):
        log.comes(text[at : at + piece].encode())
    log.comes(b"\nnext\n")
    *pieces, last = log.lines()
    assert "".join(pieces) == text
    assert len(pieces) == -(-length // LINE)
    assert last == "next"


def test_a_line_of_the_supervisor_that_is_too_long(log: Log) -> None:
    log.says("x" * 5000)
    assert log.lines() == ["x" * LINE]


def test_what_a_dying_door_leaves_is_no_part_of_what_the_next_one_says(log: Log) -> None:
    log.comes(b"terminate called aft")
    log.ends(b"er")
    log.comes(b"the next one\n")
    assert log.lines() == ["terminate called after", "the next one"]
    log.ends()
    assert not log.lines()
