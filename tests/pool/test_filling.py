"""Whole images into a pool, out of it, and as templates."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from aoe.disk import syscalls
from aoe.errors import AoeError, ConfigurationError, PoolError
from aoe.pool import filling, qemu_img
from aoe.pool.directory import Directory
from aoe.pool.names import Foreign, Format
from aoe.pool.requests import Clone, Create, Cut, Delete, Resize, Rollback
from aoe.pool.room import Room
from aoe.pool.work import Work
from tests.pool.pools import MIB, SIZE, files, first, is_whole, with_base, working, write
from tests.support.tools import need, tool
from tests.support.waiting import wait_for


@pytest.fixture(autouse=True)
def _qemu() -> None:
    need("qemu-img")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A raw one of 8 MiB with a little in it."""
    file = tmp_path / "disk.img"
    with file.open("wb") as it:
        it.write(b"a" * 70000)
        it.seek(5 * MIB)
        it.write(b"b" * MIB)
        it.truncate(8 * MIB)
    return file


def told(_: float) -> None:
    """Of nothing."""


def bring(
    work: Work, image: Path, volume: str = "new", form: Foreign | None = None, to: Format | None = None
) -> None:
    with filling.source(image, form) as of, filling.imported(work, of, volume, to, told) as made:
        made.done_by(work)


def template(work: Work, volume: str) -> None:
    with filling.template(work, volume, told) as made:
        made.done_by(work)


def content(work: Work, volume: str, tmp_path: Path) -> bytes:
    file = tmp_path / "content"
    filling.save(work, volume, "", file, "raw", told)
    found = file.read_bytes()
    file.unlink()
    return found


def free(pool: Path) -> int:
    os.sync()
    return shutil.disk_usage(pool).free


