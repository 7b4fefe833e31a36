"""Runs inside a guest: starts one target process per export, some of which do not sync."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from aoe.cli import target
from aoe.engine import Engine, ExportFacts


def forget_to_sync() -> None:
    """Acknowledge what the page cache or the disk's cache holds, as a careless target would."""
    write = os.pwritev

    def hasty_write(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        return write(fd, buffers, offset, 0)

    def no_sync(fd: int) -> None:
        pass

    os.pwritev = hasty_write
    os.fsync = os.fdatasync = no_sync


def forget_to_sync_in_c() -> None:
    """The same for the compiled engine: it is told that write replies promise nothing."""
    publish = Engine.publish

    def careless_publish(self: Engine, index: int, facts: ExportFacts, **how: Any) -> int:
        return publish(self, index, facts._replace(durable=False), **how)

    Engine.publish = careless_publish


def main() -> None:
    """Leaves the numbers of the processes in /pids."""
    pids = []
    for synced, arguments in json.loads(Path(sys.argv[1]).read_text()):
        pid = os.fork()
        if pid == 0:
            if not synced:
                forget_to_sync()
                forget_to_sync_in_c()
            sys.exit(target.main(arguments))
        pids.append(pid)
    Path("/pids").write_text(" ".join(map(str, pids)))


if __name__ == "__main__":
    main()
