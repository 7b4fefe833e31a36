"""What serves an image is killed while its disk goes on in an overlay, as when a snapshot is cut."""

import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aoe import limits
from aoe.image.daemon import Daemon
from aoe.image.qmp import Qmp
from aoe.image.serving import Images
from aoe.image.user import reader
from tests.image.daemons import kill_daemon
from tests.image.test_merging import BLOCK, MIB, STATES, content, content_of, prepared, qemu_io
from tests.image.test_serving import create, wanted
from tests.support.waiting import PATIENCE_S

__all__ = ["prepared", "qemu_io"]
pytestmark = pytest.mark.usefixtures("programs")

KEPT = STATES[3][:5] + b"\5"
"""What is acknowledged before the cut."""


@pytest.mark.parametrize("merging", [False, True])
def test_killed_anywhere_the_disk_and_what_it_was_are_right(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, merging: bool
) -> None:
    """Before each thing that it is asked for, also where that gives up what is merged."""
    monkeypatch.setattr(limits, "IMAGE_MERGED_BYTES_PER_S", 1)
    at = 0
    while killed(prepared, tmp_path / str(at), at, monkeypatch, merging=merging):
        at += 1
    assert at > (6 if merging else 3)


def test_a_kill_finds_a_disk_that_goes_on_in_what_was_kept(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Daemon, "switch", lambda _, chain: chain.close())
    with pytest.raises(AssertionError):
        killed(prepared, tmp_path / "planted", 0, monkeypatch, merging=False)


def killed(prepared: Path, directory: Path, at: int, patch: pytest.MonkeyPatch, *, merging: bool) -> bool:
    """Whether so much was asked for."""
    shutil.copytree(prepared, directory)
    top, asked = directory / "d", [0]
    with closing(Images(reader())) as images:
        told, fd = images.open(wanted(top, name="volume", patience_s=PATIENCE_S))
        os.pwrite(fd, KEPT[5:], 5 * BLOCK)
        os.fdatasync(fd)
        if merging:
            assert images.merge(str(directory / "c"), str(directory / "a")) != 1
        over = create(directory / "over", "-b", top.name, "-F", "qcow2", size=MIB)
        asking = Qmp.do

        def do(self: Qmp, verb: str, **arguments: Any) -> Any:
            asked[0] += 1
            if asked[0] == at + 1:
                kill_daemon(top)
            return asking(self, verb, **arguments)

        with patch.context() as patched:
            patched.setattr(Qmp, "do", do)
            images.switch("volume", str(over))
        fd = images.again(told.image)[1] if asked[0] > at else fd
        check_goes_on(fd, top, b"\6")
    with closing(Images(reader())) as images:
        _, fd = images.open(wanted(over, name="volume", patience_s=PATIENCE_S))
        assert content(fd) == KEPT[:5] + b"\6"
        check_goes_on(fd, top, b"\7")
    return asked[0] > at


def check_goes_on(fd: int, top: Path, byte: bytes) -> None:
    assert content(fd)[:5] == KEPT[:5]
    os.pwrite(fd, byte, 5 * BLOCK)
    os.fdatasync(fd)
    assert content(fd) == KEPT[:5] + byte
    assert content_of(top) == KEPT
