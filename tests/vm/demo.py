"""`tools/demo diskless`, which types what the README has for a machine without a disk."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.checkers.readme import commands
from tests.support.labs.building import copied
from tests.support.labs.debian import deb_kept

SECTION = "A machine without a disk"
WRITTEN = "the machine has run for "
PATIENCE_S = 3600
"""Nothing hangs so long: it takes one or two minutes, and some more where the image is built."""
SHOWN_MAX_S = 720
"""Three times what it may take on a machine that has nothing else to do."""
_LONGEST = r"longest time between two lines was ([0-9.]+) s"


def said(argv: Iterable[str | Path], at: Path, scratch: Path, **environment: str) -> list[str]:
    """All lines of it; it ends well."""
    process = subprocess.Popen(
        [str(it) for it in argv],
        cwd=at,
        env=os.environ | {"TMPDIR": str(scratch)} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )

    def end() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)

    too_long = threading.Timer(PATIENCE_S, end)
    with process:
        assert process.stdout is not None
        try:
            too_long.start()
            lines = [it.rstrip("\n") for it in process.stdout]
            process.wait()
        finally:
            too_long.cancel()
            end()
    assert process.returncode == 0, "\n".join(lines)
    return lines


def check(lines: list[str], typed: Iterable[str]) -> int:
    """Each of these was typed, and the machine went on when each of its servers was killed, all in time: how
    many seconds it took once the image was there."""
    shown, text = [it.partition(" #")[0].strip() for it in lines], "\n".join(lines)
    for line in typed:
        assert any(it.endswith(f"# {line}") for it in shown), (line, text)
    before, *killed = text.split(" dies (kill -9):\n")
    assert len(killed) == 2
    assert all(WRITTEN in it for it in (before, *killed))
    assert lines[-1].startswith("demo passed")
    (shown_s,) = re.findall(r"shown in (\d+) s$", lines[-1])
    assert int(shown_s) <= SHOWN_MAX_S
    return int(shown_s)


def whole(work: Path, _: int) -> dict[str, Any]:
    """From the sources and the package beside them, and nothing else: the image is built first. `pause_s` is
    the longest time between two lines of the machine, `took_s` how long it took once the image was there."""
    sources, scratch = copied(work / "sources"), work / "scratch"
    scratch.mkdir()
    shutil.copy2(deb_kept("aoe-root"), work)
    lines = said([sources / "tools" / "demo", "diskless"], sources, scratch)
    took_s = check(lines, commands(SECTION))
    assert list(scratch.iterdir()) == []
    return {
        "pause_s": max(float(it) for it in re.findall(_LONGEST, "\n".join(lines))),
        "moves": 2,
        "calls": sum(it.startswith(WRITTEN) for it in lines),
        "took_s": took_s,
        "faults": [],
    }
