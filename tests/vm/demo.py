"""`tools/demo diskless`, which types what the README has for a machine without a disk."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.checkers.readme import commands
from tests.support.labs.building import copied
from tests.support.labs.debian import deb_kept

SECTION = "A machine without a disk"
WRITTEN = "the machine has run for "
PATIENCE_S = 3600
"""Nothing hangs so long: it takes one or two minutes, and some more where the image is built."""
SHOWN_MAX_S = 720
"""Three times what it may take on a machine that has nothing else to do."""
_BEGINS = "Two storage hosts and a machine"
_LONGEST = r"longest time between two lines was ([0-9.]+) s"


class Line(NamedTuple):
    """What it said, and when."""

    at_s: float
    text: str


def said(argv: Iterable[str | Path], at: Path, scratch: Path, **environment: str) -> list[Line]:
    """All of it; it ends well."""
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
            lines = [Line(time.monotonic(), it.rstrip("\n")) for it in process.stdout]
            process.wait()
        finally:
            too_long.cancel()
            end()
    assert process.returncode == 0, text(lines)
    return lines


def text(lines: Iterable[Line]) -> str:
    return "\n".join(it.text for it in lines)


def check(lines: list[Line], typed: Iterable[str]) -> None:
    """Each of these was typed, and the machine went on when each of its servers was killed, all in time."""
    shown = [it.text.partition(" #")[0].strip() for it in lines]
    for line in typed:
        assert any(it.endswith(f"# {line}") for it in shown), (line, text(lines))
    before, *killed = text(lines).split(" dies (kill -9):\n")
    assert len(killed) == 2
    assert all(WRITTEN in it for it in (before, *killed))
    assert lines[-1].text.startswith("demo passed")
    (shown_s,) = re.findall(r"shown in (\d+) s$", lines[-1].text)
    assert int(shown_s) <= SHOWN_MAX_S


def whole(work: Path, _: int) -> dict[str, Any]:
    """From the sources and the package beside them, and nothing else: the image is built first. `pause_s` is
    the longest time between two lines of the machine, `took_s` how long it took once the image was there."""
    sources, scratch = copied(work / "sources"), work / "scratch"
    scratch.mkdir()
    shutil.copy2(deb_kept("aoe-root"), work)
    lines = said([sources / "tools" / "demo", "diskless"], sources, scratch)
    check(lines, commands(SECTION))
    assert list(scratch.iterdir()) == []
    begun_s = next(it.at_s for it in lines if it.text.startswith(_BEGINS))
    return {
        "pause_s": max(float(it) for it in re.findall(_LONGEST, text(lines))),
        "moves": 2,
        "calls": sum(it.text.startswith(WRITTEN) for it in lines),
        "took_s": lines[-1].at_s - begun_s,
        "faults": [],
    }
