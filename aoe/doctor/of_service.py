"""Judges the service: the daemon, by what it says and what the kernel says of its process, and its unit."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aoe import limits
from aoe.doctor import of_host, of_interfaces
from aoe.doctor.checks import Finding, fault, fine, halves, unseen
from aoe.drive.identify import FIRMWARE
from aoe.pool.room import Room

_OTHERS_WRITE, _STICKY = 0o022, 0o1000
_LOOK = "journalctl -u aoe-target"
COUNTED = {
    "ring_full": (
        "the receive ring was full",
        "give it more CPUs, or its clients a smaller buffer-count",
    ),
    "queue_full": (
        "the queue of a disk was full",
        "find out why it is slow, or set a smaller buffer-count",
    ),
    "expired": ("writes waited longer than max-frame-age", "find out why the disk is slow: iostat -x 1"),
    "send_lost": ("an interface took no more replies", "ip -s link, and look at its queue and cable"),
    "no_thread": ("no thread could be started", "raise TasksMax= in the unit, or ulimit -u"),
    "state_not_saved": ("a change could not be kept", "df, and ls -l, of the state directory"),
    "mtu_too_small": ("frames came over an MTU too small", "ip link set the interface mtu 1500"),
}
"""What a target counts that is a fault of its host: what it is, and what to do."""


class Process(NamedTuple):
    """A daemon as the kernel shows it. It may open so many `descriptors` (None: not known); `replaced` names
    files of its program that have another content now than what runs."""

    pid: int
    uid: int | None = None
    descriptors: int | None = None
    replaced: tuple[str, ...] = ()


class Unit(NamedTuple):
    """The unit of the service, as systemd shows it: its properties, and whether there is its user."""

    properties: Mapping[str, str]
    has_user: bool = True
    answered: bool = True
    """Whether systemd did in time: else nothing is known of it."""

    @property
    def user(self) -> str:
        """Empty: root."""
        return self.properties.get("User", "")

    @property
    def has_opener(self) -> bool:
        """Whether another unit opens disks for it."""
        return "--opener" in self.properties.get("ExecStart", "")


SILENT = Unit({}, answered=False)


class Seat(NamedTuple):
    """The directory of a control socket, and its mode."""

    path: str
    mode: int


def seat(one: Seat) -> Iterator[Finding]:
    """A user that can write there can put another socket in its place."""
    if one.mode & _OTHERS_WRITE and not one.mode & _STICKY:
        yield fault("control-open", one.path, f"mode {one.mode & 0o7777:o}", f"chmod 755 {one.path}")
    else:
        yield fine("control-open", one.path, f"mode {one.mode & 0o7777:o}")


def no_daemon(message: str, kind: str) -> Finding:
    """Why it cannot be asked."""
    seen, remedy = halves(message)
    if kind == "rights":
        return unseen("daemon", "daemon", seen, "sudo aoe-target doctor")
    return fault("daemon", "daemon", seen, remedy or _LOOK)


# What it says


def status(said: Mapping[str, Any], pid: int) -> Iterator[Finding]:
    """A daemon of an older version says less: that is not judged."""
    yield fine("daemon", "daemon", f"process {pid} answers, change {said.get('number', 0)}")
    if isinstance(said.get("release"), str):
        yield _release(said["release"], f"daemon {pid}")
    for export in dicts(said.get("exports")):
        yield _export(export)
    for pool in dicts(said.get("pools")):
        yield _pool(pool)
    engine = said.get("engine")
    if isinstance(engine, dict):
        yield of_host.engine(str(engine.get("reason", "")), f"daemon {pid}", str(engine.get("name")))
    for it in dicts(said.get("interfaces")):
        fits = it.get("frames_that_fit", 0)
        if isinstance(fits, int) and fits and it.get("up") and not str(it.get("name")).startswith("udp:"):
            yield of_interfaces.room(str(it.get("name")), int(it.get("mtu", 0)), fits)
    yield from _counted(said.get("counters"))


def _release(runs: str, about: str) -> Finding:
    if runs == FIRMWARE:
        return fine("package", about, f"release {runs}, as installed")
    return fault(
        "package", about, f"it is release {runs}, and {FIRMWARE} is installed", "systemctl restart aoe-target"
    )


def _export(export: Mapping[str, Any]) -> Finding:
    about, state = f"{export.get('address')}", str(export.get("state"))
    reason = str(export.get("reason", ""))
    if state == "draining" or (state == "serving" and not reason):
        return fine("export", about, f"{export.get('path')}: {state}")
    seen, remedy = halves(reason)
    known = "sync-failed" if seen.startswith("a sync failed") else "export"
    return fault(known, about, f"{state}, {seen}" if seen else state, remedy or f"aoe-target status; {_LOOK}")


def _pool(pool: Mapping[str, Any]) -> Finding:
    """That more is promised than there is, is what clones are for: only where little is left it matters."""
    about, problem = f"pool {pool.get('name')}", str(pool.get("problem", ""))
    if problem:
        seen, remedy = halves(problem)
        return fault("pool", about, seen, remedy or f"aoe-target pool list; {_LOOK}")
    free, growth = pool.get("free_bytes", 0), pool.get("growth_bytes", 0)
    room, reserve = Room(pool.get("total_bytes", 0), free), pool.get("reserve_percent", 0)
    seen = f"{free} of {room.total} bytes are free, and writes may take up to {growth} (reserve {reserve} %)"
    is_low = free < growth and free < room.total // limits.DOCTOR_FULL_ONE_IN
    if room.is_below(reserve) or is_low:
        remedy = f"aoe-target volume list {pool.get('name')}; delete snapshots or volumes, or give it room"
        return fault("pool-full", about, seen, remedy)
    return fine("pool-full", about, seen)


def _counted(counters: object) -> Iterator[Finding]:
    counted = counters if isinstance(counters, dict) else {}
    for name, (seen, remedy) in COUNTED.items():
        count = counted.get(name, 0)
        if isinstance(count, int) and count:
            yield fault("frames-dropped", f"counter {name}", f"{seen}, {count} times", remedy)
        else:
            yield fine("frames-dropped", f"counter {name}", "0")


def steps(said: Mapping[str, Any]) -> int:
    """How often it saw the clock jump. Both halves of it see each jump."""
    counters = said.get("counters")
    counted = counters if isinstance(counters, dict) else {}
    return max(int(counted.get(name, 0)) for name in ("clock_stepped", "engine_clock_stepped"))


def allowed_uring(said: Mapping[str, Any] | None) -> bool | None:
    """Whether the daemon has io_uring; None where that is not known, or it has no use for it."""
    engine = said.get("engine") if said else None
    return bool(engine.get("io_uring")) if isinstance(engine, dict) and engine.get("name") == "c" else None


def dicts(them: object) -> list[dict[str, Any]]:
    """Those objects of a list."""
    return [it for it in them if isinstance(it, dict)] if isinstance(them, list) else []


# Its process


def process(one: Process, needed: int) -> Iterator[Finding]:
    """`needed` is how many descriptors its file takes."""
    about = f"daemon {one.pid}"
    if one.replaced:
        seen = f"{one.replaced[0]} was replaced since it began"
        yield fault("package", about, seen, "systemctl restart aoe-target")
    if one.descriptors is None:
        yield unseen("descriptors", about, "its limits are not shown to this user", "sudo aoe-target doctor")
    else:
        yield descriptors(about, one.descriptors, needed)


def descriptors(about: str, may: int, needed: int) -> Finding:
    """How many files may be open, and how many have to be."""
    seen = f"{may} open files are allowed, {needed} are needed"
    if may < needed:
        return fault("descriptors", about, seen, f"LimitNOFILE={needed} in the unit, or ulimit -n {needed}")
    return fine("descriptors", about, seen)


# Its file and its unit


def faults_of_file(name: str, lines: Sequence[str]) -> Iterator[Finding]:
    """Each that reading it found."""
    for line in lines:
        said = line.removeprefix(f"{name}:")
        seen, remedy = halves(said) if "; " in said else said.rsplit(": ", 1)
        yield fault("config", name, f"line {seen}", remedy)


def unit(one: Unit, name: str) -> Iterator[Finding]:
    """What systemd says of it."""
    if not one.answered:
        yield _silent("unit-failed", name)
        return
    said = one.properties
    if said.get("ActiveState") == "failed":
        yield fault("unit-failed", name, f"failed ({said.get('Result')})", _LOOK)
    if said.get("ActiveState") == "active" and said.get("UnitFileState") == "disabled":
        yield fault("unit-disabled", name, "active, but disabled", f"systemctl enable {name}")
    if said.get("NeedDaemonReload") == "yes":
        yield fault("unit-changed", name, "its file has changed", "systemctl daemon-reload")
    held = said.get("FileDescriptorStoreMax", "")
    if held == "0":
        remedy = f"systemctl edit {name}: FileDescriptorStoreMax={limits.HELD_MAX}"
        yield fault("unit-store", name, "FileDescriptorStoreMax=0", remedy)
    else:
        yield fine("unit-store", name, f"FileDescriptorStoreMax={held}")
    if not one.has_user:
        seen = f"there is no user {one.user}"
        yield fault("user", name, seen, f"useradd --system --no-create-home {one.user}")


def opener(one: Unit | None, name: str) -> Finding:
    """The socket of the opener, without which nothing more is opened."""
    if one is not None and not one.answered:
        return _silent("opener", name)
    state = one.properties.get("ActiveState", "") if one is not None else "not there"
    if state in ("active", "activating", ""):
        return fine("opener", name, state or "active")
    return fault("opener", name, state, f"systemctl start {name}")


def _silent(id: str, name: str) -> Finding:
    return unseen(id, name, "systemd does not say in time how it is", f"systemctl status {name}")
