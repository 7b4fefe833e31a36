"""Verbs on an open pool, one after the other, for a caller that may wait: plan, carry out, and undo."""

import errno
import os
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Protocol, TypeVar

from aoe import limits, timing
from aoe.errors import MisuseError, PoolError
from aoe.pool import store
from aoe.pool.copying import Standing
from aoe.pool.download import Scratch
from aoe.pool.names import Kind
from aoe.pool.qemu_img import QemuImgFailed, Told
from aoe.pool.room import Room, Usage, together
from aoe.pool.settling import Found, Leftover, leftovers, settle
from aoe.pool.steps import Fit, Plan, Step, changed
from aoe.pool.tree import Tree
from aoe.pool.volume import Image, Volume

T = TypeVar("T")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REMEDIES = dict.fromkeys(_FULL, "; delete snapshots or volumes, or give it more room") | {
    errno.EFBIG: "; its file system has no file of that size: choose a smaller one, or qcow2"
}


def fresh_id() -> str:
    """That there has never been."""
    return uuid.uuid4().hex


class ImageInUse(PoolError):
    """Something else uses an image, or did so a moment ago."""


class InUse(Protocol):
    """Images that QEMU has open for exports of this process, by their paths. ConfigurationError."""

    def check(self, path: str) -> None:
        """That what serves one answers."""

    def grow(self, path: str, size: int) -> None:
        """Let the disk in one have so many bytes from now on."""


class _Unused:
    """There are none."""

    def check(self, path: str) -> None: ...

    def grow(self, path: str, size: int) -> None: ...


UNUSED: InUse = _Unused()


class Request(Protocol):
    """A verb with what it is asked for (`aoe.pool.requests`)."""

    def plan(self, at: Standing) -> Plan:
        """Its steps. ConfigurationError."""


