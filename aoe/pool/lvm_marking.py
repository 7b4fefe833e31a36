"""What makes a thin pool of LVM a pool of ours: a tag on it. And where it is, on which machine."""

import os
import uuid
from pathlib import Path
from typing import NamedTuple

from aoe.errors import ConfigurationError, PoolError
from aoe.pool import lvm_run, lvm_seen, lvm_tags, lvm_worker, marking, names
from aoe.pool.lvm_run import Run
from aoe.pool.lvm_seen import FIELDS, POOL_FIELDS, Lv, ThinPool
from aoe.pool.records import BadRecord

_REPORT = ("--reportformat", "json", "--binary", "--units", "b", "--nosuffix", "--options")


class Host(NamedTuple):
    """What it needs of a machine."""

    run: Run = lvm_run.run
    dev: Path = Path("/dev")
    locks: Path = Path("/run/lock/lvm")
    cache: Path = Path("/var/cache/aoe-target")
    """Where it keeps what is fetched for thin pools, which have no files."""
    measure: Run | None = None
    """Runs what may take minutes, so that no other command waits for that; None: `run` does."""


def _here() -> Host:
    if lvm_worker.is_needed():
        return Host(run=lvm_worker.Worker().run, measure=lvm_worker.Worker().run)
    return Host()


HERE = _here()


def ask(worker: lvm_worker.Worker, measuring: lvm_worker.Worker) -> None:
    """Have commands of this process run by these from now on."""
    global HERE  # noqa: PLW0603
    HERE = HERE._replace(run=worker.run, measure=measuring.run)


class Place(NamedTuple):
    """A thin pool of a volume group of a machine, and what messages call it."""

    host: Host
    vg: str
    thin_pool: str
    said: str

    @property
    def path(self) -> str:
        """As lvm writes it."""
        return self.at(self.thin_pool)

    def at(self, lv: str) -> str:
        """Another logical volume there."""
        return f"{self.vg}/{lv}"

    @property
    def device(self) -> Path:
        """Where the device mapper has it."""
        name = "-".join(part.replace("-", "--") for part in (self.vg, self.thin_pool))
        return self.host.dev / "mapper" / name

    def node(self) -> tuple[int, int] | None:
        """Which node of a device it has; None while it is not active."""
        try:
            found = Path(f"{self.device}-tpool").stat()
        except OSError:
            return None
        return found.st_ino, found.st_rdev

    def pool(self) -> ThinPool:
        """How the thin pool is now. PoolError, also where there is none."""
        rows = lvm_seen.reported(self.host.run(("lvs", *_REPORT, POOL_FIELDS, self.path)))
        return lvm_seen.pool_of(rows[0] if rows else {})

    def volumes(self) -> dict[str, Lv]:
        """Every volume of it by name. PoolError."""
        chosen = f"pool_lv={self.thin_pool}"
        said = self.host.run(("lvs", *_REPORT, FIELDS, "--select", chosen, self.vg))
        return lvm_seen.lvs_of(lvm_seen.reported(said))

    def open_lock(self, what: str) -> int:
        """A descriptor of what processes of this machine lock. ConfigurationError."""
        path = self.host.locks / f"aoe-{what}-{self.vg}-{self.thin_pool}"
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(f"{self.said}: {path}: {error.strerror}; run as root") from error


def place_of(path: str, name: str = "") -> Place:
    """VG/THIN-POOL of this machine; ConfigurationError for what cannot be one."""
    vg, _, thin_pool = path.partition("/")
    said = marking.shown(path, name)
    if not (names.is_lvm_name(vg) and names.is_lvm_name(thin_pool)):
        raise ConfigurationError(f"{said} is no name of a thin pool; write it as VG/THIN-POOL")
    return Place(HERE, vg, thin_pool, said)


def marked(place: Place, name: str = "") -> ThinPool:
    """The thin pool of what is a pool. ConfigurationError for what is not."""
    pool = _there(place)
    try:
        marker = lvm_tags.marker(pool.tags)
    except BadRecord as error:
        raise ConfigurationError(f"{place.said}: its tag aoe.pool: {error}") from error
    if marker is None:
        raise ConfigurationError(
            f"{place.said} is not marked as a pool; to make it one: aoe-target pool init {name or 'NAME'}"
        )
    return pool


def _there(place: Place) -> ThinPool:
    try:
        pool = place.pool()
    except PoolError as error:
        raise ConfigurationError(f"{place.said}: {error}; see what there is by lvs --all") from error
    if not pool.is_thin_pool:
        raise ConfigurationError(
            f"{place.said} is no thin pool; name one, or make it: lvcreate --type thin-pool --size 100G "
            f"--name NAME {place.vg}"
        )
    return pool


def init(place: Place) -> None:
    """Make a pool of a thin pool, in which there may be other volumes. ConfigurationError for what is none,
    and for one that is a pool already; PoolError."""
    pool = _there(place)
    if lvm_tags.is_ours(pool.tags):
        raise ConfigurationError(f"{place.said} is a pool already")
    if has := sorted(filter(lvm_seen.is_ours, place.volumes())):
        raise ConfigurationError(
            f"{place.said} has {has[0]}, and no tag aoe.pool; put that tag back, or name another thin pool"
        )
    prepare(place, pool)
    tag = lvm_tags.of_pool(uuid.uuid4().hex)
    place.host.run(("lvchange", "--yes", "--addtag", tag, place.path))


def prepare(place: Place, pool: ThinPool, lock: int | None = None) -> None:
    """Let a thin pool be active, fail at once where it is full, and give out no old bytes. PoolError."""
    changes = []
    if pool.data is None:
        changes.append(("--activate", "y"))
    if not pool.fails_when_full:
        changes.append(("--errorwhenfull", "y"))
    if not pool.zeroes:
        changes.append(("--zero", "y"))
    for change in changes:
        place.host.run(("lvchange", "--yes", *change, place.path), lock)
