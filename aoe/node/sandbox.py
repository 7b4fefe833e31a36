"""What a serving process keeps of its rights once all is open: to serve, and to write its state."""

import ctypes
import logging
from contextlib import suppress
from pathlib import Path

from aoe.node.seccomp import Sockets, restrict_calls
from aoe.sandbox.landlock import CHANGING, READING, Place, restrict_files

log = logging.getLogger("aoe.node")


def confine(state: Path, sockets: Sockets) -> None:
    """For good: after imports, descriptors and rings, before the first thread. no_new_privs is set already.

    Without an opener the process still locks addresses itself, with any `sockets`, and looks up which
    process has one. What this kernel lacks is said, and does not keep anything from being served.
    """
    with suppress(OSError):
        ctypes.CDLL("libgcc_s.so.1")  # a thread that ends would load it
    with suppress(OSError):
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    opener = sockets is not Sockets.ANY
    below: dict[Place, int] = {state: CHANGING} if opener else {state: CHANGING, Path("/proc"): READING}
    for problem in (restrict_files(below, alone=opener), restrict_calls(sockets)):
        if problem:
            log.warning("%s", problem)
