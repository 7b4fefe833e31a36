"""Images that would have qemu-img read what it is not to: nothing of that comes through."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aoe.errors import ConfigurationError, PoolError
from aoe.pool import qemu_img
from aoe.pool.names import Foreign
from aoe.pool.qemu_img import Layer, convert, examined
from aoe.sandbox.qemu_img import name_of
from tests.support.tools import need, tool

SECRET = "root:secret:0:0\n" * 40
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _qemu() -> None:
    need("qemu-img")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    return file


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def copied(image: Path, form: Foreign, to: Path) -> bytes:
    """What comes out of a copy that looks at nothing beforehand."""
    to.touch()
    with opened(image) as fd, opened(to, os.O_RDWR) as target:
        os.ftruncate(target, MIB)
        convert(name_of(fd), form, (fd,), Layer(target, "raw"), MIB, lambda _: None)
    return to.read_bytes()


def over(secret: Path, image: Path) -> None:
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", secret, "-F", "raw", image, "1M")


def json_over(secret: Path, image: Path) -> None:
    base = "json:" + json.dumps({"driver": "raw", "file": {"driver": "file", "filename": str(secret)}})
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", base, "-F", "raw", image, "1M")


def with_data_file(secret: Path, image: Path) -> None:
    own = image.with_name("data")
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={own},data_file_raw=on", image, "1M")
    own.unlink()
    own.symlink_to(secret)


def by_url(_: Path, image: Path) -> None:
    base = "http://127.0.0.1:9/secret"
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", base, "-F", "raw", image, "1M")


CRAFTED = {"base": over, "json": json_over, "data file": with_data_file, "URL": by_url}


@pytest.mark.parametrize("how", CRAFTED)
def test_a_crafted_image_gets_nothing(how: str, secret: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.qcow2"
    CRAFTED[how](secret, image)
    with (
        opened(image) as fd,
        pytest.raises((ConfigurationError, PoolError), match=r"image\.qcow2") as refused,
    ):
        examined(fd, "qcow2", "raw", "image.qcow2")
    assert "root:secret" not in str(refused.value)
    with pytest.raises(PoolError):  # nor where it is not looked at
        copied(image, "qcow2", tmp_path / "copy")
    assert b"root" not in (tmp_path / "copy").read_bytes()


def test_what_only_names_another_image_is_refused_with_the_remedy(secret: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.qcow2"
    over(secret, image)
    with opened(image) as fd, pytest.raises(ConfigurationError, match="make one image of it first: qemu-img"):
        examined(fd, "qcow2", "raw", "image.qcow2")


def test_a_descriptor_of_vmdk_that_names_a_file_gets_nothing(secret: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.vmdk"
    image.write_text(
        '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
        f'RW 1 FLAT "{secret}" 0\n#DDB\nddb.adapterType = "ide"\n'
    )
    with opened(image) as fd, pytest.raises(PoolError, match="no sound vmdk image"):
        examined(fd, "vmdk", "raw", "image.vmdk")


def test_a_word_that_begins_as_json_is_a_name() -> None:
    with pytest.raises(PoolError, match=r"Permission denied|No such file"):
        qemu_img.run("info", "-f", "raw", "/etc/passwd")


def test_a_sound_image_is_copied(tmp_path: Path) -> None:
    raw, image = tmp_path / "raw", tmp_path / "image.qcow2"
    raw.write_bytes(bytes(65536) + b"x" * 65536 + bytes(MIB - 131072))
    tool("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, image)
    with opened(image) as fd:
        facts = examined(fd, "qcow2", "raw", "image.qcow2")
    assert facts.size == MIB
    assert 65536 <= facts.needed <= MIB
    assert copied(image, "qcow2", tmp_path / "copy") == raw.read_bytes()


def test_progress_is_told(tmp_path: Path) -> None:
    raw, to = tmp_path / "raw", tmp_path / "to"
    raw.write_bytes(b"x" * 8 * MIB)
    to.touch()
    told: list[float] = []
    with opened(raw) as fd, opened(to, os.O_RDWR) as target:
        os.ftruncate(target, 8 * MIB)
        convert(name_of(fd), "raw", (fd,), Layer(target, "raw"), 8 * MIB, told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.parametrize("harm", ["cut", "header", "table"])
def test_a_damaged_image_is_refused(harm: str, tmp_path: Path) -> None:
    raw, image = tmp_path / "raw", tmp_path / "image.qcow2"
    raw.write_bytes(b"x" * 2 * MIB)
    tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image)
    with image.open("r+b") as file:
        if harm == "cut":
            file.truncate(image.stat().st_size // 2)
        else:
            file.seek(24 if harm == "header" else 3 * 65536)
            file.write(b"\xff" * 40)
    with (
        opened(image) as fd,
        pytest.raises(PoolError, match=r"^image is no sound qcow2 image: \S") as refused,
    ):
        examined(fd, "qcow2", "raw", "image")
    assert "\n" not in str(refused.value)


def test_chains_of_a_pool_are_named_by_it_and_not_by_the_images(secret: Path, tmp_path: Path) -> None:
    base, top = tmp_path / "base.raw", tmp_path / "top.qcow2"
    base.write_bytes(b"b" * MIB)
    over(secret, top)
    to = tmp_path / "copy"
    to.touch()
    with opened(top) as one, opened(base) as other, opened(to, os.O_RDWR) as target:
        os.ftruncate(target, MIB)
        named = qemu_img.opened([Layer(one, "qcow2"), Layer(other, "raw")], MIB)
        convert(named, "qcow2", (one, other), Layer(target, "raw"), MIB, lambda _: None)
    assert to.read_bytes() == base.read_bytes()
