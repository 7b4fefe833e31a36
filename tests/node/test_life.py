"""A legacy goes from life to life in memory that the manager holds, once."""

import asyncio
import os
import socket
from pathlib import Path

from aoe.node import life
from aoe.node.held import Held, Kind, name_of
from aoe.node.notify import Notifier
from aoe.target.legacy import ExportLeft, Legacy
from aoe.wire.stamp import StreamLeft

LEFT: Legacy = {(1, 2): ExportLeft(bytes(512), (StreamLeft(bytes(6), 5, 1, False, 9, 1),))}
NAME = name_of(Kind.LIFE, "")


def left_to_manager(path: Path) -> int:
    """The memory that a manager is given to hold."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        asyncio.run(leave(str(path)))
        text, (fd,), _, _ = socket.recv_fds(manager, 4096, 4)
    assert f"FDNAME={NAME}" in text.decode().splitlines()
    return fd


async def leave(address: str) -> None:
    notifier = Notifier(address)
    held = Held(notifier)
    life.leave(LEFT, held, life.blank())
    await held.settled()
    held.close()
    notifier.close()


def test_only_one_life_takes_it(tmp_path: Path) -> None:
    """Another may be given the same open file, as one that failed had no time to have it held no more."""
    fd = left_to_manager(tmp_path / "notify")
    other = os.dup(fd)
    assert life.take(Held(Notifier(), [(NAME, fd)])) == LEFT
    assert life.take(Held(Notifier(), [(NAME, other)])) == {}


def test_there_may_be_none_or_nonsense() -> None:
    assert life.take(Held(Notifier())) == {}
    fd = os.memfd_create("nonsense")
    os.write(fd, b"x" * 100)
    assert life.take(Held(Notifier(), [(NAME, fd)])) == {}
