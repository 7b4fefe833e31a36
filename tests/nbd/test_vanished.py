"""What the plugin puts before send() and read() (csrc/nbd/vanished.c), called without nbdkit."""

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from csrc.flags import COMPILER, FLAGS
from tests.support.tools import need
from tests.support.waiting import wait_for

SOURCE = Path(__file__).parents[2] / "csrc/nbd/vanished.c"
Pair = tuple[socket.socket, socket.socket]
PATIENCE_S = 60
A_WHILE_S = 0.3


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    need("gcc")
    made = tmp_path_factory.mktemp("vanished") / "vanished.so"
    words = [*FLAGS, "-O1", "-fPIC", "-shared", SOURCE, "-o", made]
    subprocess.run([COMPILER.split()[0], *words], check=True, timeout=300)
    return ctypes.CDLL(str(made))


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A server's connection, and its client."""
    both = socket.socketpair()
    with both[0], both[1]:
        yield both


class Worker(threading.Thread):
    """One of nbdkit's threads: it does what it is told, step by step."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._steps, self._go = steps, threading.Semaphore(0)
        self.done: list[object] = []
        self.start()

    def run(self) -> None:
        for step in self._steps:
            self._go.acquire()
            self.done.append(step())

    def begin(self) -> None:
        self._go.release()

    def step(self) -> object:
        count = len(self.done)
        self.begin()
        wait_for(lambda: len(self.done) > count, PATIENCE_S)
        return self.done[-1]


def reader(library: ctypes.CDLL, fd: int) -> Callable[[], int]:
    return lambda: int(library.read(fd, ctypes.create_string_buffer(8), 8))


def sender(library: ctypes.CDLL, fd: int) -> Callable[[], int]:
    return lambda: int(library.send(fd, b"x", 1, socket.MSG_NOSIGNAL))


@pytest.mark.parametrize("elsewhere", ["nothing", "a timer", "a program"])
def test_the_end_is_read_when_no_reply_is_to_come(library: ctypes.CDLL, pair: Pair, elsewhere: str) -> None:
    """Whoever has a reply may read and send elsewhere first, as the thread does that speaks with the disk."""
    server, client = pair
    fd = server.fileno()
    timer = os.eventfd(1)
    ours, theirs = socket.socketpair()
    between: dict[str, list[Any]] = {
        "nothing": [],
        "a timer": [reader(library, timer)],
        "a program": [sender(library, ours.fileno())],
    }
    with ours, theirs:
        replies = Worker(reader(library, fd), *between[elsewhere], sender(library, fd), lambda: None)
        client.send(b"q")
        assert replies.step() == 1
        for _ in between[elsewhere]:
            assert replies.step() in (1, 8)
        ends = Worker(reader(library, fd))
        client.close()
        ends.begin()
        ends.join(A_WHILE_S)
        assert ends.is_alive(), "the end is read while another thread has a reply"
        assert replies.step() == 1, "what is sent to a client that is gone counts as sent"
        ends.join(PATIENCE_S)
        assert ends.done == [0]
        replies.step()
    os.close(timer)


def test_a_thread_that_ended_has_no_reply(library: ctypes.CDLL, pair: Pair) -> None:
    server, client = pair
    replies = Worker(reader(library, server.fileno()))
    client.send(b"q")
    assert replies.step() == 1
    replies.join(PATIENCE_S)
    client.close()
    ends = Worker(reader(library, server.fileno()))
    assert ends.step() == 0
