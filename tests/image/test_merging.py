"""Layers of an image that is served take what they need of those below; its bytes are right all the time."""

import os
import shutil
import signal
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from aoe import limits
from aoe.errors import ConfigurationError
from aoe.image.graph import Graph
from aoe.image.qmp import Qmp
from aoe.image.serving import Images, _key
from aoe.image.user import reader
from tests.image.daemons import daemon_of
from tests.image.test_serving import create, wanted
from tests.pool.test_killed import fill_up
from tests.support.labs.fault_disk import small_filesystem
from tests.support.tools import need, tool
from tests.support.waiting import PATIENCE_S, wait_for

BLOCK, MIB = 65536, 1 << 20
LAYERS = "abcd"
"""From the bottom up; the last one is the top, which is served."""
STATES = (b"\1\1\0\0\0\0", b"\2\1\2\0\0\0", b"\3\1\2\3\0\0", b"\4\1\2\3\4\0")
"""First bytes of blocks, as each layer has them with what is below it."""


pytestmark = pytest.mark.usefixtures("programs")


@pytest.fixture(autouse=True)
def qemu_io() -> None:
    need("qemu-io")


def layered(directory: Path) -> Path:
    """Layers with a block of their own each, and one that is written again; the top."""
    below: list[str | Path] = []
    for number, name in enumerate(LAYERS, 1):
        path = create(directory / name, *below, size=MIB)
        writes = [word for it in (0, number) for word in ("-c", f"write -P {number} {it * BLOCK} {BLOCK}")]
        tool("qemu-io", "-f", "qcow2", *writes, path)
        below = ["-b", name, "-F", "qcow2"]
    return directory / LAYERS[-1]


def content(fd: int) -> bytes:
    return bytes(os.pread(fd, 1, it * BLOCK)[0] for it in range(6))


def content_of(path: Path) -> bytes:
    """What it is by what stands in the files."""
    raw = path.with_name("raw")
    tool("qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", path, raw)
    data = raw.read_bytes()
    return bytes(data[it * BLOCK] for it in range(6))


def below(path: Path) -> str:
    for line in tool("qemu-img", "info", "-U", path).splitlines():
        name, _, value = line.partition(": ")
        if name == "backing file":
            return value.partition(" ")[0]
    return ""


def merge(images: Images, layer: Path, base: str) -> bool:
    """To its end; whether there was anything to do at first."""
    parts = []

    def is_whole() -> bool:
        parts.append(images.merge(str(layer), str(layer.with_name(base)) if base else ""))
        assert parts[-1] is not None
        return parts[-1] == 1

    wait_for(is_whole)
    return len(parts) > 1


@pytest.mark.parametrize(("layer", "base"), [("c", "a"), ("c", ""), ("b", "")])
def test_a_layer_takes_what_it_needs(images: Images, tmp_path: Path, layer: str, base: str) -> None:
    top = layered(tmp_path)
    told, fd = images.open(wanted(top))
    assert merge(images, tmp_path / layer, base)
    os.pwrite(fd, b"\5", 5 * BLOCK)
    os.fdatasync(fd)
    gone = LAYERS[LAYERS.find(base) + 1 : LAYERS.index(layer)]
    assert below(tmp_path / layer) == base
    for it in gone:
        (tmp_path / it).unlink()
    assert content(fd) == STATES[3][:5] + b"\5"
    assert not merge(images, tmp_path / layer, base), "it has been"
    images.release(told.image.rpartition(":")[0])
    for it, state in zip(LAYERS[:-1], STATES, strict=False):
        assert it in gone or content_of(tmp_path / it) == state
    _, fd = images.open(wanted(top))
    assert content(fd) == STATES[3][:5] + b"\5"


def test_one_after_the_other_with_overlays_between(images: Images, tmp_path: Path) -> None:
    """As snapshots are cut and deleted: more of them than layers that an image may have."""
    top = layered(tmp_path)
    told, fd = images.open(wanted(top, name="volume"))
    layers, daemon = [tmp_path / it for it in LAYERS], daemon_of(top)
    for number in range(limits.POOL_CHAIN_MAX - 2):
        over = create(tmp_path / f"over{number}", "-b", layers[-1].name, "-F", "qcow2", size=MIB)
        images.switch("volume", str(over))
        layers.append(over)
        os.pwrite(fd, bytes([number]), 5 * BLOCK)
        os.fdatasync(fd)
        assert merge(images, layers[2], layers[0].name)
        layers.pop(1).unlink()
    assert content(fd) == STATES[3][:5] + bytes([limits.POOL_CHAIN_MAX - 3])
    assert daemon_of(layers[-1]) == daemon, "it is the same process"
    images.release("volume")
    assert content_of(layers[-1])[5] == limits.POOL_CHAIN_MAX - 3
    assert told.image


