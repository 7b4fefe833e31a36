"""`aoe-target import`: from what another target served here to a configuration file of this one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from aoe import limits
from aoe.cli import target_parser
from aoe.cli.report import Report
from aoe.cli.serving import Serve, meaning
from aoe.config.values import ExportConfig, as_format
from aoe.disk import whole
from aoe.errors import ConfigurationError
from aoe.foreign import ggaoed, vblade
from aoe.foreign.found import Disk, Found, Line, Setting, left_out
from aoe.foreign.shell import Command, commands, variables
from aoe.foreign.together import Together, together
from aoe.image.formats import key_of
from aoe.node.content import content
from aoe.printable import plain

_OWN = "aoe-target"
_PROGRAMS = vblade.PROGRAMS | {_OWN}


class Import(NamedTuple):
    """Read the files of other targets."""

    files: list[Path]
    output: Path | None
    json: bool

    def run(self, report: Report) -> int:
        """Write ours. 1 if something of theirs is not kept."""
        found = Found()
        for file in _all(self.files):
            found += _of_file(file)
        whole = together(found)
        if not whole.config.exports:
            reason = f": {whole.remarks[0]}" if whole.remarks else ""
            raise ConfigurationError(f"there is no disk in that{reason}")
        for remark in whole.remarks:
            facts = {"file": remark.origin.file, "line": remark.origin.number}
            report.fail(ConfigurationError(str(remark)), **facts)
        self._say(whole, report)
        return int(report.failed)

    def _say(self, whole: Together, report: Report) -> None:
        count = len(whole.config.exports)
        if self.output is None:
            report.say(whole.text.rstrip("\n"), exports=count, toml=whole.text)
            return
        _write_new(self.output, whole.text)
        name = plain(str(self.output))
        done = f"{name}: {count} export{'s' * (count != 1)}; look at it, then aoe-target check {name}"
        report.say(done, exports=count, output=str(self.output))


def _all(files: list[Path]) -> Iterator[Path]:
    """Of a directory, what Debian's vblade looks at."""
    for file in files:
        if file.is_dir():
            yield from sorted(file.glob("*.conf"))
        else:
            yield file


def _of_file(file: Path) -> Found:
    try:
        raw = content(file)
    except OSError as error:
        raise ConfigurationError(f"{plain(str(file))}: {error.strerror}; name a file to read") from error
    if len(raw) > limits.CONFIG_BYTES_MAX:
        raise ConfigurationError(f"{plain(str(file))} is longer than {limits.CONFIG_BYTES_MAX >> 20} MiB")
    text, name = raw.decode(errors="surrogateescape"), str(file)
    called = list(commands(text, name, _PROGRAMS))
    if called:
        return sum((_of_command(it) for it in called), Found())
    if ggaoed.is_ggaoed(text):
        return ggaoed.of_text(text, name)
    if "filename" in variables(text, name):
        return vblade.of_fragment(text, name)
    return left_out(Line(name, 1), "neither vblade nor aoe-target serve is called here, and no disk is named")


def _of_command(command: Command) -> Found:
    if command.program != _OWN:
        return vblade.of_command(command)
    if command.words[:1] != ("serve",):
        return Found()
    if command.unknown:
        return left_out(command.origin, f"what {command.unknown} stands for is not known here")
    try:
        return _of_serve(command)
    except ConfigurationError as error:
        return left_out(command.origin, str(error))


def _of_serve(command: Command) -> Found:
    said = vars(target_parser.parser().parse_args(command.words))
    settings = {"json": said.pop("json"), "log_level": "debug" if said.pop("verbose") else "info"}
    del said["command"], said["means"]
    serve = meaning(**said)
    disks = tuple(Disk(command.origin, it) for it in _exports(serve))
    settings |= _target(serve)
    return Found(disks, tuple(Setting(command.origin, *it) for it in settings.items()))


def _exports(serve: Serve) -> Iterator[ExportConfig]:
    how = serve.opening
    for one in serve.wanted:
        if not one.path.is_absolute():
            raise ConfigurationError(f"{one.path} is not an absolute path; write down where it is")
        path = str(one.path)
        yield ExportConfig(
            path=path,
            shelf=one.shelf,
            slot=one.slot,
            serial=one.serial,
            offset=how.offset,
            length=how.length,
            durability="write-back" if serve.durability == "write-back" else "write-through",
            direct=how.direct,
            shared=how.shared,
            read_only=how.read_only,
            copy_of=serve.copy_of,
            format=as_format(how.format),
            key_file=key_of(path, how.format, how.key_file),
            mask=serve.mask,
            interfaces=(*serve.interfaces, *serve.links),
            force=serve.force,
            reset_state=serve.reset_state,
        )


def _target(serve: Serve) -> dict[str, Any]:
    how = serve.options
    return {
        "links": tuple(serve.links),
        "engine": serve.engine,
        "cpus": serve.threads.cpus,
        "spin": bool(serve.threads.spin_us),
        "max_frame_age": how.frame_age_s,
        "buffer_count": how.buffer_count,
        "remote_admin": how.remote_admin,
        "remote_masks": how.remote_masks,
        "state_dir": str(serve.state_dir) if serve.state_dir else None,
    }


def _write_new(file: Path, text: str) -> None:
    """Whole, or not at all."""
    try:
        whole.make(file, text.encode(), 0o644)
    except OSError as error:
        raise ConfigurationError(f"{plain(str(file))}: {error.strerror}; name a file to be made") from error
