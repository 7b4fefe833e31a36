"""What each verb comes to, without a store."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from aoe import limits
from aoe.errors import ConfigurationError
from aoe.pool.requests import Clone, Create, Cut, Delete, Rename, Resize, Rollback
from aoe.pool.room import Room
from aoe.pool.steps import Drop, Fit, Forget, Hide, Make, Move, Save, Settle
from aoe.pool.tree import Tree
from aoe.pool.volume import BY_ROLLBACK, FOR_CLONE, SIZE_MOST, Snapshot
from aoe.pool.work import Request
from tests.pool.standings import GIB, NOW, World, with_base


def kinds(world: World, request: Request) -> list[type]:
    return [type(step) for step in world.plan(request).steps]


def refusal(world: World, request: Request) -> str:
    with pytest.raises(ConfigurationError) as caught:
        world.plan(request)
    said = str(caught.value)
    assert said.isprintable()
    return said


# Create


def test_a_new_volume_is_raw_where_blocks_are_shared() -> None:
    world = with_base()
    volume = world.volumes["base"]
    assert (volume.size, volume.head.format, volume.made) == (10 * GIB, "raw", NOW)
    assert len({volume.uuid, volume.head.id}) == 2
    assert kinds(world, Create("b", 512)) == [Make, Save, Settle]
    assert world.plan(Create("b", 512)).notes == ()


def test_elsewhere_it_is_qcow2_and_says_so() -> None:
    world = World(reflink=False)
    plan = world.plan(Create("b", 512))
    (note,) = plan.notes
    assert note.startswith("fast/b is qcow2: this file system cannot share blocks")
    (note,) = world.plan(Create("b", 512, "raw")).notes
    assert "it has no snapshots" in note
    assert world.plan(Create("b", 512, "qcow2")).notes == ()


@pytest.mark.parametrize("size", [0, -512, 1, 513, SIZE_MOST + 512])
def test_a_size_that_no_disk_has_is_refused(size: int) -> None:
    world = with_base()
    assert "a disk cannot have" in refusal(world, Create("b", size))
    assert "a disk cannot have" in refusal(world, Resize("base", size, shrink=True))


@pytest.mark.parametrize(
    "request_of",
    [lambda it: Create(it, 512), lambda it: Clone("base", "a", it), lambda it: Rename("other", it)],
)
def test_a_name_is_used_once(request_of: Callable[[str], Request]) -> None:
    world = with_base()
    world.taken = ("damaged",)
    world.do(Cut("base", "a"), Create("other", 512))
    assert "there is a volume base" in refusal(world, request_of("base"))
    assert "only by case" in refusal(world, request_of("BASE"))
    assert "there is a volume damaged" in refusal(world, request_of("damaged"))
    assert "cannot name a volume" in refusal(world, request_of("../x"))


# Room


@pytest.mark.parametrize(
    "request_", [Create("b", 512), Clone("base", "a", "b"), Clone("base", "", "b"), Cut("base", "b")]
)
def test_below_the_reserve_nothing_more_is_made(request_: Request) -> None:
    world = with_base()
    world.do(Cut("base", "a"))
    world.room = Room(1000, 99)
    assert "9 % of the pool's store is free, and 10 % is its reserve" in refusal(world, request_)
    world.room = Room(1000, 100)
    world.plan(request_)
    world.room, world.reserve = Room(1000, 0), 0
    world.plan(request_)


def test_below_the_reserve_the_rest_goes_on() -> None:
    world = with_base()
    world.do(Cut("base", "a"))
    world.room = Room(1000, 0)
    for request in (
        Rollback("base", "a"),
        Resize("base", 20 * GIB),
        Delete("base", "a"),
        Rename("base", "b"),
    ):
        world.plan(request)


# Snapshots and clones


def test_a_snapshot_is_a_copy_of_the_head() -> None:
    world = with_base()
    before = world.volumes["base"]
    plan = world.do(Cut("base", "a"))
    after = world.volumes["base"]
    (snapshot,) = after.snapshots
    assert plan.steps == (
        Make(snapshot.image, before.head, kept=True),
        Save("base", after),
        Settle(snapshot.image),
    )
    assert plan.idle == (before.head,)
    assert (after.head, after.uuid) == (before.head, before.uuid)


def test_without_reflink_the_head_becomes_the_snapshot() -> None:
    world = with_base(reflink=False)
    before = world.volumes["base"].head
    world.do(Cut("base", "a"))
    volume = world.volumes["base"]
    assert volume.snapshots[0].image == before
    assert (volume.head.base, volume.head.format) == (before.id, "qcow2")


def test_a_raw_volume_without_reflink_is_told_what_to_do() -> None:
    world = World(reflink=False)
    world.do(Create("b", 512, "raw"))
    for request in (Cut("b", "a"), Clone("b", "", "c")):
        assert "make it on XFS or btrfs, or with --format qcow2" in refusal(world, request)


def test_a_chain_has_an_end() -> None:
    world = with_base(reflink=False)
    for number in range(limits.POOL_CHAIN_MAX - 1):
        world.do(Cut("base", f"s{number}"))
    assert "16 images already" in refusal(world, Cut("base", "more"))
    assert "16 images already" in refusal(world, Clone("base", "", "c"))
    world.do(Clone("base", "s0", "c"))


def test_snapshots_have_an_end() -> None:
    world = with_base()
    volume = world.volumes["base"]
    many = [
        Snapshot(name=f"s{it}", image=replace(volume.head, id=f"{it:031x}f"), made=NOW) for it in range(1024)
    ]
    world.volumes["base"] = replace(volume, snapshots=tuple(many))
    assert "there are 1024 snapshots" in refusal(world, Cut("base", "more"))


def test_a_clone_of_a_snapshot_is_a_volume_of_its_own() -> None:
    world = with_base()
    world.do(Cut("base", "a"))
    world.volumes["base"] = replace(world.volumes["base"], more={"later": 1})
    plan = world.do(Clone("base", "a", "web"))
    base, web = world.volumes["base"], world.volumes["web"]
    assert (web.parent.volume, web.parent.snapshot) == (base.uuid, base.snapshots[0].image.id)  # type: ignore[union-attr]
    assert web.uuid != base.uuid
    assert not web.more
    assert plan.read == (base.snapshots[0].image,)
    assert plan.idle == ()


def test_a_clone_of_a_volume_cuts_a_snapshot_that_goes_with_it() -> None:
    world = with_base()
    plan = world.do(Clone("base", "", "web"))
    assert [type(it) for it in plan.steps] == [Make, Save, Settle, Make, Save, Settle]
    (snapshot,) = world.volumes["base"].snapshots
    assert (snapshot.name, snapshot.cause) == ("clone-web", FOR_CLONE)
    assert "has clones (fast/web)" in refusal(world, Delete("base", "clone-web"))
    world.do(Delete("web"))
    assert world.snapshots("base") == []


def test_where_its_volume_is_an_overlay_of_it_it_is_merged_later() -> None:
    world = with_base(reflink=False)
    world.do(Clone("base", "", "web"))
    (kept,) = world.volumes["base"].snapshots
    plan = world.do(Delete("web"))
    assert (world.snapshots("base"), world.volumes["base"].fading) == ([], (kept.image,))
    assert kept.image not in plan.idle, "what serves the volume may read it"


def test_such_a_snapshot_stays_for_another_clone() -> None:
    world = with_base()
    world.do(Clone("base", "", "web"), Clone("base", "clone-web", "db"), Delete("web"))
    assert world.snapshots("base") == ["clone-web"]
    world.do(Delete("db"))
    assert world.snapshots("base") == []
    world.do(Clone("base", "", "web"))
    kept = world.volumes["base"].snapshots[0].image
    assert kept in world.plan(Delete("web")).idle


def test_such_a_snapshot_has_a_name_that_is_free() -> None:
    world = with_base()
    world.do(Cut("base", "CLONE-web"), Clone("base", "", "web"))
    assert world.snapshots("base") == ["CLONE-web", "clone-web-2"]
    world.do(Clone("base", "", "w" * 64))
    assert len(world.snapshots("base")[-1]) == 64


def test_a_name_that_is_deleted_and_made_again_is_another_snapshot() -> None:
    world = with_base()
    world.do(Cut("base", "a"))
    first = world.volumes["base"].snapshots[0].image.id
    world.do(Delete("base", "a"), Cut("base", "a"))
    assert world.volumes["base"].snapshots[0].image.id != first
    assert "has clones" not in world.plan(Delete("base", "a")).done


# Rollback


def test_a_rollback_keeps_what_was_and_the_uuid() -> None:
    world = with_base()
    world.do(Cut("base", "a"))
    before = world.volumes["base"]
    plan = world.do(Rollback("base", "a"))
    after = world.volumes["base"]
    assert after.uuid == before.uuid
    assert after.head.id not in {it.id for it in before.images}
    kept = after.snapshots[-1]
    assert (kept.image, kept.cause, kept.name) == (
        before.head,
        BY_ROLLBACK,
        "before-rollback-20261128T204911Z",
    )
    assert kept.name in plan.done
    world.do(Rollback("base", "a"))
    assert world.snapshots("base")[-1] == "before-rollback-20261128T204911Z-2"


def test_a_rollback_has_the_size_of_the_snapshot() -> None:
    world = with_base()
    world.do(Cut("base", "a"), Resize("base", 20 * GIB), Rollback("base", "a"))
    assert world.volumes["base"].size == 10 * GIB
    world.do(Rollback("base", world.snapshots("base")[-1]))
    assert world.volumes["base"].size == 20 * GIB


def test_a_snapshot_that_is_not_there_is_named_with_those_that_are() -> None:
    world = with_base()
    for request in (Rollback("base", "x"), Clone("base", "x", "c"), Delete("base", "x")):
        assert refusal(world, request) == "there is no snapshot fast/base@x; fast/base has none"
    world.do(Cut("base", "a"))
    assert refusal(world, Rollback("base", "b")) == "there is no snapshot fast/base@b; fast/base has a"
    for request in (
        Cut("x", "a"),
        Rollback("x", "a"),
        Resize("x", 512),
        Delete("x"),
        Rename("x", "y"),
        Clone("x", "", "y"),
    ):
        assert refusal(world, request) == "there is no volume fast/x"


# Resize


def test_it_grows_before_its_record_does_and_shrinks_after_it() -> None:
    world = with_base()
    assert kinds(world, Resize("base", 20 * GIB)) == [Fit, Save]
    assert "say --shrink" in refusal(world, Resize("base", GIB))
    first, fit, last = world.plan(Resize("base", GIB, shrink=True)).steps
    assert isinstance(first, Save)
    assert isinstance(last, Save)
    assert (first.volume.resized_from, last.volume.resized_from) == (10 * GIB, None)
    assert fit == Fit(replace(world.volumes["base"].head, size=GIB), 10 * GIB)


def test_only_what_leaves_a_disk_alone_that_is_served_goes_on_beside_it() -> None:
    """QEMU has a qcow2 image open, and no other process may write to that; but it goes on in an overlay, and
    grows."""
    for reflink in (True, False):
        world = with_base(reflink=reflink)
        world.do(Cut("base", "a"))
        live = {
            Rename("base", "b"): True,
            Resize("base", 20 * GIB): True,
            Rollback("base", "a"): False,
            Cut("base", "b"): not reflink,
            Clone("base", "", "c"): not reflink,
            Delete("base", recursive=True): False,
        }
        assert {it: world.plan(it).live for it in live} == live
    two = with_base(reflink=False)
    two.do(Create("other", GIB))
    assert not two.plan(Cut("base", "b", ("other",))).live, "they are not cut at one moment"
    assert not with_base().plan(Resize("base", GIB, shrink=True)).live


def test_an_overlay_does_not_shrink() -> None:
    world = with_base(reflink=False)
    world.do(Resize("base", GIB, shrink=True), Cut("base", "a"))
    assert "cannot shrink" in refusal(world, Resize("base", 512, shrink=True))
    world.plan(Resize("base", 20 * GIB))


def test_tables_of_qcow2_have_room_when_it_shrinks() -> None:
    """It writes one of 64 KiB for each 512 MiB."""
    world = World(reflink=False, room=Room(100 * GIB, 20 * GIB))
    world.do(Create("large", 1 << 50))
    world.room = Room(100 * GIB, GIB)
    said = refusal(world, Resize("large", GIB, shrink=True))
    assert f"write {((1 << 50) - GIB) // 8192} bytes of tables, and {GIB} are free; shrink it" in said
    world.plan(Resize("large", (1 << 50) - 8192 * GIB, shrink=True))


def test_a_disk_in_qcow2_has_a_bound_of_its_own() -> None:
    world = World()
    for size in ((1 << 51) + 512, 1 << 56):
        said = refusal(world, Create("a", size, "qcow2"))
        assert said.startswith(f"a disk in qcow2 cannot have {size} bytes; choose whole sectors of 512 bytes")
        world.plan(Create("a", size, "raw"))
    world.do(Create("a", 1 << 51, "qcow2"))
    assert "a disk in qcow2 cannot have" in refusal(world, Resize("a", 1 << 52))


def test_what_is_being_resized_is_left_alone() -> None:
    world = with_base()
    world.do(Cut("base", "a"))
    world.volumes["base"] = replace(world.volumes["base"], resized_from=512)
    for request in (
        Cut("base", "b"),
        Rollback("base", "a"),
        Resize("base", 512, shrink=True),
        Clone("base", "", "c"),
    ):
        assert "is being resized" in refusal(world, request)


# Rename and delete


def test_a_rename_changes_nothing_else() -> None:
    world = with_base()
    world.do(Clone("base", "", "web"))
    was = world.volumes["base"]
    assert kinds(world, Rename("base", "b")) == [Move]
    world.do(Rename("base", "b"))
    assert world.volumes["b"] == was
    assert "has clones (fast/web)" in refusal(world, Delete("b"))
    world.do(Rename("web", "WEB"))


def test_a_volume_goes_with_all_that_it_has() -> None:
    world = with_base()
    world.do(Cut("base", "a"), Rollback("base", "a"))
    assert "has snapshots (a, before-rollback-20261128T204911Z); say --recursive" in refusal(
        world, Delete("base")
    )
    volume = world.volumes["base"]
    plan = world.plan(Delete("base", recursive=True))
    assert plan.steps[0] == Hide("base", volume.uuid)
    assert {it.file for it in plan.steps if isinstance(it, Drop)} == {it.file for it in volume.images}
    assert plan.steps[-1] == Forget(volume.uuid)


def test_a_parent_stays_as_long_as_its_clones() -> None:
    world = with_base()
    world.do(Cut("base", "a"), Cut("base", "b"))
    world.do(*(Clone("base", "a", f"c{number}") for number in range(10)))
    said = refusal(world, Delete("base", recursive=True))
    assert said.startswith("fast/base has clones (fast/c0, fast/c1, ")
    assert said.endswith("and 2 more); delete them first")
    assert "has clones" in refusal(world, Delete("base", "a"))
    world.do(Delete("base", "b"), *(Delete(f"c{number}") for number in range(10)))
    world.do(Delete("base", recursive=True))
    assert not world.volumes


def test_what_later_states_are_differences_to_stays() -> None:
    world = with_base(reflink=False)
    world.do(Cut("base", "a"), Cut("base", "b"))
    kept = world.volumes["base"].snapshots[0].image
    assert not [it for it in world.plan(Delete("base", "a")).steps if isinstance(it, Drop)]
    world.do(Delete("base", "a"))
    assert world.volumes["base"].fading == (kept,)
    assert kept in tuple(world.volumes["base"].images)
    world.do(Rollback("base", "b"))
    world.do(Delete("base", world.snapshots("base")[-1]))
    world.do(Delete("base", recursive=True))


def test_records_that_name_each_other_as_bases_have_an_end() -> None:
    """No verb writes such ones. What is served is told by the images themselves, where that is refused."""
    world = with_base(reflink=False)
    world.do(Cut("base", "a"))
    was = world.volumes["base"]
    looped = replace(was.snapshots[0], image=replace(was.snapshots[0].image, base=was.head.id))
    world.volumes["base"] = replace(was, snapshots=(looped,))
    world.do(Cut("base", "b"), Clone("base", "a", "web"), Delete("web"))
    assert len(Tree("fast", world.volumes).chain(world.volumes["base"].head)) == 3
    assert "has snapshots" in refusal(world, Delete("base"))


def test_what_is_dropped_is_remembered_for_a_while() -> None:
    world = with_base()
    for _ in range(30):
        world.do(Cut("base", "a"), Delete("base", "a"))
    assert len(world.volumes["base"].dropped) == limits.POOL_DROPPED_MAX


def test_every_step_is_told_of() -> None:
    world = with_base()
    requests = [
        Cut("base", "a"),
        Clone("base", "a", "c"),
        Resize("base", GIB, shrink=True),
        Rename("base", "b"),
    ]
    requests += [Delete("c"), Delete("b", recursive=True)]
    for request in requests:
        for sentence in world.do(request).sentences:
            assert sentence.isprintable()


def test_a_format_that_this_kind_of_pool_has_not_is_refused() -> None:
    world = World(formats=("raw",))
    said = refusal(world, Create("a", GIB, "qcow2"))
    assert said == "this kind of pool keeps disks as raw; leave out --format qcow2"
    assert world.plan(Create("a", GIB, "raw")).done == world.plan(Create("a", GIB)).done
