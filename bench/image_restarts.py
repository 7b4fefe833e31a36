"""How long a client waits while a service with images starts again: python -m bench.image_restarts, as root.

Each image is a clone in qcow2, served by a process of QEMU's. With opener and images as services of their
own, and a manager that holds descriptors, as systemd does, those processes go on; as children of the target
they are started again. A client reads from one disk all the while.
"""

import argparse
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from aoe.pool.requests import Clone, Create, Cut
from bench.ending import undo_at_sigterm
from tests.image.unit import Unit
from tests.net.service import Service
from tests.net.test_kept_images import opener
from tests.net.test_pools import exports
from tests.node.manager import Manager
from tests.pool.pools import MIB, SIZE, fresh, working
from tests.support.labs.fault_disk import small_filesystem
from tests.support.labs.network import Lab
from tests.support.labs.raw_client import Client

READY_S = 120.0
AFTER_S = 1.0


def store(place: Path, count: int) -> list[str]:
    """The file for so many clones, in a new pool."""
    pool = fresh(place)
    names = [f"web{number}" for number in range(count)]
    with working(pool) as work:
        work.do(Create("base", SIZE, "qcow2"))
        work.do(Cut("base", "golden"))
        for name in names:
            work.do(Clone("base", "golden", name))
    return exports(pool, *(f"fast/{name}" for name in names))


@contextmanager
def as_services(lab: Lab, work: Path, service: Service) -> Iterator[Callable[[], None]]:
    """Starts it again."""
    quiet = ("bash", "-c", 'exec "$0" "$@" >/dev/null')
    command = lab.command("target", *quiet, *map(str, (*service.argv, "--opener", work / "opener")))
    with ExitStack() as stack:
        stack.enter_context(Unit(work / "images"))
        stack.enter_context(opener(lab, work / "opener", work / "images", service))
        manager = stack.enter_context(Manager(command, work))
        manager.start(ready_s=READY_S)

        def again() -> None:
            manager.kill(signal.SIGTERM)
            manager.start(ready_s=READY_S)

        yield again


@contextmanager
def as_children(_: Lab, __: Path, service: Service) -> Iterator[Callable[[], None]]:
    """The same."""
    with service:
        yield service.restart


def pauses(disk: Client, again: Callable[[], None], times: int) -> list[float]:
    """The longest of each restart, in seconds."""
    longest, stopped, found = [0.0], threading.Event(), []

    def read() -> None:
        last = time.monotonic()
        while not stopped.is_set():
            disk.read(0)
            now = time.monotonic()
            longest[0], last = max(longest[0], now - last), now

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(times):
            longest[0] = 0.0
            again()
            time.sleep(AFTER_S)
            found.append(longest[0])
    finally:
        stopped.set()
        reader.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.image_restarts", description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[1, 10, 40])
    parser.add_argument("--times", type=int, default=5)
    said = parser.parse_args()
    undo_at_sigterm()
    for count in said.images:
        for way in (as_services, as_children):
            with tempfile.TemporaryDirectory(dir="/var/tmp") as name, ExitStack() as stack:
                work = Path(name)
                work.chmod(0o755)
                place = stack.enter_context(small_filesystem("ext4", work / "srv", 256 * MIB))
                lab = stack.enter_context(Lab())
                again = stack.enter_context(way(lab, work, Service(lab, work, store(place, count))))
                disk = stack.enter_context(lab.client(timeout=0.1, retries=1200, dst=lab.cables[0].a.mac))
                disk.read(0)
                found = pauses(disk, again, said.times)
            median, most = statistics.median(found), max(found)
            print(f"{count} images, {way.__name__}: {median:.2f} s, at most {most:.2f}", flush=True)


if __name__ == "__main__":
    main()
