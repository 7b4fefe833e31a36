"""Volumes that are opened for exports: which disk they are, how large, and what is wrong with one."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from aoe.config.values import Config, ExportConfig, PoolConfig
from aoe.disk.device import Batch
from aoe.disk.open import Opening, open_store
from aoe.disk.opened import Opened
from aoe.errors import ConfigurationError
from aoe.node.needs import Held
from aoe.node.opening import InProcess, Where, opening_of
from aoe.node.plan import Running, plan
from aoe.node.pools import Pools
from aoe.pool.directory import Directory
from aoe.pool.records import dump, load
from aoe.pool.requests import Create, Delete, Rename, Resize
from aoe.pool.volume import Image, Snapshot
from aoe.pool.work import Request
from aoe.target.records import StateStore
from aoe.target.state import AoeState
from tests.disk.helpers import is_taken
from tests.pool.pools import fresh, working

SIZE = 1 << 20
HOST = bytes.fromhex("020000000001")


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """With a volume that has a snapshot, as files are kept where they share no blocks."""
    (tmp_path / "srv").mkdir()
    directory = fresh(tmp_path / "srv")
    with working(directory, reserve=0) as work:
        work.do(Create("web1", SIZE, "raw"))
        work.do(Create("other", 2 * SIZE, "raw"))
    record = directory / "volumes/web1.json"
    volume = load(record.read_bytes())
    image = Image(id="0" * 32, size=SIZE)
    kept = Snapshot(name="monday", image=image, made=volume.made)
    record.write_bytes(dump(replace(volume, snapshots=(kept,))))
    (directory / "images" / image.file).write_bytes(bytes(SIZE))
    return directory


@pytest.fixture
def opener(pool: Path) -> Iterator[InProcess]:
    made = opener_of(pool)
    made.find([])
    yield made
    made.close()


def opener_of(pool: Path) -> InProcess:
    return InProcess(0, pools=Pools([PoolConfig(name="fast", path=str(pool))]))


def export(path: str, slot: int = 0, **said: object) -> ExportConfig:
    return ExportConfig(path=path, shelf=1, slot=slot, **said)  # type: ignore[arg-type]


def done(opener: InProcess, *them: Held) -> None:
    for held in them:
        os.close(held.opened.store.fd)
        opener.release(held)


def image_of(pool: Path, volume: str) -> Path:
    found = load((pool / f"volumes/{volume}.json").read_bytes())
    return pool / "images" / found.head.file


def test_a_volume_is_found_and_opened_under_its_lock(opener: InProcess, pool: Path) -> None:
    found = opener.find(["fast/web1", "fast/none", "/none"])
    assert list(found) == ["fast/web1"]
    assert found.why == {"fast/none": "there is no volume fast/none"}
    held = opener.open_store(export("fast/web1"))
    assert (held.store, held.opened.store.size) == (found["fast/web1"], SIZE)
    assert (held.key.path, held.key.device) == ("fast/web1", str(image_of(pool, "web1")))
    assert is_taken(image_of(pool, "web1"))
    done(opener, held)
    assert not is_taken(image_of(pool, "web1"))


def test_its_serial_is_of_the_volume_and_goes_with_it(opener: InProcess, pool: Path, tmp_path: Path) -> None:
    """Over a rename, another image and another size; a volume of its name is another disk."""
    records = StateStore(tmp_path / "state")
    held = opener.open_store(export("fast/web1"))
    record, _ = records.find(held.key)
    record.open("e1.0")
    record.save(AoeState(mask=(HOST,)))
    done(opener, held)
    work = opener.pools.work("fast")
    work.do(Rename("web1", "web2"))
    file = pool / "volumes/web2.json"
    volume = load(file.read_bytes())
    opener.close()
    image = replace(volume.head, id="1" * 32, size=2 * SIZE)
    (pool / "images" / image.file).write_bytes(bytes(2 * SIZE))
    file.write_bytes(dump(replace(volume, head=image)))
    held = opener.open_store(export("fast/web2"))
    again, note = records.find(held.key)
    assert (again.serial, again.state.mask) == (record.serial, (HOST,))
    assert note == f"was fast/web1, and keeps serial {record.serial}"
    assert held.opened.store.size == 2 * SIZE
    new = opener.pools.work("fast")
    new.do(Create("web1", SIZE, "raw"))
    other = opener.open_store(export("fast/web1", 1))
    assert other.key.serial not in (None, record.serial)
    assert records.find(other.key)[0].state.mask == ()
    done(opener, held, other)


def test_a_snapshot_is_another_disk_that_is_only_read(opener: InProcess) -> None:
    head, kept = opener.open_store(export("fast/web1")), opener.open_store(export("fast/web1@monday", 1))
    assert kept.opened.store.read_only
    assert kept.key.serial != head.key.serial
    assert kept.opened.store_name.id != head.opened.store_name.id
    done(opener, head, kept)


def test_a_template_is_only_read(opener: InProcess, pool: Path) -> None:
    record = pool / "volumes/other.json"
    opener.close()
    record.write_bytes(dump(replace(load(record.read_bytes()), template=True)))
    held = opener.open_store(export("fast/other"))
    assert held.opened.store.read_only
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(held.opened.store.fd, b"x", 0)
    done(opener, held)


CHANGES: dict[str, tuple[list[Request], str]] = {
    "deleted": ([Delete("other")], "there is no volume fast/other"),
    "made again": ([Delete("other"), Create("other", 2 * SIZE, "raw")], "fast/other was changed while"),
    "resized": ([Resize("other", 4 * SIZE)], "fast/other was changed while it was opened; try again"),
}


@pytest.mark.parametrize("how", CHANGES)
def test_what_changes_until_its_lock_is_had_is_not_served(
    opener: InProcess, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """An opener that waits for the lock of an image gets it when the verb is over."""
    requests, why = CHANGES[how]
    kept = tmp_path / "kept"

    def late(path: Path, opening: Opening, batch: Batch) -> Opened:
        os.link(path, kept)
        for it in requests:
            opener.pools.work("fast").do(it)
        return open_store(kept, opening, batch=batch)

    monkeypatch.setattr("aoe.node.opening.open_store", late)
    with pytest.raises(ConfigurationError, match=why):
        opener.open_store(export("fast/other"))
    assert not is_taken(kept)


def test_what_a_verb_has_changed_is_known_before_others_get_its_images(
    pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, seen = Directory.alone, list[bool]()

    @contextmanager
    def watched(store: Directory, image: Image, *, read: bool) -> Iterator[None]:
        with alone(store, image, read=read):
            yield
            seen.append("web2" in work.volumes)

    monkeypatch.setattr(Directory, "alone", watched)
    with working(pool, reserve=0) as work:
        work.do(Rename("other", "web2"))
    assert seen == [True]


def test_what_waits_for_a_pool_that_is_left_meanwhile_finds_the_next_one(
    opener: InProcess, pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools, wanted = opener.pools, [PoolConfig(name="fast", path=str(pool))]
    known = pools._found
    late = [pools._found("fast")]
    pools.follow([])
    pools.follow(wanted)
    monkeypatch.setattr(pools, "_found", lambda name: late.pop() if late else known(name))
    assert not late[0].turn.locked(), "nothing would end it any more"
    with pools.turn("fast") as work:
        assert "web1" in work.volumes


def test_images_that_another_thread_opens_meanwhile_do_no_harm(opener: InProcess) -> None:
    class Turns(Counter[str]):
        """As where the other thread has its turn at the look at each of them."""

        def __getitem__(self, name: str) -> int:
            opener._image_wheres.setdefault(f"{name}+", opener._image_wheres[name])
            return 1

    opener._image_wheres = {"a": Where(Path("/a"), opening_of(export("/a")))}
    opener._image_uses = Turns()
    assert not opener._is_ours("/b")
    opener._image_uses = Counter()


def test_a_part_of_a_volume_is_another_disk(opener: InProcess) -> None:
    part = opener.open_store(export("fast/web1", offset=8, length=8))
    rest = opener.open_store(export("fast/web1", 1, offset=16))
    assert (part.opened.store.size, rest.opened.store.size) == (8 * 512, SIZE - 16 * 512)
    assert part.key.serial != rest.key.serial
    with pytest.raises(ConfigurationError, match=r"^fast/web1 has 2040 sectors there, not --length 2041"):
        opener.open_store(export("fast/web1", 2, offset=8, length=2041))
    done(opener, part, rest)


def test_its_record_says_how_large_it_is(opener: InProcess, pool: Path) -> None:
    path = image_of(pool, "web1")
    os.truncate(path, 3 * SIZE)
    held = opener.open_store(export("fast/web1"))
    assert held.opened.store.size == SIZE
    done(opener, held)
    os.truncate(path, SIZE - 512)
    with pytest.raises(
        ConfigurationError, match=r"^fast/web1 has 1048064 bytes, fewer than its disk of 1048"
    ):
        opener.open_store(export("fast/web1"))
    os.truncate(path, SIZE)
    done(opener, opener.open_store(export("fast/web1")))


def test_the_path_of_its_image_is_the_same_disk(opener: InProcess, pool: Path) -> None:
    path = str(image_of(pool, "web1"))
    wanted = Config(exports=(export("fast/web1"), export(path, 1)))
    there = opener.find([it.place for it in wanted.exports])
    steps = plan(wanted, Running(), there)
    assert [it.sentence for it in steps.problems] == [f"e1.1: {path} is the disk of e1.0, too; serve it once"]
    held = opener.open_store(export("fast/web1"))
    with pytest.raises(ConfigurationError, match=rf"^{path} is in use by"):
        InProcess(0).open_store(export(path))
    done(opener, held)


def test_a_list_of_hosts_of_its_image_is_not_left_behind(
    opener: InProcess, pool: Path, tmp_path: Path
) -> None:
    records = StateStore(tmp_path / "state")
    plain = opener.open_store(export(str(image_of(pool, "web1"))))
    record, _ = records.find(plain.key)
    record.open("e1.0")
    record.save(AoeState(mask=(HOST,)))
    done(opener, plain)
    held = opener.open_store(export("fast/web1"))
    with pytest.raises(ConfigurationError, match=r"fast/web1 is known to serial .* by another name"):
        records.find(held.key)
    done(opener, held)


def test_two_processes_do_not_work_on_one_pool(opener: InProcess, pool: Path) -> None:
    other = opener_of(pool)
    assert list(other.find(["fast/web1", "/dev/null"])) == []
    assert f"pool fast ({pool}) is in use by" in other.find(["fast/web1"]).why["fast/web1"]
    opener.close()
    assert list(other.find(["fast/web1"])) == ["fast/web1"]
    other.close()


def test_what_is_not_mounted_is_no_pool_and_is_one_once_it_is(pool: Path, tmp_path: Path) -> None:
    aside = pool.rename(tmp_path / "aside")
    pool.mkdir()
    image = tmp_path / "image"
    image.write_bytes(bytes(SIZE))
    opener = opener_of(pool)
    found = opener.find(["fast/web1", str(image)])
    assert list(found) == [str(image)]
    assert found.why["fast/web1"].startswith(
        f"pool fast ({pool}) is not marked as a pool; is its file system"
    )
    with pytest.raises(ConfigurationError, match="is not marked as a pool"):
        opener.open_store(export("fast/web1"))
    pool.rmdir()
    aside.rename(pool)
    assert list(opener.find(["fast/web1"])) == ["fast/web1"]
    pool.rename(aside)
    assert "is not there" not in opener.find(["fast/web1"]).why["fast/web1"]
    aside.rename(pool)
    assert list(opener.find(["fast/web1"])) == ["fast/web1"]
    opener.close()


def test_a_pool_that_the_file_names_no_more_is_left(opener: InProcess, pool: Path) -> None:
    opener.pools.follow([])
    with working(pool):
        pass
    with pytest.raises(ConfigurationError, match="no pool fast"):
        opener.pools.work("fast")


def test_qcow2_without_what_serves_it_is_refused_in_one_line(opener: InProcess, pool: Path) -> None:
    record = pool / "volumes/web1.json"
    volume = load(record.read_bytes())
    opener.close()
    head = replace(volume.head, format="qcow2")
    (pool / "images" / head.file).write_bytes(bytes(SIZE))
    record.write_bytes(dump(replace(volume, head=head)))
    with pytest.raises(ConfigurationError, match=r"qemu-storage-daemon|nothing was started"):
        opener.open_store(export("fast/web1"))


def test_a_damaged_record_and_an_image_that_is_gone_are_told_apart(opener: InProcess, pool: Path) -> None:
    image_of(pool, "other").unlink()
    opener.close()
    (pool / "volumes/web1.json").write_text("{")
    why = opener.find(["fast/web1", "fast/other"]).why
    assert why["fast/web1"].startswith("fast/web1: the record of web1: it is damaged")
    assert why["fast/other"].startswith("fast/other: its image ")


def test_what_is_looked_at_is_not_kept(pool: Path) -> None:
    looking = InProcess(0, pools=Pools([PoolConfig(name="fast", path=str(pool))], locked=False))
    with working(pool) as work:
        assert list(looking.find(["fast/web1"])) == ["fast/web1"]
        work.do(Delete("other"))
    looking.close()


def test_one_without_pools_takes_every_place_for_a_path(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pool.parent)
    (pool / "volumes/a").write_bytes(bytes(SIZE))
    opener = InProcess(0)
    held = opener.open_store(export(f"{pool.name}/volumes/a"))
    assert held.key.path == str(pool / "volumes/a")
    done(opener, held)
