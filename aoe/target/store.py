"""What an export remembers over a restart, in one file for each serial.

Others may write into the directory, too: no name is followed or opened that is not a regular file.
"""

import errno
import fcntl
import json
import os
import secrets
import stat
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from aoe.drive.identify import is_serial
from aoe.errors import ConfigurationError
from aoe.limits import CONFIG_STRING_MAX, MACS_MAX, RECORD_ADDRESSES_MAX, RECORD_BYTES_MAX
from aoe.target.state import AoeState
from aoe.wire.frame import format_mac, is_group, parse_mac

_IRREGULAR = "it is not a regular file"


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
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _open_regular(self._file.with_suffix(".lock"), os.O_CREAT | os.O_RDWR)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.lexists(self._file):
                last = _load(self._file)
                self.state, self.addresses = last.state, last.addresses
            others = [other for other in self.addresses if other != address]
            self.addresses = [*others, address][-RECORD_ADDRESSES_MAX:]
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
        fresh.unlink(missing_ok=True)  # what a dead process left, or somebody put there
        with os.fdopen(_open_regular(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "w") as file:
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


def _open_regular(file: Path, flags: int) -> int:
    """A descriptor of a regular file, readable for its owner only if it is new; OSError for anything else."""
    if file.is_symlink():
        raise OSError(errno.ELOOP, _IRREGULAR, str(file))
    fd = os.open(file, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, _IRREGULAR, str(file))


def _read(file: Path) -> bytes:
    with os.fdopen(_open_regular(file, os.O_RDONLY), "rb") as opened:
        content = opened.read(RECORD_BYTES_MAX + 1)
    if len(content) > RECORD_BYTES_MAX:
        raise ValueError(f"more than {RECORD_BYTES_MAX} bytes")
    return content


def _load(file: Path) -> Record:
    """Read a record; ConfigurationError where it is damaged."""
    try:
        return _parse(file, _read(file))
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read ({error.strerror}); repair or remove it") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigurationError(f"{file} is damaged ({error}); repair or remove it") from error


def _parse(file: Path, content: bytes) -> Record:
    """ValueError, KeyError, TypeError, AttributeError or RecursionError for what no `save` wrote."""
    known = json.loads(content)
    record = Record(file.parent, _text(known["serial"]), _text(known["path"]))
    record.addresses = [_text(address) for address in known["addresses"]][-RECORD_ADDRESSES_MAX:]
    record.state = AoeState(bytes.fromhex(known["config"]), _macs(known["mask"]), _macs(known["reserve"]))
    if len(record.state.config) > CONFIG_STRING_MAX:
        raise ValueError("a config string longer than a reply can say")
    if not is_serial(record.serial) or record._file != file:
        raise ValueError(f"the file of serial {record.serial!r} has another name")
    return record


def _macs(listed: list[str]) -> tuple[bytes, ...]:
    """A list of hosts. One that names none of them, as a group address does, would keep everybody out."""
    macs = tuple(parse_mac(mac) for mac in listed)
    if len(macs) > MACS_MAX:
        raise ValueError("more hosts than a reply can say")
    for mac in macs:
        if is_group(mac):
            raise ValueError(f"{format_mac(mac)} is no host's address")
    return macs


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value


class Damaged(NamedTuple):
    """A file that is no record: the problem, and what can be read of it."""

    problem: ConfigurationError
    content: bytes


class StateStore:
    """All records of a state directory, which need not exist yet.

    `damaged` are the files that are none, by name; only the one of a disk that is asked for is an error.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._records: dict[str, Record] = {}
        self.damaged: dict[Path, Damaged] = {}
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
                self._take(file)

    def _take(self, file: Path) -> None:
        try:
            record = _load(file)
        except ConfigurationError as problem:
            self.damaged[file] = Damaged(problem, _salvage(file))
        else:
            self._records[record.serial] = record

    def record(self, serial: str, path: str) -> Record:
        """The record of a serial, a fresh one where there is none; ConfigurationError if it is damaged."""
        fresh = Record(self._directory, serial, path)
        if fresh._file in self.damaged:
            raise self.damaged[fresh._file].problem
        return self._records.setdefault(serial, fresh)

    def serial_of(self, path: str) -> str:
        """The serial that a store without an id of its own was given before, or a new random one.

        ConfigurationError if that stands in a record that is damaged: with another serial the disk would be
        open to all that its mask list keeps out."""
        for record in self._records.values():
            if record.path == path:
                return record.serial
        for problem, content in self.damaged.values():
            if json.dumps(path).encode() in content:
                raise problem
        return secrets.token_hex(8).upper()


def _salvage(file: Path) -> bytes:
    """What a damaged file still says."""
    try:
        return _read(file)
    except (OSError, ValueError):
        return b""


def default_directory() -> Path:
    """Where systemd, the system or this user keeps state; ConfigurationError for a user without a home."""
    given = os.environ.get("STATE_DIRECTORY")
    if given:
        return Path(given.split(":", maxsplit=1)[0])
    if os.geteuid() == 0:
        return Path("/var/lib/aoe-target")
    home = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(home) if home else Path.home() / ".local/state") / "aoe-target"
    except RuntimeError as error:
        raise ConfigurationError(
            "this user has no home directory to keep state in; give --state-dir"
        ) from error
