"""A service with 1,000 exports: python -m bench.thousand, as root. It takes four minutes.

It prints how long its start takes until it is ready, with how much CPU and memory; how long `apply` takes
that adds one export; how long `aoe discover` and `aoe stat` take that find all of them, also where 1 % of the
frames are lost each way; and, once advertisements are rare, how often it wakes up in a second while nothing
is asked. Of what is done several times it is the median and the worst. Then what `--help` takes of CPU above
Python alone.

With --clones (a minute) it makes 1,000 clones of a template in a pool on XFS, and prints how much of the
store each of them takes, and what the start of a service with all of them does.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.ending import undo_at_sigterm
from tests.net import test_clones
from tests.net.service import Service, export
from tests.net.test_thousand import EXPORTS, resident_kib, wakes
from tests.pool.pools import MIB, fresh
from tests.support.labs.fault_disk import small_filesystem
from tests.support.labs.network import Lab
from tests.support.labs.peers import image
from tests.support.waiting import ran_s

SECTORS = 8
IDLE_S = 60.0
AGAIN_S = 1.5
"""An address is served again only after the frame age."""
SHARES = (None, 0.01)
HELPS = ("aoe.cli.target", "aoe.cli.client")


def show(name: str, values: Sequence[float], unit: str) -> None:
    print(f"{name}: {statistics.median(values):.2f} {unit}, at most {max(values):.2f}", flush=True)


def took_s(call: Callable[[], object]) -> float:
    began_s = time.monotonic()
    call()
    return time.monotonic() - began_s


@contextmanager
def started(lab: Lab, work: Path, tables: Sequence[str]) -> Iterator[tuple[Service, float]]:
    """A service, and how long it took until it was ready."""
    service = Service(lab, work, tables)
    wait_s = took_s(lambda: service.launch().ready())
    try:
        yield service, wait_s
    finally:
        service.stop()


def starts(lab: Lab, work: Path, tables: Sequence[str], times: int, wanted_s: float = 2) -> None:
    """Each with a state of its own."""
    ready_s, spent_s, resident_mib = list[float](), list[float](), list[float]()
    for number in range(times):
        own = work / f"start-{number}"
        own.mkdir()
        with started(lab, own, tables) as (service, wait_s):
            ready_s.append(wait_s)
            spent_s.append(ran_s(service.pid))
            resident_mib.append(resident_kib(service.pid) / 1024)
    show(f"start (wanted: {wanted_s})", ready_s, "s")
    show("  CPU of it", spent_s, "s")
    show("  resident (wanted: 150)", resident_mib, "MiB")


def clones(lab: Lab, work: Path, times: int) -> None:
    """As many, of one template."""
    with small_filesystem("xfs", work / "store", 1000 * MIB) as store:
        pool, number = fresh(store), len(EXPORTS)
        each = test_clones.cloned(pool, number)
        print(f"{number} clones: {each / 1024:.1f} KiB of store each (wanted: 1024)", flush=True)
        starts(lab, work, test_clones.exports(pool, number), times, wanted_s=5)


def applies(service: Service, tables: Sequence[str], more: str, times: int) -> None:
    """One more of them, and away again."""
    took_ms, spent_ms = list[float](), list[float]()
    for _ in range(times):
        service.write([*tables, more])
        before_s = ran_s(service.pid)
        took_ms.append(1000 * took_s(lambda: applied(service)))
        spent_ms.append(1000 * (ran_s(service.pid) - before_s))
        service.write(tables)
        applied(service)
        time.sleep(AGAIN_S)
    show("apply of one more (wanted: 100)", took_ms, "ms")
    show("  CPU of it", spent_ms, "ms")


def applied(service: Service) -> None:
    assert service.ask("apply")["exit"] == 0


def listed(lab: Lab, command: str) -> None:
    """All of them, by a client."""
    words = ("-m", "aoe.cli.client", command, "--json", "--interface", "v0")
    found = [json.loads(it) for it in lab.run("client", sys.executable, *words).stdout.splitlines()]
    assert [it["address"] for it in found] == [f"e{a}.{b}" for a, b in EXPORTS]
    assert {it["state"] for it in found} == {"usable"}


def surveys(lab: Lab, times: int) -> None:
    """By both commands, with all frames and without some."""
    for share in SHARES:
        for end in lab.cables[0][:2]:
            lab.lose(end, share)
        for command in ("discover", "stat"):
            survey(lab, command, share, times)
    for end in lab.cables[0][:2]:
        lab.lose(end, None)


def survey(lab: Lab, command: str, share: float | None, times: int) -> None:
    lost = "" if share is None else f", {share:.0%} of the frames lost each way"
    values = [took_s(lambda: listed(lab, command)) for _ in range(times)]
    show(f"aoe {command} of {len(EXPORTS)}{lost} (wanted: 2)", values, "s")


def helped_ms(times: int) -> None:
    """CPU of a process, with its words and without."""

    def spent_s(*words: str) -> float:
        before = os.times()
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        spent = (it - was for it, was in zip(after[2:4], before[2:4], strict=True))
        return sum(spent)

    alone_s = statistics.median(spent_s("-c", "pass") for _ in range(times))
    for name in HELPS:
        words = [1000 * (spent_s("-m", name, "--help") - alone_s) for _ in range(times)]
        show(f"{name} --help above Python alone (wanted: 100)", words, "ms of CPU")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.thousand")
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--rest", type=float, default=130.0, help="seconds until advertisements are rare")
    parser.add_argument("--clones", action="store_true", help="clones of one template, and their start alone")
    said = parser.parse_args()
    undo_at_sigterm()
    with tempfile.TemporaryDirectory() as directory, Lab() as lab:
        work = Path(directory)
        if said.clones:
            clones(lab, work, said.times)
            return
        tables = [export(image(work / f"{a}.{b}", SECTORS), f"{a}.{b}") for a, b in EXPORTS]
        more = export(image(work / "more", SECTORS), "9.9")
        starts(lab, work, tables, said.times)
        with started(lab, work, tables) as (service, _):
            began_s = time.monotonic()
            applies(service, tables, more, said.times)
            surveys(lab, said.times)
            time.sleep(max(0.0, began_s + said.rest - time.monotonic()))
            print(
                f"idle: woken {wakes(service.pid, IDLE_S) / IDLE_S:.2f} times a second (wanted: 1)",
                flush=True,
            )
    helped_ms(said.times)


if __name__ == "__main__":
    main()
