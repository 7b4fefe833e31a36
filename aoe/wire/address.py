"""How an address is written: `e<shelf>.<slot>`, as the Linux driver names its devices."""

import re

from aoe.errors import ConfigurationError
from aoe.wire import protocol

_ADDRESS = re.compile(r"e?([0-9]{1,5})\.([0-9]{1,3})")


def parse_address(text: str) -> tuple[int, int]:
    """`e1.0` -> (1, 0): shelf (0-65534) and slot (0-254). ConfigurationError for anything else."""
    match = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    if match is None or int(match[1]) > protocol.SHELF_MAX or int(match[2]) > protocol.SLOT_MAX:
        raise ConfigurationError(f"{text!r} is not an address; write it as e0.0")
    return int(match[1]), int(match[2])
