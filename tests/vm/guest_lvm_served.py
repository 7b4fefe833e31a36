"""Runs inside a guest that has LVM and no udev: a daemon serves volumes of the thin pool over a cable of the
guest's own to our initiator, and does the verbs meanwhile."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import aoe
from aoe.control.client import Client as Control
from aoe.control.messages import DONE, PARTLY
from aoe.errors import AoeError, ControlFailed
from aoe.initiator.blocking import BlockingDisk
from aoe.pool.asked import Wish, facts_of
from aoe.pool.requests import Clone, Create, Cut, Delete, Resize, Rollback
from tests.support.waiting import wait_for
from tests.vm.guest_lvm import (
    GIB,
    MIB,
    PLACE,
    check_whole,
    is_changing,
    of_one_moment,
    read,
    refusal,
    working,
)

POOL = "thin"
PATIENCE_S = 300.0
"""As this side has with a guest."""
_FILE, _SOCKET, _LOG = Path("/tmp/target.toml"), Path("/tmp/control"), Path("/tmp/daemon")
_BLOCK, _BLOCKS = 4096, 64
_AFTER = _BLOCK * _BLOCKS
"""Behind what `Numbers` writes."""


class Daemon:
    """`aoe-target run` with its children: the opener, and what runs the commands of LVM."""

    def __init__(self) -> None:
        self._exports: dict[str, str] = {}
        self._write()
        self.start()

    def start(self) -> None:
        """Until it is ready."""
        with _LOG.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aoe.cli.target", "run", "--config", _FILE, "--socket", _SOCKET],
                stdout=log,
                stderr=log,
            )
        wait_for(self._is_ready, PATIENCE_S, _LOG.read_text)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, _LOG.read_text()
        return "ready\n" in _LOG.read_text()

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.wait(PATIENCE_S)

    def serve(self, **exports: str) -> None:
        """Volumes by address; one that is empty is served no more."""
        self._exports |= exports
        self._write()
        done = self._ask("apply", plan=False, remove=True, expect=None)
        assert done["exit"] in (DONE, PARTLY), done  # one may wait for the pool

    def _write(self) -> None:
        tables = [
            '[target]\ninterfaces = ["v0"]\nstate-dir = "/tmp/state"\n',
            f'[[pool]]\nname = "{POOL}"\nkind = "lvm-thin"\nvg = "vg"\nthin-pool = "thin"\n',
        ]
        for address, path in self._exports.items():
            if path:
                shelf, slot = address[1:].split("_")
                tables.append(f'[[export]]\npath = "{POOL}/{path}"\nshelf = {shelf}\nslot = {slot}\n')
        _FILE.write_text("".join(tables))

    def do(self, request: Wish, *, force: bool = False) -> dict[str, Any]:
        """A verb. Where LVM takes long, as on a busy machine, it is asked for again. ControlFailed."""

        def done() -> dict[str, Any] | None:
            try:
                return self._ask("volume", pool=POOL, request=facts_of(request), plan=False, force=force)
            except ControlFailed as error:
                if "does not answer: what needs it waits for that" in str(error):
                    return None
                raise

        return wait_for(done, PATIENCE_S, _LOG.read_text) or {}

    def _ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        with Control(_SOCKET) as control:
            return control.ask(verb, **arguments)


class Numbers:
    """A client that writes one number after the other, to one block after the other."""

    def __init__(self, disk: BlockingDisk) -> None:
        self.answered = 0
        self._disk = disk
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        for number in count(1):
            if self._over.is_set():
                return
            self._disk.write(_BLOCK * (number % _BLOCKS), number.to_bytes(8, "little") * (_BLOCK // 8))
            self.answered = number

    @contextmanager
    def written(self) -> Iterator[None]:
        """Inside."""
        self._thread.start()
        try:
            wait_for(lambda: self.answered > _BLOCKS, PATIENCE_S)
            yield
        finally:
            self._over.set()
            self._thread.join()


def numbers(disk: BlockingDisk) -> list[int]:
    return [int.from_bytes(disk.read(_BLOCK * at, 8), "little") for at in range(_BLOCKS)]


@contextmanager
def attached(address: str) -> Iterator[BlockingDisk]:
    with aoe.open(address, interface="veth0", find_s=PATIENCE_S, timeout_s=PATIENCE_S) as disk:
        yield disk


def first(disk: BlockingDisk, at: int = _AFTER) -> int:
    return disk.read(at, 1)[0]


def put(disk: BlockingDisk, byte: int, at: int = _AFTER) -> None:
    disk.write(at, bytes([byte]) * 512)


def is_refused(call: Callable[[], object], words: str) -> None:
    said = refusal(call)
    assert words in said, said


def served() -> dict[str, object]:
    """All of it, and how long a clone took."""
    daemon = Daemon()
    try:
        daemon.do(Create("disk", 8 * MIB))
        daemon.serve(e1_0="disk")
        with attached("e1.0") as disk:
            cut(daemon, disk)
            took_s = cloned(daemon)
            resized(daemon, disk)
            rolled_back(daemon, disk)
            refused(daemon)
            killed(daemon, disk)
            full(daemon, disk)
    except BaseException:
        print(_LOG.read_text())
        raise
    finally:
        daemon.end(signal.SIGTERM)
    with working(0) as work:
        check_whole(work)
        assert read(work, "disk", at=4 * MIB)[0] == 9, "it was acknowledged"
    return {"clone_s": took_s}


def cut(daemon: Daemon, disk: BlockingDisk) -> None:
    """While a client writes: all that was acknowledged is in, and all is of one moment."""
    put(disk, 1)
    writer = Numbers(disk)
    with writer.written():
        before = writer.answered
        daemon.do(Cut("disk", "one"))
        after = writer.answered
    put(disk, 2)
    daemon.serve(e1_1="disk@one")
    with attached("e1.1") as kept:
        of_one_moment(numbers(kept), before, after)
        assert first(kept) == 1
        is_refused(lambda: put(kept, 3), "e1.1 failed at byte")
        assert first(kept) == 1
    assert first(disk) == 2


def cloned(daemon: Daemon) -> float:
    """It begins as the snapshot, and goes on alone."""
    start = time.monotonic()
    daemon.do(Clone("disk", "one", "copy"))
    took_s = time.monotonic() - start
    daemon.serve(e1_2="copy")
    with attached("e1.2") as copy, attached("e1.1") as kept:
        assert first(copy) == 1
        put(copy, 4)
        assert [first(it) for it in (copy, kept)] == [4, 1]
    return took_s


def resized(daemon: Daemon, disk: BlockingDisk) -> None:
    """To more, while it is used."""
    daemon.do(Resize("disk", 16 * MIB))
    wait_for(lambda: disk.size == 16 * MIB, PATIENCE_S)
    put(disk, 6, 16 * MIB - 512)
    assert [first(disk, at) for at in (_AFTER, 8 * MIB, 16 * MIB - 512)] == [2, 0, 6]


def rolled_back(daemon: Daemon, disk: BlockingDisk) -> None:
    """Only if that is forced while a client uses it; what it was is a snapshot."""
    daemon.do(Cut("disk", "two"))
    put(disk, 3)
    back = Rollback("disk", "two")
    is_refused(lambda: daemon.do(back), "used it in the last minute")
    done = daemon.do(back, force=True)
    assert "e1.0: another instance is served" in done["notes"], done
    assert first(disk) == 2
    put(disk, 7)


def refused(daemon: Daemon) -> None:
    """What is served, or has clones, is not deleted."""
    is_refused(lambda: daemon.do(Delete("copy")), "is what e1.2 is to serve")
    is_refused(lambda: daemon.do(Delete("disk", recursive=True)), "has clones")
    daemon.serve(e1_1="", e1_2="")
    is_refused(lambda: daemon.do(Delete("disk", "one")), "clone")
    daemon.do(Delete("copy"))


def killed(daemon: Daemon, disk: BlockingDisk) -> None:
    """In the middle of a verb, while a command of LVM runs: nothing of it is left, or it is done."""

    def ask() -> None:
        with suppress(AoeError):  # it has ended
            daemon.do(Clone("disk", "", "new"))

    asking = threading.Thread(target=ask)
    asking.start()
    wait_for(lambda: any(map(is_changing, commands())) or not asking.is_alive(), PATIENCE_S, every_s=0.001)
    daemon.end(signal.SIGKILL)
    asking.join()
    daemon.start()
    assert first(disk) == 7
    with suppress(AoeError):  # it may not be there
        daemon.do(Delete("new"))


def commands() -> Iterator[list[str]]:
    """The words of every process."""
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield place.read_bytes().decode(errors="replace").split("\0")


def full(daemon: Daemon, disk: BlockingDisk) -> None:
    """A first write finds no room: an error for that, and no other; good again once there is room."""
    put(disk, 8, 0)
    path = Path(str(daemon.do(Create("filler", GIB))["path"]))
    with suppress(OSError), path.open("r+b", buffering=0) as file:
        while True:
            file.write(bytes([1]) * MIB)
            os.fsync(file.fileno())
    more = Create("more", MIB)
    is_refused(lambda: daemon.do(more), "0 % of the pool's store is free, and 10 % is its reserve")
    is_refused(lambda: put(disk, 9, 4 * MIB), f"e1.0 failed at byte {4 * MIB}")
    put(disk, 8, 512)
    assert [first(disk, at) for at in (0, 512, 4 * MIB)] == [8, 8, 0]
    subprocess.run(("lvm", "lvextend", "--size", "+64M", PLACE), check=True, capture_output=True)
    put(disk, 9, 4 * MIB)
    assert first(disk, 4 * MIB) == 9


if __name__ == "__main__":
    print(json.dumps(served()))
