"""The config string as its target tests it: an answer is a yes, silence is a no (AoEr11 section 3.2)."""

import asyncio

import pytest

from aoe import timing
from aoe.disk.memory import MemoryDisk
from aoe.errors import OutOfRangeError, Unreachable
from aoe.wire.config import ConfigCommand
from aoe.wire.frame import Command
from tests.initiator.helpers import limited
from tests.initiator.test_multipath import SIZE, Pair, owner, pair, states
from tests.initiator.test_remote import attached
from tests.link.collector import until


def copies_sent(there: Pair, command: ConfigCommand) -> int:
    """Copies of a config query of a kind that the client put on the wire."""
    sent = [raw for port in there.ports for raw in port.sent]
    return sum(raw[19] == Command.CONFIG and raw[29] & 0xF == command for raw in sent)


@limited
async def test_only_the_whole_string_or_a_prefix_of_it_matches() -> None:
    async with attached() as (remote, _, _):
        await remote.admin.set_config(b"rack 3")
        assert await remote.admin.test_config(b"rack 3")
        assert await remote.admin.test_config(b"rack", prefix=True)
        assert await remote.admin.test_config(b"", prefix=True)
        wrong = [(b"rack", False), (b"rack 33", True), (b"ack", True), (b"", False)]
        asked = (remote.admin.test_config(text, prefix=prefix) for text, prefix in wrong)
        assert await asyncio.gather(*asked) == [False] * len(wrong)
        with pytest.raises(OutOfRangeError, match="1024"):
            await remote.admin.test_config(bytes(1025))


@limited
async def test_silence_takes_a_second_and_costs_no_path() -> None:
    async with pair() as (remote, there):
        before = owner(remote)
        clock = asyncio.get_running_loop().time
        started = clock()
        assert not await remote.admin.test_config(b"another")
        assert timing.CONFIG_TEST_S <= clock() - started < timing.CONFIG_TEST_S + 0.5
        assert copies_sent(there, ConfigCommand.TEST) > 2, "it was sent again"
        assert (owner(remote), states(remote)) == (before, ["usable", "usable"])
        await remote.write(0, b"x" * 512)


@limited
async def test_a_lost_frame_is_not_a_no() -> None:
    async with attached(lose=0.1) as (remote, spy, _):
        await remote.admin.set_config(b"mine")
        for _ in range(20):
            assert await remote.admin.test_config(b"mine")
        assert spy.counters["fault_lost"] > 0


@limited
async def test_every_server_has_to_match() -> None:
    async with pair(*(MemoryDisk(SIZE) for _ in range(2))) as (remote, there):
        await remote.admin.set_config(b"one")
        assert await remote.admin.test_config(b"one")
        there.ports[1].plug(False)
        await remote.admin.set_config(b"two", force=True)
        there.ports[1].plug(True)
        await until(lambda: states(remote) == ["usable", "usable"])
        assert not await remote.admin.test_config(b"one")
        assert not await remote.admin.test_config(b"two")


@pytest.mark.parametrize("timeout_s", [0.3, 1.5])
def test_who_is_silent_to_everything_has_not_said_no(timeout_s: float) -> None:
    """Whether the disk's own limit comes before that of the test, or after it."""

    @limited
    async def run() -> None:
        async with attached(timeout_s=timeout_s) as (remote, spy, _):
            assert not await remote.admin.test_config(b"another")
            spy.lose = 1.0
            with pytest.raises(Unreachable):
                await remote.admin.test_config(b"another")

    run()
