"""Our target with the engine, and what its counters say of who served."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget
from tests.support.tools import need_engine

LAUNCH = Path(__file__).parents[1] / "programs" / "fault_launch.py"


def engine_target(lab: Lab, work: Path, *arguments: str | Path, **options: Any) -> AoeTarget:
    """A target that serves with the engine or not at all; not yet started."""
    need_engine()
    return AoeTarget(lab, work, *arguments, "--engine", "c", **options)


def counted(target: AoeTarget) -> Counter[str]:
    """What SIGUSR1 makes it print, by name."""
    return Counter({name: int(n) for name, n in re.findall(r"(\S+)=(\d+)", target.counters())})


def prefix(target: AoeTarget) -> str:
    """What stands before the names of the counters of the engine that it was told to use."""
    return "" if "python" in target.argv else "engine_"
