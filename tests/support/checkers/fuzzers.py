"""The fuzzers of csrc/fuzz, as tools/fuzz runs them."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent.parent
CANNOT_BUILD = 2


def fuzz(kept: Path, how: str, *names: str, **settings: str) -> tuple[int, str]:
    """What tools/fuzz ended with, and said: after so many seconds, or the `same` runs as ever. Its settings
    are AOE_FUZZ_SEED and others of that kind."""
    environment = {**os.environ, "AOE_FUZZ_DIR": str(kept)}
    environment |= {f"AOE_FUZZ_{name.upper()}": value for name, value in settings.items()}
    ran = subprocess.run(
        ["tools/fuzz", how, *names],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return ran.returncode, ran.stdout
