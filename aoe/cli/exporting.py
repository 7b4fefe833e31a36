"""From words of a command line to keys of an export, as the configuration file has them."""

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from aoe.config.keys import EXPORT, Key
from aoe.config.kinds import Many, Mask, Wrong
from aoe.config.unknown import no_key
from aoe.config.values import BY_TAG, volume_of
from aoe.errors import ConfigurationError

_KEYS = {key.name: key for key in EXPORT}
_ITS_ADDRESS = ("shelf", "slot")


def keys_of(words: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE` words. ConfigurationError for one that is none, or that is there twice."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        key = known_key(name)
        if not equals:
            raise ConfigurationError(f"{word!r} has no value; write {name}=VALUE")
        if name in found:
            raise ConfigurationError(f"{name} is there twice; write it once")
        found[name] = _value(key, text)
    return found


def known_key(name: str) -> Key:
    """The key of that name; ConfigurationError with the nearest one."""
    if name in _ITS_ADDRESS:
        raise ConfigurationError(f"{name} is part of the address; remove the export, and add another one")
    if name not in _KEYS:
        raise ConfigurationError("".join(no_key(name, "export")))
    return _KEYS[name]


def _value(key: Key, text: str) -> Any:
    """What the file would have. What no kind of value is right is left to the daemon, which knows the groups
    of the file and says what is wrong."""
    if key.name == "path":
        return absolute(text)
    for candidate in _candidates(text):
        try:
            key.kind.meant(candidate, {})
        except Wrong:
            continue
        return candidate
    return text.split(",") if isinstance(key.kind, Many | Mask) else text


def meant(name: str, text: str) -> Any:
    """What the file would mean by that. ValueError, which says what may be written."""
    kind = _KEYS[name].kind
    for candidate in _candidates(text):
        try:
            return kind.meant(candidate, {})
        except Wrong:
            continue
    raise ValueError(f"{text!r} is not {kind.words}")


def _candidates(text: str) -> Iterator[Any]:
    if text in ("true", "false"):
        yield text == "true"
    if re.fullmatch(r"[0-9]{1,18}", text):
        yield int(text)
    if re.fullmatch(r"[0-9]{1,9}\.[0-9]{1,9}", text):
        yield float(text)
    yield text
    yield text.split(",")


def absolute(path: str) -> str:
    """A path from here as one from everywhere. A label or UUID stays one, and POOL/VOLUME a volume unless
    there is such a file here."""
    tag, equals, _ = path.partition("=")
    is_volume = volume_of(path) is not None and not os.path.lexists(path)
    return path if is_volume or (equals and tag in BY_TAG) else os.path.abspath(path)  # noqa: PTH100 - links stay
