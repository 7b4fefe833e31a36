"""What counting costs: python -m bench.metrics_cost, as root.

How long the engine's own code for it takes for each request, beside the same copying without it, by processor
time, compiled as the engine is; and how long the whole target takes for one, by a load that keeps 64
outstanding on a store in memory. It prints the part of the one in the other, which is to be less than 1 %;
and what it is for a disk, where more is counted, and a request takes longer. The clock is read once for each
batch of replies, and sixteen are taken for one.
"""

import argparse
import statistics
import subprocess
import tempfile
from pathlib import Path

from bench import contest
from bench.ending import undo_at_sigterm
from bench.image import write_image
from csrc.flags import TOGETHER
from tests.support.labs.network import Lab

SECTORS = 131072
BATCH = 16
MOST = 0.01
SECTOR = 512


def counting_ns(program: Path, sectors: int) -> tuple[float, float]:
    """For one request of so many sectors: of a store in memory, and of a disk."""
    command = ("taskset", "-c", contest.TARGET_CPU, program, str(sectors * SECTOR), str(BATCH))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    _, memory, disk = map(float, done.stdout.split())
    return memory, disk


def request_ns(lab: Lab, load: Path, image: Path, state: Path, rw: str, said: argparse.Namespace) -> float:
    """What the target takes for one, the median of some runs."""
    words = ("--rw", rw, "--sectors", str(said.sectors), "--depth", "64", "--range", str(SECTORS))
    target = contest.ours(image, state, "--buffered")
    runs = [contest.run(lab, load, target, words, said.seconds) for _ in range(said.rounds)]
    return statistics.median(it.cpu_us for it in runs) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sectors", type=int, default=2, help="of a request")
    said = parser.parse_args()
    undo_at_sigterm()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name, Lab(mtu=9000) as lab:
        work = Path(name)
        program = contest.build("counting", work, "csrc/target/work.c", flags=TOGETHER)
        load = contest.build("load", work)
        image = write_image(work / "image", SECTORS)
        spent_ns, disk_ns = counting_ns(program, said.sectors)
        for rw in ("randread", "randwrite"):
            all_ns = request_ns(lab, load, image, work / "state", rw, said)
            verdict = "" if spent_ns < MOST * all_ns else ": too much"
            size = said.sectors * SECTOR
            print(
                f"{rw} of {size} bytes: counting takes {spent_ns:.1f} of {all_ns:.0f} ns"
                f" ({spent_ns / all_ns:.2%}){verdict}; {disk_ns:.1f} for a disk"
            )


if __name__ == "__main__":
    main()
