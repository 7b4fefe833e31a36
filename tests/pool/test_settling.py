"""What a crash leaves, between any two steps of any verb, and what becomes of it; without a store."""

from dataclasses import replace

import pytest

from aoe.pool.requests import Clone, Create, Cut, Delete, Rename, Resize, Rollback
from aoe.pool.settling import Found, apart, leftovers, settle
from aoe.pool.steps import Drop, Fit, Forget, Hide, Make, Settle, Step, Sweep, after
from aoe.pool.volume import Volume
from aoe.pool.work import Request
from tests.pool.standings import GIB, World, with_base


class Store:
    """What a directory would have."""

    def __init__(self, world: World) -> None:
        self.volumes = dict(world.volumes)
        self.gone: dict[str, Volume] = {}
        self.images = {it.file: it.size for volume in self.volumes.values() for it in volume.images}
        self.new: dict[str, int] = {}

    def do(self, step: Step) -> None:
        if isinstance(step, Hide):
            self.gone[step.uuid] = self.volumes[step.name]
        self.volumes = after(self.volumes, [step])
        match step:
            case Make(image):
                self.new[image.file] = image.size
            case Settle(image):
                self.images[image.file] = self.new.pop(image.file)
            case Fit(image):
                self.images[image.file] = image.size
            case Drop(file, new):
                (self.new if new else self.images).pop(file, None)
            case Forget(uuid):
                del self.gone[uuid]

    @property
    def found(self) -> Found:
        return Found(volumes=self.volumes, gone=self.gone, images=self.images, new=self.new)

    def settle(self) -> None:
        for step in flat(self.found):
            self.do(step)


def flat(found: Found) -> list[Step]:
    return [step for group in settle(found) for step in group]


def shape(volumes: dict[str, Volume], *, reflink: bool = True) -> dict[str, object]:
    """What a user sees. Without reflink, what was cut for a clone may be left, to be merged."""
    if reflink:
        return {
            name: (it.uuid, it.head, it.parent, it.snapshots, it.resized_from) for name, it in volumes.items()
        }
    return {
        name: (it.uuid, it.size, it.parent, [(kept.name, kept.image.id) for kept in it.snapshots])
        for name, it in volumes.items()
    }


REQUESTS = [
    Create("new", 512),
    Cut("base", "b"),
    Clone("base", "a", "new"),
    Clone("base", "", "new"),
    Rollback("base", "a"),
    Resize("base", 20 * GIB),
    Resize("base", GIB, shrink=True),
    Rename("base", "new"),
    Delete("base", "free"),
    Delete("other", recursive=True),
    Delete("web"),
]


def begun(*, reflink: bool) -> World:
    world = with_base(reflink=reflink)
    world.do(Resize("base", 10 * GIB), Cut("base", "a"), Create("other", 512), Cut("other", "x"))
    world.do(Clone("base", "", "web"))
    if reflink:
        world.do(Cut("base", "free"))
    return world


def after_each_step(request: Request, *, reflink: bool) -> list[tuple[Store, World, World]]:
    """The store after 0, 1, 2 ... steps, with the worlds before and after."""
    found = []
    world, done = begun(reflink=reflink), begun(reflink=reflink)
    plan = done.do(request)
    for count in range(len(plan.steps) + 1):
        store = Store(world)
        for step in plan.steps[:count]:
            store.do(step)
        found.append((store, world, done))
    return found


@pytest.mark.parametrize(
    "request_", REQUESTS, ids=lambda it: f"{type(it).__name__}-{getattr(it, 'snapshot', '')}"
)
@pytest.mark.parametrize("reflink", [True, False])
def test_it_is_as_before_or_as_asked(request_: Request, reflink: bool) -> None:
    if not reflink and request_ in (Delete("base", "free"), Resize("base", GIB, shrink=True)):
        return  # refused there
    for store, before, asked in after_each_step(request_, reflink=reflink):
        store.settle()
        now, *either = (shape(it, reflink=reflink) for it in (store.volumes, before.volumes, asked.volumes))
        assert now in either
        used = {image.file for volume in store.volumes.values() for image in volume.images}
        assert store.images.keys() == used
        assert not store.new
        assert not store.gone
        assert {it.base for volume in store.volumes.values() for it in volume.images} - {None} <= {
            it.id for volume in store.volumes.values() for it in volume.images
        }
        fading = [image.file for volume in store.volumes.values() for image in volume.fading]
        assert [it.file for it in leftovers(store.found)] == fading
        assert not settle(store.found)


