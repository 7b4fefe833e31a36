"""What an export remembers over a restart, in one file for each serial.

Others may write into the directory, too: no name is followed or opened that is not a regular file.
"""

import fcntl
import json
import os
import re
import secrets
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from aoe.disk.base import StoreName
from aoe.drive.identify import StoreKind, is_serial
from aoe.errors import ConfigurationError
from aoe.limits import RECORD_ADDRESSES_MAX, RECORD_BYTES_MAX
from aoe.target import keys, lasting
from aoe.target.keys import VERSION, Sight, StoreKey
from aoe.target.known import Index
from aoe.target.state import AoeState
from aoe.wire.frame import format_mac, is_group, parse_mac
from aoe.wire.protocol import CONFIG_STRING_MAX, MACS_MAX

_PART = re.compile(r"@\d+\+\d*$")
"""As `Opening.part` has it."""
_REPLACEABLE = {"config": "", "mask": "--mask or ", "reserve": ""}
"""What `--reset-state` forgets of a record, and what else replaces it alone."""


class Record:
    """The memory of one disk. Nothing is created before `open`."""

    def __init__(
        self,
        directory: Path,
        serial: str,
        key: StoreKey,
        version: int = VERSION,
        replaced: Collection[str] = (),
    ) -> None:
        self._file = directory / f"{quote(serial, safe='')}.json"
        self._lock: int | None = None
        self.serial = serial
        self.version = version
        self.key = key
        self.wanted = key
        """What it belongs to according to the file, and from `open` on."""
        self.state = AoeState()
        self.addresses: list[str] = []
        self.replaced = replaced
        """Which of `config`, `mask` and `reserve` may be damaged in the file: they are replaced."""
        self.mended: list[str] = []
        """Which of those were."""

    def open(self, address: str, put: lasting.Put = lasting.put) -> None:
        """Take the record for this process, with what the last one left, and `put` down the address."""
        directory = self._file.parent
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take()
            last = _load(self._file, self.replaced) if os.path.lexists(self._file) else None
            if last is not None:
                self.state, self.addresses = last.state, last.addresses
            others = [other for other in self.addresses if other != address]
            self.addresses = [*others, address][-RECORD_ADDRESSES_MAX:]
            self.key = self.wanted
            if last is None or not self._is_as(last):
                self.save(self.state, put)
        except BlockingIOError as error:
            raise ConfigurationError(
                f"the state of serial {self.serial} in {directory} is in use by another process; "
                "give this one its own --state-dir"
            ) from error
        except OSError as error:
            raise ConfigurationError(
                f"cannot keep state in {directory}: {error.strerror}; give a writable --state-dir"
            ) from error

    def _is_as(self, last: "Record") -> bool:
        """Whether a file says what is known: a restart needs no room in a file system that is full."""
        is_ours = last.version == VERSION and not last.mended and last._file.stat().st_mode & 0o077 == 0
        return is_ours and (last.key, last.addresses) == (self.key, self.addresses)

    def _take(self) -> None:
        """Lock it; BlockingIOError if another process has it."""
        name = self._file.with_suffix(".lock")
        while self._lock is None:
            self._lock = lasting.open_regular(name, os.O_CREAT | os.O_RDWR)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_named(self._lock, name):  # the process that had it has forgotten the disk
                self.close()

    @property
    def is_of_nothing(self) -> bool:
        """Whether what it belongs to is not there. Version 1 wrote the part behind the path."""
        path = self.key.whereabouts
        names = {path, _PART.sub("", path)} if self.version == 1 else {path}
        return bool(path) and all(map(_is_gone, names))

    def forget(self) -> str:
        """Remove it for good; or why not: another process uses it, or it keeps hosts out. OSError."""
        try:
            self._take()
            state = _load(self._file).state
            if state.mask or state.reserve:
                return "its lists of hosts would be forgotten"
            for suffix in (".json", ".new", ".lock"):
                self._file.with_suffix(suffix).unlink(missing_ok=True)
        except BlockingIOError:
            return "it is in use"
        finally:
            self.close()
        return ""

    def save(self, state: AoeState, put: lasting.Put = lasting.put) -> None:
        """Replace the file by one with `state` in it, unless `put` has it otherwise on stable storage when
        this returns. OSError."""
        text = json.dumps(
            {
                "version": VERSION,
                "path": self.key.path,
                "part": self.key.part,
                "device": self.key.device,
                "shown": self.key.shown,
                "store": {"kind": self.key.name.kind, "id": self.key.name.text},
                "serial": self.serial,
                "addresses": self.addresses,
                "config": state.config.hex(),
                "mask": [format_mac(mac) for mac in state.mask],
                "reserve": [format_mac(mac) for mac in state.reserve],
            }
        )
        put(self._file, text)
        self.state = state

    def close(self) -> None:
        """Let another process have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _is_gone(path: str) -> bool:
    """Not where it cannot be known."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _is_named(fd: int, name: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), name.lstat())
    except FileNotFoundError:
        return False


