"""A node on a network in memory, with files for disks, and hosts that ask it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aoe.config.values import Config, ExportConfig, TargetConfig
from aoe.link.base import Link
from aoe.link.memory import MemoryLink, Network
from aoe.link.naming import Known
from aoe.node.done import Done
from aoe.node.hands import Live
from aoe.node.links import Names
from aoe.node.node import Node
from aoe.node.opening import InProcess
from aoe.node.state import State
from aoe.target.server import TargetOptions
from aoe.target.target import Target
from tests.disk.helpers import sparse
from tests.serve.initiator import Initiator, NoAnswer, mac
from tests.support.waiting import PATIENCE_S

SECTORS = 64
TARGET = mac(1)
HOSTS = 20
FRAME_AGE_S = 0.5


class MemoryOpener(InProcess):
    """Has interfaces of networks in memory: of `networks` by name, else of the usual one. `changed` tells of
    others."""

    def __init__(self, network: Network) -> None:
        super().__init__(lock_wait_s=0)
        self.network = network
        self.networks: dict[str, Network] = {}
        self.mac = TARGET
        self._watching: list[bytes] = []

    def open_link(self, name: str) -> Link:
        return self.networks.get(name, self.network).attach(self.mac)

    def look(self) -> list[Known]:
        return [Known(name) for name in self.networks or ["m0"]]

    def watching(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        made.bind(b"")
        self._watching.append(made.getsockname())
        return made

    def changed(self) -> None:
        """Some interface."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller:
            for it in self._watching:
                teller.sendto(b"x", it)


class Scene:
    """What a test has in its hands."""

    def __init__(self, work: Path, config: Config) -> None:
        self.work = work
        self.network = Network()
        self.announced: list[str] = []
        (work / "state").mkdir(exist_ok=True)
        self.state = State(work / "state")
        self.opener = MemoryOpener(self.network)
        self.node = Node(work / "file", self.opener, self.state, self._served)
        self.first = config
        self._hosts = HOSTS

    def _served(self, one: Live) -> None:
        self.announced.append(one.config.address)

    async def start(self) -> Done:
        self.node.prepare(self.first)
        links = self.node.open_links(Names(self.first, list))
        return await self.node.start(Target.open(links, TargetOptions(frame_age_s=FRAME_AGE_S)))

    def host(self, slot: int = 0, *, patience_s: float = PATIENCE_S) -> Initiator:
        self._hosts += 1
        link: MemoryLink = self.network.attach(mac(self._hosts))
        return Initiator(link, 1, slot, retransmit_s=min(0.5, patience_s / 4), patience_s=patience_s)

    async def answers(self, slot: int) -> bool:
        try:
            await self.host(slot, patience_s=0.1).config()
        except NoAnswer:
            return False
        return True

    async def apply(self, *exports: ExportConfig, **how: Any) -> Done:
        return await self.node.apply(Config(TARGETED, exports), "a test", **how)

    async def plan(self, *exports: ExportConfig) -> Done:
        return await self.node.plan(Config(TARGETED, exports))

    @property
    def addresses(self) -> list[str]:
        return sorted(export.address for export in self.node.target.exports)

    def states(self) -> dict[str, str]:
        return {it.address: it.state for it in self.node.status().exports}

    async def until(self, slot: int, there: bool = True) -> None:
        async with asyncio.timeout(30):
            while await self.answers(slot) is not there:
                await asyncio.sleep(0.05)


TARGETED = TargetConfig(interfaces=("m0",), max_frame_age=FRAME_AGE_S)


def image(work: Path, name: str) -> str:
    """A disk."""
    path = work / name
    if not path.exists():
        sparse(path, SECTORS)
    return str(path)


def export(work: Path, name: str, slot: int = 0, **said: Any) -> ExportConfig:
    """One that has its disk."""
    return ExportConfig(path=image(work, name), shelf=1, slot=slot, **said)


@asynccontextmanager
async def scene(work: Path, *exports: ExportConfig) -> AsyncIterator[Scene]:
    """A node that serves these from the start."""
    made = Scene(work, Config(TARGETED, exports))
    await made.start()
    try:
        yield made
    finally:
        await made.node.stop()
