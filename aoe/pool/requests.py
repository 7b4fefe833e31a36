"""The verbs of a pool, each as a value: from what it asks for, and what the pool is, to its steps."""

from dataclasses import dataclass, replace

from aoe import limits
from aoe.errors import ConfigurationError
from aoe.pool import names
from aoe.pool.copying import Standing
from aoe.pool.names import Format
from aoe.pool.steps import Drop, Fit, Forget, Hide, Make, Move, Plan, Save, Settle, Step
from aoe.pool.volume import (
    ASKED,
    BY_ROLLBACK,
    FOR_CLONE,
    TEMPLATE,
    Image,
    Parent,
    Snapshot,
    Volume,
    check_cause,
    check_count,
    check_size,
)


@dataclass(frozen=True, slots=True)
class Create:
    """A new volume, with zeroes in it. Without a format: raw where blocks can be shared, else qcow2."""

    volume: str
    size: int
    format: Format | None = None

    def plan(self, at: Standing) -> Plan:
        """How that is done, here and below; ConfigurationError where it cannot be."""
        said = at.check_new(self.volume)
        form = at.chosen(self.format)
        image = Image(id=at.fresh(), size=check_size(self.size, form), format=form)
        at.check_room(f"to create {said}")
        volume = Volume(uuid=at.fresh(), head=image, made=at.now)
        steps = Make(image), Save(self.volume, volume), Settle(image)
        return Plan(steps, f"{said}: {self.size} bytes, {image.format}", tuple(at.notes(said, self.format)))


@dataclass(frozen=True, slots=True)
class Cut:
    """A snapshot of what a volume has now, and, by the same name, of what others have that are cut with
    it."""

    volume: str
    snapshot: str
    others: tuple[str, ...] = ()
    cause: str = ASKED

    @property
    def volumes(self) -> tuple[str, ...]:
        """All of them."""
        return self.volume, *self.others

    def plan(self, at: Standing) -> Plan:
        check_cause(self.cause)
        check_count(len(self.volumes), "snapshots at one moment", limits.CUT_GROUP_MAX)
        if len(set(self.volumes)) != len(self.volumes):
            raise ConfigurationError("a volume is named twice; name each once")
        done = [self._of(at, volume) for volume in self.volumes]
        said = ", ".join(at.tree.said(volume, self.snapshot) for volume in self.volumes)
        heads = tuple(at.tree.volume(volume).head for volume in self.volumes)
        steps = tuple(step for cut in done for step in cut.steps)
        live = not self.others and done[0].goes_on
        return Plan(steps, f"{said}: cut", idle=heads if self.others else at.idle(*heads), live=live)

    def _of(self, at: Standing, volume: str) -> "_Done":
        was = at.tree.volume(volume)
        _check_no_template(at, volume, was)
        names.check_free(self.snapshot, "snapshot", (it.name for it in was.snapshots))
        at.check_room(f"to cut {at.tree.said(volume, self.snapshot)}")
        return cut_of(at, volume, was, self.snapshot, self.cause)


@dataclass(frozen=True, slots=True)
class Clone:
    """A new volume that begins as another one, or as a snapshot of it."""

    source: str
    snapshot: str
    volume: str

    def plan(self, at: Standing) -> Plan:
        said = at.check_new(self.volume)
        at.check_room(f"to clone {said}")
        source = at.tree.volume(self.source)
        snapshot = self.snapshot or TEMPLATE * source.template
        if snapshot:
            return self._of(at, source, at.tree.snapshot(self.source, snapshot), ())
        taken = [it.name for it in source.snapshots]
        cut = cut_of(at, self.source, source, names.fresh(f"clone-{self.volume}", taken), FOR_CLONE)
        plan = self._of(at, cut.volume, cut.snapshot, cut.steps)
        return plan._replace(idle=at.idle(source.head), read=(), live=cut.goes_on)

    def _of(self, at: Standing, source: Volume, kept: Snapshot, before: tuple[Step, ...]) -> Plan:
        child = at.child(kept.image)
        parent = Parent(source.uuid, kept.image.id)
        volume = Volume(uuid=at.fresh(), head=child.image, made=at.now, parent=parent)
        steps = (*before, child.made, Save(self.volume, volume), Settle(child.image))
        origin = at.tree.said(self.source, kept.name)
        return Plan(steps, f"{at.tree.said(self.volume)}: a clone of {origin}", read=(kept.image,))


@dataclass(frozen=True, slots=True)
class Rollback:
    """A volume becomes again what a snapshot has. What it was before is kept as another snapshot."""

    volume: str
    snapshot: str
    cause: str = ASKED

    def plan(self, at: Standing) -> Plan:
        was = at.tree.volume(self.volume)
        _check_no_template(at, self.volume, was)
        check_cause(self.cause)
        back = at.tree.snapshot(self.volume, self.snapshot)
        check_settled(at, self.volume, was)
        taken = [it.name for it in was.snapshots]
        stamp = at.now.replace("-", "").replace(":", "")
        kept = Snapshot(
            name=names.fresh(f"before-rollback-{stamp}", taken),
            image=was.head,
            made=at.now,
            cause=BY_ROLLBACK,
        )
        child = at.child(back.image)
        now = with_snapshot(replace(was, head=child.image), kept)
        steps = child.made, Save(self.volume, now), Settle(child.image)
        said = at.tree.said(self.volume)
        done = f"{said}: as in {self.snapshot}; what it was is kept as {at.tree.said(self.volume, kept.name)}"
        return Plan(steps, done, idle=(was.head,), read=(back.image,))


