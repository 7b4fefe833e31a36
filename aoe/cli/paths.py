"""From `PATH[=SHELF.SLOT][,serial=TEXT]` to what is to be served where."""

import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from aoe.cli.links import check_distinct
from aoe.disk.found import token_of
from aoe.errors import ConfigurationError
from aoe.target.offer import check_address, check_serial
from aoe.wire import protocol

_OPTION = re.compile(
    r"(?P<path>.+)(?:=(?P<shelf>[0-9]{1,9})\.(?P<slot>[0-9]{1,9})|,serial=(?P<serial>[^,]+))", re.DOTALL
)


class Reading(NamedTuple):
    """One way to read a PATH of the command line: where the name of the file ends, and what follows it."""

    path: str
    address: tuple[int, int] | None = None
    serial: str | None = None

    def __str__(self) -> str:
        at = " at e{}.{}".format(*self.address) if self.address else ""
        return f"{quoted(self.path)}{at}" + (f" with serial {self.serial}" if self.serial else "")

    @property
    def spelling(self) -> str:
        """How to write it so that it has no other reading: a slash can only come after a file's name."""
        at = "={}.{}".format(*self.address) if self.address else ""
        return quoted(f"{self.path.rstrip('/')}/{at}" + (f",serial={self.serial}" if self.serial else ""))


class Wanted(NamedTuple):
    """One PATH of the command line as `text`, with its address decided."""

    text: str
    path: Path
    shelf: int
    slot: int
    serial: str | None

    def quoting(self, error: ConfigurationError) -> ConfigurationError:
        """The same error, naming what was typed where that is more than the path."""
        return error if self.text == str(self.path) else ConfigurationError(f"{quoted(self.text)}: {error}")


def quoted(text: str) -> str:
    """In quotes, on one line whatever is in it."""
    return f"'{text}'" if text.isprintable() and "'" not in text else repr(text)


def plan(
    texts: Sequence[str],
    shelf: int,
    slot: int,
    serial: str | None,
    is_disk: Callable[[str], bool] | None = None,
) -> list[Wanted]:
    """Which path gets which address: its own, or the next slot, and after slot 254 the next shelf.

    `shelf` and `slot` are for the first, `serial` for one that stands alone. ConfigurationError quotes what
    was typed.
    """
    if serial and len(texts) > 1:
        raise ConfigurationError("--serial fits one PATH; say PATH,serial=TEXT for each")
    wanted: list[Wanted] = []
    for text in texts:
        if not text:
            raise ConfigurationError("an empty PATH; name a file or block device")
        path, address, own = read(text, is_disk or names_a_disk)
        if address is not None:
            shelf, slot = address
        elif slot == protocol.SLOT_MAX + 1 and wanted:
            shelf, slot = shelf + 1, 0
            shelf += shelf == protocol.SHELF_REFUSED_BY_LINUX
        wanted.append(_checked(Wanted(text, Path(path), shelf, slot, own or serial)))
        slot += 1
    check_distinct([f"{one.shelf}.{one.slot}" for one in wanted], "address")
    return wanted


def _checked(one: Wanted) -> Wanted:
    try:
        check_address(one.shelf, one.slot)
        if one.serial is not None:
            check_serial(one.serial)
    except ConfigurationError as error:
        raise one.quoting(error) from error
    return one


def read(text: str, is_disk: Callable[[str], bool]) -> Reading:
    """The only reading whose file exists; where none does, the one with the shortest name.

    ConfigurationError where several do.
    """
    readings = _readings(text)
    there = [reading for reading in readings if is_disk(reading.path)]
    ended = next((reading for reading in there if reading.path.endswith("/")), None)
    if ended is None and len(there) > 1:
        raise ConfigurationError(
            f"{quoted(text)} may be {' or '.join(map(str, there))}, and both exist; put a slash after the "
            f"file's name: {' or '.join(reading.spelling for reading in there)}"
        )
    return ended or (there[0] if there else readings[-1])


def _readings(text: str) -> list[Reading]:
    """From the longest name to the shortest."""
    readings = [Reading(text)]
    while (shorter := _shorter(readings[-1])) is not None:
        readings.append(shorter)
    return readings


def _shorter(reading: Reading) -> Reading | None:
    """Without the last `=SHELF.SLOT` or `,serial=TEXT`, unless one of that kind was behind it."""
    match = _OPTION.fullmatch(reading.path)
    if match is None:
        return None
    if match["serial"] is not None:
        return None if reading.serial else reading._replace(path=match["path"], serial=match["serial"])
    address = int(match["shelf"]), int(match["slot"])
    return None if reading.address else reading._replace(path=match["path"], address=address)


def check_stores(wanted: Sequence[Wanted]) -> None:
    """ConfigurationError if two names lead to one file or device, which only one may write."""
    first: dict[tuple[object, ...], Wanted] = {}
    for one in wanted:
        store = _store(one.path)
        if store and (other := first.setdefault(store, one)) is not one:
            raise ConfigurationError(
                f"{quoted(other.text)} and {quoted(one.text)} are one disk; name it once, or say --read-only"
            )


def _store(path: Path) -> tuple[object, ...]:
    """What the name leads to; nothing where it leads nowhere."""
    try:
        return token_of(path.stat())
    except (OSError, ValueError):
        return ()


def names_a_disk(path: str) -> bool:
    """Whether a file or block device of that name is there."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)
