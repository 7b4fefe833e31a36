"""A volume group that only computes: what lvm2 2.03.16 does with the commands that a pool gives it.

Bytes are in files; one of an active volume is where its device would be. What is answered to which command
was seen in a guest (tests/vm/test_lvm.py has the real one).
"""

import argparse
import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from aoe.errors import PoolError
from aoe.pool.lvm_marking import Host

EXTENT = 4 << 20
CHUNK = 65536
VG, THIN = "vg-0", "thin-pool"
_TAG = re.compile(r"(?!-)[A-Za-z0-9_+./=!:&#-]{1,1024}")


@dataclass
class FakeLv:
    size: int
    thin_id: int
    tags: set[str] = field(default_factory=set)
    read_only: bool = False
    skipped: bool = False


@dataclass
class FakePool:
    """The thin pool: as lvcreate makes one."""

    size: int = 1 << 30
    data: float = 10.0
    metadata: float = 11.0
    tags: set[str] = field(default_factory=set)
    fails_when_full: bool = False
    zeroes: bool = True
    active: bool = True


class FakeLvm:
    """`before` and `after` are called with each command; `used` are volumes that something has open."""

    def __init__(self, directory: Path) -> None:
        self._settle_in(directory)
        self.pool = FakePool()
        self.lvs: dict[str, FakeLv] = {}
        self.segtypes = {THIN: "thin-pool", "root": "linear"}
        self.used: set[str] = set()
        self.said: list[Sequence[str]] = []
        self.before: Callable[[Sequence[str]], object] = lambda _: None
        self.after: Callable[[Sequence[str]], object] = lambda _: None
        self._ids = count(1)
        self._frozen = False
        self.activate_pool()

    def _settle_in(self, directory: Path) -> None:
        self.host = Host(self.run, directory / "dev", directory / "locks", directory / "cache")
        self._bytes = directory / "bytes"
        self._bytes.mkdir(parents=True)

    def activate_pool(self) -> None:
        self.pool.active = True
        node = self.host.dev / "mapper" / "vg--0-thin--pool-tpool"
        node.parent.mkdir(parents=True, exist_ok=True)
        node.touch()

    def deactivate_pool(self) -> None:
        self.pool.active = False
        (self.host.dev / "mapper" / "vg--0-thin--pool-tpool").unlink()

    def copy(self, directory: Path) -> "FakeLvm":
        """The same elsewhere."""
        made = FakeLvm(directory)
        made.pool, made.lvs = deepcopy((self.pool, self.lvs))
        made._ids = count(max((it.thin_id for it in self.lvs.values()), default=0) + 1)
        for lv in self.lvs:
            _copy(self._bytes / lv, made._bytes / lv)
            made._activate(lv, self.is_active(lv))
        return made

    @property
    def path(self) -> str:
        return f"{VG}/{THIN}"

    def run(self, words: Sequence[str], stdin: int | None = None) -> str:
        """As `aoe.pool.lvm_run.run`."""
        del stdin
        self.before(words)
        self.said.append(words)
        answer = str(getattr(self, f"_{words[0]}")(_parsed(words)))
        self.after(words)
        return answer

    def changes(self) -> list[Sequence[str]]:
        """Commands that change something."""
        return [it for it in self.said if it[0] in ("lvcreate", "lvchange", "lvremove", "lvresize")]

    def is_active(self, lv: str) -> bool:
        return self._device(lv).exists()

    def reboot(self) -> None:
        """What is active afterwards is what autoactivation makes so."""
        for lv, it in self.lvs.items():
            self._activate(lv, not it.skipped)

    def _device(self, lv: str) -> Path:
        return self.host.dev / VG / lv

    def _activate(self, lv: str, active: bool) -> None:
        device = self._device(lv)
        device.unlink(missing_ok=True)
        if active:
            device.parent.mkdir(parents=True, exist_ok=True)
            device.symlink_to(self._bytes / lv)

    # Commands

    def _lvs(self, said: argparse.Namespace) -> str:
        assert said.reportformat == "json"
        assert said.binary
        assert (said.units, said.nosuffix) == ("b", True)
        if said.select:
            assert (said.select, said.place) == (f"pool_lv={THIN}", VG)
            rows = [self._row(name) for name in self.lvs]
        else:
            rows = [self._pool_row(said.place)]
        fields = said.options.split(",")
        return json.dumps({"report": [{"lv": [{name: row[name] for name in fields} for row in rows]}]})

    def _pool_row(self, place: str) -> dict[str, str]:
        vg, _, name = place.partition("/")
        if vg != VG:
            raise PoolError(f'lvs: Volume group "{vg}" not found')
        if name not in self.segtypes:
            raise PoolError(f'lvs: Failed to find logical volume "{place}"')
        pool = self.pool
        return {
            "segtype": self.segtypes[name],
            "lv_size": str(pool.size),
            "data_percent": f"{pool.data:.2f}" if pool.active else "",
            "metadata_percent": f"{pool.metadata:.2f}" if pool.active else "",
            "lv_when_full": "error" if pool.fails_when_full else "queue",
            "zero": str(int(pool.zeroes)),
            "chunk_size": str(CHUNK),
            "vg_extent_size": str(EXTENT),
            "lv_tags": ",".join(sorted(pool.tags)),
        }

    def _row(self, name: str) -> dict[str, str]:
        it = self.lvs[name]
        writes = "writeable" if self.is_active(name) else "unknown"
        return {
            "lv_name": name,
            "lv_size": str(it.size),
            "lv_permissions": "read-only" if it.read_only else writes,
            "lv_skip_activation": str(int(it.skipped)),
            "thin_id": str(it.thin_id),
            "lv_tags": ",".join(sorted(it.tags)),
        }

    def _lvcreate(self, said: argparse.Namespace) -> str:
        assert said.yes
        if said.name in self.lvs:
            raise PoolError(f'lvcreate: Logical Volume "{said.name}" already exists in volume group "{VG}"')
        if said.virtualsize:
            assert (said.thinpool, said.wipesignatures) == (self.path, "n")
            made = FakeLv(_whole(said.virtualsize), next(self._ids))
            (self._bytes / said.name).touch()
        else:
            assert said.type == "thin"
            origin = self._named(said.place, "lvcreate")
            made = FakeLv(self.lvs[origin].size, next(self._ids))
            _copy(self._bytes / origin, self._bytes / said.name)
            made.read_only, made.skipped = said.permission == "r", said.setactivationskip == "y"
        made.tags = _tags(said.addtag)
        self.lvs[said.name] = made
        with (self._bytes / said.name).open("r+b") as file:
            file.truncate(made.size)
        self._activate(said.name, not made.skipped)
        return ""

    def _lvchange(self, said: argparse.Namespace) -> str:
        assert said.yes
        if said.place == self.path:
            return self._change_pool(said)
        name = self._named(said.place, "lvchange")
        it = self.lvs[name]
        it.tags = it.tags - set(said.deltag) | _tags(said.addtag)
        if said.activate:
            self._check_unused(name, "lvchange")
            self._activate(name, said.activate == "y" and (said.ignoreactivationskip or not it.skipped))
        if said.permission:
            if it.read_only == (said.permission == "r"):
                raise PoolError(f'lvchange: Logical volume "{said.place}" is already read only.')
            it.read_only = said.permission == "r"
        if said.setactivationskip:
            it.skipped = said.setactivationskip == "y"
        return ""

    def _change_pool(self, said: argparse.Namespace) -> str:
        pool = self.pool
        pool.tags |= _tags(said.addtag)
        if said.activate == "y":
            self.activate_pool()
        if said.errorwhenfull:
            assert not pool.fails_when_full
            pool.fails_when_full = True
        if said.zero:
            assert not pool.zeroes, "lvchange: Logical volume vg/thin already zero new blocks."
            pool.zeroes = True
        return ""

    def _lvremove(self, said: argparse.Namespace) -> str:
        assert said.yes
        name = self._named(said.place, "lvremove")
        self._check_unused(name, "lvremove")
        self._activate(name, active=False)
        (self._bytes / name).unlink()
        del self.lvs[name]
        return ""

    def _lvresize(self, said: argparse.Namespace) -> str:
        name = self._named(said.place, "lvresize")
        it, size = self.lvs[name], _whole(said.size)
        if size == it.size:
            raise PoolError("lvresize: New size matches existing size.")
        assert said.yes
        assert said.force == (size < it.size)
        it.size = size
        with (self._bytes / name).open("r+b") as file:
            file.truncate(size)
        return ""

    def _dmsetup(self, said: argparse.Namespace) -> str:
        action, device, sector, message = said.words
        assert (action, sector) == ("message", "0")
        assert device == str(self.host.dev / "mapper" / "vg--0-thin--pool-tpool")
        if (message == "reserve_metadata_snap") == self._frozen:
            raise PoolError("dmsetup: Device or resource busy")
        self._frozen = not self._frozen
        return ""

    def _thin_ls(self, said: argparse.Namespace) -> str:
        assert self._frozen
        assert said.words == [str(self.host.dev / "mapper" / "vg--0-thin--pool_tmeta")]
        return "".join(f"{it.thin_id:3} {CHUNK * 2:10} {CHUNK:10} \n" for it in self.lvs.values())

    def _named(self, place: str, command: str) -> str:
        vg, _, name = place.partition("/")
        if vg != VG or name not in self.lvs:
            raise PoolError(f'{command}: Failed to find logical volume "{place}"')
        return name

    def _check_unused(self, name: str, command: str) -> None:
        if name in self.used:
            raise PoolError(f"{command}: Logical volume {VG}/{name} in use.")