def refusal(
    pool: Path, image: Path, kind: type[AoeError] = ConfigurationError, form: Foreign | None = None
) -> str:
    """Why an image is not imported; nothing is left of it."""
    with working(pool) as work, pytest.raises(kind) as caught:
        bring(work, image)
    with working(pool) as work:
        assert is_whole(work)
    said = str(caught.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize("form", ["raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc"])
def test_an_image_becomes_a_volume(form: Foreign, pool: Path, image: Path, tmp_path: Path) -> None:
    suffix = "vhd" if form == "vpc" else form
    other = tmp_path / f"other.{suffix}"
    tool("qemu-img", "convert", "-f", "raw", "-O", form, image, other)
    with working(pool) as work:
        bring(work, other)
        data = Path(work.path_of("new")).read_bytes()
        assert data[: 8 * MIB] == image.read_bytes()
        assert not data[8 * MIB :].strip(b"\0")
        assert work.volumes["new"].size == len(data)
        assert is_whole(work)


def test_holes_stay_holes_and_the_rest_lies_side_by_side(pool: Path, image: Path) -> None:
    with working(pool) as work:
        bring(work, image)
        path = Path(work.path_of("new"))
        assert path.stat().st_blocks * 512 < 4 * MIB
        with path.open("rb") as file:
            assert len(list(syscalls.extents(file.fileno()))) <= 4


@pytest.mark.parametrize(("to", "kept"), [(None, "qcow2"), ("raw", "raw")])
def test_where_blocks_are_not_shared_it_is_qcow2(
    to: Format | None, kept: Format, slow_pool: Path, image: Path, tmp_path: Path
) -> None:
    with working(slow_pool) as work:
        bring(work, image, to=to)
        assert work.volumes["new"].head.format == kept
        assert content(work, "new", tmp_path) == image.read_bytes()


def test_odd_bytes_at_the_end_are_kept(pool: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd.raw"
    odd.write_bytes(b"x" * (MIB + 100))
    with working(pool) as work:
        bring(work, odd)
        assert Path(work.path_of("new")).read_bytes() == odd.read_bytes() + bytes(412)


def test_an_image_that_looks_like_another_is_asked_about(pool: Path, image: Path, tmp_path: Path) -> None:
    other = tmp_path / "disk2.img"
    tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", image, other)
    assert "begins as a qcow2 image does; say --format qcow2, or raw" in refusal(pool, other)
    with working(pool) as work:
        bring(work, other, "as-qcow2", "qcow2")
        bring(work, other, "as-raw", "raw")
        assert work.volumes["as-qcow2"].size == 8 * MIB
        assert Path(work.path_of("as-raw")).read_bytes().startswith(b"QFI\xfb")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.raw", b"\x1f\x8b" + b"x" * 1022, "is packed by gzip; unpack it first"),
        ("a.img.xz", b"\xfd7zXZ\0" + b"x" * 1018, "is packed by xz; unpack it first"),
        ("a.bin", b"\x28\xb5\x2f\xfd" + b"x" * 1020, "is packed by zstd; unpack it first"),
        ("empty.raw", b"", "empty.raw is empty; name an image that has something in it"),
    ],
)
def test_what_is_no_disk_is_refused(name: str, data: bytes, said: str, pool: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    assert said in refusal(pool, tmp_path / name)


def test_what_is_no_file_is_refused(pool: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert "is neither a file nor a block device" in refusal(pool, tmp_path / "fifo")
    assert "No such file or directory; name an image" in refusal(pool, tmp_path / "nothing")
    assert "is neither a file nor a block device" in refusal(pool, tmp_path)


def test_a_name_that_does_not_fit_is_refused_before_anything_is_copied(
    pool: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu_img, "convert", None)
    with_base(pool)
    with working(pool) as work:
        with pytest.raises(ConfigurationError, match="there is a volume base"):
            bring(work, image, "base")
        with pytest.raises(ConfigurationError, match="cannot name a volume"):
            bring(work, image, "a/b")


def test_what_has_no_room_is_refused(pool: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Directory, "room", lambda _: Room(100 * MIB, 11 * MIB))
    said = refusal(pool, image)
    assert f"bytes, and the pool has {MIB} above its reserve of 10 %; delete volumes or snapshots" in said


def test_a_store_that_is_full_in_the_middle_keeps_nothing(
    slow_pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = free(slow_pool)
    large = tmp_path / "large.raw"
    with large.open("wb") as file:
        for _ in range(80):
            file.write(os.urandom(MIB))
    monkeypatch.setattr(Directory, "room", lambda _: Room(1 << 40, 1 << 40))
    assert "No space left on device" in refusal(slow_pool, large, PoolError)
    wait_for(
        lambda: free(slow_pool) > before - 4 * MIB, what="its blocks are not free again"
    )  # the journal's turn


@pytest.mark.parametrize("harm", ["cut", "header"])
def test_a_damaged_image_is_refused(harm: str, pool: Path, image: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.qcow2"
    tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", image, other)
    with other.open("r+b") as file:
        if harm == "cut":
            file.truncate(other.stat().st_size // 2)
        else:
            file.seek(20)
            file.write(b"\xff" * 40)
    assert f"{other} is no sound qcow2 image: " in refusal(pool, other, PoolError)


def test_the_sum_is_checked(pool: Path, image: Path) -> None:
    right = hashlib.sha256(image.read_bytes()).hexdigest()
    with filling.source(image, None, right):
        pass
    with (
        pytest.raises(ConfigurationError, match=f"has the SHA-256 {right}, not 0"),
        filling.source(image, None, "0" * 64),
    ):
        pass
    assert files(pool)["images"] == set()


# Templates


def test_a_template_is_cloned_and_stays_as_it_is(pool: Path) -> None:
    with_base(pool)
    with working(pool) as work:
        template(work, "base")
        found = work.volumes["base"]
        assert found.template
        assert is_whole(work)
        for number in range(3):
            work.do(Clone("base", "", f"web{number}"))
            assert first(work, f"web{number}") == 1
        assert work.tree.clones(found) == ["web0", "web1", "web2"]
        assert [it.name for it in found.snapshots] == ["template"]
        write(work, "web0", 9)
        assert first(work, "web1") == first(work, "base") == 1
        for request in (
            *(Cut("base", "x"), Resize("base", 2 * SIZE), Rollback("base", "template")),
            Delete("base", "template"),
        ):
            with pytest.raises(ConfigurationError, match="is a template, which stays as it is"):
                work.do(request)
        with pytest.raises(ConfigurationError, match="has clones"):
            work.do(Delete("base"))
        for number in range(3):
            work.do(Delete(f"web{number}"))
        work.do(Delete("base"))
        assert files(pool) == {"volumes": set(), "images": set()}


def test_a_template_of_what_lies_scattered_lies_side_by_side(pool: Path) -> None:
    with working(pool) as work:
        work.do(Create("base", 16 * MIB, "raw"))
        with Path(work.path_of("base")).open("r+b") as file:
            for at in reversed(range(0, 16 * MIB, 65536)):
                os.pwrite(file.fileno(), b"x" * 65536, at)
                os.fsync(file.fileno())
        was = Path(work.path_of("base")).read_bytes()
        template(work, "base")
        path = Path(work.path_of("base", "template"))
        assert path.read_bytes() == was
        with path.open("rb") as file:
            assert len(list(syscalls.extents(file.fileno()))) <= 4


def test_a_raw_volume_without_reflink_becomes_a_template_that_can_be_cloned(
    slow_pool: Path, tmp_path: Path
) -> None:
    with working(slow_pool) as work:
        work.do(Create("base", SIZE, "raw"))
        write(work, "base", 1)
        template(work, "base")
        work.do(Clone("base", "", "web"))
        assert content(work, "web", tmp_path) == b"\1" * MIB + bytes(SIZE - MIB)
        assert is_whole(work)


def test_what_cannot_be_a_template_is_refused(pool: Path) -> None:
    with_base(pool)
    with working(pool) as work:
        work.do(Cut("base", "a"))
        with pytest.raises(ConfigurationError, match="fast/base has snapshots; clone the one that is meant"):
            template(work, "base")
        work.do(Clone("base", "a", "web"))
        template(work, "web")
        with pytest.raises(ConfigurationError, match="fast/web is a template already; clone it"):
            template(work, "web")


def test_nothing_writes_to_what_becomes_a_template(pool: Path) -> None:
    with_base(pool)
    with working(pool) as work, work.store.alone(work.volumes["base"].head, read=True):
        with pytest.raises(PoolError, match="is in use by"):
            template(work, "base")
        assert is_whole(work)
    with working(pool) as work, filling.template(work, "base", told) as made:
        with (
            pytest.raises(PoolError, match="is in use by"),
            work.store.alone(work.volumes["base"].head, read=False),
        ):
            pass
        made.done_by(work)
        assert is_whole(work)


# Saving


@pytest.fixture
def chained(slow_pool: Path) -> Iterator[Work]:
    """A volume of two overlays and a base."""
    with working(slow_pool) as work:
        work.do(Create("base", SIZE))
        for byte, name in ((1, "a"), (2, "b"), (3, None)):
            tool(
                "qemu-io", "-f", "qcow2", "-c", f"write -P {byte} {byte * 65536} 65536", work.path_of("base")
            )
            if name is not None:
                work.do(Cut("base", name))
        yield work


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_a_chain_is_saved_as_one_image(form: Format, chained: Work, tmp_path: Path) -> None:
    need("qemu-io")
    for snapshot, last in (("", 3), ("b", 2), ("a", 1)):
        file = tmp_path / f"saved{last}"
        count = filling.save(chained, "base", snapshot, file, form, told)
        assert file.stat().st_mode & 0o777 == 0o600, "a disk has secrets of its users"
        assert file.stat().st_size == count
        raw = tmp_path / "raw"
        tool("qemu-img", "convert", "-f", form, "-O", "raw", file, raw)
        data = raw.read_bytes()
        assert len(data) == SIZE
        assert [data[at * 65536] for at in range(5)] == [it if it <= last else 0 for it in range(4)] + [0]


@pytest.mark.parametrize(
    ("name", "form", "is_qcow2"),
    [("a.QCOW2", None, True), ("a.qcow2", "raw", False), ("a", None, False), ("a.img", "qcow2", True)],
)
def test_a_file_is_saved_as_its_name_says(
    name: str, form: Format | None, is_qcow2: bool, pool: Path, tmp_path: Path
) -> None:
    with_base(pool)
    with working(pool) as work:
        filling.save(work, "base", "", tmp_path / name, form, told)
    assert (tmp_path / name).read_bytes().startswith(b"QFI\xfb") == is_qcow2


def test_a_name_of_a_format_that_is_not_written_is_refused(pool: Path, tmp_path: Path) -> None:
    with_base(pool)
    said = r"a\.vmdk names vmdk, and raw or qcow2 is written; say --format"
    with working(pool) as work, pytest.raises(ConfigurationError, match=said):
        filling.save(work, "base", "", tmp_path / "a.vmdk", None, told)
    assert not list(tmp_path.iterdir())


def test_what_is_in_use_is_saved_by_a_snapshot(pool: Path, tmp_path: Path) -> None:
    with_base(pool, lambda work: work.do(Cut("base", "a")))
    with working(pool) as work, work.store.alone(work.volumes["base"].head, read=False):
        with pytest.raises(PoolError, match=r"^fast/base: .*; stop it first, or save a snapshot of it$"):
            filling.save(work, "base", "", tmp_path / "a", None, told)
        filling.save(work, "base", "a", tmp_path / "a", None, told)


def test_a_copy_that_fails_names_what_was_copied(
    pool: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise qemu_img.QemuImgFailed(f"qemu-img convert: {os.strerror(errno.ENOSPC)}")

    with_base(pool)
    monkeypatch.setattr(qemu_img, "convert", full)
    end = (
        f": qemu-img convert: {os.strerror(errno.ENOSPC)}; delete snapshots or volumes, or give it more room"
    )
    assert f": to copy {image}{end}" in refusal(pool, image, PoolError)
    with working(pool) as work:
        with pytest.raises(PoolError, match="to copy fast/base: qemu-img"):
            template(work, "base")
        with pytest.raises(PoolError, match=f"{tmp_path}/a: to copy fast/base: .*; nothing is left there"):
            filling.save(work, "base", "", tmp_path / "a", None, told)


def test_what_is_there_is_not_saved_over(pool: Path, tmp_path: Path) -> None:
    with_base(pool)
    (tmp_path / "there").write_text("mine")
    with working(pool) as work:
        with pytest.raises(ConfigurationError, match="there is there already; choose another name"):
            filling.save(work, "base", "", tmp_path / "there", "raw", told)
        with pytest.raises(PoolError, match="No such file or directory; nothing is left there"):
            filling.save(work, "base", "", tmp_path / "no" / "file", "raw", told)
    assert (tmp_path / "there").read_text() == "mine"


@pytest.mark.parametrize("unnamed", [True, False])
def test_a_save_that_fails_leaves_nothing(
    unnamed: bool, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_base(pool)
    if not unnamed:
        monkeypatch.setattr(os, "O_TMPFILE", 0)
        monkeypatch.setattr("aoe.pool.unnamed._LACKING", (errno.EISDIR,))
    with working(pool) as work:
        filling.save(work, "base", "", tmp_path / "whole", "raw", told)
        monkeypatch.setattr(qemu_img, "convert", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            filling.save(work, "base", "", tmp_path / "other", "raw", told)
    assert {it.name for it in tmp_path.iterdir()} == {"whole"}
    assert (tmp_path / "whole").read_bytes()[:1] == b"\1"
