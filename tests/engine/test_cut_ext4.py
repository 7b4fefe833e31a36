"""A snapshot of a disk with a mounted ext4 is what a power cut would leave: its journal is replayed, and then
it is clean and has what was synced before."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.cutting import MIB, Program, fragmented, started
from tests.support.labs.fault_disk import need_fuse, small_filesystem
from tests.support.labs.nbdkit import nbd_door, socket_path
from tests.support.labs.network import Lab
from tests.support.programs import cut_target
from tests.support.tools import need, need_engine, tool, which
from tests.support.waiting import wait_for

ROUNDS = 3
SIZE = 48 * MIB


class Files:
    """Makes, syncs and renames files, and removes some, until it is told to stop."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stopped = threading.Event()
        self.synced: list[tuple[int, int]] = []
        """Each with the time (ns) at which it was known to be."""
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Files":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        at = 0
        while not self._stopped.is_set():
            at += 1
            new = self._directory / "new"
            with new.open("wb") as file:
                file.write(at.to_bytes(8, "little") * 700)
                os.fsync(file.fileno())
            new.rename(self._directory / f"file{at}")
            fd = os.open(self._directory, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
            self.synced.append((at, time.monotonic_ns()))
            if at % 3 == 0:
                (self._directory / f"file{at - 2}").unlink()


@contextlib.contextmanager
def as_file(work: Path, socket: Path) -> Iterator[Path]:
    """What an NBD server has, as a file."""
    path = work / "fuse" / "disk"
    path.parent.mkdir()
    with subprocess.Popen([which("nbdfuse") or "nbdfuse", path, f"nbd+unix:///?socket={socket}"]) as process:
        try:
            wait_for(path.exists, what="the disk is not mounted")
            yield path
        finally:
            tool("umount", "--lazy", path.parent)
            process.kill()


@contextlib.contextmanager
def mounted(image: Path, at: Path) -> Iterator[Path]:
    at.mkdir(exist_ok=True)
    tool("mount", "-o", "loop", image, at)
    try:
        yield at
    finally:
        tool("umount", at)


@pytest.mark.parametrize("engine", ["c"])
def test_its_journal_is_replayed_and_it_is_clean(engine: str, lab: Lab, tmp_path: Path) -> None:
    need_engine()
    need_fuse()
    need("mkfs.ext4", "e2fsck", "mount", "umount")
    with small_filesystem("xfs", tmp_path / "store", 400 * MIB) as store:
        disk = fragmented(store / "disk", SIZE)
        with (
            started(lab, "target", cut_target, tmp_path / "target.log", engine, "direct", disk) as target,
            socket_path() as socket,
        ):
            assert target.said() == {"ready": True}
            with nbd_door(lab, "client", socket, "e1.0"), as_file(tmp_path, socket) as file:
                tool("mkfs.ext4", "-q", "-F", file)
                with mounted(file, tmp_path / "mounted") as directory, Files(directory) as files:
                    cuts = [_cut(target, store / f"snapshot{at}", files) for at in range(ROUNDS)]
        for at, (into, asked) in enumerate(cuts):
            with mounted(into, tmp_path / f"replayed{at}") as directory:
                found = {it.name for it in directory.iterdir()}
            subprocess.run(["e2fsck", "-fn", into], check=True, capture_output=True)
            kept = [it for it, synced in files.synced if synced < asked][-2:]
            assert {f"file{it}" for it in kept if it % 3 != 1} <= found
            assert kept


def _cut(target: Program, into: Path, files: Files) -> tuple[Path, int]:
    had = len(files.synced)
    wait_for(lambda: len(files.synced) > had + 5)
    target.tell(into)
    said = target.said()
    said = target.said() if "over" in said else said
    assert "error" not in said, said
    return into, int(said["asked"])
