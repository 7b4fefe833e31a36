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
        self._names = {volume.uuid: name for name, volume in volumes.items()}
        self._clones: dict[Parent, list[str]] = {}
        for name, volume in volumes.items():
            if volume.parent is not None:
                self._clones.setdefault(volume.parent, []).append(name)

    def said(self, volume: str, snapshot: str = "") -> str:
        """A name as people write it."""
        return names.said(self.pool, volume, snapshot)

    def whose(self, image: Image) -> str:
        """What people call that of which an image is the state; its file where that is nothing of theirs."""
        for name, volume in self.volumes.items():
            states = {it.image.id: self.said(name, it.name) for it in volume.snapshots}
            found = (states | {volume.head.id: self.said(name)}).get(image.id)
            if found:
                return found
        return image.file

    def volume(self, name: str) -> Volume:
        """The volume of a name; ConfigurationError where there is none."""
        if name not in self.volumes:
            raise ConfigurationError(f"there is no volume {self.said(names.check(name, 'volume'))}")
        return self.volumes[name]

    def name(self, uuid: str) -> str:
        """What a volume is called now; ConfigurationError where it is gone."""
        if uuid not in self._names:
            raise ConfigurationError("the volume was deleted meanwhile")
        return self._names[uuid]

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
        if volume.parent is None or volume.parent.volume not in self._names:
            return None
        name = self._names[volume.parent.volume]
        kept = (it for it in self.volumes[name].snapshots if it.image.id == volume.parent.snapshot)
        return next(((name, it) for it in kept), None)

    def clones(self, volume: Volume, snapshot: Snapshot | None = None) -> list[str]:
        """Names of the volumes that were cloned from a volume, or from one of its snapshots."""
        kept = volume.snapshots if snapshot is None else (snapshot,)
        return [name for it in kept for name in self._clones.get(Parent(volume.uuid, it.image.id), ())]

    def overlays(self, image: Image) -> list[Image]:
        """Images that hold only what differs from another one."""
        return [it for it in self._images.values() if it.base == image.id]

    def over(self, image: Image) -> list[Image]:
        """An image, and all whose states are made of it."""
        return [it for it in self._images.values() if image.id in (part.id for part in self.chain(it))]

    def depth(self, image: Image) -> int:
        """Of how many images a state is made: 1, unless it is an overlay."""
        return len(self.chain(image))

    def chain(self, image: Image) -> list[Image]:
        """The images that a state is made of, from itself to the one that is no overlay."""
        found = {image.id: image}
        while image.base in self._images and image.base not in found:
            image = self._images[image.base]
            found[image.id] = image
        return list(found.values())

    def purposeless(self) -> Iterator[tuple[str, Snapshot]]:
        """Snapshots that were made for a clone that is not there."""
        for name, volume in self.volumes.items():
            for snapshot in volume.snapshots:
                if snapshot.cause == FOR_CLONE and not self.clones(volume, snapshot):
                    yield name, snapshot
