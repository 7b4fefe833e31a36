"""The verbs on a thin pool of LVM that only computes: what they leave, and what is refused."""

import asyncio
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from aoe.errors import ConfigurationError, PoolError
from aoe.pool import lvm_marking, lvm_seen, store
from aoe.pool.lvm import LvmThin
from aoe.pool.lvm_seen import name_of
from aoe.pool.pool import Pool
from aoe.pool.requests import Clone, Create, Cut, Delete, Rename, Resize, Rollback
from aoe.pool.room import Room
from aoe.pool.steps import Drop, Make
from aoe.pool.work import Work
from tests.pool.fake_lvm import CHUNK, EXTENT, FakeLvm
from tests.pool.pools import MIB, SIZE, first, is_whole, write
from tests.pool.thin import lv_of, opened, refusal, working

GIB = 1 << 30


# A disk and its states


def test_states_of_a_disk_are_kept_apart(lvm: FakeLvm) -> None:
    with working(lvm) as work:
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
        was = dict(work.volumes)
    with working(lvm) as work:
        assert work.volumes == was
        assert is_whole(work)
        for volume in ("db", "web", "template"):
            work.do(Delete(volume, recursive=True))
    assert lvm.lvs == {}


def test_what_is_kept_is_read_only_and_inactive(lvm: FakeLvm) -> None:
    with working(lvm) as work:
        work.do(Cut("base", "a"))
        kept = lv_of(work, "base", "a")
        head = lv_of(work, "base")
        assert (lvm.lvs[kept].read_only, lvm.lvs[kept].skipped, lvm.is_active(kept)) == (True, True, False)
        work.do(Rollback("base", "a"))
        for lv in (kept, head):  # the state before is kept, too
            assert (lvm.lvs[lv].read_only, lvm.lvs[lv].skipped, lvm.is_active(lv)) == (True, True, False)
        now = lv_of(work, "base")
        assert not lvm.lvs[now].read_only
        lvm.reboot()
        assert [lv for lv in lvm.lvs if lvm.is_active(lv)] == [now]
        assert Path(work.ready("base", "a")).exists()


def test_a_clone_is_two_commands_and_a_cut_three(lvm: FakeLvm) -> None:
    """Each takes a while: they read the metadata of every volume group."""
    with working(lvm) as work:
        for request, commands in (
            (Cut("base", "a"), 3),
            (Clone("base", "a", "web"), 2),
            (Rename("web", "w"), 1),
        ):
            lvm.said.clear()
            work.do(request)
            assert len(lvm.changes()) == commands, lvm.said


def test_a_volume_is_cut_while_it_is_written(lvm: FakeLvm) -> None:
    with working(lvm) as work, LvmThin(lvm.path).alone(work.image_of("base"), read=False):
        work.do(Cut("base", "a"))
        work.do(Clone("base", "", "web"))
        assert work.plan(Rollback("base", "a")).idle


def test_sizes_are_those_of_records(lvm: FakeLvm) -> None:
    """A logical volume has whole extents."""
    with working(lvm) as work:
        work.do(Create("small", 512))
        work.do(Resize("base", EXTENT + 512))
        assert (work.volumes["small"].size, work.volumes["base"].size) == (512, EXTENT + 512)
        assert lvm.lvs[lv_of(work, "base")].size == 2 * EXTENT
        assert is_whole(work)
    with working(lvm) as work:
        assert is_whole(work)


