"""Two processes on one interface, each of them at an address of its own of one disk: two servers, one MAC."""

import asyncio
from functools import partial
from pathlib import Path

import pytest

import aoe
from tests.net.test_initiator import CLIENTS
from tests.support.checkers.writers import Writers
from tests.support.labs.network import Lab, in_namespace
from tests.support.labs.peers import AoeTarget, image
from tests.support.waiting import at_best

ADDRESSES = ("e1.0", "e2.0")
SILENT_S = 3.0


def server(lab: Lab, work: Path, store: Path, number: int) -> AoeTarget:
    words = (f"{store}={number}.0", "--shared", "--serial", "ONE")
    return AoeTarget(lab, work, *words, state_dir=work / f"state-{number}")


async def write_while_it_dies(servers: dict[str, AoeTarget], client: str) -> Writers:
    """Writers of a disk whose owner is killed under them."""
    async with aoe.attach(*ADDRESSES, interface="v0", engine=client, find_s=2.0, timeout_s=None) as disk:
        while [path.state for path in disk.paths] != ["usable", "usable"]:
            await asyncio.sleep(0.01)
        (owner,) = (name for path in disk.paths for name in ADDRESSES if path.owner and name in path.name)
        writers = Writers(disk)
        writing = asyncio.ensure_future(writers.run(4.0))
        await asyncio.sleep(0.5)
        servers[owner].kill()
        await writing
        assert sorted(path.state for path in disk.paths) == ["down", "usable"]
        return writers


@pytest.mark.parametrize("client", CLIENTS, ids=CLIENTS.get)
def test_one_takes_over_from_the_other(client: str, lab: Lab, tmp_path: Path) -> None:
    """Catches a client that knows a server by its MAC alone, and a target that answers for the process beside
    it: then both are lost with one, or what a writer reads cannot be explained."""
    store = image(tmp_path / "disk", 8192)
    with server(lab, tmp_path, store, 1) as one, server(lab, tmp_path, store, 2) as two:
        servers = dict(zip(ADDRESSES, (one, two), strict=True))

        def tried() -> None:
            for it in servers.values():
                if not it.alive:
                    it.start()
            call = partial(asyncio.run, write_while_it_dies(servers, client))
            writers = in_namespace(lab.namespace("client"), call)
            if writers.faults():
                pytest.fail(f"{writers.faults()}")
            assert writers.pause_s < SILENT_S
            assert len(writers.calls) > 200

        at_best(tried, 3)
