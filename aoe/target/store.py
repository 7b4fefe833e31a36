"""What an export remembers over a restart, in one file for each serial."""

import fcntl
import json
import os
import secrets
from pathlib import Path
from urllib.parse import quote

from aoe.errors import ConfigurationError
from aoe.limits import CONFIG_STRING_MAX, MACS_MAX
from aoe.target.state import AoeState
from aoe.wire.frame import format_mac, parse_mac


class Record:
    """The memory of one disk. Nothing is created before `open`."""

    def __init__(self, directory: Path, serial: str, path: str) -> None:
        self._file = directory / f"{quote(serial, safe='')}.json"
        self._lock: int | None = None
        self.serial = serial
        self.path = path
        self.state = AoeState()
        self.addresses: list[str] = []

    def open(self, address: str) -> None:
        """Take the record for this process, with what the last one left, and write the address down."""
        directory = self._file.parent
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(
                self._file.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600
            )
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._file.exists():
                last = _load(self._file)
                self.state, self.addresses = last.state, last.addresses
            self.addresses = [*(other for other in self.addresses if other != address), address]
            self.save(self.state)
        except BlockingIOError as error:
            raise ConfigurationError(
                f"the state of serial {self.serial} in {directory} is in use by another process; "
                "give this one its own --state-dir"
            ) from error
        except OSError as error:
            raise ConfigurationError(
                f"cannot keep state in {directory}: {error.strerror}; give a writable --state-dir"
            ) from error

    def save(self, state: AoeState) -> None:
        """Replace the file by one with `state` in it, on stable storage when this returns. OSError."""
        text = json.dumps(
            {
                "path": self.path,
                "serial": self.serial,
                "addresses": self.addresses,
                "config": state.config.hex(),
                "mask": [format_mac(mac) for mac in state.mask],
                "reserve": [format_mac(mac) for mac in state.reserve],
            }
        )
        fresh = self._file.with_suffix(".new")
        with fresh.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._file)
        directory = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self.state = state

    def close(self) -> None:
        """Let another process have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _load(file: Path) -> Record:
    """Read a record; ConfigurationError where it is damaged."""
    try:
        known = json.loads(file.read_text())
        record = Record(file.parent, _text(known["serial"]), _text(known["path"]))
        record.addresses = [_text(address) for address in known["addresses"]]
        mask = tuple(parse_mac(mac) for mac in known["mask"])
        reserve = tuple(parse_mac(mac) for mac in known["reserve"])
        record.state = AoeState(bytes.fromhex(known["config"]), mask, reserve)
        if max(len(mask), len(reserve)) > MACS_MAX or len(record.state.config) > CONFIG_STRING_MAX:
            raise ValueError("more than a reply can say")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigurationError(f"{file} is damaged ({error}); repair or remove it") from error
    return record


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value


class StateStore:
    """All records of a state directory, which need not exist yet."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._records: dict[str, Record] = {}
        try:
            files = sorted(directory.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            files = []
        except OSError as error:
            raise ConfigurationError(
                f"cannot read state in {directory}: {error.strerror}; give a readable --state-dir"
            ) from error
        for file in files:
            if file.suffix == ".json":
                record = _load(file)
                self._records[record.serial] = record

    def record(self, serial: str, path: str) -> Record:
        """The record of a serial, a fresh one where there is none."""
        return self._records.setdefault(serial, Record(self._directory, serial, path))

    def serial_of(self, path: str) -> str:
        """The serial that a store without an id of its own was given before, or a new random one."""
        for record in self._records.values():
            if record.path == path:
                return record.serial
        return secrets.token_hex(8).upper()


def default_directory() -> Path:
    """Where systemd, the system or this user keeps state."""
    given = os.environ.get("STATE_DIRECTORY")
    if given:
        return Path(given.split(":", maxsplit=1)[0])
    if os.geteuid() == 0:
        return Path("/var/lib/aoe-target")
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local/state") / "aoe-target"
