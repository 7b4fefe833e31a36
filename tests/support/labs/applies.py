"""A service whose file is changed and applied again and again, while the load generator keeps it busy."""

import itertools
import random
import threading
import time
from pathlib import Path
from typing import Any

from bench.image import write_image
from tests.net.service import Service, export
from tests.support.labs.load import AGE_S, SECTORS, loaded
from tests.support.labs.network import Lab

MTU = 9000
FREE_AGAIN_S = AGE_S + 0.5
"""An address that was used may have another disk after the frame age."""
OTHERS = 8
HOSTS = (None, "any", ["02:00:00:00:00:01"], ["02:00:00:00:00:01", "02:00:00:00:00:02"])
DONE_MIN = 100


class _Others:
    """The exports that come, change and go."""

    def __init__(self, work: Path, rng: random.Random) -> None:
        self._work = work
        self._rng = rng
        self._tables: dict[str, dict[str, Any]] = {}
        self._free_s: dict[str, float] = {f"2.{at}": 0.0 for at in range(8 * OTHERS)}

    @property
    def tables(self) -> list[str]:
        return [export(self._work / f"disk-{it}", it, **keys) for it, keys in self._tables.items()]

    def step(self) -> None:
        """Something else about one or two of them."""
        for _ in range(self._rng.randint(1, 2)):
            self._rng.choice([self._add, self._change, self._remove])()

    def _add(self) -> None:
        free = [it for it, since_s in self._free_s.items() if since_s <= time.monotonic()]
        if not free or len(self._tables) >= OTHERS:
            return self._remove()
        address = self._rng.choice(free)
        del self._free_s[address]
        self._tables[address] = {}
        return None

    def _change(self) -> None:
        if not self._tables:
            return self._add()
        keys = self._tables[self._rng.choice([*self._tables])]
        keys["durability"] = self._rng.choice(["write-back", "write-through"])
        hosts = self._rng.choice(HOSTS)
        if hosts is not None:
            keys["mask"] = hosts
        return None

    def _remove(self) -> None:
        if not self._tables:
            return self._add()
        address = self._rng.choice([*self._tables])
        del self._tables[address]
        self._free_s[address] = time.monotonic() + FREE_AGAIN_S
        return None


def run(lab: Lab, work: Path, load: Path, rw: str, *, seed: int, times: int) -> dict[str, Any]:
    """Apply so many files while e1.1 is loaded: `pause_s` is the longest apply, `calls` what the generator
    had answered; `faults` is what should not be, frames that it lost above all."""
    fixed = export(write_image(work / "fixed", SECTORS), "1.1")
    others, results, took_s, faults = _Others(work, random.Random(seed)), [], [], []
    stop = threading.Event()
    with Service(lab, work, [fixed], max_frame_age=AGE_S) as service:
        asking = threading.Thread(target=lambda: results.extend(loaded(lab, load, rw, stop)))
        asking.start()
        number = service.ask("status")["number"]
        try:
            for _ in range(times):
                others.step()
                service.write([fixed, *others.tables])
                began_s = time.monotonic()
                done = service.ask("apply")
                took_s.append(time.monotonic() - began_s)
                number += bool(done["steps"])
                faults += [str(done)] if done["exit"] or done["number"] != number else []
        finally:
            stop.set()
            asking.join()
        status = service.ask("status")
        service.stop()
        faults += [] if service.status == 0 else [service.errors]
    served = {it["address"] for it in status["exports"] if it["state"] == "serving"}
    if len(served) != 1 + len(others.tables):
        faults.append(f"served in the end: {served}")
    faults += [f"ring_full: {full}"] if (full := status["counters"].get("ring_full")) else []
    for name in ("lost", "late", "errors", "bad"):
        faults += [f"{name}: {count}"] if (count := sum(it[name] for it in results)) else []
    calls = sum(it["done"] for it in results)
    if calls < DONE_MIN:
        faults.append(f"{calls} requests show nothing")
    pause_s = max(itertools.chain([0.0], took_s))
    return {"pause_s": pause_s, "moves": times, "calls": calls, "faults": faults}
