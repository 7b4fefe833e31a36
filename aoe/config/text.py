"""Values as TOML, as a configuration file says them, and for messages."""

import re
from collections.abc import Mapping

from aoe import limits
from aoe.errors import ConfigurationError
from aoe.printable import visible

UNITS = {"G": 1 << 30, "M": 1 << 20, "k": 1 << 10, "": 1}
"""Of bytes."""
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml(value: object) -> str:
    """A value as a configuration file says it. ConfigurationError for a name that is not UTF-8."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{_escaped(value)}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key(name)} = {toml(it)}" for name, it in value.items()) + "}"
    return str(value)


def key(name: str) -> str:
    """The name of a key or table."""
    return name if _BARE.fullmatch(name) else toml(name)


def in_units(size: int) -> int | str:
    """Bytes in the largest unit of which they are a whole number."""
    unit = next(it for it, bytes_ in UNITS.items() if size % bytes_ == 0)
    return f"{size // UNITS[unit]}{unit}" if unit and size else size


def shown(value: object) -> str:
    """A value for a message."""
    text = toml(value)
    return text if len(text) <= limits.CONFIG_SHOWN_MAX else text[: limits.CONFIG_SHOWN_MAX] + "..."


def _escaped(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"{text!r} is not UTF-8, which a configuration file has to be; give it another name"
        ) from error
    return "".join(_escape(it) for it in text)


def _escape(character: str) -> str:
    return f"\\{character}" if character in '"\\' else visible(character)
