"""The name of a life of the service goes on with what the manager holds, whatever version held it."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from aoe.limits import LIFE_NAME_BYTES
from aoe.node.held import Held, Kind, name_of
from aoe.node.notify import Notifier
from aoe.node.store_life import name_of_life

OURS = name_of(Kind.NAME, "")
OTHER = OURS.replace("aoe1-", "aoe9-")
NAME, NONSENSE = bytes(range(LIFE_NAME_BYTES)), b"short"


def memory(text: bytes) -> int:
    fd = os.memfd_create("test")
    os.write(fd, text)
    return fd


def heard(path: Path, *found: tuple[str, bytes]) -> tuple[str | None, list[str], list[str]]:
    """What the life is called of a service that is given these, what its manager hears of that, and what is
    left that is of no version it knows."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path / "notify"))
        manager.setblocking(False)
        notifier = Notifier(manager.getsockname())
        given = [(name, memory(text)) for name, text in found]
        theirs = {os.fstat(fd).st_ino for _, fd in given}
        held = Held(notifier, given)

        async def named() -> str | None:
            return name_of_life(held)

        name = asyncio.run(named())
        said = []
        while True:
            try:
                text, fds, _, _ = socket.recv_fds(manager, 4096, 4)
            except BlockingIOError:
                break
            for fd in fds:
                assert os.fstat(fd).st_ino not in theirs, "systemd would not hold it twice"
                os.close(fd)
            said.append(text.decode().replace("FDPOLL=0\n", "").replace("\n", " "))
        left = held.drop_unknown()
        held.close()
        notifier.close()
        return name, said, left


def test_it_goes_on(tmp_path: Path) -> None:
    assert heard(tmp_path, (OURS, NAME)) == (NAME.hex(), [], [])


def test_it_goes_on_from_another_version_under_our_name(tmp_path: Path) -> None:
    """It is held before the other one is not, and in memory of its own."""
    said = [f"FDSTOREREMOVE=1 FDNAME={OURS}", f"FDSTORE=1 FDNAME={OURS}", f"FDSTOREREMOVE=1 FDNAME={OTHER}"]
    assert heard(tmp_path, (OTHER, NAME), ("aoe9-store-x", b"")) == (NAME.hex(), said, ["aoe9-store-x"])


def test_our_own_is_taken_before_that_of_another_version(tmp_path: Path) -> None:
    found = heard(tmp_path, (OTHER, bytes(LIFE_NAME_BYTES)), (OURS, NAME))
    assert found == (NAME.hex(), [], [OTHER])


@pytest.mark.parametrize(
    "found", [(), ((OTHER, NONSENSE),), ((OURS, NONSENSE),), (("aoe9-name-other", NAME),)]
)
def test_it_begins_anew_without_one(tmp_path: Path, found: tuple[tuple[str, bytes], ...]) -> None:
    name, said, _ = heard(tmp_path, *found)
    assert name is not None
    assert len(bytes.fromhex(name)) == LIFE_NAME_BYTES
    assert name not in (NAME.hex(), NONSENSE.hex())
    assert f"FDSTORE=1 FDNAME={OURS}" in said
