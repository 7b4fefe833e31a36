"""Images whose every sector tells its address: neither sparse nor zero, and checked by bench/load.c."""

import random
import struct
from pathlib import Path

STAMP = 0x5354414D50
SECTOR = 512


def write_image(path: Path, sectors: int) -> Path:
    """Each sector has the stamp and its lba at both ends, and bytes that do not compress between."""
    filler = random.Random(1).randbytes(SECTOR - 32)
    with path.open("wb") as file:
        for first in range(0, sectors, 2048):
            marks = (struct.pack("QQ", STAMP, lba) for lba in range(first, min(first + 2048, sectors)))
            file.write(b"".join(mark + filler + mark for mark in marks))
    return path
