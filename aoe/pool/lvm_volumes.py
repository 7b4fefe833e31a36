"""The thin volumes of a pool: what they are, and the commands of lvm that change them."""

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from aoe.disk import syscalls
from aoe.pool import lvm_clearing, lvm_tags
from aoe.pool.lvm_marking import Place
from aoe.pool.lvm_seen import Lv, ThinPool

NO_ID = -1
"""Of one that was made here, and not looked at since."""


class Volumes:
    """All of them by name, as they were when last looked at, and as they were changed here since. `lock` is a
    descriptor that commands have, too. Every call may raise PoolError; of what was under way then nothing is
    known until they are looked at again."""

    def __init__(self, place: Place, pool: ThinPool) -> None:
        self._place = place
        self._pool = pool
        self.lock: int | None = None
        self.known: dict[str, Lv] = {}

    def look(self) -> None:
        """Look at them again."""
        self.known = self._place.volumes()

    def path(self, lv: str) -> Path:
        """Where one is while it is active."""
        return self._place.host.dev / self._place.vg / lv

    def is_active(self, lv: str) -> bool:
        """Whether it is there."""
        return self.path(lv).exists()

    def create(self, lv: str, size: int) -> None:
        """A new one of at least `size` bytes, with zeroes in it."""
        what = ("--virtualsize", f"{size}b", "--thinpool", self._place.path, "--wipesignatures", "n")
        self._run("lvcreate", "--name", lv, *what, "--addtag", lvm_tags.NEW)
        self._know(lv, size)

    def copy(self, lv: str, of: str, *, kept: bool) -> None:
        """A new one that begins as another one; one that is `kept` is not to be written."""
        how = ("--permission", "r" if kept else "rw", "--setactivationskip", "y" if kept else "n")
        self._run(
            *("lvcreate", "--type", "thin", "--name", lv, *how, "--addtag", lvm_tags.NEW),
            self._place.at(of),
        )
        self._know(lv, self.known[of].size, kept)

    def _know(self, lv: str, size: int, kept: bool = False) -> None:
        new = frozenset({lvm_tags.NEW})
        self.known[lv] = Lv(size=self._whole(size), tags=new, read_only=kept, skipped=kept, thin_id=NO_ID)

    def _whole(self, size: int) -> int:
        return -(-size // self._pool.extent) * self._pool.extent

    def tag(self, lv: str, more: Collection[str] = (), less: Collection[str] = ()) -> None:
        """Let one have some tags, and not have others, all in one go."""
        had = self.known[lv].tags
        now = (had - frozenset(less)) | frozenset(more)
        words = [word for tag in sorted(now - had) for word in ("--addtag", tag)]
        words += [word for tag in sorted(had - now) for word in ("--deltag", tag)]
        if words:
            self._run("lvchange", *words, self._place.at(lv))
            self.known[lv] = replace(self.known[lv], tags=now)

    def keep(self, lv: str) -> None:
        """Let one be read-only, and inactive; nothing may have it open."""
        it = self.known[lv]
        if self.is_active(lv):
            self._run("lvchange", "--activate", "n", self._place.at(lv))
        if not it.read_only:
            self._run("lvchange", "--permission", "r", self._place.at(lv))
        if not it.skipped:
            self._run("lvchange", "--setactivationskip", "y", self._place.at(lv))
        self.known[lv] = replace(it, read_only=True, skipped=True)

    def activate(self, lv: str) -> None:
        """Let it be there to be opened."""
        if not self.is_active(lv):
            self._run("lvchange", "--activate", "y", "--ignoreactivationskip", self._place.at(lv))

    def remove(self, lv: str) -> None:
        """One that nothing has open; it may be new."""
        self._run("lvremove", self._place.at(lv))
        self.known.pop(lv, None)

    def resize(self, lv: str, size: int, was: int) -> None:
        """At least `size` bytes; what it has behind the nearer of both ends is zeroes then."""
        it = self.known[lv]
        least, whole = min(size, was), self._whole(size)
        if least < it.size:
            self.activate(lv)
            self._clear(lv, least, it.size)
        if whole != it.size:
            shrink = ("--force",) if whole < it.size else ()
            self._run("lvresize", *shrink, "--size", f"{whole}b", self._place.at(lv))
            self.known[lv] = replace(it, size=whole)

    def _clear(self, lv: str, start: int, end: int) -> None:
        fd = os.open(self.path(lv), os.O_RDWR | os.O_CLOEXEC)
        try:
            lvm_clearing.clear(fd, start, end, self._pool.chunk)
        finally:
            syscalls.close_all((fd,))

    def _run(self, command: str, *words: str) -> None:
        self._place.host.run((command, "--yes", *words), self.lock)
