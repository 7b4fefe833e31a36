"""`aoe-target doctor`: what is wrong with a host that serves disks."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aoe.cli import loop, on_host
from aoe.cli.asking import CONFIG
from aoe.cli.config_file import load
from aoe.cli.doctor import told
from aoe.cli.report import Report
from aoe.cli.run import descriptors
from aoe.config.faults import ConfigErrors
from aoe.config.values import Config, TargetConfig
from aoe.control import place
from aoe.doctor import for_target
from aoe.doctor.for_target import Given
from aoe.errors import ConfigurationError
from aoe.target.records import default_directory

_OF_SERVICE = Path("/var/lib/aoe-target")
"""Where the service of this host keeps its state."""


class Doctor(NamedTuple):
    """On a host that serves disks."""

    config: Path | None
    socket: Path | None
    json: bool
    verbose: bool

    def run(self, report: Report) -> int:
        """1 if something is wrong. ConfigurationError where there is nothing to look at."""
        found = loop.run(for_target.examine(self._given()))
        return int(told(report, found, verbose=self.verbose))

    def _given(self) -> Given:
        file, socket = self.config or CONFIG, self.socket or place.askers()
        config, faults, problem = self._read(file, socket)
        target = config.target if config else TargetConfig()
        links = len(target.interfaces) + len(target.links) or 1
        needed = descriptors(len(config.exports) if config else 0, links, target)
        state = None if faults or problem else _state_dir(target, socket)
        return Given(str(file), config, faults, problem, socket, state, needed, _here)

    def _read(self, file: Path, socket: Path) -> tuple[Config | None, Sequence[str], str]:
        """What is in the file, each fault of it, and why this user may not read it."""
        if self.config is None and not file.exists():
            if socket.exists():
                return None, (), ""
            raise ConfigurationError(
                f"there is neither {file} nor a daemon at {socket}; name the file with --config FILE"
            )
        try:
            return load(file), (), ""
        except ConfigErrors as errors:
            return None, errors.lines, ""
        except ConfigurationError as error:
            if self.config is not None:
                raise
            return None, (), str(error)


def _state_dir(target: TargetConfig, socket: Path) -> Path:
    if target.state_dir:
        return Path(target.state_dir)
    return _OF_SERVICE if socket.parent == place.ROOTS else default_directory()


def _here(config: Config) -> Iterator[tuple[bool, str, dict[str, Any]]]:
    """What else the file names than interfaces."""
    for found in (*on_host.of_target(config.target), *on_host.of_exports(config)):
        yield found.usable, found.text, found.facts
