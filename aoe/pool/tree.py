"""The volumes of a pool, and which of them depend on others."""

from collections.abc import Iterator, Mapping

from aoe.errors import ConfigurationError
from aoe.pool import names
from aoe.pool.volume import FOR_CLONE, Image, Parent, Snapshot, Volume


class Tree:
    """All volumes of a pool by name, as they are at one moment."""

    def __init__(self, pool: str, volumes: Mapping[str, Volume]) -> None:
        self.pool = pool
        self.volumes = volumes
        self._images = {image.id: image for volume in volumes.values() for image in volume.images}
        self._parents = {it.parent for it in volumes.values()}

    def said(self, volume: str, snapshot: str = "") -> str:
        """A name as people write it."""
        return names.said(self.pool, volume, snapshot)

    def volume(self, name: str) -> Volume:
        """The volume of a name; ConfigurationError where there is none."""
        if name not in self.volumes:
            raise ConfigurationError(f"there is no volume {self.said(names.check(name, 'volume'))}")
        return self.volumes[name]

    def snapshot(self, name: str, snapshot: str) -> Snapshot:
        """A snapshot of a volume; ConfigurationError where there is none."""
        volume = self.volume(name)
        found = volume.find(snapshot)
        if found is None:
            has = ", ".join(it.name for it in volume.snapshots) or "none"
            said = self.said(name, names.check(snapshot, "snapshot"))
            raise ConfigurationError(f"there is no snapshot {said}; {self.said(name)} has {has}")
        return found

    def parent(self, volume: Volume) -> tuple[str, Snapshot] | None:
        """The name and the snapshot that a volume was cloned from, as long as both are there."""
        if volume.parent is None:
            return None
        for name, other in self.volumes.items():
            if other.uuid == volume.parent.volume:
                kept = (it for it in other.snapshots if it.image.id == volume.parent.snapshot)
                return next(((name, it) for it in kept), None)
        return None

    def clones(self, volume: Volume, snapshot: Snapshot | None = None) -> list[str]:
        """Names of the volumes that were cloned from a volume, or from one of its snapshots."""
        wanted = {Parent(volume.uuid, it.image.id) for it in ([snapshot] if snapshot else volume.snapshots)}
        return [name for name, other in self.volumes.items() if other.parent in wanted]

    def overlays(self, image: Image) -> list[Image]:
        """Images that hold only what differs from another one."""
        return [it for it in self._images.values() if it.base == image.id]

    def depth(self, image: Image) -> int:
        """Of how many images a state is made: 1, unless it is an overlay."""
        seen = {image.id}
        while image.base in self._images and image.base not in seen:
            seen.add(image.base)
            image = self._images[image.base]
        return len(seen)

    def purposeless(self) -> Iterator[tuple[str, Snapshot]]:
        """Snapshots that were made for a clone that is not there, and that nothing else is made of."""
        bases = {it.base for it in self._images.values()}
        for name, volume in self.volumes.items():
            for snapshot in volume.snapshots:
                kept = Parent(volume.uuid, snapshot.image.id) in self._parents or snapshot.image.id in bases
                if snapshot.cause == FOR_CLONE and not kept:
                    yield name, snapshot
