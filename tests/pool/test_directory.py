"""A pool in a directory: on XFS and btrfs, which share blocks, and on ext4, which does not."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from aoe.disk import locks, syscalls
from aoe.errors import AoeError, ConfigurationError, PoolError
from aoe.pool import marking
from aoe.pool.marking import init
from aoe.pool.requests import Clone, Create, Cut, Delete, Rename, Resize, Rollback
from aoe.pool.work import Request, Work
from tests.pool.pools import MIB, SIZE, files, first, fresh, is_whole, with_base, working, write
from tests.support.labs.fault_disk import loop_device
from tests.support.tools import need, tool

GIB = 1 << 30


def refusal(work: Work, request: Request) -> str:
    with pytest.raises(AoeError) as caught:
        work.do(request)
    assert str(caught.value).isprintable()
    return str(caught.value)


# A disk and its states


@pytest.mark.parametrize("store", ["xfs", "btrfs"])
def test_states_of_a_disk_are_kept_apart(store: str, request: pytest.FixtureRequest) -> None:
    directory = fresh(request.getfixturevalue(store))
    with_base(directory)
    with working(directory) as work:
        uuid = work.volumes["base"].uuid
        work.do(Cut("base", "a"))
        write(work, "base", 2)
        work.do(Clone("base", "a", "web"))
        work.do(Clone("base", "", "db"))
        write(work, "web", 3)
        assert [first(work, it) for it in ("base", "web", "db")] == [2, 3, 2]
        assert first(work, "base", "a") == 1
        work.do(Rollback("base", "a"))
        assert first(work, "base") == 1
        kept = work.volumes["base"].snapshots[-1].name
        assert first(work, "base", kept) == 2
        work.do(Rename("base", "template"))
        assert work.volumes["template"].uuid == uuid
        assert is_whole(work)
    with working(directory) as work:
        assert is_whole(work)
        for volume in ("db", "web", "template"):
            work.do(Delete(volume, recursive=True))
    assert files(directory) == {"volumes": set(), "images": set()}


def test_blocks_are_shared_until_they_are_written(pool: Path) -> None:
    with_base(pool, lambda work: work.do(Cut("base", "a")))
    with working(pool) as work:
        head, kept = work.usage("base")
        assert (head.allocated, head.own, kept.own) == (MIB, 0, 0)
        write(work, "base", 2)
        os.sync()
        head, kept = work.usage("base")
        assert head.own == kept.own == MIB


def test_a_clone_of_ten_gibibytes_is_made_at_once(pool: Path) -> None:
    with working(pool) as work:
        work.do(Create("base", 10 * GIB))
        path = Path(work.path_of("base"))
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, 64 * MIB)
            file.write(bytes([1]) * (64 * MIB))
        work.do(Cut("base", "a"))
        for number in range(5):
            work.do(Clone("base", "a", f"web{number}"))
        assert work.volumes["web0"].size == Path(work.path_of("web0")).stat().st_size == 10 * GIB
        assert all(work.usage(f"web{number}")[0].own == 0 for number in range(5))


def test_on_btrfs_a_disk_is_written_in_place(btrfs: Path) -> None:
    need("lsattr")
    directory = fresh(btrfs)
    with_base(directory)
    with working(directory) as work:
        work.do(Clone("base", "", "web"))
        for volume in ("base", "web"):
            assert "C" in tool("lsattr", work.path_of(volume)).split()[0]


def test_a_size_changes_and_what_comes_is_zeroes(pool: Path) -> None:
    with_base(pool)
    with working(pool) as work:
        write(work, "base", 7, at=SIZE - MIB)
        work.do(Resize("base", SIZE - MIB, shrink=True))
        assert Path(work.path_of("base")).stat().st_size == SIZE - MIB
        work.do(Resize("base", SIZE))
        data = Path(work.path_of("base")).read_bytes()
        assert len(data) == SIZE
        assert not any(data[SIZE - MIB :])
        assert data[:1] == b"\1"


def test_what_was_behind_the_end_does_not_come_back(pool: Path) -> None:
    """As after a program that wrote there, or a verb that ended between its steps."""
    with_base(pool)
    with working(pool) as work, Path(work.path_of("base")).open("r+b") as file:
        file.seek(SIZE)
        file.write(b"\7" * MIB)
        file.flush()
        work.do(Resize("base", 2 * SIZE))
        assert not any(Path(work.path_of("base")).read_bytes()[SIZE:])


# Without reflink


def info(work: Work, volume: str) -> dict[str, object]:
    said: dict[str, object] = json.loads(tool("qemu-img", "info", "--output=json", work.path_of(volume)))
    return said


def test_without_reflink_states_are_overlays(slow_pool: Path) -> None:
    need("qemu-img")
    with working(slow_pool) as work:
        (note,) = work.do(Create("base", SIZE)).notes
        assert "is qcow2" in note
        work.do(Cut("base", "a"))
        work.do(Clone("base", "a", "web"))
        work.do(Resize("web", 2 * SIZE))
        assert info(work, "web")["virtual-size"] == 2 * SIZE
        assert info(work, "base")["virtual-size"] == SIZE
        kept = work.volumes["base"].snapshots[0].image
        assert info(work, "web")["backing-filename"] == info(work, "base")["backing-filename"] == kept.file
        work.do(Rollback("base", "a"))
        work.do(Rename("base", "b"))
        assert is_whole(work)
        work.do(Delete("web"))
        work.do(Create("solo", 2 * SIZE))
        work.do(Resize("solo", SIZE, shrink=True))
        assert info(work, "solo")["virtual-size"] == SIZE
    with working(slow_pool) as work:
        assert is_whole(work)


def test_without_qemu_img_the_remedy_is_named(slow_pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with working(slow_pool) as work:
        assert "apt-get install qemu-utils, or say --format raw" in refusal(work, Create("b", SIZE))
        assert is_whole(work)
        work.do(Create("b", SIZE, "raw"))
        assert "has no snapshots on a file system without reflink" in refusal(work, Cut("b", "a"))


# What is a pool


def test_only_what_is_marked_is_a_pool(xfs: Path) -> None:
    """As a mount point is where nothing is mounted."""
    directory = xfs / "empty"
    directory.mkdir()
    with pytest.raises(ConfigurationError, match="is not marked as a pool; is its file system mounted"):
        Work(str(directory), name="fast")
    assert not list(directory.iterdir())
    init(str(directory), name="fast")
    with pytest.raises(ConfigurationError, match=r"pool fast \(.*\) is a pool already"):
        init(str(directory), name="fast")
    Work(str(directory)).close()


def test_on_the_root_file_system_it_wants_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marking, "_root_device", lambda: tmp_path.stat().st_dev)
    with pytest.raises(ConfigurationError, match=r"is on the root file system.*say --plain"):
        init(str(tmp_path))
    assert not list(tmp_path.iterdir())
    init(str(tmp_path), plain_directory=True)
    assert {it.name for it in tmp_path.iterdir()} == {"aoe-pool.json", "volumes", "images"}


def test_what_is_no_directory_is_no_pool(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("nothing", "file", "a\0b"):
        for call in (Work, init):
            with pytest.raises(ConfigurationError, match="name a directory") as caught:
                call(str(tmp_path / path))  # type: ignore[operator]
            assert str(caught.value).isprintable()


def test_a_lost_marker_is_not_made_again_over_volumes(pool: Path) -> None:
    with_base(pool)
    (pool / "aoe-pool.json").unlink()
    with pytest.raises(ConfigurationError, match="has volumes/ with something in it, and no aoe-pool"):
        init(str(pool))
    with pytest.raises(ConfigurationError, match="not marked"):
        Work(str(pool))


@pytest.mark.parametrize("text", [b"", b"{}", b'{"version": 9}', b'{"version": 1, "uuid": "x", "kind": 3}'])
def test_a_marker_that_is_none_is_said(pool: Path, text: bytes) -> None:
    (pool / "aoe-pool.json").write_bytes(text)
    with pytest.raises(ConfigurationError, match=r"aoe-pool\.json: (it is damaged|a later release)"):
        Work(str(pool))


def test_another_kind_of_pool_is_not_opened(pool: Path) -> None:
    (pool / "aoe-pool.json").write_text(json.dumps({"version": 1, "uuid": "1" * 32, "kind": "later"}))
    with pytest.raises(ConfigurationError, match="is a pool of kind later, not directory"):
        Work(str(pool))


@pytest.mark.parametrize("part", ["aoe-pool.json", "volumes", "images"])
def test_no_link_is_followed_in_it(pool: Path, part: str, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    tool("mv", pool / part, moved)
    (pool / part).symlink_to(moved)
    with pytest.raises(ConfigurationError):
        Work(str(pool))


def test_images_and_records_are_no_links(pool: Path, tmp_path: Path) -> None:
    with_base(pool)
    with working(pool) as work:
        image = Path(work.path_of("base"))
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    image.unlink()
    image.symlink_to(outside)
    os.mkfifo(pool / "volumes" / "pipe.json")
    (pool / "volumes" / "link.json").symlink_to(outside)
    with working(pool) as work:
        said = {it.file for it in work.leftovers}
        assert {f"images/{image.name}", image.name, "volumes/pipe.json", "volumes/link.json"} <= said
        assert refusal(work, Cut("base", "a"))
    assert outside.read_bytes() == b"secret"


# What does not fit


def test_a_lost_record_loses_no_image(pool: Path) -> None:
    with_base(pool)
    record = pool / "volumes" / "base.json"
    text = record.read_bytes()
    record.unlink()
    with working(pool) as work:
        (left,) = work.leftovers
        assert left.problem == "no volume has this image"
        work.do(Create("other", SIZE))
    record.write_bytes(text)
    with working(pool) as work:
        assert is_whole(work)
        assert first(work, "base") == 1


def test_a_damaged_record_keeps_its_name_and_its_images(pool: Path) -> None:
    with_base(pool, lambda work: work.do(Clone("base", "", "web")))
    before = files(pool)["images"]
    (pool / "volumes" / "web.json").write_bytes(b"{")
    with working(pool) as work:
        (left,) = work.leftovers
        assert left.file == "volumes/web.json"
        assert "there is a volume web" in refusal(work, Create("web", SIZE))
        assert work.volumes.keys() == {"base"}
    assert files(pool)["images"] == before


def test_a_copied_record_is_refused(pool: Path) -> None:
    with_base(pool)
    (pool / "volumes" / "copy.json").write_bytes((pool / "volumes" / "base.json").read_bytes())
    with working(pool) as work:
        assert {it.file for it in work.leftovers} == {"volumes/base.json", "volumes/copy.json"}
        assert "there is no volume fast/base" in refusal(work, Delete("base"))
    (pool / "volumes" / "copy.json").unlink()
    with working(pool) as work:
        assert is_whole(work)


def test_what_is_not_known_stays_in_a_record(pool: Path) -> None:
    with_base(pool)
    record = pool / "volumes" / "base.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "later": {"a": [1]}}))
    with working(pool) as work:
        work.do(Cut("base", "a"))
        work.do(Resize("base", 2 * SIZE))
    assert json.loads(record.read_text())["later"] == {"a": [1]}


# Others


def test_one_process_works_on_a_pool(pool: Path) -> None:
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from aoe.pool.work import Work; w = Work(sys.argv[1]); print(flush=True); input()",
            str(pool),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout
        child.stdout.readline()
        with pytest.raises(PoolError, match=rf"is in use by python.* \(process {child.pid}\); wait for it"):
            Work(str(pool), patience_s=0)
        looking = Work(str(pool), locked=False)
        assert looking.volumes == {}
        looking.close()
        child.kill()
    Work(str(pool), patience_s=30).close()


@pytest.mark.parametrize("what", ["head", "snapshot"])
def test_what_is_in_use_is_left_alone(pool: Path, what: str) -> None:
    with_base(pool, lambda work: work.do(Cut("base", "a")))
    with working(pool) as work:
        path = Path(work.path_of("base", "a" if what == "snapshot" else ""))
        fd = os.open(path, os.O_RDWR)
        locks.take(fd, path, read_only=False, is_block=False)
        before = files(pool)
        used = [Delete("base", recursive=True), Rename("base", "b")]
        used += (
            [Clone("base", "a", "c"), Delete("base", "a")]
            if what == "snapshot"
            else [Cut("base", "b"), Resize("base", 2 * SIZE)]
        )
        for request in used:
            said = refusal(work, request)
            assert said.startswith(f"fast/base{'@a' * (what == 'snapshot')}: {path.name} is in use by ")
            assert Path("/proc/self/comm").read_text().strip() in said
        assert files(pool) == before
        os.close(fd)
        work.do(Delete("base", recursive=True))


def test_a_snapshot_that_is_read_can_be_cloned(pool: Path) -> None:
    with_base(pool, lambda work: work.do(Cut("base", "a")))
    with working(pool) as work:
        path = Path(work.path_of("base", "a"))
        fd = os.open(path, os.O_RDONLY)
        locks.take(fd, path, read_only=True, is_block=False)
        work.do(Clone("base", "a", "web"))
        work.do(Delete("web"))
        assert "is in use" in refusal(work, Delete("base", "a"))
        os.close(fd)


def test_a_loop_device_is_a_user(pool: Path) -> None:
    with_base(pool)
    with working(pool) as work, loop_device(Path(work.path_of("base"))) as device:
        assert f"is in use by {device.name}; detach it" in refusal(work, Cut("base", "a"))


def test_a_pool_that_vanishes_is_said(xfs: Path, tmp_path: Path) -> None:
    """Its file system is unmounted, lazily, while a program works there; the next one finds no pool."""
    inner = tmp_path / "inner"
    inner.mkdir()
    tool("mount", "--bind", fresh(xfs), inner)
    work = Work(str(inner))
    tool("umount", "--lazy", inner)
    work.do(Create("base", SIZE))  # by descriptors, so where it was
    work.close()
    assert not list(inner.iterdir())
    with pytest.raises(ConfigurationError, match="is its file system mounted"):
        Work(str(inner))


# System calls


def test_extents_are_all_found(pool: Path) -> None:
    """More than the kernel is asked for at a time."""
    file = pool / "many"
    with file.open("wb") as opened:
        for number in range(1100):
            opened.seek(number * 8192)
            opened.write(bytes([1]) * 4096)
        opened.flush()
        os.fsync(opened.fileno())
        found = list(syscalls.extents(opened.fileno()))
    assert sum(it.length for it in found) >= 1100 * 4096
    assert len({it.start for it in found}) == len(found)
    assert not any(it.shared for it in found)


def test_what_another_process_works_on_fits(pool: Path) -> None:
    """A look that came between two steps of it is repeated."""
    with_base(pool)
    looking = Work(str(pool), locked=False)
    with working(pool) as work:
        work.do(Create("other", SIZE))
    half = looking._find()
    looking.found = replace(half, volumes={"base": half.volumes["base"]})
    assert looking.leftovers == []
    looking.close()
