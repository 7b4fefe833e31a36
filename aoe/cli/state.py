"""`aoe-target state`: which disks are remembered, and which of them may be forgotten."""

from pathlib import Path
from typing import Any, NamedTuple

from aoe.cli.report import Report
from aoe.errors import ConfigurationError
from aoe.printable import plain
from aoe.target.records import Record, StateStore, default_directory
from aoe.wire.frame import format_mac


class State(NamedTuple):
    """List what is remembered in a directory; with `prune` forget the disks that are not there."""

    state_dir: Path | None
    prune: bool
    json: bool

    def run(self, report: Report) -> int:
        """Print each record, and with `prune` what became of those of disks that are not there. 1 if a file
        is damaged."""
        if self.state_dir and not self.state_dir.is_dir():
            raise ConfigurationError(
                f"{self.state_dir} is not a directory; name the --state-dir of the target"
            )
        store = StateStore(self.state_dir or default_directory())
        for record in store.records:
            facts = _facts(record)
            facts["fate"] = _fate(record) if self.prune and not facts["present"] else ""
            report.say(_sentence(facts), **facts)
        for damaged in store.damaged.values():
            report.fail(damaged.problem)
        return int(report.failed)


def _facts(record: Record) -> dict[str, Any]:
    return {
        "serial": record.serial,
        "path": record.key.place,
        "present": not record.is_of_nothing,
        "addresses": record.addresses,
        "config": record.state.config.decode("utf-8", "backslashreplace"),
        "mask": [format_mac(mac) for mac in record.state.mask],
        "reserve": [format_mac(mac) for mac in record.state.reserve],
    }


def _fate(record: Record) -> str:
    try:
        reason = record.forget()
    except OSError as error:
        reason = f"{error.strerror}"
    except ConfigurationError as error:
        reason = str(error)
    return f"kept: {reason}" if reason else "forgotten"


def _sentence(facts: dict[str, Any]) -> str:
    parts = [
        f"serial {facts['serial']}",
        plain(facts["path"]) or "path unknown",
        "there" if facts["present"] else "not there",
        f"last at {facts['addresses'][-1]}" if facts["addresses"] else "",
        f"mask {','.join(facts['mask'])}" if facts["mask"] else "",
        f"reserved for {','.join(facts['reserve'])}" if facts["reserve"] else "",
        f"config {facts['config']!r}" if facts["config"] else "",
        facts["fate"],
    ]
    return ", ".join(part for part in parts if part)
