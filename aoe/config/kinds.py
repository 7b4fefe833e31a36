"""What a key of the configuration file takes. Each kind turns TOML into a field's value, and back.

`meant` raises Wrong, which has a message for each thing that is wrong. `words` is what may be written.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from aoe import limits
from aoe.config.text import UNITS, in_units, shown
from aoe.config.values import BY_TAG, is_link
from aoe.pool.names import is_volume_name
from aoe.wire import protocol
from aoe.wire.frame import format_mac, is_group, parse_mac

Groups = Mapping[str, Sequence[bytes]]
"""MACs by the name of their group; none for a group that is there, but wrong."""
ANY = "any"
"""The mask that serves every host."""

_AS_MAC = "write a MAC as 02:00:00:00:00:01"
_MAC = re.compile(r"[0-9A-Fa-f]{12}")
_DASHED = re.compile(r"([0-9A-Fa-f]{2}-){5}[0-9A-Fa-f]{2}")
"""A MAC as Windows writes it: longer than any name of the kernel's."""
_COLONS_OF_NAMES = 1
_ALIKE = 0.75
"""How much of two words is the same where one is meant for the other."""
_INTERFACE = re.compile(rf"[^\s/:]{{1,{limits.NAME_MAX}}}")
_BANDWIDTH = re.compile(r"([0-9]{1,13})([kKMG]?)")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?")


class Bad(NamedTuple):
    """A value that cannot be, and what to write instead; `at` is its index in a list, None for the whole."""

    value: object
    remedy: str
    at: int | None = None


class Wrong(ValueError):
    """What is wrong with a value: all of it."""

    def __init__(self, *bad: Bad) -> None:
        super().__init__()
        self.bad = bad


def wrong(value: object, remedy: str) -> Wrong:
    """One thing is wrong with a value."""
    return Wrong(Bad(value, remedy))


class Kind(Protocol):
    """What a key takes."""

    @property
    def words(self) -> str:
        """What may be written."""

    def meant(self, value: object, groups: Groups) -> Any:
        """What a field has for what is written; Wrong says why it cannot be."""

    def written(self, value: Any) -> object:
        """What is written for a field's value."""


class _Same:
    """What is written is what a field has."""

    def written(self, value: Any) -> object:
        return value


class Flag(_Same):
    """True or false."""

    words = "true or false"

    def meant(self, value: object, groups: Groups) -> bool:
        if not isinstance(value, bool):
            raise wrong(value, f"write {self.words}{_unquoted(value)}")
        return value


class Whole(_Same):
    """A number within bounds."""

    def __init__(self, least: int, most: int, but: int | None = None) -> None:
        self._within = range(least, most + 1)
        self._but = but
        self.words = f"a whole number from {least} to {most}" + (f", but not {but}" if but else "")

    def meant(self, value: object, groups: Groups) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong(value, f"write {self.words}{_unquoted(value)}")
        if value not in self._within or value == self._but:
            raise wrong(value, f"write {self.words}")
        return value


class Limit(_Same):
    """A number within bounds, or 0 for none."""

    def __init__(self, least: int, most: int) -> None:
        self._within = range(least, most + 1)
        self.words = f"a whole number from {least} to {most}, or 0 for no limit"

    def meant(self, value: object, groups: Groups) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong(value, f"write {self.words}{_unquoted(value)}")
        if value not in self._within and value != 0:
            raise wrong(value, f"write {self.words}")
        return value


class Bandwidth:
    """Bytes a second within bounds, also in larger units; or 0 for none."""

    words = 'bytes a second from 64k to 1024G, as a number or such as "100M", or 0 for no limit'

    def meant(self, value: object, groups: Groups) -> int:
        number = self._number(value)
        if number is None or not (
            limits.LIMIT_BANDWIDTH_MIN <= number <= limits.LIMIT_BANDWIDTH_MAX or not number
        ):
            raise wrong(value, f"write {self.words}")
        return number

    def _number(self, value: object) -> int | None:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        match = _BANDWIDTH.fullmatch(value) if isinstance(value, str) else None
        return int(match[1]) * UNITS[match[2].replace("K", "k")] if match else None

    def written(self, value: Any) -> object:
        return in_units(value)


