"""Disks that are not what they were while they are served: read-only for the kernel, replaced, gone, back."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.disk.helpers import noise
from tests.node.scene import SECTORS, export, image, scene
from tests.serve.initiator import AtaFailed
from tests.support.labs.fault_disk import loop_device
from tests.support.tools import need, tool

ABORTED = 0x04


@contextmanager
def protected(device: Path) -> Iterator[Path]:
    """One that the kernel has read-only."""
    need("blockdev")
    tool("blockdev", "--setro", device)
    try:
        yield device
    finally:
        tool("blockdev", "--setrw", device)


def test_one_that_is_read_only_for_the_kernel_is_served_on_by_each_apply(tmp_path: Path) -> None:
    """The file does not say read-only: that is no reason to open it anew, or not to do the rest."""

    async def run(device: Path) -> None:
        one = export(tmp_path, str(device))
        async with scene(tmp_path, one) as here:
            (served,) = here.node.target.exports
            (status,) = here.node.status().exports
            assert (status.state, status.read_only) == ("serving", True)
            assert (await here.apply(one)).sentences == ["nothing to do"]
            lazy = export(tmp_path, str(device), durability="write-back")
            assert (await here.apply(lazy)).exit == 0
            assert here.node.target.exports == [served]
            with pytest.raises(AtaFailed) as refused:
                await here.host().write(0, noise(1))
            assert refused.value.reply.error == ABORTED

    image(tmp_path, "disk")
    with loop_device(tmp_path / "disk") as device, protected(device):
        asyncio.run(run(device))
    assert (tmp_path / "disk").read_bytes() == bytes(SECTORS * 512)