def _load(file: Path, replaced: Collection[str] = ()) -> Record:
    """Read a record; ConfigurationError where it is damaged, but for what is replaced anyway."""
    try:
        return _parse(file, lasting.read(file, RECORD_BYTES_MAX), replaced)
    except NewerVersion as error:
        raise ConfigurationError(
            f"{file} is of version {error}, this program knows up to {VERSION}; "
            "use a newer one, or another --state-dir"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read ({error.strerror}); repair or remove it") from error
    except BadState as error:
        remedy = f"repair it, or say {_REPLACEABLE[error.name]}--reset-state to replace it"
        raise ConfigurationError(f"{file} is damaged ({error.name}: {error}); {remedy}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigurationError(f"{file} is damaged ({error}); repair or remove it") from error


def _parse(file: Path, content: bytes, replaced: Collection[str]) -> Record:
    """ValueError, KeyError, TypeError, AttributeError or RecursionError for what no `save` wrote."""
    known = json.loads(content.decode())
    version = known.get("version", 1)
    if not isinstance(version, int) or version < 1:
        raise ValueError(f"version {version!r}")
    if version > VERSION:
        raise NewerVersion(version)
    record = Record(file.parent, _text(known["serial"]), _key(known, version), version, replaced)
    record.addresses = [_text(address) for address in known["addresses"]][-RECORD_ADDRESSES_MAX:]
    record.state = _state(known, record)
    if not is_serial(record.serial) or record._file != file:
        raise ValueError(f"the file of serial {record.serial!r} has another name")
    return record


def _state(known: dict[str, Any], record: Record) -> AoeState:
    """BadState for what no `save` wrote, unless it is replaced anyway: then it is empty."""
    values: dict[str, Any] = {}
    for name, read in (("config", _config), ("mask", _macs), ("reserve", _macs)):
        try:
            values[name] = read(known[name])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if name not in record.replaced:
                raise BadState(name, error) from error
            record.mended.append(name)
    return AoeState(**values)


def _config(text: str) -> bytes:
    config = bytes.fromhex(text)
    if len(config) > CONFIG_STRING_MAX:
        raise ValueError("a config string longer than a reply can hold")
    return config


def _key(known: dict[str, Any], version: int) -> StoreKey:
    if version == 1:
        return StoreKey(device=_text(known["path"]))
    path, part, device, shown = (_text(known[name]) for name in ("path", "part", "device", "shown"))
    store = known["store"]
    return StoreKey(path, part, StoreName(StoreKind(store["kind"]), _text(store["id"])), device, shown)


def _macs(listed: list[str]) -> tuple[bytes, ...]:
    """A list of hosts. One that names none of them, as a group address does, would keep every host out."""
    macs = tuple(parse_mac(mac) for mac in listed)
    if len(macs) > MACS_MAX:
        raise ValueError("more hosts than a reply can hold")
    for mac in macs:
        if is_group(mac):
            raise ValueError(f"{format_mac(mac)} is not the address of a host")
    return macs


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value


class BadState(ValueError):
    """One of the values of a record that can be replaced is none."""

    def __init__(self, name: str, problem: Exception) -> None:
        super().__init__(str(problem))
        self.name = name


class NewerVersion(ValueError):
    """A record that a later release of this program wrote: its rules are not known here."""


class Damaged(NamedTuple):
    """A file that is no record: the problem, and what can be read of it."""

    problem: ConfigurationError
    content: bytes


class StateStore:
    """All records of a state directory, which need not exist yet.

    `damaged` are the files that are none, by name; only the one of a disk that is asked for is an error.
    What is in `replaced` (`config`, `mask`, `reserve`) may be damaged in a record: it gets another value.
    """

    def __init__(self, directory: Path, replaced: Collection[str] = ()) -> None:
        self._directory = directory
        self._replaced = replaced
        self._records: dict[str, Record] = {}
        self._index: Index[Record] | None = None
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
            record = _load(file, self._replaced)
        except ConfigurationError as problem:
            self.damaged[file] = Damaged(problem, _salvage(file))
        else:
            self._records[record.serial] = record

    @property
    def records(self) -> list[Record]:
        """All that are whole, by serial."""
        return [self._records[serial] for serial in sorted(self._records)]

    def record(self, serial: str, key: StoreKey) -> Record:
        """The record of a serial, a fresh one where there is none; when it is opened it is `key`'s.

        ConfigurationError if it is damaged, or of a newer version."""
        fresh = Record(self._directory, serial, key, replaced=self._replaced)
        if fresh._file in self.damaged:
            raise self.damaged[fresh._file].problem
        if serial not in self._records:
            self._records[serial] = fresh
            if self._index is not None:
                self._index.add(fresh)
        record = self._records[serial]
        record.wanted = key
        return record

    @contextmanager
    def many(self) -> Iterator[None]:
        """Inside, many disks are looked for at once: where the paths of records lead is looked at once, and
        none of them is opened."""
        self._index = Index(self._records.values(), _thing)
        try:
            yield
        finally:
            self._index = None

    def find(self, key: StoreKey, serial: str | None = None) -> tuple[Record, str]:
        """The record of a disk, a fresh one where there is none, and what is to be said of that.

        `serial` is the administrator's word; without it the record that knows the disk decides, or the
        store's id, or chance. ConfigurationError where that would be a guess, or leave a list of hosts
        behind; also if the record is damaged.
        """
        may_be = self._records.values() if self._index is None else self._index.of(key)
        if serial is not None:
            note = keys.left_aside(key, serial, may_be, look)
            return self.record(serial, key), note
        known, note = keys.choose(key, may_be, look)
        if known is not None:
            return self.record(known.serial, key), note
        self._check_damaged(key)
        fresh = key.serial or secrets.token_hex(8).upper()
        if fresh in self._records:
            raise ConfigurationError(
                f"the id of {key.path} is serial {fresh}, of which there is a record of "
                f"{self._records[fresh].key.path}; {keys.remedy(fresh)}"
            )
        return self.record(fresh, key), note

    def _check_damaged(self, key: StoreKey) -> None:
        """ConfigurationError if a disk stands in a record that is damaged: with another serial it would be
        open to all that its mask list keeps out."""
        names = {key.path, key.device, key.device + key.part, key.name.text} - {""}
        for problem, content in self.damaged.values():
            if any(json.dumps(name).encode() in content for name in names):
                raise problem


def look(known: str, path: str) -> Sight:
    """What the path of a record is now, beside another path."""
    was, now = _thing(known), _thing(path)
    if was is None:
        return Sight.GONE
    return Sight.SAME if was == now else Sight.OTHER


def _thing(path: str) -> tuple[bool, int, int] | None:
    """What a path leads to: a block device by its number, a file by its filesystem and inode."""
    try:
        found = os.stat(path)  # noqa: PTH116 -- of a thousand paths, a Path each takes twice as long
    except (OSError, ValueError):
        return None
    is_device = stat.S_ISBLK(found.st_mode)
    return (True, found.st_rdev, 0) if is_device else (False, found.st_dev, found.st_ino)


def _salvage(file: Path) -> bytes:
    """What a damaged file still says."""
    try:
        return lasting.read(file, RECORD_BYTES_MAX)
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
