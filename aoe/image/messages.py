"""What is said to the process that has images served, and what it answers: JSON, with a descriptor beside."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from aoe import limits
from aoe.errors import AoeError, ConfigurationError


class Checking(AoeError):
    """An image is checked, for `for_s` seconds now; it is served after that."""

    def __init__(self, for_s: float) -> None:
        super().__init__("an image is being checked")
        self.for_s = for_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An image that is to be served: the absolute `path` and format of its file, and how. `name` tells it
    from others, also once its disk goes on in another file; empty: its file does."""

    path: str
    format: str
    name: str = ""
    key_file: str | None = None
    read_only: bool = False
    direct: bool = False
    patience_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Of an image that is served: `image` tells its file from others, and this service of it from earlier
    ones; the id of its file in words, and the disk beneath. `lost`: what served it to the last opener had
    ended, perhaps with what it had not written."""

    image: str
    name_kind: int
    name_text: str
    node: str
    room: int
    lost: bool = False


def encode(said: dict[str, Any]) -> bytes:
    """As one message."""
    data = json.dumps(said, separators=(",", ":")).encode()
    if len(data) > limits.IMAGE_MESSAGE_BYTES_MAX:
        raise ConfigurationError("a message about an image is too long")
    return data


def decode(data: bytes) -> dict[str, Any]:
    """AoeError for what is no message."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AoeError("a message about images is not understood") from error
    if not isinstance(said, dict):
        raise AoeError("a message about images is not understood")
    return said


def facts(told: Told) -> dict[str, Any]:
    """For a message."""
    return asdict(told)
