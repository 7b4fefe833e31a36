"""A file that is wrong is refused with all that is wrong with it, and a node that serves changes nothing."""

import asyncio
from pathlib import Path

import pytest

from aoe.cli.wanted import Wanted
from aoe.config.faults import ConfigErrors
from tests.config.test_read import WRONG
from tests.disk.helpers import noise
from tests.node.scene import export, scene


def test_no_wrong_file_changes_anything(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a"), export(tmp_path, "b", 1)) as here:
            texts: list[bytes] = []
            wanted = Wanted(Path("f.toml"), lambda: texts[-1], lambda: ())
            await here.host().write(3, noise(1))
            exports, before = list(here.node.target.exports), here.node.status()
            for text, messages in WRONG:
                texts.append(f"{text}\n".encode())
                for ways in (wanted.applied, wanted.reloaded):
                    with pytest.raises(ConfigErrors) as refused:
                        await here.node.apply(ways, "a test", remove=True)
                    assert refused.value.lines == messages.strip().split("\n")
                assert here.node.target.exports == exports
            after = here.node.status()
            assert (after.number, after.interfaces, here.states()) == (
                before.number,
                before.interfaces,
                {"e1.0": "serving", "e1.1": "serving"},
            )
            assert await here.host().read(3) == noise(1)

    asyncio.run(run())