@dataclass(frozen=True, slots=True)
class Resize:
    """Another size of a volume. What is behind a nearer end is lost: `shrink` says that it may be.

    The record says how large the disk is: it grows when its image has grown, and its image shrinks when it
    has shrunk."""

    volume: str
    size: int
    shrink: bool = False

    def plan(self, at: Standing) -> Plan:
        was = at.tree.volume(self.volume)
        said = at.tree.said(self.volume)
        _check_no_template(at, self.volume, was)
        head = replace(was.head, size=check_size(self.size, was.head.format))
        check_settled(at, self.volume, was)
        if self.size < was.size:
            self._check_shrink(at, said, was)
        now = replace(was, head=head)
        fit, saved = Fit(head, was.size), Save(self.volume, now)
        begun = (Save(self.volume, replace(now, resized_from=was.size)),) if self.size < was.size else ()
        live = self.size >= was.size
        return Plan((*begun, fit, saved), f"{said}: {self.size} bytes", idle=(was.head,), live=live)

    def _check_shrink(self, at: Standing, said: str, was: Volume) -> None:
        if not self.shrink:
            raise ConfigurationError(
                f"{said} has {was.size} bytes, and what is behind {self.size} would be lost; say --shrink"
            )
        if was.head.base is not None:  # once it grows again, what its base has there would come back
            raise ConfigurationError(
                f"{said} is kept as differences to an earlier state, so it cannot shrink; copy it to another"
            )
        tables = (was.size - self.size) // limits.POOL_QCOW2_BYTES_PER_BYTE
        if was.head.format == "qcow2" and tables > at.room.left:
            raise ConfigurationError(
                f"to shrink {said} so far, qemu-img may write {tables} bytes of tables, and {at.room.left} "
                "are free; shrink it in smaller steps, or give the pool more room"
            )


@dataclass(frozen=True, slots=True)
class Rename:
    """Another name of a volume; its clones stay clones of it."""

    volume: str
    new: str

    def plan(self, at: Standing) -> Plan:
        was = at.tree.volume(self.volume)
        said = at.check_new(self.new, but=self.volume)
        done = f"{at.tree.said(self.volume)}: is {said} now"
        return Plan((Move(self.volume, self.new),), done, idle=tuple(was.images), live=True)


@dataclass(frozen=True, slots=True)
class Delete:
    """A volume that has no clones goes, with its snapshots only if `recursive`; or one snapshot of it."""

    volume: str
    snapshot: str = ""
    recursive: bool = False

    def plan(self, at: Standing) -> Plan:
        volume = at.tree.volume(self.volume)
        if self.snapshot:
            return self._snapshot(at, volume)
        said = at.tree.said(self.volume)
        _check_childless(at, said, at.tree.clones(volume))
        if volume.snapshots and not (self.recursive or volume.template):
            many = ", ".join(it.name for it in volume.snapshots[: limits.POOL_NAMED_MAX])
            raise ConfigurationError(f"{said} has snapshots ({many}); say --recursive, and they go, too")
        images = tuple(volume.images)
        _check_bases(at, said, images)
        cause, idle = _cause(at, volume)
        steps: tuple[Step, ...] = (
            *(Hide(self.volume, volume.uuid), *cause),
            *(Drop(file) for file in (*volume.dropped, *(it.file for it in images))),
            Forget(volume.uuid),
        )
        return Plan(steps, f"{said}: deleted", idle=(*images, *idle), frees=True)

    def _snapshot(self, at: Standing, volume: Volume) -> Plan:
        snapshot = at.tree.snapshot(self.volume, self.snapshot)
        _check_no_template(at, self.volume, volume)
        said = at.tree.said(self.volume, self.snapshot)
        _check_childless(at, said, at.tree.clones(volume, snapshot))
        if at.tree.overlays(snapshot.image):
            return self._fading(at, volume, snapshot)
        steps = without(self.volume, volume, snapshot)
        return Plan(steps, f"{said}: deleted", idle=(snapshot.image,), frees=True)

    def _fading(self, at: Standing, volume: Volume, snapshot: Snapshot) -> Plan:
        """It is the last of it that users see; later states need its image until they are merged."""
        said = at.tree.said(self.volume, self.snapshot)
        note = (
            f"later states need what it has: a daemon merges that into them, or aoe-target volume merge "
            f"{at.tree.said(self.volume)}"
        )
        done, idle = f"{said}: deleted", (snapshot.image,)
        return Plan((Save(self.volume, faded(volume, snapshot)),), done, (note,), idle, still=True)


# Their parts