def _copy(source: Path, copy: Path) -> None:
    """Without its holes."""
    with source.open("rb") as file, copy.open("wb") as made:
        end = os.fstat(file.fileno()).st_size
        at = 0
        with suppress(OSError):  # ENXIO: there is nothing more
            while at < end:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
                at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
                os.pwrite(made.fileno(), os.pread(file.fileno(), at - start, start), start)
        made.truncate(end)


def _tags(said: list[str]) -> set[str]:
    assert all(_TAG.fullmatch(it) for it in said), said
    return set(said)


def _whole(size: str) -> int:
    assert re.fullmatch(r"[1-9][0-9]*b", size)
    assert int(size[:-1]) % 512 == 0
    return -(-int(size[:-1]) // EXTENT) * EXTENT


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    if words[0] in ("dmsetup", "thin_ls"):
        for flag in ("--no-headers", "--metadata-snap"):
            parser.add_argument(flag, action="store_true")
        parser.add_argument("--format")
        parser.add_argument("words", nargs="*")
        return parser.parse_args(words[1:])
    for flag in ("--yes", "--binary", "--nosuffix", "--force", "--ignoreactivationskip"):
        parser.add_argument(flag, action="store_true")
    for tags in ("--addtag", "--deltag"):
        parser.add_argument(tags, action="append", default=[])
    for option in (
        *("--reportformat", "--units", "--options", "--select", "--name", "--virtualsize", "--thinpool"),
        *("--wipesignatures", "--type", "--permission", "--setactivationskip", "--activate", "--size"),
        *("--errorwhenfull", "--zero"),
    ):
        parser.add_argument(option)
    parser.add_argument("place", nargs="?")
    return parser.parse_args(words[1:])
