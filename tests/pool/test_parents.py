"""A parent that changes under its clones: by another program, which is refused, or by a verb."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from aoe import timing
from aoe.errors import ConfigurationError
from aoe.image.serving import Images
from aoe.image.sound import _KEPT, _OVER
from aoe.image.user import reader
from aoe.pool import merging
from aoe.pool.requests import Clone, Create, Cut, Delete, Resize, Rollback
from tests.image.test_serving import wanted
from tests.pool.pools import SIZE, first, with_base, working
from tests.support.tools import need_images, tool
from tests.support.waiting import PATIENCE_S

PARENT, OTHER = b"\1", b"\7"


def write(image: Path, byte: bytes) -> None:
    """To the first block, as another program."""
    tool("qemu-io", "-f", "qcow2", "-c", f"write -P {byte[0]} 0 64k", image)


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> Iterator[Images]:
    need_images()
    monkeypatch.setattr(timing, "IMAGE_TURN_S", PATIENCE_S)
    with closing(Images(reader())) as made:
        yield made


class Family:
    """A volume `base` in qcow2, and `web`, a clone of its snapshot `golden`, which was served."""

    def __init__(self, pool: Path, images: Images) -> None:
        self.pool = pool
        self._images = images
        with working(pool) as work:
            work.do(Create("base", SIZE, "qcow2"))
            write(Path(work.path_of("base")), PARENT)
            work.do(Cut("base", "golden"))
            work.do(Clone("base", "golden", "web"))
        assert self.served() == PARENT

    def image(self, volume: str, snapshot: str = "") -> Path:
        """Where one is."""
        with working(self.pool) as work:
            return Path(work.path_of(volume, snapshot))

    @property
    def parent(self) -> Path:
        """What the clone lies over."""
        return self.image("base", "golden")

    def served(self, volume: str = "web") -> bytes:
        """The first byte of its disk."""
        _, fd = self._images.open(wanted(self.image(volume), name=volume))
        try:
            return os.pread(fd, 1, 0)
        finally:
            self._images.release(volume)


@pytest.fixture
def family(slow_pool: Path, images: Images) -> Family:
    return Family(slow_pool, images)


def grow(image: Path) -> None:
    tool("qemu-img", "resize", "-q", image, str(2 * SIZE))


def shrink(image: Path) -> None:
    tool("qemu-img", "resize", "-q", "--shrink", image, str(SIZE // 2))


@pytest.mark.parametrize(
    "change", [lambda it: write(it, OTHER), grow, shrink], ids=["written", "grown", "shrunk"]
)
def test_one_that_another_program_changed_is_refused(family: Family, change: Callable[[Path], None]) -> None:
    """Until somebody says that it is right, or a copy of it is there."""
    parent = family.parent
    copy = parent.with_name("copy")
    tool("cp", "--preserve=all", parent, copy)
    change(parent)
    for _ in range(2):
        with pytest.raises(
            ConfigurationError, match=f"{parent} was changed by another program, and .* put back"
        ):
            family.served()
    copy.rename(parent)
    assert family.served() == PARENT
    change(parent)
    os.removexattr(parent, _KEPT)
    assert family.served() in (PARENT, OTHER)


def made(image: Path) -> Path:
    """Another image of the same size."""
    tool("qemu-img", "create", "-q", "-f", "qcow2", image, str(SIZE))
    write(image, OTHER)
    return image


def in_place_of(parent: Path) -> None:
    made(parent.with_name("other")).rename(parent)


def anew(parent: Path) -> None:
    """It may get the same inode."""
    parent.unlink()
    made(parent)


@pytest.mark.parametrize("change", [in_place_of, anew])
def test_one_that_is_another_image_now_is_refused(family: Family, change: Callable[[Path], None]) -> None:
    """To be served and to be copied, until a copy of the old one is there, or somebody says it is right."""
    parent = family.parent
    copy = parent.with_name("copy")
    tool("cp", "-p", parent, copy)
    change(parent)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=f"{parent} is another file than .* put back a copy"):
            family.served()
    with working(family.pool) as work, pytest.raises(ConfigurationError, match="is another file than"):
        chain = work.tree.chain(work.image_of("web"))
        with work.store.layers(chain):
            pass
    copy.rename(parent)
    assert family.served() == PARENT
    change(parent)
    os.removexattr(family.image("web"), _OVER)
    assert family.served() == OTHER


@pytest.mark.parametrize("base", ["other", ""])
def test_a_clone_that_another_program_let_lie_over_another_image_is_refused(
    family: Family, base: str
) -> None:
    """Or over none. Until it is as it was, or somebody says that it is right."""
    parent, web = family.parent, family.image("web")
    made(parent.with_name("other"))

    def rebase(to: str) -> None:
        tool("qemu-img", "rebase", "-u", "-b", to, *(("-F", "qcow2") if to else ()), web)

    rebase(base)
    said = f"{web} lay over {parent.name} when it was served, .* over {base or 'none'}; undo that"
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=said):
            family.served()
    rebase(parent.name)
    assert family.served() == PARENT
    rebase(base)
    os.removexattr(web, _OVER)
    assert family.served() == (OTHER if base else b"\0")


def test_a_volume_that_lay_over_nothing_is_not_let_lie_over_another_one(family: Family) -> None:
    with working(family.pool) as work:
        work.do(Create("plain", SIZE, "qcow2"))
    assert family.served("plain") == b"\0"
    plain = family.image("plain")
    tool("qemu-img", "rebase", "-u", "-b", family.parent.name, "-F", "qcow2", plain)
    with pytest.raises(ConfigurationError, match=f"{plain} lay over no other image when it was served"):
        family.served("plain")


def test_a_clone_that_is_committed_changes_its_parent(family: Family) -> None:
    write(family.image("web"), OTHER)
    tool("qemu-img", "commit", "-q", family.image("web"))
    with pytest.raises(ConfigurationError, match="was changed by another program"):
        family.served()


def test_one_that_is_gone_or_is_no_image_is_said(family: Family) -> None:
    parent = family.parent
    parent.unlink()
    with pytest.raises(ConfigurationError, match=f"{parent}: No such file or directory; put the file there"):
        family.served()
    with working(family.pool) as work:
        assert [it.sentence for it in work.leftovers] == [
            f"{parent.name}: this image of base is not there; put back a copy of it"
        ]
    parent.write_bytes(bytes(SIZE))
    with pytest.raises(ConfigurationError, match=f"{parent} is not in qcow2"):
        family.served()


def test_our_verbs_leave_it_as_it_is(family: Family) -> None:
    """What its volume becomes is no matter to a clone."""
    with working(family.pool) as work:
        for request in (Delete("base", "golden"), Delete("base", recursive=True)):
            with pytest.raises(ConfigurationError, match=r"has clones \(.*web\); delete them first"):
                work.do(request)
        work.do(Resize("base", 2 * SIZE))
        work.do(Rollback("base", "golden"))
    assert (family.served("base"), family.served()) == (PARENT, PARENT)


def test_a_parent_that_is_merged_is_the_same(family: Family) -> None:
    """It takes what it needs of what it lies over, by a verb of ours."""
    with working(family.pool) as work:
        work.do(Cut("web", "a"))
        write(Path(work.path_of("web")), OTHER)
        work.do(Cut("web", "b"))
        work.do(Clone("web", "b", "cgi"))
    assert family.served("cgi") == OTHER
    with working(family.pool) as work:
        work.do(Delete("web", "a"))
        for request in merging.merged(work, "web", lambda _: None):
            work.do(request)
        assert not work.leftovers
    assert family.served("cgi") == OTHER


def test_with_reflink_a_clone_needs_no_parent(pool: Path) -> None:
    """It shares blocks, and each file has its own once they are written."""
    with_base(pool, lambda work: (work.do(Cut("base", "golden")), work.do(Clone("base", "golden", "web"))))
    with working(pool) as work:
        parent = Path(work.path_of("base", "golden"))
        parent.write_bytes(OTHER * SIZE)
        assert (first(work, "web"), first(work, "base", "golden")) == (PARENT[0], OTHER[0])
        parent.unlink()
    with working(pool) as work:
        assert first(work, "web") == PARENT[0]
        assert [it.problem for it in work.leftovers] == ["this image of base is not there"]
