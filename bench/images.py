"""A disk in qcow2 against `qemu-img bench` on the same image: python -m bench.images, as root.

Both read and write 4 KiB after 4 KiB, 32 at a time: reads; and writes of which each is on stable storage when
it is acknowledged, where qemu-img flushes after every 32. The target has one processor and the load generator
the other; qemu-img, like the process that serves the image for the target, has both. All in turn, round after
round until the time is up: medians of thousands of requests a second, and of the microseconds of processor
time that each request took of qemu-img, of the target and of what serves the image for it.
"""

import argparse
import functools
import json
import os
import re
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench import contest
from bench.ending import undo_at_sigterm
from bench.image import write_image
from tests.image.daemons import daemon_of
from tests.support.labs.network import Lab
from tests.support.waiting import wait_for

SECTORS = 1 << 20
BLOCK, DEPTH = 4096, 32
START_S = 2.0
FEW, ALL = 2048, SECTORS * 512 // BLOCK
"""Requests of qemu-img: to see how fast it is; the image once."""
TIME_S = 110.0
_TOOK = re.compile(r"Run completed in ([0-9.]+) seconds")


class Run(NamedTuple):
    """Requests a second, and microseconds of processor time for each, of qemu-img or the target; and of what
    serves the image for the target."""

    rate: float
    cpu_us: float
    served_us: float = 0.0


def qemu_img(image: Path, *options: str) -> Run:
    """For about as long as the target is asked, or the image once."""
    rate = _qemu_img(image, FEW, *options).rate
    return _qemu_img(image, min(ALL, max(FEW, int(rate * contest.SECONDS))), *options)


def _qemu_img(image: Path, count: int, *options: str) -> Run:
    words = ("-f", "qcow2", "-c", str(count), "-d", str(DEPTH), "-s", str(BLOCK), *options, str(image))
    before_s = _children_s()
    done = subprocess.run(["qemu-img", "bench", *words], check=True, capture_output=True, text=True)
    took = _TOOK.search(done.stdout)
    assert took, done.stdout
    return Run(count / float(took[1]), (_children_s() - before_s) * 1e6 / count)


def _children_s() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def target(lab: Lab, load: Path, image: Path, state: Path, rw: str) -> Run:
    """The same by the target. What is read is compared."""
    one = contest.ours(image, state)._replace(start_s=START_S)
    shape = ("--rw", rw, "--sectors", str(BLOCK // 512), "--depth", str(DEPTH), "--range", str(SECTORS))
    command = ("taskset", "-c", contest.LOAD_CPU, load, "v0", "1", "1", *shape)
    with contest.serving(lab, one) as pid:
        pids = (pid, wait_for(lambda: daemon_of(image)))
        _let_run_anywhere(pids[1])
        before = [contest.process_us(it) for it in pids]
        done = lab.run("client", *command, "--seconds", str(contest.SECONDS), timeout=60)
        spent = [contest.process_us(it) - then for it, then in zip(pids, before, strict=True)]
    wait_for(lambda: not daemon_of(image))
    said = json.loads(done.stdout)
    assert not said["bad"] + said["errors"], said
    return Run(float(said["iops"]), *(it / max(1, said["answered"]) for it in spent))


def _let_run_anywhere(process: int) -> None:
    for task in Path(f"/proc/{process}/task").iterdir():
        os.sched_setaffinity(int(task.name), range(os.cpu_count() or 1))


@contextmanager
def images(directory: Path) -> Iterator[tuple[Path, Path]]:
    """One that was written everywhere, and an overlay of it that was not written."""
    raw, base, over = (directory / name for name in ("raw", "base.qcow2", "over.qcow2"))
    write_image(raw, SECTORS)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, base], check=True)
    raw.unlink()
    make = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", base.name, "-F", "qcow2", over]
    subprocess.run(make, check=True)
    yield base, over


def summary(name: str, theirs: list[Run], ours: list[Run]) -> dict[str, float | str | int]:
    """A row, of medians; `of` is the part that the target reaches."""
    them, us = (Run(*map(statistics.median, zip(*runs, strict=True))) for runs in (theirs, ours))
    return {
        "row": name,
        "rounds": len(ours),
        "qemu_img": them.rate / 1000,
        "target": us.rate / 1000,
        "of": us.rate / them.rate,
        "qemu_img_us": them.cpu_us,
        "target_us": us.cpu_us,
        "served_us": us.served_us,
    }


def main() -> None:
    said = argparse.ArgumentParser(prog="python -m bench.images", description=__doc__)
    said.add_argument("--rounds", type=int, default=contest.ROUNDS, help="at most (%(default)s)")
    said.add_argument(
        "--time",
        type=float,
        default=TIME_S,
        help="seconds after which no round begins that may not end by then (%(default)s)",
    )
    said.add_argument("--directory", type=Path, help="where the images are made (a temporary one)")
    chosen = said.parse_args()
    undo_at_sigterm()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-images-", dir=chosen.directory) as made:
        work = Path(made)
        load = contest.build("load", work)
        with images(work) as (base, over), Lab(mtu=9000) as lab:
            ask = functools.partial(target, lab, load)
            flushed = ("-w", f"--flush-interval={DEPTH}")
            rows: dict[str, tuple[Callable[[], Run], Callable[[], Run]]] = {
                "read": (lambda: qemu_img(base), lambda: ask(base, work / "state", "read")),
                "read of an overlay": (lambda: qemu_img(over), lambda: ask(over, work / "state", "read")),
                "flushed write": (
                    lambda: qemu_img(base, *flushed),
                    lambda: ask(base, work / "state", "write"),
                ),
            }
            found: list[list[list[Run]]] = []
            longest_s = 0.0
            while len(found) < chosen.rounds and time.monotonic() + longest_s < began_s + chosen.time:
                since_s = time.monotonic()
                found.append([[one() for one in pair] for pair in rows.values()])
                longest_s = max(longest_s, time.monotonic() - since_s)
            for name, runs in zip(rows, zip(*found, strict=True), strict=True):
                theirs, ours = map(list, zip(*runs, strict=True))
                print(json.dumps(summary(name, theirs, ours)))


if __name__ == "__main__":
    main()
