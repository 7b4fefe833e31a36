"""One link for many users: each has the frames of its address."""

import asyncio
from typing import Any

import pytest

from aoe import limits
from aoe.link.base import Link, Listener
from aoe.link.memory import MemoryLink, Network
from aoe.link.split import Branch, SplitLink
from aoe.wire import config, frame
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import FLAG_RESPONSE, Command, Header

HERE, THERE = b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2"


def reply(shelf: int, slot: int, tag: int = 0) -> bytes:
    header = Header(HERE, THERE, 1, FLAG_RESPONSE, 0, shelf, slot, Command.CONFIG, tag)
    return frame.encode(header, config.encode(Config(ConfigCommand.READ)))


class Heard(Listener):
    """Takes what there is."""

    def __init__(self, branch: Branch) -> None:
        self.frames: list[bytes] = []
        self.changes: list[bool] = []
        branch.start(self)

    def ready(self, link: Link) -> None:
        self.frames += [it.frame for it in link.take().frames]

    def changed(self, link: Link, came_up: bool) -> None:
        self.changes.append(came_up)


class Ends:
    """Our end, split, and a server's."""

    def __init__(self) -> None:
        network = Network()
        self.link: MemoryLink = network.attach(HERE)
        self.server: MemoryLink = network.attach(THERE)
        self.trunk = SplitLink(self.link)

    async def say(self, *frames: bytes) -> None:
        for it in frames:
            self.server.send(it)
        for _ in range(50):  # looks that each take a part
            await asyncio.sleep(0)


def run(scenario: Any) -> None:
    async def inside() -> None:
        await scenario(Ends())

    asyncio.run(inside())


def test_each_hears_its_address_and_one_hears_all() -> None:
    async def scenario(ends: Ends) -> None:
        one, other = Heard(ends.trunk.branch((1, 0))), Heard(ends.trunk.branch((2, 0)))
        everything = Heard(ends.trunk.branch(None))
        await ends.say(reply(1, 0), reply(2, 0), reply(3, 0), b"\0" * 60)
        assert (one.frames, other.frames) == ([reply(1, 0)], [reply(2, 0)])
        assert everything.frames == [reply(1, 0), reply(2, 0), reply(3, 0)]

    run(scenario)


def test_more_than_a_batch_arrives_and_who_does_not_take_is_bounded() -> None:
    async def scenario(ends: Ends) -> None:
        heard = Heard(ends.trunk.branch((1, 0)))
        count = 3 * limits.RECEIVE_BATCH
        await ends.say(*(reply(1, 0, tag) for tag in range(count)))
        assert heard.frames == [reply(1, 0, tag) for tag in range(count)]
        silent = ends.trunk.branch((2, 0))
        await ends.say(*(reply(2, 0, tag) for tag in range(8)))
        late = Heard(silent)
        await ends.say(reply(2, 0, 9))
        assert late.frames == [reply(2, 0, 9)], "what came before anybody listened is nobody's"

    run(scenario)


def test_an_address_has_a_user_again_when_the_first_left() -> None:
    async def scenario(ends: Ends) -> None:
        first = ends.trunk.branch((1, 0))
        with pytest.raises(AssertionError):
            ends.trunk.branch((1, 0))
        first.close()
        again = Heard(ends.trunk.branch((1, 0)))
        await ends.say(reply(1, 0))
        assert again.frames == [reply(1, 0)]

    run(scenario)


def test_changes_of_the_link_reach_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(ends: Ends) -> None:
        branch = ends.trunk.branch((1, 0))
        heard = Heard(branch)
        ends.link.plug(False)
        assert (branch.up, heard.changes) == (False, [False])
        ends.link.mac = b"\x02\0\0\0\0\7"
        ends.link.plug(True)
        assert (branch.up, heard.changes, branch.mac) == (True, [False, True], b"\x02\0\0\0\0\7")

    run(scenario)


def test_who_closes_his_branch_while_it_is_told_hears_no_more() -> None:
    async def scenario(ends: Ends) -> None:
        branch = ends.trunk.branch((1, 0))

        class Once(Heard):
            def ready(self, link: Link) -> None:
                super().ready(link)
                link.close()

        heard = Once(branch)
        await ends.say(reply(1, 0), reply(1, 0))
        await ends.say(reply(1, 0))
        assert 1 <= len(heard.frames) <= 2

    run(scenario)