def test_an_overlay_comes_in_the_middle(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is under way is given up, and begun again."""
    monkeypatch.setattr(limits, "IMAGE_MERGED_BYTES_PER_S", 1)
    top = layered(tmp_path)
    _, fd = images.open(wanted(top, name="volume"))
    daemon = daemon_of(top)
    for _ in range(2):
        assert images.merge(str(tmp_path / "c"), str(tmp_path / "a")) != 1
    over = create(tmp_path / "over", "-b", "d", "-F", "qcow2", size=MIB)
    images.switch("volume", str(over))
    os.pwrite(fd, b"\5", 5 * BLOCK)
    monkeypatch.undo()
    assert merge(images, tmp_path / "c", "a")
    assert (content(fd), daemon_of(over)) == (STATES[3][:5] + b"\5", daemon)
    assert content_of(tmp_path / "d") == STATES[3]


def test_what_clients_write_and_what_several_read_is_left_as_it_is(images: Images, tmp_path: Path) -> None:
    """A layer that only one reads is merged, also where that is the top of what is served."""
    top = layered(tmp_path)
    images.open(wanted(top))
    told, fd = images.open(wanted(tmp_path / "c", read_only=True))
    assert images.merge(str(create(tmp_path / "other")), "") is None, "nothing serves it"
    with pytest.raises(
        ConfigurationError, match="d is what clients write; cut it, or take it out of service"
    ):
        images.merge(str(top), str(tmp_path / "a"))
    with pytest.raises(ConfigurationError, match="is read by 2 exports; it is merged once one is left"):
        images.merge(str(tmp_path / "c"), str(tmp_path / "a"))
    with pytest.raises(ConfigurationError, match="what serves it has ended, or was changed; try again"):
        images.merge(str(top), str(tmp_path / "other"))
    images.release(images.open(wanted(top))[0].image.rpartition(":")[0])
    images.release(_key(top))
    assert merge(images, tmp_path / "c", "a")
    assert content(fd) == STATES[2]
    assert told.image


def test_a_full_store_leaves_it_as_it_is_until_there_is_room(images: Images, tmp_path: Path) -> None:
    with small_filesystem("ext4", tmp_path / "srv", 8 * MIB) as store:
        top = layered(store)
        told, fd = images.open(wanted(top))
        fill_up(store / "filler")
        os.truncate(store / "filler", (store / "filler").stat().st_size - BLOCK)
        with pytest.raises(ConfigurationError, match="No space left"):
            merge(images, store / "c", "a")
        assert content(fd) == STATES[3]
        (store / "filler").unlink()
        assert merge(images, store / "c", "a")
        assert content(fd) == STATES[3]
        images.release(told.image.rpartition(":")[0])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("qemu-img", "qemu-io")
    directory = tmp_path_factory.mktemp("prepared")
    layered(directory)
    return directory


def test_killed_anywhere_every_state_is_right(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What serves it, before each thing that it is asked for; then it is served again, as it was opened or
    anew, and merged."""
    at = 0
    while killed(prepared, tmp_path / str(at), at, monkeypatch):
        at += 1
    assert at > 6


def test_a_kill_finds_what_was_not_stable(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the image says that it needs its base no more, and lacks what it has copied."""
    reopening = Graph._reopen

    def only_to_begin(self: Graph, at: int, *, is_fixed: bool | None = None) -> None:
        if not self._do("query-jobs"):
            reopening(self, at, is_fixed=is_fixed)

    monkeypatch.setattr(Graph, "_reopen", only_to_begin)
    with pytest.raises(AssertionError):
        killed(prepared, tmp_path / "planted", 3, monkeypatch)


def killed(prepared: Path, directory: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether so much was asked for."""
    shutil.copytree(prepared, directory)
    top, layer, count = directory / "d", directory / "c", [0]
    with closing(Images(reader())) as images:
        told, _ = images.open(wanted(top, name="volume", patience_s=PATIENCE_S))
        asking = Qmp.do

        def do(self: Qmp, verb: str, **arguments: Any) -> Any:
            count[0] += verb != "query-jobs"
            if count[0] == at + 1:
                os.kill(daemon_of(top), signal.SIGKILL)
            return asking(self, verb, **arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Qmp, "do", do)
            with suppress(ConfigurationError):
                merge(images, layer, "a")
        assert content_of(layer) == STATES[2]
        if at % 2:
            check_merges(images, images.again(told.image)[1], layer)
    with closing(Images(reader())) as images:
        check_merges(images, images.open(wanted(top, patience_s=PATIENCE_S))[1], layer)
    return count[0] > at


def check_merges(images: Images, fd: int, layer: Path) -> None:
    assert content(fd) == STATES[3]
    merge(images, layer, "a")
    assert content(fd) == STATES[3]
    assert content_of(layer) == STATES[2]
