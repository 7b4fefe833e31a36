"""The Debian package: built of a copy of the sources, as a user builds it."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.support.labs.building import copied
from tests.support.labs.guests.kernel import CACHE, locked
from tests.support.tools import need, tool, unavailable

BUILD_S = 900
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


def deb_kept(name: str = "aoe-target") -> Path:
    """As `deb`, for tests that only use it: the one that comes first builds it, and the others take that, or
    another package of the same build."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with locked(CACHE / "package.lock"), tempfile.TemporaryDirectory(dir=CACHE) as work:
        kept = CACHE / f"package-{_digest(copied(Path(work, 'now')))}"
        if not kept.exists():
            made = deb(Path(work, "built"))
            for old in CACHE.glob("package-*/"):
                shutil.rmtree(old)
            made.parent.rename(kept)
            shutil.rmtree(kept / "sources")
        (found,) = kept.glob(f"{name}_*.deb")
        return found


def _digest(sources: Path) -> str:
    """Of all files there: the same, if a package built of them is."""
    found = hashlib.sha256()
    for path in sorted(it for it in sources.rglob("*") if it.is_file()):
        found.update(f"{path.relative_to(sources)} {path.stat().st_mode} {path.stat().st_size}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


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
