"""The Debian package: built of a copy of the sources, as a user builds it."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.labs.building import copied
from tests.support.tools import need, tool, unavailable

BUILD_S = 600
COMMAND = ("dpkg-buildpackage", "-us", "-uc", "-b")


def deb(directory: Path) -> Path:
    """Build it below the directory."""
    need("dpkg-buildpackage", "dh")
    sources = copied(directory / "sources")
    _check_requirements(sources)
    done = subprocess.run(
        COMMAND,
        cwd=sources,
        env={**os.environ, "LC_ALL": "C", "DEB_BUILD_OPTIONS": "noautodbgsym"},
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (made,) = directory.glob("aoe-target_*.deb")
    return made


def renumbered(
    package: Path, directory: Path, version: str, change: Callable[[Path], None] = lambda _: None
) -> Path:
    """The same package, as if of another version, after a change of its files."""
    files = directory / "renumbered"
    tool("dpkg-deb", "--raw-extract", package, files)
    control = files / "DEBIAN" / "control"
    control.write_text(re.sub(r"(?m)^Version: .*", f"Version: {version}", control.read_text()))
    change(files)
    made = directory / f"aoe-target_{version}_{field(package, 'Architecture')}.deb"
    tool("dpkg-deb", "--root-owner-group", "--build", files, made)
    return made


def field(package: Path, name: str) -> str:
    """What its control file says."""
    return tool("dpkg-deb", "--field", package, name)


def _check_requirements(sources: Path) -> None:
    done = subprocess.run(["dpkg-checkbuilddeps"], cwd=sources, capture_output=True, text=True, check=False)
    if done.returncode:
        unavailable(f"{done.stderr.strip()}: sudo apt-get build-dep {sources}")