class Work:
    """A pool that this process alone works on, or (`locked=False`) only looks at.

    `path` is where the store of its `kind` is; `reserve` is percent of that. ConfigurationError for what is
    no pool, PoolError where another process has it for longer than `patience_s` (seconds), or its store
    fails.
    """

    def __init__(
        self,
        path: str,
        *,
        kind: Kind = "directory",
        name: str = "",
        reserve: int = limits.POOL_RESERVE_DEFAULT,
        patience_s: float = timing.POOL_TURN_S,
        locked: bool = True,
    ) -> None:
        self.kind = kind
        self.name = name
        self.reserve = reserve
        self.store = store.opened(kind, path, name)
        self._reflinks: bool | None = None
        self._locked = locked
        self._undone: list[Leftover] = []
        self._tree: Tree | None = None
        self._closed = False
        self._stale = False
        try:
            if locked:
                self.store.lock(patience_s)
                self._settle()
                self.store.save()
            else:
                self.found = self._find()
        except BaseException:
            self.store.close()
            raise

    def close(self) -> None:
        """Let others work on it. From then on every call is a MisuseError: its descriptors may be others'."""
        if not self._closed:
            self._closed = True
            self.store.close()

    @property
    def is_there(self) -> bool:
        """Whether its path leads to it still: another file system may be mounted there, or none."""
        return self.store.is_there()

    def _check_open(self) -> None:
        if self._closed:
            raise MisuseError(f"{self.store.said} was closed here; open it again")

    # What it is

    @property
    def volumes(self) -> Mapping[str, Volume]:
        """By name."""
        return self.found.volumes

    @property
    def tree(self) -> Tree:
        """The same, with what depends on what."""
        if self._tree is None or self._tree.volumes is not self.found.volumes:
            self._tree = Tree(self.name, self.found.volumes)
        return self._tree

    @property
    def leftovers(self) -> list[Leftover]:
        """What is in it that does not fit, each with its remedy. What another process works on may seem so
        for a moment, so that is looked at twice."""
        seen = list(leftovers(self.found))
        if seen and not self._locked:
            again = set(leftovers(self._find()))
            seen = [it for it in seen if it in again]
        return [*self._undone, *seen]

    @property
    def room(self) -> Room:
        """How full its store is. PoolError."""
        return self._done("asking for its room", self.store.room)

    @property
    def scratch(self) -> Scratch:
        """Where what is fetched for it is kept. PoolError."""
        return self._done("asking for its room", lambda: self.store.scratch(self.reserve))

    def path_of(self, volume: str, snapshot: str = "") -> str:
        """Where the image of a volume or snapshot is. ConfigurationError."""
        return self.store.path_of(self.image_of(volume, snapshot))

    def ready(self, volume: str, snapshot: str = "") -> str:
        """The same, once it can be opened there. ConfigurationError, PoolError."""
        image = self.image_of(volume, snapshot)
        return self._done(f"making {volume} ready", lambda: self.store.ready(image))

    def image_of(self, volume: str, snapshot: str = "") -> Image:
        """The image of a volume or snapshot. ConfigurationError."""
        tree = self.tree
        return tree.snapshot(volume, snapshot).image if snapshot else tree.volume(volume).head

    def where(self, image: Image) -> str:
        """The path of an image, whether it is there or not."""
        return self.store.path_of(image)

    def usage_of(self, image: Image) -> Usage:
        """What one image takes, or took when all were measured. PoolError."""
        return self._done("measuring an image", lambda: self.store.usage(image))

    def measure(self) -> None:
        """As `Store.measure`. PoolError."""
        self._done("measuring its images", self.store.measure)

    def end_sharing(self, image: Image) -> None:
        """Let it be written as one that never shared a block (`Store.end_sharing`). What only looks changes
        nothing. PoolError."""
        if self._locked:
            self._done("ending what an image shared", lambda: self.store.end_sharing(image))

    def usage(self, volume: str) -> tuple[Usage, Usage]:
        """What the present state of a volume takes, and what its snapshots do together. PoolError,
        ConfigurationError."""
        found = self.tree.volume(volume)
        of = self.store.usage

        def measured() -> tuple[Usage, Usage]:
            self.store.measure()
            return of(found.head), together(*(of(it.image) for it in found.snapshots))

        return self._done(f"measuring {volume}", measured)

    def rebase(self, image: Image, through: Sequence[Image], base: Image | None, told: Told) -> None:
        """Let an image be differences to another one, or to nothing. PoolError."""
        what = f"merging into {image.file}"
        self._done(what, lambda: self.store.rebase(image, through, base, told))

    def hold(self, held: ExitStack, image: Image, *, read: bool) -> None:
        """Let nothing else write to an image until `held` ends, nor read it unless this only reads (`read`).
        ImageInUse, OSError."""
        try:
            held.enter_context(self.store.alone(image, read=read))
        except PoolError as error:
            raise ImageInUse(f"{self.tree.whose(image)}: {error}") from error

    # Verbs

    def plan(self, request: Request) -> Plan:
        """What it would do now. ConfigurationError where it cannot be done, PoolError."""
        return request.plan(self.standing())

    def standing(self) -> Standing:
        """What a verb is planned from. PoolError."""
        if self._stale:  # what a verb has left could not be looked at
            self._settle()
        return Standing(
            tree=self.tree,
            taken=tuple(self.found.taken),
            room=self.room,
            reserve=self.reserve,
            reflinks=lambda: self.shares,
            now=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            fresh=fresh_id,
            formats=self.store.formats,
            cuts_in_use=self.store.cuts_in_use,
        )

    def do(
        self, request: Request, ours: Callable[[str], bool] = lambda _: False, in_use: InUse = UNUSED
    ) -> Plan:
        """Do it; what was done. A plan that is live goes on beside exports of this process, whose images are
        `ours`, by their paths, and which `in_use` changes where QEMU has them. ConfigurationError, PoolError:
        then the pool is as it was, or, where a step behind the decisive one failed, as it was asked to be.
        The same for any other exception, such as KeyboardInterrupt."""
        assert self._locked, "one that only looks changes nothing"
        self._check_open()
        plan = self.plan(request)
        served = [it for it in plan.idle if plan.live and ours(self.where(it))]
        of_qemu = {it.id for it in served if it.format != "raw"}
        for image in map(changed, plan.steps):
            if image is not None and image.id in of_qemu:
                in_use.check(self.where(image))
        with ExitStack() as held:
            try:
                for image in plan.idle:
                    if image not in served:
                        self.hold(held, image, read=plan.still)
                for image in plan.read:
                    self.hold(held, image, read=True)
            except OSError as error:
                raise failed(self.store.said, "locking its images", error) from error
            self._stale = True
            self._carry_out(plan, of_qemu, in_use)
            self.found = self.found.after(plan.steps)  # before another one gets their locks
            self._stale = False
        if plan.frees:
            self.store.save()
        return plan

    @property
    def shares(self) -> bool:
        """Whether files in it can share blocks. PoolError."""
        if self._reflinks is None:
            self._reflinks = self._done("trying whether blocks can be shared", self.store.reflinks)
        return self._reflinks

    def _carry_out(self, plan: Plan, of_qemu: Collection[str], in_use: InUse) -> None:
        try:
            for step in plan.steps:
                if isinstance(step, Fit) and step.image.id in of_qemu:
                    in_use.grow(self.where(step.image), step.image.size)
                else:
                    self._do(step, frees=plan.frees)
        except BaseException:
            with suppress(PoolError):  # what cannot be undone now is when the pool is next opened
                self._settle()
            raise

    def _do(self, step: Step, *, frees: bool) -> None:
        what = f"to {step.sentence}"
        try:
            self._done(what, lambda: self.store.do(step))
        except PoolError as error:
            full = isinstance(error.__cause__, OSError) and error.__cause__.errno in _FULL
            if not (full and frees and self.store.spend()):
                raise
            self._done(what, lambda: self.store.do(step))

    def _settle(self) -> None:
        """Remove, or end, what was interrupted; what cannot be is listed, and keeps nothing from the rest."""
        self._undone = []
        for group in settle(self._find()):
            try:
                for step in group:
                    self._do(step, frees=True)
            except PoolError as error:
                self._undone.append(Leftover(self.store.said, str(error), "it is tried again the next time"))
        self.found = self._find()
        self._stale = False

    def _find(self) -> Found:
        return self._done("reading it", self.store.found)

    def _done(self, what: str, call: Callable[[], T]) -> T:
        self._check_open()
        try:
            return call()
        except (OSError, ValueError, QemuImgFailed) as error:
            raise failed(self.store.said, what, error) from error


def failed(store: str, what: str, error: Exception) -> PoolError:
    """What a store fails at, with the remedy where there is one."""
    reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
    code = error.errno if isinstance(error, OSError) else _code_in(reason)
    return PoolError(f"{store}: {what}: {reason}{_REMEDIES.get(code or 0, '')}")


def _code_in(reason: str) -> int:
    """Of what a program says."""
    return next((it for it in _FULL if os.strerror(it) in reason), 0)
