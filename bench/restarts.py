"""How long clients pause when a service is restarted and killed under their load: python -m bench.restarts,
as root.

Two clients write and read all the time on half of 20 exports each, with nine writers on every export; the
sockets are held by a stand-in for systemd's store. It prints, for each engine and for SIGTERM and SIGKILL,
what failed, what was lost or stale, and of the longest pauses of each time the median and the worst. With
`--exports 1000`, 20 are used so and the others are idle; then one socket asks all of them for a write until
it is done, and it prints when the first, half and all of them were.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.ending import undo_at_sigterm
from bench.everywhere import Address, Asker
from bench.restart_pause import Timed
from tests.support.labs import restarts
from tests.support.labs.restarts import READY_S, SERVED_AGAIN_S, service, site
from tests.support.waiting import wait_for

SIGNALS = {"restarted": signal.SIGTERM, "killed": signal.SIGKILL}
ENGINES = ("c", "python")
USED = 20


PARTS = ("ready", "first", "half", "all", "cpu")
"""Seconds from the signal until the service was ready, and the first, half and all exports had written; what
of that time the service ran until it was ready."""


def spread(name: str, values: Sequence[float]) -> str:
    return f"{name} {statistics.median(values):.2f} s, at most {max(values):.2f} s"


def under_load(how: signal.Signals, engine: str, exports: int, times: int) -> tuple[str, bool]:
    """What two clients see; whether that is as it should be."""
    used = min(USED, exports)
    with tempfile.TemporaryDirectory() as work:
        said = restarts.run(Path(work), how, engine, seed=1, times=times, used=used, idle=exports - used)
    wrong = "{failed} failed, {unexplained} lost or stale, {calls} calls".format(**said)
    faults = [f"\n    {it}" for it in said["faults"][:5]]
    return f"{wrong}; {spread('pause', said['pauses_s'])}{''.join(faults)}", not faults


def everywhere(how: signal.Signals, engine: str, exports: int, times: int) -> Iterator[Sequence[float]]:
    """When all exports serve again, as `PARTS`."""
    addresses: list[Address] = [(1 + at // 250, at % 250) for at in range(exports)]
    names = ["{}.{}".format(*it) for it in addresses]
    with (
        tempfile.TemporaryDirectory() as work,
        site() as lab,
        service(lab, Path(work), engine, names, manager=Timed) as manager,
    ):
        assert isinstance(manager, Timed)
        for _ in range(times):
            time.sleep(SERVED_AGAIN_S)
            began_s = time.monotonic()
            manager.kill(how)
            with Asker(lab.port("first"), addresses) as asker:
                manager.start(ready_s=READY_S)
                wait_for(lambda: len(asker.answered_s) == exports, READY_S, "all exports have answered")
            first, half, last = (asker.answered_s[at] for at in (0, exports // 2, -1))
            moments = [it - began_s for it in (manager.ready_at_s, first, half, last)]
            yield [*moments, manager.cpu_s]


def main() -> int:
    """1 where a call failed, or a write was lost or came back."""
    parser = argparse.ArgumentParser(prog="bench.restarts")
    parser.add_argument("--exports", type=int, default=USED)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--engine", choices=ENGINES, action="append", help="one of them only")
    said = parser.parse_args()
    undo_at_sigterm()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled
    good = True
    for engine in said.engine or ENGINES:
        for name, how in SIGNALS.items():
            words, right = under_load(how, engine, said.exports, said.times)
            good &= right
            print(f"{said.exports} exports, {engine}, {name} {said.times} times: {words}", flush=True)
            if said.exports > USED:
                columns = zip(*everywhere(how, engine, said.exports, said.times), strict=True)
                for part, values in zip(PARTS, columns, strict=True):
                    print(f"  {spread(part, values)}", flush=True)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
