"""Snapshots of a disk with a mounted ext4, and what becomes of them: the journal is replayed."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.engine.cutting import MIB, Program, fragmented, started
from tests.support.labs.fault_disk import need_fuse
from tests.support.labs.nbdkit import nbd_door, socket_path
from tests.support.labs.network import Lab
from tests.support.programs import cut_target
from tests.support.tools import need, tool, which
from tests.support.waiting import wait_for

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


def run(lab: Lab, store: Path, work: Path, engine: str, times: int) -> tuple[int, list[str]]:
    """So many snapshots, in a store with reflink, while files are made: how many of these were synced, and
    what is wrong. The disk and its snapshots stay there."""
    need_fuse()
    need("mkfs.ext4", "e2fsck", "mount", "umount")
    disk = fragmented(store / "disk", SIZE)
    with (
        started(lab, "target", cut_target, work / "target.log", engine, "direct", disk) as target,
        socket_path() as socket,
    ):
        assert target.said() == {"ready": True}
        with nbd_door(lab, "client", socket, "e1.0"), as_file(work, socket) as file:
            tool("mkfs.ext4", "-q", "-F", file)
            with mounted(file, work / "mounted") as directory, Files(directory) as files:
                cuts = [_cut(target, store / f"snapshot{at}", files) for at in range(times)]
    found = [fault for into, asked in cuts for fault in _faults(into, asked, files, work / "replayed")]
    return len(files.synced), found


def _cut(target: Program, into: Path, files: Files) -> tuple[Path, int]:
    had = len(files.synced)
    wait_for(lambda: len(files.synced) > had + 5)
    target.tell(into)
    said = target.said()
    said = target.said() if "over" in said else said
    assert "error" not in said, said
    return into, int(said["asked"])


def _faults(image: Path, asked: int, files: Files, at: Path) -> Iterator[str]:
    """What is wrong with a snapshot that was asked for at a time."""
    with mounted(image, at) as directory:
        found = {it.name for it in directory.iterdir()}
    checked = subprocess.run(["e2fsck", "-fn", image], check=False, capture_output=True, text=True)
    if checked.returncode:
        yield f"{image.name}: {checked.stdout}{checked.stderr}"
    kept = [it for it, synced in files.synced if synced < asked][-2:]
    missing = {f"file{it}" for it in kept if it % 3 != 1} - found
    if missing or not kept:
        yield f"{image.name}: {missing or 'all'} missing, which had been synced before"
