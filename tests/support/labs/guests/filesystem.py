"""A filesystem in a guest: what to put there, whether it comes back, and what the kernel says of its disk."""

import hashlib
import random
from pathlib import Path

from tests.support.labs.guests.files import GuestFiles
from tests.support.labs.guests.kernel import kernel
from tests.support.labs.guests.machine import Done, LinuxGuest
from tests.support.tools import which

FILE_BYTES = [0, 1, 511, 4097, *[300_001] * 12]

TROUBLE = r"I/O error|EXT4-fs (error|warning)|JBD2:.*error|Aborting journal|aoe:.*(fail|error|down)"
"""What the kernel prints once the data path failed: block layer, page cache, ext4, aoe."""


def tree() -> dict[str, bytes]:
    """Files of known content: empty, shorter than a block, and several hundred KB."""
    rng = random.Random(88)
    return {f"tree/f{number:02}": rng.randbytes(size) for number, size in enumerate(FILE_BYTES)}


def guest_files() -> GuestFiles:
    """A guest that has the files, their checksums, and the programs for ext4."""
    files = GuestFiles(kernel())
    for program in ("mke2fs", "e2fsck"):
        files.copy_program(Path(which(program) or ""), f"sbin/{program}")
    sums = []
    for name, data in tree().items():
        files.add(name, data)
        sums.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
    files.add("sums", "".join(sums).encode())
    return files


def checksums(guest: LinuxGuest) -> Done:
    """Compare every file below /mnt with what it was copied from."""
    return guest.run("cd /mnt && sha256sum -c /sums; result=$?; cd /; (exit $result)")


def trouble(guest: LinuxGuest) -> str:
    """Lines of the kernel's log that tell of a failed data path."""
    return guest.run(f"dmesg | grep -E '{TROUBLE}'").output