class Seconds(_Same):
    """A time within bounds."""

    def __init__(self, least: float, most: float) -> None:
        self._least, self._most = least, most
        self.words = f"seconds from {least:g} to {most:g}"

    def meant(self, value: object, groups: Groups) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong(value, f"write {self.words}{_unquoted(value)}")
        if not self._least <= value <= self._most:
            raise wrong(value, f"write {self.words}")
        return float(value)


class Choice(_Same):
    """One of some words."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices
        *first, last = (f'"{it}"' for it in choices)
        self.words = f"{', '.join(first)} or {last}" if first else last

    def meant(self, value: object, groups: Groups) -> str:
        if not isinstance(value, str) or value not in self.choices:
            raise wrong(value, f"write {self.words}")
        return value


class Text(_Same):
    """Text of a form."""

    def __init__(self, words: str, fits: Callable[[str], bool]) -> None:
        self.words = words
        self._fits = fits

    def meant(self, value: object, groups: Groups) -> str:
        if not isinstance(value, str):
            raise wrong(value, f"write {self.words}, in quotes")
        if not self._fits(value):
            raise wrong(value, f"write {self.words}")
        return value


class Interface(_Same):
    """A network interface; with `links` also a UDP link."""

    def __init__(self, *, links: bool = False) -> None:
        self._links = links
        self.words = "an interface by name, alternative name, MAC or glob"
        self.words += " (or a UDP link of [target])" if links else ""

    def meant(self, value: object, groups: Groups) -> str:
        if not isinstance(value, str):
            raise wrong(value, f"write {self.words}, in quotes")
        if is_link(value) and not self._links:
            raise wrong(value, 'a UDP link; name it under "links"')
        if (":" in value or _DASHED.fullmatch(value)) and not is_link(value):
            return format_mac(_mac(value))
        if not is_link(value) and not _is_interface(value):
            raise wrong(value, f"write {self.words}")
        return value


class Many:
    """A list of one kind, with up to `most` different items."""

    def __init__(self, kind: Kind, words: str, most: int) -> None:
        self._kind = kind
        self._most = most
        self.words = f"a list of {words}"

    def meant(self, value: object, groups: Groups) -> tuple[Any, ...]:
        found = _each(_items(value, self.words), lambda item: self._kind.meant(item, groups))
        twice = [
            Bad(it, "twice in the list; name it once", at) for at, it in enumerate(found) if it in found[:at]
        ]
        if twice:
            raise Wrong(*twice)
        if len(found) > self._most:
            raise wrong(f"{len(found)} items", f"write {self._most} at most")
        return found

    def written(self, value: Any) -> object:
        return list(value)


class Mask:
    """The hosts that are served."""

    words = f'"{ANY}", or a list of MACs and of names in [groups]'

    def meant(self, value: object, groups: Groups) -> tuple[bytes, ...]:
        if value == ANY:
            return ()
        if value == []:
            raise wrong(value, f'an empty list would serve every host; write "{ANY}" if that is meant')
        if isinstance(value, str) and value not in groups and not looks_like_mac(value):
            raise wrong(value, f"write {self.words}")
        named = _each(_items(value, self.words), lambda item: _hosts(item, groups))
        macs = tuple(dict.fromkeys(mac for hosts in named for mac in hosts))
        if len(macs) > protocol.MACS_MAX:
            raise wrong(value, f"{len(macs)} hosts, and a mask holds {protocol.MACS_MAX}; name fewer")
        return macs

    def written(self, value: Any) -> object:
        return [mac.hex(":") for mac in value] or ANY


def is_zone(text: str) -> bool:
    """Whether a text names a time zone that this host knows."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - few files name one

    try:
        ZoneInfo(text)
    except (OSError, ValueError):
        return False
    except LookupError:
        return False
    return True


