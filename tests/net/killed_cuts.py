"""A service that is killed while it cuts a snapshot, again and again: what is left of it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from aoe.pool.requests import Create
from aoe.pool.work import Work
from aoe.wire.protocol import SECTOR
from tests.net.service import Service
from tests.pool.pools import MIB, fresh, is_whole, working
from tests.support.labs.network import Lab
from tests.support.labs.raw_client import Client
from tests.support.waiting import PATIENCE_S, wait_for

SIZE = 64 * MIB
PLACES = SIZE // SECTOR // 8
LATEST_S = 0.3


class Killed:
    """A pool in a store with reflink, of which a service serves the volume `web1`."""

    def __init__(self, lab: Lab, store: Path, work: Path, seed: int = 1) -> None:
        self._lab = lab
        self._work = work
        self._rng = Random(seed)
        self._pool = fresh(store)
        self.whole: list[str] = []
        """Snapshots of which it was said that they are."""
        with working(self._pool) as made:
            made.do(Create("web1", SIZE))
            _fragment(Path(made.path_of("web1")))

    def run(self, times: int) -> list[str]:
        """What is wrong afterwards."""
        for number in range(times):
            self._kill(number)
        work = Work(str(self._pool), name="fast", patience_s=PATIENCE_S)
        try:
            return self._faults(work, times)
        finally:
            work.close()

    @contextmanager
    def serving(self) -> Iterator[Service]:
        """The volume, as e1.1."""
        table = f'[[pool]]\nname = "fast"\npath = "{self._pool}"\n'
        served = '[[export]]\npath = "fast/web1"\nshelf = 1\nslot = 1\n'
        with Service(self._lab, self._work, [table, served]) as service:
            yield service

    @contextmanager
    def cutting(self, service: Service, name: str) -> "Iterator[subprocess.Popen[bytes]]":
        """A command that asks for a snapshot, which is under way, or over."""
        words = ("volume", "snapshot", f"fast/web1@{name}", "--socket", service.socket)
        argv = [sys.executable, "-m", "aoe.cli.target", *words]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as asking:
            wait_for(lambda: _is_cutting(service) or asking.poll() is not None)
            yield asking

    def _kill(self, number: int) -> None:
        with self.serving() as service:
            with Client(self._lab.port("client"), 1, 1) as disk:
                disk.write(8 * (number % PLACES), _mark(number), fua=True)
            with self.cutting(service, f"cut{number}") as asking:
                time.sleep(self._rng.random() * LATEST_S)
                if asking.poll() == 0:
                    self.whole.append(f"cut{number}")
                service.kill()

    def _faults(self, work: Work, times: int) -> list[str]:
        found = [] if is_whole(work) else ["the pool is not whole"]
        listed = [it.name for it in work.volumes["web1"].snapshots]
        found += [f"{name} is gone" for name in self.whole if name not in listed]
        disk = Path(work.path_of("web1"))
        found += [f"write {it} is gone" for it in range(max(0, times - PLACES), times) if not _has(disk, it)]
        for name in listed:
            number, image = int(name.removeprefix("cut")), Path(work.path_of("web1", name))
            first = max(0, number - PLACES + 1)
            found += [
                f"write {it} is not in {name}" for it in range(first, number + 1) if not _has(image, it)
            ]
            if number + 1 < PLACES and _has(image, number + 1):
                found.append(f"write {number + 1} is in {name}")
        return found


def _mark(number: int) -> bytes:
    return number.to_bytes(8, "little") * (SECTOR // 8)


def _has(image: Path, number: int) -> bool:
    with image.open("rb") as file:
        return os.pread(file.fileno(), SECTOR, 8 * SECTOR * (number % PLACES)) == _mark(number)


def _is_cutting(service: Service) -> bool:
    return bool(service.ask("status")["exports"][0]["cutting"])


def _fragment(image: Path) -> None:
    """Every second block is a hole, so it takes a while to clone."""
    with image.open("r+b") as file:
        for at in range(0, SIZE, 8192):
            os.pwrite(file.fileno(), b"\xff" * 4096, at)