def test_the_last_state_is_the_one_that_was_asked_for() -> None:
    for request in REQUESTS:
        store, before, asked = after_each_step(request, reflink=True)[-1]
        store.settle()
        assert shape(store.volumes) == shape(asked.volumes) != shape(before.volumes)


def test_with_a_record_that_is_not_understood_nothing_is_removed() -> None:
    """What looks like nobody's may be what that record has."""
    for request in REQUESTS:
        for store, _, _ in after_each_step(request, reflink=True):
            found = replace(store.found, damaged={"volumes/lost.json": "it is damaged"})
            for step in flat(found):
                assert not isinstance(step, Forget)
                assert not isinstance(step, Drop) or step.file in sum(
                    (it.dropped for it in found.volumes.values()), ()
                )
            assert any("lost.json" in it.file for it in leftovers(found))


def test_an_image_without_a_record_is_listed_and_kept() -> None:
    store = Store(with_base())
    lost = store.volumes.pop("base")
    assert settle(store.found) == ()
    (left,) = leftovers(store.found)
    assert (left.file, left.problem) == (lost.head.file, "no volume has this image")
    assert left.sentence.isprintable()


def test_what_is_missing_or_short_is_listed() -> None:
    store = Store(with_base())
    (file,) = store.images
    store.images[file] = 512
    (left,) = leftovers(store.found)
    assert "has 512 bytes instead of 10737418240" in left.problem
    store.images.clear()
    (left,) = leftovers(store.found)
    assert "this image of base is not there" in left.problem


def test_a_copied_record_keeps_both_from_use() -> None:
    world = with_base()
    world.do(Create("other", 512))
    base = world.volumes["base"]
    volumes = {**world.volumes, "copy": base, "half": replace(base, uuid="f" * 32)}
    whole, problems = apart(volumes)
    assert list(whole) == ["other"]
    assert problems["copy"] == "it has what base has, too: one of both is a copy"
    assert set(problems) == {"base", "copy", "half"}


def test_unfinished_records_and_strangers() -> None:
    found = Found(unfinished=("a.json.new",), strange=("volumes/README",))
    assert settle(found) == ((Sweep("a.json.new"),),)
    (left,) = leftovers(found)
    assert left.sentence == "volumes/README: it does not belong to the pool; move it elsewhere"


def test_two_clones_that_did_not_come_about() -> None:
    world = with_base()
    world.do(Clone("base", "", "one"), Clone("base", "", "two"))
    store = Store(world)
    for name in ("one", "two"):
        store.images.pop(store.volumes.pop(name).head.file)
    store.settle()
    store.settle()
    assert not store.volumes["base"].snapshots
    assert not [*leftovers(store.found)]


def test_where_a_step_fails_nothing_that_a_record_names_is_removed() -> None:
    """Each group of steps is left at its first failure, wherever that is."""
    for request in REQUESTS:
        for store, _, _ in after_each_step(request, reflink=True):
            for group in settle(store.found):
                for count in range(len(group)):
                    half = Store(begun(reflink=True))
                    half.volumes, half.gone = dict(store.volumes), dict(store.gone)
                    half.images, half.new = dict(store.images), dict(store.new)
                    for step in group[:count]:
                        half.do(step)
                    named = {it.file for volume in half.volumes.values() for it in volume.images}
                    assert named <= {*half.images, *half.new}
                    half.settle()
                    assert not [*leftovers(half.found)]
