"""What a configuration file says, as frozen values: defaults and groups are resolved.

A field is the key of that name with hyphens (`read_only` is `read-only`). None is "not stated": what was
kept from an earlier run, or what the host decides, stays in force.
"""

import functools
import re
from dataclasses import dataclass
from typing import Literal, get_args

from aoe import limits, timing
from aoe.errors import ConfigurationError
from aoe.image.formats import RAW, format_of
from aoe.pool.names import Kind, VolumeName, parse
from aoe.target.rates import LIMITS, Limits, limits_of

Durability = Literal["write-through", "write-back"]
EngineChoice = Literal["auto", "c", "python"]
LogLevel = Literal["debug", "info", "warning", "error"]
Readers = Literal["group", "all"]
ImageFormat = Literal["auto", "raw", "qcow2", "vhdx", "vmdk", "vdi", "luks"]
Mask = tuple[bytes, ...]
"""MACs of the hosts that are served; empty: every host is."""

LINK = "udp:"
"""What a UDP link begins with, and no interface's name does."""

BY_TAG = {
    "LABEL": "/dev/disk/by-label",
    "UUID": "/dev/disk/by-uuid",
    "PARTLABEL": "/dev/disk/by-partlabel",
    "PARTUUID": "/dev/disk/by-partuuid",
}
"""What may stand before the `=` of a path, and where udev has the links of what blkid(8) finds."""
_PLAIN = frozenset("#+-.:=@_")
"""Besides letters and digits, what udev leaves in the name of a link as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetConfig:
    """How everything is served.

    `engine` moves the sectors with so many `threads` (1 to 1024), or one on each of `cpus`; `spin` lets them
    wait busily for a moment. `interfaces` are names, alternative names, MACs or globs; `links` are UDP links.
    They are for exports that name none of their own; where there is neither, for the only Ethernet interface.
    `max_frame_age` is in seconds (0.5 to 3600), `buffer_count` in messages (2 to 65535). Members of
    `control_group` may change what names neither a store nor an interface; `control_readers` may look.
    `metrics` is `HOST:PORT`, where the host is an address; what each client did is told there with
    `metrics_clients`.
    """

    interfaces: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    engine: EngineChoice = "auto"
    threads: int = 1
    cpus: tuple[int, ...] = ()
    spin: bool = True
    max_frame_age: float = timing.FRAME_AGE_DEFAULT_S
    buffer_count: int | None = None
    remote_admin: bool = True
    remote_masks: bool = True
    state_dir: str | None = None
    control_group: str | None = None
    control_readers: Readers = "group"
    metrics: str | None = None
    metrics_clients: bool = False
    log_level: LogLevel = "info"
    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """One disk: what is served at `shelf`.`slot` (0 to 65534 without 4095, 0 to 254).

    `path` is absolute, or `LABEL=`, `UUID=`, `PARTLABEL=` or `PARTUUID=` with a value; `place` is the path of
    either. In a file it may name a volume or snapshot of a pool instead, and `place` does, too. `offset` and
    `length` (None: the rest) are in sectors of 512 bytes. `direct` None means block devices direct, files
    buffered. `mask` None keeps the list that there is, an empty one was stated: every host is served.
    `interfaces` None means those of the target; a stated one may also name a UDP link of the target.
    `copy_of` is the id of an image of which the disk is a copy; such a one is read-only.
    `format` auto is what the name of the path ends with; a `key_file` has the key of an image. The `limit_`
    fields are requests and bytes a second of all hosts together and of each (0: no limit), and the burst in
    seconds. `force` serves an address that another target answers for; `reset_state` forgets what an earlier
    run kept whenever the export begins to be served.
    """

    path: str
    shelf: int
    slot: int
    serial: str | None = None
    offset: int = 0
    length: int | None = None
    durability: Durability = "write-through"
    direct: bool | None = None
    shared: bool = False
    read_only: bool = False
    copy_of: str | None = None
    format: ImageFormat = "auto"
    key_file: str | None = None
    mask: Mask | None = None
    interfaces: tuple[str, ...] | None = None
    limit_iops: int = 0
    limit_bandwidth: int = 0
    limit_client_iops: int = 0
    limit_client_bandwidth: int = 0
    limit_burst: float = timing.LIMIT_BURST_NS / 1e9
    force: bool = False
    reset_state: bool = False

    @property
    def key(self) -> tuple[int, int]:
        """Shelf and slot."""
        return self.shelf, self.slot

    @property
    def address(self) -> str:
        """`e<shelf>.<slot>`."""
        return f"e{self.shelf}.{self.slot}"

    @property
    def limits(self) -> Limits:
        """What it may be asked for."""
        return limits_of(**{name: getattr(self, name) for name in LIMITS})

    @property
    def limited(self) -> dict[str, float]:
        """The same by the keys of the file; none where nothing is limited."""
        return {name.replace("_", "-"): getattr(self, name) for name in LIMITS} if self.limits.any else {}

    @property
    def place(self) -> str:
        """The path of what is served, also where the file names a label or a UUID."""
        return place_of(self.path)

    @property
    def form(self) -> str:
        """What it is an image in; raw: in none."""
        return RAW if volume_of(self.path) else format_of(self.path, self.format)

    @property
    def store(self) -> tuple[str, int, int | None]:
        """Which sectors of which place: another one at an address is another disk."""
        return self.place, self.offset, self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """A store of volumes, as `aoe.pool` has them: a directory, whose `path` is absolute, or the thin pool
    `thin_pool` of the volume group `vg`. Below `reserve` percent of free room (0 to 90) it refuses what takes
    more. Members of the group `admins` may do all with its volumes."""

    name: str
    path: str = ""
    kind: Kind = "directory"
    vg: str = ""
    thin_pool: str = ""
    reserve: int = limits.POOL_RESERVE_DEFAULT
    admins: str | None = None

    @property
    def place(self) -> str:
        """Where it is, as `aoe.pool` takes it."""
        return self.path or f"{self.vg}/{self.thin_pool}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    """Snapshots that are made by time, and pruned: `volumes` are `POOL/VOLUME`, with `*`, `?` and `[...]`;
    so many are kept of each hour, day, week and month, in a `timezone` (UTC)."""

    name: str
    volumes: tuple[str, ...]
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    timezone: str | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """A whole file. The addresses of `exports` are distinct, as are the serials that are stated; so are the
    names and places of `pools`, and the names of `schedules`."""

    target: TargetConfig = TargetConfig()
    exports: tuple[ExportConfig, ...] = ()
    pools: tuple[PoolConfig, ...] = ()
    schedules: tuple[ScheduleConfig, ...] = ()

    @property
    def by_key(self) -> dict[tuple[int, int], ExportConfig]:
        """The exports by shelf and slot."""
        return {export.key: export for export in self.exports}

    @property
    def interfaces(self) -> tuple[str, ...]:
        """All that is to be opened, each once, in the order of the file; UDP links are not among them."""
        own = (name for export in self.exports for name in export.interfaces or ())
        return tuple(dict.fromkeys(name for name in (*self.target.interfaces, *own) if not is_link(name)))


def is_link(name: str) -> bool:
    """Whether what is named is a UDP link, and no interface."""
    return name.startswith(LINK)


def as_format(text: str) -> ImageFormat:
    """A format by its name, which it must be."""
    return next(it for it in get_args(ImageFormat) if it == text)


@functools.lru_cache(maxsize=2 * limits.EXPORTS_MAX)
def volume_of(path: str) -> VolumeName | None:
    """The volume or snapshot that a `path` of the file names, if it names one."""
    try:
        return parse(path)
    except ConfigurationError:
        return None


@functools.lru_cache(maxsize=2 * limits.EXPORTS_MAX)
def place_of(path: str) -> str:
    """Where the disk is that a `path` of the file names."""
    tag, _, value = path.partition("=")
    directory = BY_TAG.get(tag)
    return re.sub(r"/(\.?/)+", "/", path) if directory is None else f"{directory}/{link_name(value)}"


def link_name(value: str) -> str:
    r"""As udev writes a label in the name of a link: other characters are `\x20` and the like."""
    return "".join(it if _is_plain(it) else f"\\x{ord(it):02x}" for it in value)


def _is_plain(character: str) -> bool:
    return not character.isascii() or character.isalnum() or character in _PLAIN
