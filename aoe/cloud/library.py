"""Images that were built: which there are, and whether their parts are still what they were."""

from collections.abc import Iterator
from pathlib import Path

from aoe import limits
from aoe.cloud import member, tree
from aoe.cloud.places import RECORD, Place
from aoe.cloud.record import Record, read
from aoe.errors import ConfigurationError
from aoe.printable import plain


def places_in(directory: Path) -> list[Place]:
    """Those whose records are in a directory, or in one that is in there. OSError where it cannot be read."""
    below = [it for it in sorted(directory.iterdir()) if it.is_dir() and not it.name.startswith(".")]
    records = (it for home in (directory, *below) for it in sorted(home.glob(f"*{RECORD}")))
    return [Place(it.with_name(it.name.removesuffix(RECORD))) for it in records]


def look(place: Place) -> Record:
    """What is written down of one. ConfigurationError, OSError."""
    with place.record.open("rb") as opened:
        return read(opened.read(limits.CLOUD_RECORD_BYTES_MAX), plain(str(place.record)))


def problems(place: Place, record: Record, *, thorough: bool) -> Iterator[str]:
    """What is wrong with its parts, each with its remedy; `thorough` reads the whole of them. A volume is not
    looked at."""
    for path, digest in _parts(place, record):
        said = plain(str(path))
        try:
            if not path.is_file():
                yield f"{said} is missing; bring it back, or build the image again"
            elif thorough and tree.sha256(path) != digest:
                yield f"{said} is not what was built; copy it again, or build the image again"
        except OSError as error:
            yield f"{said}: {error.strerror}"
    if place.initramfs.is_file() and (problem := _of_initramfs(place, record)):
        yield problem


def _parts(place: Place, record: Record) -> Iterator[tuple[Path, str]]:
    yield place.kernel, record.kernel_sha256
    yield place.initramfs, record.initramfs_sha256
    if not record.in_pool:
        yield place.base, record.root_sha256


def _of_initramfs(place: Place, record: Record) -> str:
    said = plain(str(place.initramfs))
    with place.initramfs.open("rb") as opened:
        size = opened.seek(0, 2)
        opened.seek(max(0, size - member.LENGTH))
        found = member.id_at_end(opened.read())
    if found is None and size < record.initramfs_bytes:
        return f"{said} is cut off: {size} of {record.initramfs_bytes} bytes; copy it again"
    if found is None:
        return f"{said} does not end with the id of an image; copy it again"
    return (
        "" if found == record.id else f"{said} is of the image {found}, not {record.id}; copy the right one"
    )


def listed(directory: Path) -> list[Place]:
    """As `places_in`; ConfigurationError where there is no such directory."""
    try:
        return places_in(directory)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{plain(str(directory))} is not there; build an image first") from error
