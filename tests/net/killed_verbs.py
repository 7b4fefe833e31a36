"""A service that is killed while it does a verb of its pools, again and again: what is left of them."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

from aoe.errors import PoolError
from aoe.pool import merging
from aoe.pool.requests import Clone, Create, Cut, Delete
from aoe.pool.work import Work
from aoe.wire.protocol import SECTOR
from tests.net.service import Service
from tests.pool.pools import SIZE, first, fresh, is_whole, working, write
from tests.support.labs.network import Lab
from tests.support.labs.raw_client import Client
from tests.support.tools import tool
from tests.support.waiting import PATIENCE_S, wait_for

FRAME_AGE_S = 0.5
BLOCK, BLOCKS = 65536, 8


class Verb(NamedTuple):
    """What is asked for, whether a pool shows that it was done, and how long it takes at most (seconds)."""

    words: tuple[str, ...]
    is_done: Callable[[Work], bool]
    latest_s: float = 0.3


class KilledVerbs:
    """A pool in a store with reflink, of which the volume `web1` is served, and one in a store without."""

    def __init__(self, lab: Lab, store: Path, slow: Path, work: Path, seed: int = 1) -> None:
        self._lab = lab
        self._work = work
        self._rng = Random(seed)
        self._pool, self._slow = fresh(store), fresh(slow)
        self._chain = [0] * BLOCKS
        with working(self._pool) as made:
            for name in ("web1", "base"):
                made.do(Create(name, SIZE))
                write(made, name, 1)
                made.do(Cut(name, "golden"))
        with working(self._slow) as made:
            made.do(Create("chain", SIZE))

    def run(self, times: int) -> list[str]:
        """What is wrong afterwards."""
        kinds = (self._rollback, self._delete_snapshot, self._delete_clone, self._clone, self._merge)
        return [
            f"{number}: {verb.words[0]}: {fault}"
            for number in range(times)
            for verb in (kinds[number % len(kinds)](number),)
            for fault in self._faults(number, verb, ended_well=self._kill(number, verb))
        ]

    # What is asked for

    def _rollback(self, _: int) -> Verb:
        words = ("rollback", "fast/web1@golden", "--force")
        return Verb(words, lambda work: first(work, "web1") == 1, 0.3 + 2 * FRAME_AGE_S)

    def _delete_snapshot(self, number: int) -> Verb:
        name = f"s{number}"
        with self._working() as work:
            work.do(Cut("base", name))
        return Verb(("delete", f"fast/base@{name}"), lambda it: it.volumes["base"].find(name) is None)

    def _delete_clone(self, number: int) -> Verb:
        name = f"c{number}"
        with self._working() as work:
            work.do(Clone("base", "golden", name))
        return Verb(("delete", f"fast/{name}"), lambda it: name not in it.volumes)

    def _clone(self, number: int) -> Verb:
        name = f"d{number}"
        return Verb(("clone", "fast/base@golden", f"fast/{name}"), lambda it: name in it.volumes)

    def _merge(self, number: int) -> Verb:
        """The state before the last one goes, and the last one takes what it needs of that."""
        with self._working(self._slow) as work:
            for name in (f"a{number}", f"b{number}"):
                at, byte = self._rng.randrange(BLOCKS), self._rng.randrange(1, 256)
                write_of = ("-c", f"write -P {byte} {at * BLOCK} {BLOCK}")
                tool("qemu-io", "-f", "qcow2", *write_of, work.path_of("chain"))
                self._chain[at] = byte
                work.do(Cut("chain", name))
            work.do(Delete("chain", f"a{number}"))
            if number > 2 * len(self._chain):
                oldest = work.volumes["chain"].snapshots[0]
                work.do(Delete("chain", oldest.name))
        return Verb(("merge", "slow/chain"), lambda _: True)

    # What becomes of it

    def _working(self, pool: Path | None = None) -> AbstractContextManager[Work]:
        return working(pool or self._pool, patience_s=PATIENCE_S)

    def _kill(self, number: int, verb: Verb) -> bool:
        """Whether it had ended well before."""
        pools = {"fast": self._pool, "slow": self._slow}
        tables = [f'[[pool]]\nname = "{name}"\npath = "{path}"\n' for name, path in pools.items()]
        tables.append('[[export]]\npath = "fast/web1"\nshelf = 1\nslot = 1\n')
        with Service(self._lab, self._work, tables, max_frame_age=FRAME_AGE_S) as service:
            with Client(self._lab.port("client"), 1, 1) as disk:
                disk.write(0, bytes([_byte(number)]) * SECTOR, fua=True)
            words = ("volume", *verb.words, "--socket", service.socket)
            argv = [sys.executable, "-m", "aoe.cli.target", *words]
            with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as asking:
                time.sleep(0.2 + self._rng.random() * verb.latest_s)  # any moment is right
                ended_well = asking.poll() == 0
                service.kill()
        return ended_well

    def _faults(self, number: int, verb: Verb, *, ended_well: bool) -> Iterator[str]:
        with self._working() as work:
            if not is_whole(work):
                yield f"the pool is not whole: {work.leftovers}"
            if ended_well and not verb.is_done(work):
                yield "it was done, and is not"
            right = {1, _byte(number)} if verb.words[0] == "rollback" else {_byte(number)}
            if first(work, "web1") not in right:
                yield "web1 has other bytes"
            others = [it for it in work.volumes if it != "web1"]
            yield from (f"{it} has other bytes" for it in others if first(work, it) != 1)
            snapshots = [it.name for it in work.volumes["base"].snapshots]
            yield from (f"base@{it} has other bytes" for it in snapshots if first(work, "base", it) != 1)
        yield from self._chain_faults()

    def _is_merged(self) -> bool:
        """To the end, as a daemon would do it; false while a qemu-img that is left has the images."""
        with suppress(PoolError), closing(Work(str(self._slow), name="slow", locked=False)) as look:
            for request in merging.merged(look, "chain", lambda _: None):
                with self._working(self._slow) as work:
                    work.do(request)
            return True
        return False

    def _chain_faults(self) -> Iterator[str]:
        wait_for(self._is_merged, what="the chain cannot be merged")
        with self._working(self._slow) as work:
            if not is_whole(work):
                yield f"the pool of chains is not whole: {work.leftovers}"
            raw = self._work / "chain.raw"
            tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", work.path_of("chain"), raw)
        if [raw.read_bytes()[it * BLOCK] for it in range(BLOCKS)] != self._chain:
            yield "the chain has other bytes"


def _byte(number: int) -> int:
    """What the disk has before the verb of a number; never what its snapshot has."""
    return 2 + number % 250
