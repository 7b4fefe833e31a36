"""A disk is made of a descriptor and facts alone, wherever these come from."""

import asyncio
import os
from pathlib import Path
from typing import NoReturn

import pytest

from aoe.disk.file import FileDisk
from aoe.disk.open import Opening, disk_of, open_store
from aoe.disk.opened import Opened
from tests.disk.helpers import filled, opened, read, sparse, write
from tests.support.labs.fault_disk import loop_device

FACTS = (
    "size",
    "block",
    "physical_block",
    "alignment",
    "read_only",
    "protected",
    "trims",
    "trim_zeroes",
    "identity",
    "store_name",
    "direct",
    "in_memory",
    "remote",
    "device",
    "tail",
)
WAYS = [
    Opening(),
    Opening(direct=True),
    Opening(read_only=True),
    Opening(offset=9, length=100),
    Opening(offset=16),
]


def sent(found: Opened) -> Opened:
    """What another process has of it: another descriptor, the same facts."""
    store = found.store
    copy = found._replace(store=store._replace(fd=os.dup(store.fd)))
    os.close(store.fd)
    return copy


def facts(disk: FileDisk) -> dict[str, object]:
    return {name: getattr(disk, name) for name in FACTS}


def refuses(*_: object, **__: object) -> NoReturn:
    raise AssertionError("a disk that is made of what is open opens nothing")


def of_what_was_sent(path: Path, how: Opening, monkeypatch: pytest.MonkeyPatch) -> FileDisk:
    found = sent(open_store(path, how))
    with monkeypatch.context() as confined:
        confined.setattr(os, "open", refuses)
        confined.setattr(Path, "open", refuses)
        confined.setattr(Path, "resolve", refuses)
        confined.setattr(Path, "read_text", refuses)
        return disk_of(found)


@pytest.mark.parametrize("how", WAYS)
def test_a_file_that_was_opened_elsewhere_is_the_same_disk(
    how: Opening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = filled(tmp_path / "disk", 256)
    with opened(tmp_path / "disk", how) as here:
        known = facts(here)
    disk = of_what_was_sent(tmp_path / "disk", how, monkeypatch)
    try:
        assert facts(disk) == known
        assert read(disk, 3, 4) == data[(how.offset + 3) * 512 :][: 4 * 512]
    finally:
        disk.close()


def test_so_is_a_block_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with loop_device(sparse(tmp_path / "file", 2048), sector_size=4096) as device:
        with opened(device, Opening()) as here:
            known = facts(here)
        disk = of_what_was_sent(device, Opening(), monkeypatch)
        try:
            assert facts(disk) == known
            assert disk.block == 4096
            write(disk, 8, bytes([7]) * 4096)
            asyncio.run(disk.trim(8 * 512, 4096))
            assert read(disk, 8, 8) == bytes(4096)
        finally:
            disk.close()
