"""An image is built: packages, one kernel and its initramfs, an id, and the file system of the root."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from aoe.cloud import filesystem, identity, member, places, programs, recipe, tree
from aoe.cloud.places import Place
from aoe.cloud.recipe import Recipe
from aoe.cloud.record import Record, written
from aoe.cloud.workplace import workplace
from aoe.disk import whole
from aoe.errors import ConfigurationError
from aoe.printable import plain

Told = Callable[[str], object]
PACKAGES = Path("/run/aoe-cloud")
"""Where packages are that come as files, while an image is built. mmdebstrap shows each to the root under the
path that it has outside, and leaves that path in the root, unless it is in /run."""


@dataclass(frozen=True, slots=True)
class Built:
    """The parts of an image, in a directory that will be gone; `root` says nothing yet in its `record`."""

    root: Path
    kernel: Path
    initramfs: Path
    record: Record


def check() -> None:
    """ConfigurationError where this process can build none."""
    if os.geteuid() != 0:
        raise ConfigurationError("an image has files of many users; build it as root (sudo)")
    programs.check()


def check_hook(path: Path) -> None:
    """ConfigurationError for a program that cannot be run."""
    if not path.is_file():
        raise ConfigurationError(f"{plain(str(path))} is no file; name a program that changes the root")
    if not os.access(path, os.X_OK):
        said = plain(str(path))
        raise ConfigurationError(f"{said} is not executable; begin it with #! and do chmod +x {said}")


def check_deb(path: Path) -> None:
    """ConfigurationError for what is no package."""
    if path.suffix != ".deb" or not path.is_file():
        raise ConfigurationError(f"{plain(str(path))} is no package; name a .deb file that is there")


def architecture() -> str:
    """What dpkg calls this machine. AoeError."""
    said: list[str] = []
    programs.run(["dpkg", "--print-architecture"], told=said.append)
    return "".join(said)


@contextmanager
def built(made_of: Recipe, beside: Path, size: int | None, told: Told) -> Iterator[Built]:
    """All parts of an image, which are gone at the end unless they got another name. They are in `beside`,
    whose file system has room for the root twice. `size` is that of the root in bytes, by default what it
    needs. AoeError, OSError."""
    with workplace(beside) as work, workplace(PACKAGES) as packages:
        digests = _digests(made_of)
        root = work / "root"
        programs.run(
            recipe.words(_at_hand(made_of, packages), str(root), str(_furniture(made_of, work))),
            recipe.environment(made_of),
            apart=True,
            told=lambda line: _tell(line, told),
        )
        told("making the file system")
        yield _assembled(made_of, digests, work, root, size)


def _tell(line: str, told: Told) -> None:
    """What mmdebstrap is doing."""
    if stage := recipe.stage(line):
        told(stage)


def _assembled(made_of: Recipe, digests: dict[str, str], work: Path, root: Path, size: int | None) -> Built:
    """From a tree to the parts."""
    kernel, initramfs, file = work / "kernel", work / "initramfs", work / "root.ext4"
    version = recipe.kernel_of(tree.kernels(root))
    tree.take(root, version, (kernel, initramfs))
    tree.clean(root)
    bytes = recipe.size_for(tree.bytes_of(root), size)
    parts = {"kernel": tree.sha256(kernel), "initramfs": tree.sha256(initramfs)}
    id = identity.id_of(made_of.inputs(digests) | parts | {"bytes": bytes}, tree.entries(root))
    _mark(root, initramfs, id)
    tree.set_times(root, made_of.epoch)
    filesystem.make(root, file, bytes, id, made_of.epoch)
    record = Record(
        id=id,
        release=made_of.release,
        kernel=version,
        packages=tuple(made_of.included),
        root="",
        in_pool=False,
        root_bytes=bytes,
        root_sha256=tree.sha256(file),
        kernel_sha256=parts["kernel"],
        initramfs_bytes=initramfs.stat().st_size,
        initramfs_sha256=tree.sha256(initramfs),
    )
    return Built(file, kernel, initramfs, record)


def _mark(root: Path, initramfs: Path, id: str) -> None:
    """Add the id to the root and to the initramfs."""
    whole.make(root / identity.FILE, f"{id}\n".encode(), lasting=False)
    (root / identity.FILE).chmod(0o644)  # whatever the umask
    with initramfs.open("ab") as opened:
        opened.write(member.member(id))


def _digests(made_of: Recipe) -> dict[str, str]:
    """Of the files that a recipe names."""
    named = {"hook": made_of.hook, "sources": made_of.sources}
    named |= {f"deb {number}": path for number, path in enumerate(made_of.debs)}
    return {name: tree.sha256(Path(path)) for name, path in named.items() if path}


def _at_hand(made_of: Recipe, packages: Path) -> Recipe:
    """The same, with packages under names that the list of packages can hold."""
    kept = tuple(str(packages / f"{number}.deb") for number in range(len(made_of.debs)))
    for path, copy in zip(made_of.debs, kept, strict=True):
        shutil.copyfile(path, copy)
    return replace(made_of, debs=kept)


def _furniture(made_of: Recipe, work: Path) -> Path:
    """A directory with the files that are put into the root."""
    top = work / "furniture"
    for name, text in made_of.files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return top


def keep(image: Built, place: Place) -> Record:
    """Give all parts their names, the root being a file. ConfigurationError where one is taken; OSError."""
    record = replace(image.record, root=place.base.name)
    with kept(image, place, ((image.root, place.base),), record):
        return record


@contextmanager
def kept(image: Built, place: Place, more: tuple[tuple[Path, Path], ...], record: Record) -> Iterator[None]:
    """Give kernel and initramfs, and `more`, their names; at the end of the block write the record down. With
    an exception there is nothing of that."""
    place.base.parent.mkdir(parents=True, exist_ok=True)
    image.root.chmod(0o600)  # it may have hashes of passwords
    for path in (image.kernel, image.initramfs):
        path.chmod(0o644)
    done: list[Path] = []
    try:
        for part, path in ((image.kernel, place.kernel), (image.initramfs, place.initramfs), *more):
            places.publish(part, path, done)
        yield
        whole.make(place.record, written(record), 0o644)
    except FileExistsError as error:
        places.remove(done)
        raise places.taken(place.record) from error
    except BaseException:
        places.remove(done)
        raise
