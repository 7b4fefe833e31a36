"""`aoe-cloud image`: images for machines without a disk are built and listed."""

import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from aoe import limits
from aoe.cli import filling
from aoe.cli.pools import in_words, until_a_signal
from aoe.cli.report import Report
from aoe.cli.volumes import only_volume
from aoe.cloud import building, library, places, recipe
from aoe.cloud.building import Built
from aoe.cloud.places import Place
from aoe.cloud.recipe import Recipe
from aoe.cloud.record import Record
from aoe.errors import AoeError, ConfigurationError
from aoe.pool.names import VolumeName
from aoe.pool.volume import check_size
from aoe.printable import plain


class Build(NamedTuple):
    """A new image, whose root is a volume or a file."""

    directory: Path
    json: bool
    release: str
    volume: str | None
    output: Path | None
    include: list[str]
    deb: list[Path]
    authorized_keys: Path | None
    hook: Path | None
    size: int | None
    sources: Path | None
    config: Path | None
    socket: Path | None

    def run(self, report: Report) -> int:
        """Build it whole, or leave nothing."""
        return until_a_signal(report, lambda: self._run(report))

    def _run(self, report: Report) -> int:
        recipe.check_release(self.release)
        name = self._name()
        place = self._place(name)
        place.check_free(with_root=name is None)
        size = None if self.size is None else check_size(self.size)
        self._check_files()
        building.check()
        made_of = self._recipe()
        if name is not None:
            filling.check_new(name, self.config, self.socket, report)

        def told(what: str) -> None:
            report.say(f"{self.release}: {what}", doing=what)

        with building.built(made_of, place.base.parent, size, told) as image:
            record = self._kept(image, place, name, report)
        facts = {"directory": str(place.base.parent), "name": place.base.name, **record.facts()}
        report.say(_done(place, record), **facts)
        return 0

    def _name(self) -> VolumeName | None:
        if (self.volume is None) == (self.output is None):
            raise ConfigurationError("say where the root goes: POOL/VOLUME, or --output FILE")
        return None if self.volume is None else only_volume(self.volume)

    def _place(self, name: VolumeName | None) -> Place:
        if name is not None:
            return places.of_volume(self.directory.absolute(), name)
        assert self.output is not None, "one of both is named"
        if not self.output.name or not self.output.absolute().parent.is_dir():
            directory = plain(str(self.output.absolute().parent))
            raise ConfigurationError(f"{directory} is no directory; name a file in one that is there")
        return Place(self.output.absolute())

    def _check_files(self) -> None:
        if self.hook is not None:
            building.check_hook(self.hook)
        for path in self.deb:
            building.check_deb(path)
        if self.sources is not None and not self.sources.is_file():
            raise ConfigurationError(f"{plain(str(self.sources))} is no file; name a file of apt's sources")

    def _recipe(self) -> Recipe:
        return Recipe(
            release=self.release,
            architecture=building.architecture(),
            packages=tuple(name for text in self.include for name in recipe.packages(text)),
            debs=tuple(str(path.absolute()) for path in self.deb),
            hook=str(self.hook.absolute()) if self.hook else None,
            keys=_keys(self.authorized_keys) if self.authorized_keys else "",
            sources=str(self.sources.absolute()) if self.sources else None,
            epoch=recipe.epoch(os.environ.get("SOURCE_DATE_EPOCH", "")),
        )

    def _kept(self, image: Built, place: Place, name: VolumeName | None, report: Report) -> Record:
        """Its parts, where they belong."""
        if name is None:
            return building.keep(image, place)
        record = replace(image.record, root=str(name), in_pool=True)
        with building.kept(image, place, (), record):
            self._import(image.root, name, report)
        return record

    def _import(self, root: Path, name: VolumeName, report: Report) -> None:
        into = filling.Import(
            config=self.config,
            socket=self.socket,
            json=self.json,
            plan=False,
            image=str(root),
            volume=str(name),
            format="raw",
            kept=None,
            sha256=None,
        )
        into.make(report)


def _keys(path: Path) -> str:
    said = plain(str(path))
    try:
        with path.open(errors="backslashreplace") as opened:
            text = opened.read(limits.CLOUD_KEYS_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"{said}: {error.strerror}; name a file of public ssh keys") from error
    return recipe.keys(text, said)


def _done(place: Place, record: Record) -> str:
    root = record.root if record.in_pool else plain(str(place.base))
    return "\n".join(
        [
            f"id            {record.id}",
            f"root          {root} ({in_words(record.root_bytes)}, SHA-256 {record.root_sha256})",
            f"kernel        {plain(str(place.kernel))} ({record.kernel})",
            f"initramfs     {plain(str(place.initramfs))} ({in_words(record.initramfs_bytes)})",
            f"command line  {record.command_line}",
        ]
    )


class List(NamedTuple):
    """The images of a directory."""

    directory: Path
    json: bool
    check: bool

    def run(self, report: Report) -> int:
        """A line for each. 1 if something is wrong with one."""
        for place in library.listed(self.directory):
            try:
                _say(place, library.look(place), report, thorough=self.check)
            except (AoeError, OSError) as error:
                failed = (
                    error if isinstance(error, AoeError) else AoeError(f"{plain(str(place.record))}: {error}")
                )
                report.fail(failed, file=str(place.record))
        return int(report.failed)


def _say(place: Place, record: Record, report: Report, *, thorough: bool) -> None:
    name = record.root if record.in_pool else plain(str(place.base))
    wrong = list(library.problems(place, record, thorough=thorough))
    report.say(
        f"{name}: {record.release}, kernel {record.kernel}, {in_words(record.root_bytes)}, id {record.id}",
        **{"directory": str(place.base.parent), "name": place.base.name, **record.facts()},
        problems=wrong,
    )
    for it in wrong:
        report.fail(AoeError(it), name=place.base.name)