@dataclass(frozen=True, slots=True)
class _Done:
    """A snapshot that some steps cut, and the volume with it."""

    volume: Volume
    snapshot: Snapshot
    steps: tuple[Step, ...]

    @property
    def goes_on(self) -> bool:
        """Whether the volume goes on in an overlay, and what it had until then is only read from now on."""
        return isinstance(self.steps[0], Make) and self.steps[0].how == "overlay"


def cut_of(at: Standing, name: str, was: Volume, snapshot: str, cause: str) -> _Done:
    """By a copy that is kept, or else by an overlay that goes on."""
    check_settled(at, name, was)
    child = at.child(was.head, kept=True)
    kept, head = (child.image, was.head) if child.made.how == "copy" else (was.head, child.image)
    cut = Snapshot(name=snapshot, image=kept, made=at.now, cause=cause)
    now = with_snapshot(replace(was, head=head), cut)
    return _Done(now, cut, (child.made, Save(name, now), Settle(child.image)))


def check_settled(at: Standing, name: str, volume: Volume) -> None:
    """ConfigurationError where an earlier resize of a volume has not ended."""
    if volume.resized_from is not None:
        raise ConfigurationError(
            f"{at.tree.said(name)} is being resized, as an earlier resize did not end; each command tries "
            "that again: make room in the pool, and stop what uses the volume"
        )


def with_snapshot(volume: Volume, snapshot: Snapshot) -> Volume:
    """One more. ConfigurationError where there are too many."""
    check_count(len(volume.snapshots) + 1, "snapshots of it", limits.POOL_SNAPSHOTS_MAX)
    return replace(volume, snapshots=(*volume.snapshots, snapshot))


def with_dropped(volume: Volume, image: Image) -> tuple[str, ...]:
    """What a volume remembers to have no more, with an image."""
    return (*volume.dropped, image.file)[-limits.POOL_DROPPED_MAX :]


def without(name: str, volume: Volume, snapshot: Snapshot) -> tuple[Step, ...]:
    """Remove a snapshot that nothing depends on."""
    left = tuple(it for it in volume.snapshots if it != snapshot)
    now, shed_too = shed(replace(volume, snapshots=left, dropped=with_dropped(volume, snapshot.image)))
    return Save(name, now), *(Drop(it.file) for it in (snapshot.image, *shed_too))


def faded(volume: Volume, snapshot: Snapshot) -> Volume:
    """A volume without a snapshot, whose image later states need until they are merged."""
    left = tuple(it for it in volume.snapshots if it != snapshot)
    return replace(volume, snapshots=left, fading=(*volume.fading, snapshot.image))


def shed(volume: Volume) -> tuple[Volume, tuple[Image, ...]]:
    """A volume without the images that nothing of it is differences to any more; and these."""
    bases = {it.id: it.base for it in volume.images}
    needed: set[str | None] = set()
    for image in (*(it.image for it in volume.snapshots), volume.head):
        base = image.base
        while base in bases and base not in needed:
            needed.add(base)
            base = bases[base]
    gone = tuple(it for it in volume.fading if it.id not in needed)
    dropped = (*volume.dropped, *(it.file for it in gone))[-limits.POOL_DROPPED_MAX :]
    kept = tuple(it for it in volume.fading if it.id in needed)
    return replace(volume, fading=kept, dropped=dropped), gone


def _cause(at: Standing, volume: Volume) -> tuple[tuple[Step, ...], tuple[Image, ...]]:
    """What removes the snapshot of another volume that was cut for this one, if no other clone depends on it,
    and what nothing may use then."""
    found = at.tree.parent(volume)
    if found is None or found[1].cause != FOR_CLONE:
        return (), ()
    name, snapshot = found
    of = at.tree.volume(name)
    if len(at.tree.clones(of, snapshot)) > 1:
        return (), ()
    gone = {it.id for it in volume.images}
    if any(over.id not in gone for over in at.tree.overlays(snapshot.image)):
        return (Save(name, faded(of, snapshot)),), ()
    return without(name, of, snapshot), (snapshot.image,)


def _check_no_template(at: Standing, name: str, volume: Volume) -> None:
    if volume.template:
        raise ConfigurationError(
            f"{at.tree.said(name)} is a template, which stays as it is; change a clone of it"
        )


def _check_childless(at: Standing, said: str, clones: list[str]) -> None:
    if clones:
        many = ", ".join(map(at.tree.said, clones[: limits.POOL_NAMED_MAX]))
        more = f" and {len(clones) - limits.POOL_NAMED_MAX} more" * (len(clones) > limits.POOL_NAMED_MAX)
        raise ConfigurationError(f"{said} has clones ({many}{more}); delete them first")


def _check_bases(at: Standing, said: str, images: tuple[Image, ...]) -> None:
    """ConfigurationError where other images hold only what differs from one of these."""
    gone = {it.id for it in images}
    if any(over.id not in gone for image in images for over in at.tree.overlays(image)):
        raise ConfigurationError(
            f"{said} is what later states of qcow2 volumes are kept as differences to; delete those first"
        )
