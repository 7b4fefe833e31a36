"""`aoe-target volume import`, `save` and `template`: whole images, copied while others use the pool."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from aoe.cli.asking import CONFIG, ask, tell
from aoe.cli.bar import Bar
from aoe.cli.pools import one, until_a_signal, working
from aoe.cli.report import Report
from aoe.cli.volumes import How, Verb, after, daemon, only_volume, planned
from aoe.config.values import PoolConfig
from aoe.control.hand import Hand
from aoe.control.rights import VOLUME
from aoe.pool import download, filling, merging
from aoe.pool.asked import Wish, facts_of
from aoe.pool.fading import Merged
from aoe.pool.filling import Filled
from aoe.pool.names import Foreign, Format, VolumeName, parse
from aoe.pool.work import Work


class Import(NamedTuple):
    """A new volume of an image that is a file, or on a web server."""

    config: Path | None
    socket: Path | None
    json: bool
    plan: bool
    image: str
    volume: str
    format: Foreign | None
    kept: Format | None
    sha256: str | None

    def run(self, report: Report) -> int:
        """Fetch it, copy it, and then make it a volume."""
        return until_a_signal(report, lambda: self.make(report))

    def make(self, report: Report) -> int:
        """The same where a signal is an exception already."""
        name = only_volume(self.volume)
        return _copy(self, check_new(name, self.config, self.socket, report), report)

    def steps(self, look: Work) -> list[str]:
        """What it would do, here and below."""
        volume = parse(self.volume).volume
        if download.is_url(self.image):
            return filling.fetch_steps(look, self.image, volume, self.kept)
        with filling.source(Path(self.image), self.format, self.sha256) as of:
            return filling.import_steps(look, of, volume, self.kept)

    def copy(self, look: Work, pool: PoolConfig, report: Report, bar: Bar) -> int:
        """Do it, here and below."""
        volume = parse(self.volume).volume
        with (
            filling.brought(look, self.image, self.format, self.sha256, bar.bytes_of("fetch")) as of,
            filling.imported(look, of, volume, self.kept, bar.of("copy")) as made,
        ):
            return _done(report, pool, made, daemon(self.config, self.socket, report))


class Template(NamedTuple):
    """A volume becomes one that is only cloned."""

    config: Path | None
    socket: Path | None
    json: bool
    plan: bool
    volume: str

    def run(self, report: Report) -> int:
        """Copy it so that its blocks lie side by side, and then let it be that."""
        return until_a_signal(report, lambda: self._run(report))

    def _run(self, report: Report) -> int:
        name = only_volume(self.volume)
        pool = one(self.config or CONFIG, name.pool)
        if (mark := filling.mark_of(pool.kind, name.volume)) is not None:
            how = How(self.config, self.socket, self.json, self.plan)
            return Verb(how, pool.name, mark, name.volume).run(report)
        hand = daemon(self.config, self.socket, report)
        _check_free(pool, hand, lambda look: [filling.template_of(look, name.volume)[1]])
        return _copy(self, pool, report)

    def steps(self, look: Work) -> list[str]:
        return filling.template_steps(look, parse(self.volume).volume)

    def copy(self, look: Work, pool: PoolConfig, report: Report, bar: Bar) -> int:
        with filling.template(look, parse(self.volume).volume, bar.of("copy")) as made:
            return _done(report, pool, made, daemon(self.config, self.socket, report))


class Merge(NamedTuple):
    """Later states of a volume take what they need of deleted ones."""

    config: Path | None
    socket: Path | None
    json: bool
    plan: bool
    volume: str

    def run(self, report: Report) -> int:
        """Go on where that was interrupted."""
        return until_a_signal(report, lambda: self._run(report))

    def _run(self, report: Report) -> int:
        name = only_volume(self.volume)
        pool = one(self.config or CONFIG, name.pool)
        hand = daemon(self.config, self.socket, report)
        _check_free(pool, hand, lambda look: merging.wishes(look, name.volume))
        return _copy(self, pool, report)

    def steps(self, look: Work) -> Iterable[str]:
        return merging.merge_steps(look, parse(self.volume).volume)

    def copy(self, look: Work, pool: PoolConfig, report: Report, bar: Bar) -> int:
        volume = parse(self.volume).volume
        merging.check(look, volume)
        for request in merging.merged(look, volume, bar.of("merge")):
            self._note(report, pool, request, daemon(self.config, self.socket, report))
        return 0

    def _note(self, report: Report, pool: PoolConfig, request: Merged, hand: Hand | None) -> None:
        if hand is None:
            with working(pool) as work:
                report.say((done := work.do(request)).done, done=done.done, volume=self.volume)
            return
        with hand:
            tell(report, ask(hand, VOLUME, **_wish(pool, request), plan=False))


class Save(NamedTuple):
    """What a volume or snapshot has, as an image elsewhere."""

    config: Path
    json: bool
    plan: bool
    volume: str
    file: Path
    format: Format | None

    def run(self, report: Report) -> int:
        """Nothing is there until it is whole."""
        pool = one(self.config, parse(self.volume).pool)
        return until_a_signal(report, lambda: _copy(self, pool, report))

    def steps(self, look: Work) -> list[str]:
        name = parse(self.volume)
        return filling.save_steps(look, name.volume, name.snapshot, self.file, self.format)

    def copy(self, look: Work, _: PoolConfig, report: Report, bar: Bar) -> int:
        name = parse(self.volume)
        count = filling.save(look, name.volume, name.snapshot, self.file, self.format, bar.of("copy"))
        said = f"{name}: saved to {self.file}, {count} bytes"
        report.say(said, done=said, volume=str(name), file=str(self.file), bytes=count)
        return 0


class _Copying(Protocol):
    """A verb that copies by itself, past a daemon."""

    @property
    def plan(self) -> bool: ...

    def steps(self, look: Work) -> Iterable[str]: ...

    def copy(self, look: Work, pool: PoolConfig, report: Report, bar: Bar) -> int: ...


def _copy(verb: _Copying, pool: PoolConfig, report: Report) -> int:
    """Do it, while others use the pool, or with `plan` say what would be done: no client uses what it works
    on, as that is refused."""
    with working(pool, locked=False) as look:
        if verb.plan:
            return planned(report, verb.steps(look))
        with Bar(report) as bar:
            return verb.copy(look, pool, report, bar)


def check_new(name: VolumeName, config: Path | None, socket: Path | None, report: Report) -> PoolConfig:
    """The pool of a volume that is to be made. AoeError, before what takes long, where it cannot be."""
    pool = one(config or CONFIG, name.pool)
    _check_free(pool, daemon(config, socket, report))
    with working(pool, locked=False) as look:
        look.standing().check_new(name.volume)
    return pool


def _check_free(
    pool: PoolConfig, hand: Hand | None, wishes: Callable[[Work], Iterable[Wish]] = lambda _: ()
) -> None:
    """Before what takes long: PoolError where another process works on the pool that will not be asked; else
    what that refuses of some verbs, as it knows the clients of a volume."""
    if hand is None:
        with working(pool):
            return
    with hand, working(pool, locked=False) as look:
        for request in wishes(look):
            ask(hand, VOLUME, **_wish(pool, request), plan=True)


def _done(report: Report, pool: PoolConfig, made: Filled, hand: Hand | None) -> int:
    if hand is not None:
        with hand:
            return _asked(report, pool, made, hand)
    with working(pool) as work:
        done = made.done_by(work)
        for note in done.notes:
            report.warn(note, note=note)
        report.say(done.done, done=done.done, **after(work, made.request.volume))
    return 0


def _asked(report: Report, pool: PoolConfig, made: Filled, hand: Hand) -> int:
    """What is refused is refused before the image has a name."""
    wish = _wish(pool, made.request)
    ask(hand, VOLUME, **wish, plan=True)
    made.name()
    return tell(report, ask(hand, VOLUME, **wish, plan=False))


def _wish(pool: PoolConfig, request: Wish) -> dict[str, Any]:
    return {"pool": pool.name, "request": facts_of(request), "force": False}
