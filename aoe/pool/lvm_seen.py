"""What lvm reports of a thin pool, as values: the pool itself, its volumes, and what all that comes to."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from aoe.errors import PoolError
from aoe.pool import lvm_tags
from aoe.pool.lvm_tags import Tagged
from aoe.pool.records import BadRecord
from aoe.pool.room import Room
from aoe.pool.settling import Found, apart
from aoe.pool.volume import Image, Volume

T = TypeVar("T")
Row = Mapping[str, str]

POOL_FIELDS = (
    "segtype,lv_size,data_percent,metadata_percent,lv_when_full,zero,chunk_size,vg_extent_size,lv_tags"
)
FIELDS = "lv_name,lv_size,lv_permissions,lv_skip_activation,thin_id,lv_tags"
"""What lvs is asked for, in bytes, with --binary."""
_PREFIX = "aoe-"
_LV = re.compile(rf"{_PREFIX}([0-9a-f]{{32}})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinPool:
    """A thin pool. Sizes are in bytes: volumes have whole `extent`s, and room is given out in `chunk`s. Of
    data and metadata in use percent are told; None where it is not active."""

    is_thin_pool: bool
    size: int
    data: float | None
    metadata: float | None
    fails_when_full: bool
    zeroes: bool
    chunk: int
    extent: int
    tags: frozenset[str]

    @property
    def room(self) -> Room:
        """PoolError where it is not active, so that this is not known."""
        if self.data is None or self.metadata is None:
            raise PoolError("the thin pool is not active; activate it: lvchange --activate y")
        return Room(self.size, int(self.size * (100 - self.data) / 100), int(100 - self.metadata))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lv:
    """A logical volume of a thin pool. One that is `skipped` is inactive when the machine starts."""

    size: int
    tags: frozenset[str]
    read_only: bool
    skipped: bool
    thin_id: int

    @property
    def kept(self) -> bool:
        """Whether it is read-only, and skipped: a state that nothing writes any more."""
        return self.read_only and self.skipped


def name_of(image: Image | str) -> str:
    """The logical volume of an image, or of the file that a directory would have."""
    file = image if isinstance(image, str) else image.file
    return _PREFIX + file.partition(".")[0]


def is_ours(lv: str) -> bool:
    """Whether a logical volume is called as images are."""
    return lv.startswith(_PREFIX)


# Reports


def reported(text: str) -> list[Row]:
    """The rows of a report in JSON. PoolError for what is none."""

    def rows() -> list[Row]:
        return [
            {key: str(value) for key, value in row.items()} for row in json.loads(text)["report"][0]["lv"]
        ]

    return _understood(rows)


def pool_of(row: Row) -> ThinPool:
    """A row of POOL_FIELDS. PoolError."""
    return _understood(
        lambda: ThinPool(
            is_thin_pool=row["segtype"] == "thin-pool",
            size=int(row["lv_size"]),
            data=_percent(row["data_percent"]),
            metadata=_percent(row["metadata_percent"]),
            fails_when_full=row["lv_when_full"] == "error",
            zeroes=row["zero"] == "1",
            chunk=int(row["chunk_size"] or 0),
            extent=int(row["vg_extent_size"]),
            tags=_tags(row),
        )
    )


def lvs_of(rows: Iterable[Row]) -> dict[str, Lv]:
    """Rows of FIELDS, by name. PoolError."""
    return _understood(lambda: {row["lv_name"]: _lv(row) for row in rows})


def _lv(row: Row) -> Lv:
    return Lv(
        size=int(row["lv_size"]),
        tags=_tags(row),
        read_only=row["lv_permissions"].startswith("read-only"),
        skipped=row["lv_skip_activation"] == "1",
        thin_id=int(row["thin_id"]),
    )


def _understood(read: Callable[[], T]) -> T:
    try:
        return read()
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise PoolError(f"lvm's report is not understood ({type(error).__name__}: {error})") from error


def _percent(text: str) -> float | None:
    return float(text) if text else None


def _tags(row: Row) -> frozenset[str]:
    return frozenset(filter(None, row["lv_tags"].split(",")))


# A pool


def found(lvs: Mapping[str, Lv]) -> Found:
    """All that is there. Other logical volumes of the thin pool are not looked at."""
    said, damaged = _records(lvs)
    taken = {name: it for lv, it in damaged.items() for name in lvm_tags.names_of(lvs[lv].tags)}
    volumes: dict[str, Volume] = {}
    outdated: list[str] = []
    for name in sorted({it.name for it in said.values() if it.name}):
        homes = sorted((lv for lv, it in said.items() if it.name == name), key=lambda lv: said[lv].serial)
        if problem := _problem([said[lv] for lv in homes], name in taken):
            damaged |= dict.fromkeys(homes, problem)
            taken[name] = problem
        else:
            volumes[name] = said[homes[-1]].volume
            outdated += homes[:-1]
    whole, twice = apart(volumes)
    images, new, strange = _images(lvs)
    return Found(
        volumes=whole,
        gone={it.volume.uuid: it.volume for it in said.values() if not it.name},
        damaged={**damaged, **{name_of(volumes[name].head): problem for name, problem in twice.items()}},
        taken={**taken, **twice},
        images=images,
        new=new,
        unfinished=tuple(outdated),
        strange=strange,
    )


def _records(lvs: Mapping[str, Lv]) -> tuple[dict[str, Tagged], dict[str, str]]:
    """What is said, by the logical volume that says it; and what is wrong there."""
    said, damaged = {}, {}
    for lv, it in lvs.items():
        try:
            tagged = lvm_tags.record(it.tags)
        except BadRecord as error:
            damaged[lv] = str(error)
            continue
        if tagged is not None and name_of(tagged.volume.head) != lv:
            damaged[lv] = "it has the record of another logical volume"
        elif tagged is not None:
            said[lv] = tagged
    return said, damaged


def _problem(them: list[Tagged], taken: bool) -> str:
    """Of what says to be one volume, the newest last."""
    alone = len({it.volume.uuid for it in them}) == 1 and len({it.serial for it in them}) == len(them)
    return "" if alone and not taken else f"another logical volume has the name {them[0].name}, too"


def _images(lvs: Mapping[str, Lv]) -> tuple[dict[str, int], dict[str, int], tuple[str, ...]]:
    images: dict[str, int] = {}
    new: dict[str, int] = {}
    strange = []
    for lv, it in lvs.items():
        match = _LV.fullmatch(lv)
        if match:
            (new if lvm_tags.NEW in it.tags else images)[f"{match[1]}.raw"] = it.size
        elif is_ours(lv) or lvm_tags.is_ours(it.tags):
            strange.append(lv)
    return images, new, tuple(strange)


def homes(lvs: Mapping[str, Lv], tag: str) -> list[str]:
    """Logical volumes that have a tag."""
    return [lv for lv, it in lvs.items() if tag in it.tags]


def of_uuid(lvs: Mapping[str, Lv], uuid: str) -> list[str]:
    """Logical volumes that have the record of a volume that is gone."""
    said, _ = _records({lv: it for lv, it in lvs.items() if lvm_tags.GONE in it.tags})
    return [lv for lv, it in said.items() if it.volume.uuid == uuid]


def kept(volumes: Iterable[Volume]) -> set[str]:
    """Logical volumes that are never written."""
    return {name_of(it.image) for volume in volumes for it in volume.snapshots}
