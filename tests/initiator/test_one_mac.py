"""Two servers of one disk behind one MAC, each at an address of its own, as two
processes on one interface are.

They catch an initiator that knows a server by its MAC alone: what one says would count as the other's, and
with the death of one both would be lost.
"""

import asyncio

from aoe.disk.memory import MemoryDisk
from aoe.initiator.remote import RemoteDisk
from aoe.testing import Lab
from tests.initiator.helpers import CORE, limited
from tests.support.checkers.writers import Writers

SILENT_S = 3.0


class OneMac(Lab):
    """Whoever comes to it first and second has the same MAC."""

    def new_host(self) -> int:
        return max(2, super().new_host())


async def both_known(disk: RemoteDisk) -> None:
    while sorted(path.state for path in disk.paths) != ["usable", "usable"]:
        await asyncio.sleep(0.01)


def owner(disk: RemoteDisk) -> str:
    return next(path.name.split()[-1] for path in disk.paths if path.owner)


@limited
async def test_of_two_volatile_caches_one_is_used() -> None:
    """They are two although they share a MAC: what one of them holds the other does not know."""
    lab, store = OneMac(), MemoryDisk(1 << 20)
    async with (
        lab.serve(store, "e1.0", write_back=True) as one,
        lab.serve(store, "e2.0", write_back=True) as two,
        lab.attach("e1.0", "e2.0", engine=CORE.get(), find_s=2.0, timeout_s=None) as disk,
    ):
        assert one.cables[0].mac == two.cables[0].mac
        while len(disk.paths) < 2 or "checking" in {path.state for path in disk.paths}:
            await asyncio.sleep(0.01)
        assert sorted(path.state for path in disk.paths) == ["refused", "usable"]
        assert [path.reason for path in disk.paths if "volatile" in path.reason]
        await disk.write(0, b"x" * 512)


ROUGH = {"lose": 0.02, "repeat": 0.05, "late": 0.05}


@limited
async def test_one_takes_over_from_the_other_and_back() -> None:
    await take_turns({})


@limited
async def test_they_do_so_on_a_bad_network() -> None:
    await take_turns(ROUGH)


async def take_turns(faults: dict[str, float]) -> None:
    lab, store = OneMac(), MemoryDisk(1 << 20)
    async with (
        lab.serve(store, "e1.0") as one,
        lab.serve(store, "e2.0") as two,
        lab.attach("e1.0", "e2.0", engine=CORE.get(), find_s=2.0, timeout_s=None) as disk,
    ):
        assert one.cables[0].mac == two.cables[0].mac
        await both_known(disk)
        lab.faults(**faults)
        servers, writers = {"e1.0": one, "e2.0": two}, Writers(disk, seed=3)
        writing, owners = asyncio.ensure_future(writers.run(5.5)), [owner(disk)]
        for _ in range(2):
            await asyncio.sleep(0.3)
            dead = servers[owner(disk)]
            await dead.kill()
            await asyncio.sleep(SILENT_S - 1)
            owners.append(owner(disk))
            await dead.start()
            await asyncio.sleep(0.2)
        await writing
        assert writers.faults() == []
        assert owners[0] == owners[2] != owners[1]
        assert writers.pause_s < SILENT_S
        assert len(writers.calls) > 200
