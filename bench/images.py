"""A disk in qcow2 against `qemu-img bench` on the same image: python -m bench.images, as root.

Both read and write 4 KiB after 4 KiB, 32 at a time: reads; and writes of which each is on stable storage when
it is acknowledged, where qemu-img flushes after every 32. The target has one processor and the load generator
the other; qemu-img, like the process that serves the image for the target, has both. Interleaved, medians of
some rounds, thousands of requests a second.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import contest
from bench.image import write_image
from tests.image.daemons import daemon_of
from tests.support.labs.network import Lab
from tests.support.waiting import wait_for

SECTORS = 1 << 20
BLOCK, DEPTH = 4096, 32
START_S = 3.0
COUNT = SECTORS * 512 // BLOCK
"""Requests of a run of qemu-img: the image once."""
_TOOK = re.compile(r"Run completed in ([0-9.]+) seconds")


def qemu_img(image: Path, *options: str) -> float:
    """Requests a second."""
    words = ("-f", "qcow2", "-c", str(COUNT), "-d", str(DEPTH), "-s", str(BLOCK), *options, str(image))
    done = subprocess.run(["qemu-img", "bench", *words], check=True, capture_output=True, text=True)
    took = _TOOK.search(done.stdout)
    assert took, done.stdout
    return COUNT / float(took[1])


def target(lab: Lab, load: Path, image: Path, state: Path, rw: str) -> float:
    """The same by the target. What is read is compared."""
    one = contest.ours(image, state)._replace(start_s=START_S)
    shape = ("--rw", rw, "--sectors", str(BLOCK // 512), "--depth", str(DEPTH), "--range", str(SECTORS))
    command = ("taskset", "-c", contest.LOAD_CPU, load, "v0", "1", "1", *shape)
    with contest.serving(lab, one):
        _let_run_anywhere(daemon_of(image))
        done = lab.run("client", *command, "--seconds", str(contest.SECONDS), timeout=60)
    wait_for(lambda: not daemon_of(image))
    said = json.loads(done.stdout)
    assert not said["bad"] + said["errors"], said
    return float(said["iops"])


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


def main() -> None:
    said = argparse.ArgumentParser(prog="python -m bench.images", description=__doc__)
    said.add_argument("--rounds", type=int, default=contest.ROUNDS)
    said.add_argument("--directory", type=Path, help="where the images are made (a temporary one)")
    chosen = said.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-images-", dir=chosen.directory) as made:
        work = Path(made)
        load = contest.build("load", work)
        with images(work) as (base, over), Lab(mtu=9000) as lab:
            state = work / "state"
            flushed = ("-w", f"--flush-interval={DEPTH}")
            rows: dict[str, tuple[Callable[[], float], Callable[[], float]]] = {
                "read": (lambda: qemu_img(base), lambda: target(lab, load, base, state, "read")),
                "read of an overlay": (
                    lambda: qemu_img(over),
                    lambda: target(lab, load, over, state, "read"),
                ),
                "flushed write": (
                    lambda: qemu_img(base, *flushed),
                    lambda: target(lab, load, base, state, "write"),
                ),
            }
            for name, pair in rows.items():
                found = [[one() for one in pair] for _ in range(chosen.rounds)]
                theirs, ours = (statistics.median(it) / 1000 for it in zip(*found, strict=True))
                print(json.dumps({"row": name, "qemu_img": theirs, "target": ours, "of": ours / theirs}))


if __name__ == "__main__":
    main()
