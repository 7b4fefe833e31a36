"""What the sandbox costs: python -m bench.sandbox_cost, as root.

The same target with its sandbox and without any, on its own CPU, in turn, so many times; with the CPU time
that each takes for a request, and its rate under a load that keeps 64 requests of 4 KiB outstanding. It
prints each pair as it is measured, and of the ratios of all pairs the median and the middle half. Under 1 %
is wanted, and pairs differ by more: it takes less than a minute, and --times 15 --seconds 3 tell more.

What is without a sandbox gives up its privileges, and nothing else: no landlock, no seccomp.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import contest
from bench.contest import Result, Target
from bench.ending import undo_at_sigterm
from bench.image import write_image
from tests.support.labs.network import Lab
from tests.support.waiting import wait_for

SECTORS = 131072
LOAD = ("--sectors", "8", "--depth", "64", "--range", str(SECTORS))
FREE = "import sys; from aoe.cli import opening, target; opening.confine = lambda *_: None; " + (
    "sys.exit(target.main(sys.argv[1:]))"
)


def targets(image: Path, state: Path, engine: str) -> tuple[Target, Target]:
    """Confined, and free."""
    confined = contest.ours(image, state, "--durability", "write-back", engine=engine, name="confined")
    python, module, name, *words = confined.command
    assert (module, name) == ("-m", "aoe.cli.target")
    return confined, Target("free", (python, "-c", FREE, *words))


def pairs(image: Path, work: Path, said: argparse.Namespace, load: Path) -> Iterator[tuple[Result, Result]]:
    """Each time the other one begins."""
    with Lab(mtu=9000) as lab:
        confined, free = targets(image, work / "state", said.engine)
        check(lab, confined, confined=True)
        check(lab, free, confined=False)
        arguments = ("--rw", said.rw, *LOAD)
        for turn in range(said.times):
            order = (confined, free) if turn % 2 else (free, confined)
            results = {it.name: contest.run(lab, load, it, arguments, said.seconds) for it in order}
            yield results["confined"], results["free"]


def check(lab: Lab, target: Target, *, confined: bool) -> None:
    """That it has filters of system calls, or has no more than this process."""
    with contest.serving(lab, target) as pid:
        wait_for(
            lambda: (filters(pid) > filters("self")) is confined, what=f"{target.name} has other filters"
        )


def filters(process: int | str) -> int:
    """How many (seccomp(2))."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(it.split()[1]) for it in lines if it.startswith("Seccomp_filters:"))


def ratios(found: Sequence[tuple[Result, Result]], field: str) -> list[float]:
    """Confined to free."""
    return [getattr(confined, field) / getattr(free, field) for confined, free in found]


def sentence(values: Sequence[float]) -> str:
    """Their median, and the middle half of them."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return f"{100 * (middle - 1):+.2f} % ({100 * (low - 1):+.2f} to {100 * (high - 1):+.2f})"


def _words(it: Result) -> str:
    return f"{it.cpu_us:.3f} us, {it.iops:.0f}/s"


def main() -> int:
    """1 where a request was lost, or went wrong."""
    parser = argparse.ArgumentParser(prog="bench.sandbox_cost")
    parser.add_argument("--engine", choices=("c", "python"), default="c")
    parser.add_argument("--rw", choices=("randread", "randwrite"), default="randread")
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5)
    said = parser.parse_args()
    undo_at_sigterm()
    images = contest.scratch()
    try:
        with tempfile.TemporaryDirectory() as work:
            load = contest.build("load", Path(work))
            found = []
            for pair in pairs(write_image(images / "image", SECTORS), Path(work), said, load):
                print("confined {}; free {}".format(*map(_words, pair)), flush=True)
                found.append(pair)
    finally:
        shutil.rmtree(images)
    wrong = sum(it.lost + it.errors + it.bad for pair in found for it in pair)
    print(f"{said.engine}, {said.rw}: CPU for a request {sentence(ratios(found, 'cpu_us'))}")
    print(f"{said.engine}, {said.rw}: rate {sentence(ratios(found, 'iops'))}; {wrong} lost or wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