@pytest.mark.parametrize("least", [SIZE - MIB, SIZE - 512, CHUNK, 512, SIZE // 2 + 512])
def test_what_was_behind_the_end_does_not_come_back(lvm: FakeLvm, least: int) -> None:
    with working(lvm) as work:
        for at in range(0, SIZE, MIB):
            write(work, "base", 7, at=at)
        work.do(Resize("base", least, shrink=True))
        work.do(Resize("base", 2 * SIZE))
        data = Path(work.ready("base")).read_bytes()
        assert data[:least] == b"\7" * least
        assert not any(data[least:])


def test_another_host_lists_it(lvm: FakeLvm) -> None:
    """All that belongs to a volume is in tags, which say to people which volume an image is of."""
    with working(lvm) as work:
        work.do(Cut("base", "a"))
        was = dict(work.volumes)
        assert "aoe.volume=base" in lvm.lvs[lv_of(work, "base")].tags
    assert lvm_seen.found(lvm_marking.place_of(lvm.path).volumes()).volumes == was


def test_usage_is_what_the_metadata_tell(lvm: FakeLvm) -> None:
    with working(lvm) as work:
        work.do(Cut("base", "a"))
        head, kept = work.usage("base")
        assert (head.allocated, head.own, kept.own) == (2 * CHUNK, CHUNK, CHUNK)
        asked = len(lvm.said)
        work.usage("base")
        assert len(lvm.said) == asked, "it is measured once for all"


def test_what_cannot_be_measured_is_not_shown_as_nothing(
    lvm: FakeLvm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it tried again for each volume: it may take minutes until it fails."""
    asked: list[str] = []

    def run(words: Sequence[str], stdin: int | None = None) -> str:
        asked.append(words[0])
        if words[0] == "thin_ls":
            raise PoolError("thin_ls: the metadata are damaged")
        return lvm.run(words, stdin)

    monkeypatch.setattr("aoe.pool.lvm_marking.HERE", lvm.host._replace(measure=run))
    with working(lvm) as work:
        for _ in range(3):
            with pytest.raises(PoolError, match="damaged"):
                work.usage("base")
    assert asked.count("thin_ls") == 1


# What is a pool


def test_init_marks_a_thin_pool(bare: FakeLvm) -> None:
    with pytest.raises(
        ConfigurationError, match=r"not marked as a pool; to make it one: aoe-target pool init f"
    ):
        opened(bare)
    store.init(bare.path, kind="lvm-thin")
    assert bare.pool.fails_when_full
    with pytest.raises(ConfigurationError, match="is a pool already"):
        store.init(bare.path, kind="lvm-thin")
    with working(bare) as work:
        assert not work.volumes


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("vg-0/nothing", 'Failed to find logical volume "vg-0/nothing"'),
        ("vg/thin-pool", 'Volume group "vg" not found'),
        ("vg-0/root", "is no thin pool; name one, or make it: lvcreate --type thin-pool"),
        ("vg-0", "write it as VG/THIN-POOL"),
        ("vg-0/a/b", "write it as VG/THIN-POOL"),
        ("-vg/a", "write it as VG/THIN-POOL"),
        ("../a", "write it as VG/THIN-POOL"),
        ("vg-0/a b", "write it as VG/THIN-POOL"),
        ("vg-0/\0", "write it as VG/THIN-POOL"),
    ],
)
def test_what_is_no_thin_pool_is_no_pool(bare: FakeLvm, path: str, message: str) -> None:
    for call in (Work, store.init):
        with pytest.raises(ConfigurationError) as caught:
            call(path, kind="lvm-thin")  # type: ignore[operator]
        assert message in str(caught.value)
        assert str(caught.value).isprintable()
    assert bare.changes() == []


def test_a_lost_tag_is_not_made_again_over_volumes(lvm: FakeLvm) -> None:
    lvm.pool.tags.clear()
    with pytest.raises(ConfigurationError, match=r"and no tag aoe\.pool; put that tag back"):
        store.init(lvm.path, kind="lvm-thin")


@pytest.mark.parametrize("tag", ["aoe.pool=2.later", "aoe.pool=1.x", "aoe.pool="])
def test_a_marker_that_is_none_is_said(lvm: FakeLvm, tag: str) -> None:
    lvm.pool.tags = {tag}
    with pytest.raises(ConfigurationError, match=r"tag aoe\.pool: (it is damaged|a later release)"):
        opened(lvm)


def test_it_is_made_as_it_must_be_whenever_it_is_opened(lvm: FakeLvm) -> None:
    """Somebody may change it, or it is not active after a restart."""
    lvm.pool.fails_when_full = lvm.pool.zeroes = False
    lvm.deactivate_pool()
    with working(lvm, locked=False) as work, pytest.raises(PoolError, match="the thin pool is not active"):
        work.room  # noqa: B018
    assert not lvm.pool.active
    with working(lvm) as work:
        assert work.room == Room(GIB, int(GIB * 0.9), 89)
        assert work.is_there
        lvm.deactivate_pool()
        assert not work.is_there
        lvm.activate_pool()
    assert (lvm.pool.fails_when_full, lvm.pool.zeroes) == (True, True)


def test_two_processes_do_not_work_on_one(lvm: FakeLvm) -> None:
    with working(lvm) as work:
        with pytest.raises(PoolError, match="is in use by"), working(lvm):
            pass
        with working(lvm, locked=False) as looking:
            assert looking.volumes == work.volumes


def test_the_lock_is_what_commands_keep_open(lvm: FakeLvm, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that outlives this process works on the pool still."""
    given = []
    running = lvm.run

    def run(words: Sequence[str], stdin: int | None = None) -> str:
        given.append((words[0], stdin))
        return running(words, stdin)

    monkeypatch.setattr("aoe.pool.lvm_marking.HERE", lvm.host._replace(run=run))
    with working(lvm) as work:
        given.clear()
        work.do(Create("b", SIZE))
        work.do(Delete("b"))
    assert all(stdin is not None for name, stdin in given if name != "lvs")


# Room


@pytest.mark.parametrize(
    ("data", "metadata", "said"),
    [
        (95.5, 11.0, "4 % of the pool's store is free, and 10 % is its reserve"),
        (11.0, 95.5, "4 % of the pool's metadata is free, and 10 % is its reserve"),
        (100.0, 100.0, "0 % of the pool's store is free"),
    ],
)
def test_below_the_reserve_nothing_more_is_made(
    lvm: FakeLvm, data: float, metadata: float, said: str
) -> None:
    with working(lvm) as work:
        work.do(Cut("base", "a"))
        lvm.pool.data, lvm.pool.metadata = data, metadata
        for request in (Create("b", SIZE), Cut("base", "b"), Clone("base", "a", "b")):
            assert said in refusal(work, request)
        assert work.room.is_below(10)
        work.do(Rename("base", "b"))
        work.do(Delete("b", recursive=True))
    assert lvm.lvs == {}


def test_only_raw_disks_are_kept(lvm: FakeLvm) -> None:
    with working(lvm) as work:
        assert "keeps disks as raw" in refusal(work, Create("b", SIZE, "qcow2"))
        assert work.volumes.keys() == {"base"}


# What does not fit


def test_a_lost_record_loses_no_image(lvm: FakeLvm) -> None:
    with working(lvm) as work:
        lv = lv_of(work, "base")
    tags, lvm.lvs[lv].tags = lvm.lvs[lv].tags, set()
    with working(lvm) as work:
        (left,) = work.leftovers
        assert left.problem == "no volume has this image"
        work.do(Create("other", SIZE))
    lvm.lvs[lv].tags = tags
    with working(lvm) as work:
        assert is_whole(work)
        assert first(work, "base") == 1


def spoil(tags: set[str]) -> Iterator[set[str]]:
    """The tags of a volume, spoiled in several ways."""
    (piece,) = (it for it in tags if it.startswith("aoe.record="))
    head, packed = piece.rsplit(".", 1)
    rest = tags - {piece}
    yield rest
    yield rest | {"aoe.record=x"}
    yield rest | {f"{head}.{packed[:-8]}"}
    yield rest | {f"{head}.{packed[::-1]}"}
    yield rest | {f"{head}.AAAA"}
    yield rest | {piece.replace(".1.0.", ".2.0.")}
    yield tags | {"aoe.record=7.1.0.AAAA"}
    yield tags | {"aoe.volume=other"}
    yield tags | {"aoe.gone"}
    yield {piece}


def test_a_damaged_record_keeps_its_name_and_its_images(lvm: FakeLvm) -> None:
    with working(lvm) as work:
        work.do(Cut("base", "a"))
        lv, was = lv_of(work, "base"), dict(work.volumes)
    right = set(lvm.lvs[lv].tags)
    for number, tags in enumerate(spoil(right)):
        lvm.lvs[lv].tags = tags
        with working(lvm) as work:
            said = {it.file: it.problem for it in work.leftovers}
            assert said[lv].startswith("it is damaged"), number
            assert "base" not in work.volumes
            if "aoe.volume=base" in tags:
                assert "there is a volume base" in refusal(work, Create("base", SIZE))
        assert len(lvm.lvs) == 2
    lvm.lvs[lv].tags = right
    with working(lvm) as work:
        assert work.volumes == was


def test_a_copied_record_is_no_second_volume(lvm: FakeLvm) -> None:
    """As after tags were copied by hand, or a logical volume was renamed."""
    with working(lvm) as work:
        work.do(Create("other", SIZE))
        one, other = lv_of(work, "base"), lv_of(work, "other")
    right = set(lvm.lvs[other].tags)
    lvm.lvs[other].tags = set(lvm.lvs[one].tags)
    with working(lvm) as work:
        assert {it.file: it.problem for it in work.leftovers}[other] == (
            "it has the record of another logical volume"
        )
        assert "base" not in work.volumes, "which of both it is nobody knows"
    lvm.lvs[other].tags = {it.replace("=other", "=base") for it in right}
    with working(lvm) as work:
        assert not work.volumes
        assert {it.problem for it in work.leftovers} == {"another logical volume has the name base, too"}
    lvm.lvs[other].tags = right
    lvm.lvs["aoe-mine"] = lvm.lvs.pop(one)
    with working(lvm) as work:
        assert "aoe-mine" in {it.file for it in work.leftovers}


def test_volumes_of_others_are_let_alone(lvm: FakeLvm) -> None:
    made = ("lvcreate", "--yes", "--name", "mine", "--virtualsize", "512b", "--thinpool", lvm.path)
    lvm.run((*made, "--wipesignatures", "n"))
    with working(lvm) as work:
        assert is_whole(work)
        work.do(Delete("base"))
    assert set(lvm.lvs) == {"mine"}


def test_what_is_in_use_is_not_removed(lvm: FakeLvm) -> None:
    """lvm refuses it, also where it is opened at the last moment; what is said of the volume is right."""
    with working(lvm) as work:
        lvm.used = {lv_of(work, "base")}
        assert "in use" in refusal(work, Delete("base"))
        assert "base" not in work.volumes
        assert any("it is tried again the next time" in it.sentence for it in work.leftovers)
        lvm.used.clear()
    with working(lvm) as work:
        assert is_whole(work)
    assert lvm.lvs == {}


def test_a_disk_that_another_program_has_is_refused(lvm: FakeLvm) -> None:
    with working(lvm) as work:
        work.do(Cut("base", "a"))
        with LvmThin(lvm.path).alone(work.image_of("base"), read=False):
            for request in (Rollback("base", "a"), Resize("base", 2 * SIZE), Delete("base", recursive=True)):
                assert "is in use by" in refusal(work, request)
        work.do(Rollback("base", "a"))


def test_a_snapshot_that_is_active_can_be_deleted(lvm: FakeLvm) -> None:
    """Newer kernels open what is read-only for nothing else."""
    with working(lvm) as work:
        work.do(Cut("base", "a"))
        path = Path(work.ready("base", "a"))
        opening = os.open

        def opened(it: Path, flags: int, *words: int) -> int:
            if it == path and flags & os.O_ACCMODE != os.O_RDONLY:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return opening(it, flags, *words)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "open", opened)
            work.do(Delete("base", "a"))
        assert is_whole(work)


def test_the_last_image_that_goes_has_the_record(lvm: FakeLvm) -> None:
    """It goes with it, so until then it says what else is to go."""
    with working(lvm) as work:
        work.do(Cut("base", "a"))
        steps = work.plan(Delete("base", recursive=True)).steps
        dropped = [it.file for it in steps if isinstance(it, Drop)]
        assert name_of(dropped[-1]) == lv_of(work, "base")
        (made,) = (it for it in work.plan(Cut("base", "b")).steps if isinstance(it, Make))
        assert made.kept


# As a library


def test_as_a_library(lvm: FakeLvm) -> None:
    async def run() -> None:
        async with await Pool.open(lvm.path, kind="lvm-thin", name="fast") as pool:
            await pool.snapshot("base", "golden")
            volume = await pool.clone("base", "web", snapshot="golden")
            assert Path(await pool.ready("web")).stat().st_size == volume.size

    asyncio.run(run())
