"""What a client that asks 100 times a second waits beside one at full load: python -m bench.fair, as root.

Both read 4 KiB at random from one export, each by an interface of its own; the target has one processor, they
have the other. For each store it prints the times of the modest client, and the rate of the other, alone and
beside each other: medians of some rounds. Stores: a file past the page cache; one that takes some
milliseconds for each request; and, for comparison, the page cache.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench import contest
from bench.ending import undo_at_sigterm
from bench.image import write_image
from tests.support.labs.fault_disk import FuseDisk
from tests.support.labs.network import Lab

SECTORS = 131072
LOAD = ("--rw", "randread", "--sectors", "8", "--range", str(SECTORS))
MODEST = (*LOAD, "--depth", "64", "--rate", "100", "--rest", "--seed", "7")
BEHIND = ("chrt", "--idle", "0")
"""It looks for replies all the time, on the processor of the modest client, which is not to wait for that."""
START_S = 3.0
CONNECTIONS = 16
"""To the slow store: more than it does at a time, that no request waits for another of its connection."""
SECONDS_MORE = 1.0
"""That the load goes on before and after the modest client."""


class Look(NamedTuple):
    """Microseconds of the modest client, and requests a second of the other."""

    p50: float
    p99: float
    rate: float


class Site:
    """A target that serves one store to two clients."""

    def __init__(self, lab: Lab, load: Path, depth: int, seconds: float) -> None:
        self._lab, self._load, self._depth, self._seconds = lab, load, depth, seconds

    def _begins(
        self, side: str, arguments: tuple[str, ...], seconds: float, prefix: tuple[str, ...] = ()
    ) -> "subprocess.Popen[str]":
        command: tuple[str | Path, ...] = (
            *prefix,
            "taskset",
            "-c",
            contest.LOAD_CPU,
            self._load,
            "v0",
            "1",
            "1",
            *arguments,
        )
        return self._lab.popen(side, *command, "--seconds", f"{seconds:g}", stdout=subprocess.PIPE, text=True)

    def _full(self) -> "subprocess.Popen[str]":
        seconds = self._seconds + 2 * SECONDS_MORE
        return self._begins("client", (*LOAD, "--depth", str(self._depth)), seconds, BEHIND)

    def _modest(self) -> dict[str, Any]:
        return _said(self._begins("other", MODEST, self._seconds), self._seconds)

    def alone(self) -> Look:
        modest = self._modest()
        return Look(modest["p50_us"], modest["p99_us"], _said(self._full(), self._seconds)["iops"])

    def beside(self) -> Look:
        full = self._full()
        _wait(full, SECONDS_MORE)
        modest = self._modest()
        return Look(modest["p50_us"], modest["p99_us"], _said(full, self._seconds)["iops"])


def _wait(process: "subprocess.Popen[str]", seconds: float) -> None:
    """It goes on meanwhile."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return
    raise RuntimeError("the load ended early")


def _said(process: "subprocess.Popen[str]", seconds: float) -> dict[str, Any]:
    out, _ = process.communicate(timeout=3 * seconds + 60)
    said: dict[str, Any] = json.loads(out)
    assert process.returncode == 0
    assert not said["errors"] + said["lost"], said
    return said


@contextmanager
def stores(work: Path, delay_ms: int) -> Iterator[dict[str, tuple[Path, tuple[str, ...]]]]:
    """By name: the file, and how it is served."""
    image = write_image(work / "image", SECTORS)
    plugin = ("memory", f"size={SECTORS * 512}", "--filter=delay", f"rdelay={delay_ms}ms")
    with FuseDisk(work / "slow", plugin=plugin, connections=CONNECTIONS) as slow:
        yield {
            "direct": (image, ("--direct",)),
            f"direct, {delay_ms} ms": (slow.path, ("--direct", "--shared")),
            "page cache": (image, ("--buffered",)),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="that the modest client asks")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--depth", type=int, default=64, help="requests that the other has outstanding")
    parser.add_argument("--delay-ms", type=int, default=5)
    parser.add_argument("--engine", choices=("c", "python"), default="c")
    parser.add_argument("--directory", type=Path, help="where the image is to be; not in memory")
    parser.add_argument("--store", help="only this one")
    said = parser.parse_args()
    undo_at_sigterm()
    with (
        tempfile.TemporaryDirectory(dir=said.directory) as name,
        Lab(("target", "client", "other"), mtu=9000) as lab,
    ):
        work = Path(name)
        lab.cable("target", "other")
        load = contest.build("load", work)
        with stores(work, said.delay_ms) as found:
            for store, (path, how) in found.items():
                if said.store in (None, store):
                    site = Site(lab, load, said.depth, said.seconds)
                    _tell(store, site, lab, work, path, how, said)


def _tell(
    store: str, site: Site, lab: Lab, work: Path, path: Path, how: tuple[str, ...], said: argparse.Namespace
) -> None:
    options = (*how, "--interface", "v1", "--buffer-count", "128")
    target = contest.ours(path, work / "state", *options, engine=said.engine)._replace(start_s=START_S)
    looks = []
    for _ in range(said.rounds):
        with contest.serving(lab, target):
            looks.append((site.alone(), site.beside()))
    alone, beside = (
        Look(*map(statistics.median, zip(*them, strict=True))) for them in zip(*looks, strict=True)
    )
    print(
        f"{store}, {said.engine}, alone and beside: p50 {_both(alone.p50, beside.p50)} us,"
        f" p99 {_both(alone.p99, beside.p99)} us; the other's rate {_both(alone.rate, beside.rate)}/s"
    )


def _both(alone: float, beside: float) -> str:
    return f"{alone:.0f} and {beside:.0f} ({beside / alone:.2f})"


if __name__ == "__main__":
    main()
