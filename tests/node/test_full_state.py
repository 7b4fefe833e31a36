"""The state directory has no room: a change that needs it is refused in one line, what is served stays."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from aoe.errors import ConfigurationError
from aoe.node.state import State
from aoe.wire.config import ConfigCommand
from tests.disk.helpers import noise
from tests.node.scene import Scene, export, scene
from tests.serve.initiator import Refused, mac
from tests.support.labs.fault_disk import small_tmpfs

FULL = "cannot keep state in {}: No space left on device; give a writable --state-dir"


@contextmanager
def full(state: Path) -> Iterator[None]:
    """Until the end of the block."""
    ballast = state / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        ballast.unlink()


async def assert_untouched(here: Scene, served: list[object]) -> None:
    host = here.host()
    await host.write(3, noise(1))
    assert await host.read(3) == noise(1)
    assert [it for it in here.node.target.exports if it in served] == served


def test_nothing_that_is_served_needs_room(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run(state: Path) -> None:
        one, other = export(tmp_path, "a"), export(tmp_path, "b", 1)
        async with scene(tmp_path, one) as here:
            served: list[object] = list(here.node.target.exports)
            number = here.state.number
            with full(state):
                done = await here.apply(one, other)
                assert (done.exit, here.states()) == (1, {"e1.0": "serving", "e1.1": "failed"})
                assert [it.sentence for it in done.failed] == [f"e1.1: {FULL.format(state)}"]
                with pytest.raises(ConfigurationError, match="the state directory takes no change"):
                    await here.node.target.restate(1, 0, mask=(mac(9),))
                with pytest.raises(Refused) as refused:
                    await here.host().config(ConfigCommand.FORCE_SET, b"new")
                assert refused.value.code == 3
                await assert_untouched(here, served)
            assert (await here.apply(one, other)).exit == 0
            assert here.states() == {"e1.0": "serving", "e1.1": "serving"}
            assert here.state.number > number
            await assert_untouched(here, served)

    with small_tmpfs(tmp_path / "state", 1 << 18) as state:
        asyncio.run(run(state))
    lines = [it for it in caplog.messages if "the number of this change is not kept" in it]
    assert lines
    assert all(it.endswith("No space left on device") for it in lines)


def test_a_restart_needs_none(tmp_path: Path) -> None:
    async def run(state: Path) -> None:
        one = export(tmp_path, "a")
        async with scene(tmp_path, one):
            pass
        with full(state):
            async with scene(tmp_path, one) as here:
                assert here.states() == {"e1.0": "serving"}
                await assert_untouched(here, list(here.node.target.exports))

    with small_tmpfs(tmp_path / "state", 1 << 18) as state:
        asyncio.run(run(state))


def test_the_number_of_a_change_that_is_not_kept_counts_on(tmp_path: Path) -> None:
    with small_tmpfs(tmp_path / "state", 1 << 16) as state:
        kept = State(state)
        kept.count()
        with full(state):
            kept.count()
            assert kept.number == 2
        kept.count()
        assert State(state).number == 3