def group(value: object) -> tuple[bytes, ...]:
    """The MACs of a group; Wrong where it cannot be one."""
    return tuple(dict.fromkeys(_each(_items(value, "a list of MACs"), _mac)))


# Parts of lists


def _items(value: object, words: str) -> list[object]:
    if isinstance(value, str):
        raise wrong(value, f"write {words}, as in [{shown(value)}]")
    if not isinstance(value, list) or not value:
        raise wrong(value, f"write {words}")
    return value


def _each(items: Sequence[object], meant: Callable[[object], Any]) -> tuple[Any, ...]:
    """What each item means; Wrong has what is wrong with any of them."""
    found: list[Any] = []
    bad: list[Bad] = []
    for at, item in enumerate(items):
        try:
            found.append(meant(item))
        except Wrong as error:
            bad += [it._replace(at=at) for it in error.bad]
    if bad:
        raise Wrong(*bad)
    return tuple(found)


def _hosts(item: object, groups: Groups) -> Sequence[bytes]:
    if isinstance(item, str) and item in groups:
        return groups[item]
    if not isinstance(item, str) or looks_like_mac(item):
        return (_mac(item),)
    if item == ANY:
        raise wrong(item, f'write mask = "{ANY}" for every host, without a list')
    raise wrong(item, f"neither a MAC nor one of [groups]{_near(item, groups)}")


def _near(item: str, groups: Groups) -> str:
    if not groups:
        return ", which names none"
    near = nearest(item, groups)
    return f"; is {shown(near)} meant?" if near else f", which has {', '.join(map(shown, groups))}"


def nearest(name: str, names: Iterable[str]) -> str:
    """Of some names the one that is most like another; empty where none is."""
    from difflib import get_close_matches  # noqa: PLC0415  only a wrong file needs it

    return next(iter(get_close_matches(name, list(names), 1, _ALIKE)), "")


def _mac(value: object) -> bytes:
    if not isinstance(value, str):
        raise wrong(value, f"{_AS_MAC}, in quotes")
    try:
        mac = parse_mac(value)
    except ValueError as error:
        raise wrong(value, _AS_MAC) from error
    if is_group(mac):
        raise wrong(value, "a group address; name single hosts")
    return mac


def looks_like_mac(text: str) -> bool:
    """Whether a text is a MAC, or can only be meant for one."""
    return bool(_MAC.fullmatch(text) or _DASHED.fullmatch(text)) or text.count(":") > _COLONS_OF_NAMES


def _unquoted(value: object) -> str:
    return ", without quotes" if isinstance(value, str) else ""


# Forms of text


def is_path(text: str) -> bool:
    """Whether a text says where a disk is."""
    tag, equals, value = text.partition("=")
    is_tagged = bool(equals and value and tag in BY_TAG)
    return "\0" not in text and (text.startswith("/") or is_tagged or is_volume_name(text))


def is_directory(text: str) -> bool:
    """Whether a text can be the path of a directory."""
    return text.startswith("/") and "\0" not in text


def is_control_group(text: str) -> bool:
    """Whether a text can be the name of a group of users."""
    return _GROUP.fullmatch(text) is not None


def host_and_port(text: str) -> tuple[str, int]:
    """Of `HOST:PORT`, where the host is an address (of IPv6 in brackets): a name would have to be looked up.
    ValueError."""
    from ipaddress import ip_address  # noqa: PLC0415  only this needs it

    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    address = ip_address(host[1:-1] if bracketed else host)
    if not _PORT.fullmatch(port) or int(port) > 65535 or bracketed != (address.version == 6):
        raise ValueError(text)
    return str(address), int(port)


def is_endpoint(text: str) -> bool:
    """Whether a text is a host and a port."""
    try:
        host_and_port(text)
    except ValueError:
        return False
    return True


def _is_interface(text: str) -> bool:
    return _INTERFACE.fullmatch(text) is not None and text.isprintable() and text not in (".", "..")
