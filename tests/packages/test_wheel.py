"""The source distribution, and the wheel that other machines are given: made, repaired, installed, used."""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support.labs.building import REQUIRED, ROOT, build, copied, fresh_venv, need_nbdkit_header, pip
from tests.support.labs.load import DATA, PIECE
from tests.support.labs.network import Lab
from tests.support.labs.peers import Target, image
from tests.support.tools import need, unavailable

pytestmark = pytest.mark.timeout(900)

PLATFORM = "manylinux_2_34_x86_64"
RUN_S = 240
ROOMS = ("aoe/", "csrc/", "man/", "debian/")
BUILD_SDIST = """
import os, sys
from setuptools.build_meta import build_sdist
os.chdir(sys.argv[1])
build_sdist(sys.argv[2])
"""


def run(*command: str | Path, **environment: str) -> str:
    """What it prints; it ends well."""
    done = subprocess.run(
        [*map(str, command)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution."""
    made = tmp_path_factory.mktemp("sdist")
    sources = copied(made / "sources")
    run(sys.executable, "-c", BUILD_SDIST, sources, made, PYTHONPATH=str(tools))
    (archive,) = made.glob("aoe*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path, tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the source distribution, with what Debian's libraries it needs inside."""
    need("gcc")
    need_nbdkit_header()
    made = tmp_path_factory.mktemp("wheel")
    done = build("wheel", sdist, "--wheel-dir", made / "raw", tools=tools, **REQUIRED)
    assert done.returncode == 0, done.stderr
    (raw,) = (made / "raw").glob("*.whl")
    words = ("-m", "auditwheel", "repair", raw, "--plat", PLATFORM, "--wheel-dir", made / "repaired")
    path = f"{tools / 'bin'}:{os.environ['PATH']}"
    run(sys.executable, *words, PYTHONPATH=str(tools), PATH=path)
    (repaired,) = (made / "repaired").glob("*.whl")
    return repaired


@pytest.fixture(scope="module")
def home(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and its requirements from the package index, and nothing else."""
    made = fresh_venv(tmp_path_factory.mktemp("home") / "venv")
    done = pip("install", wheel, tools=None, python=made / "bin" / "python")
    if "No matching distribution" in done.stderr:
        unavailable(f"no package index: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return made


def test_the_source_distribution_has_all_that_builds(sdist: Path) -> None:
    top = sdist.name.removesuffix(".tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.removeprefix(f"{top}/") for name in archive.getnames()}
    tracked = copied_names()
    needed = {name for name in tracked if name.startswith(ROOMS) and not name.startswith("csrc/fuzz/seeds/")}
    assert needed - names == set()
    assert {"setup.py", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "aoe_start.py"} <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc"))]


def copied_names() -> set[str]:
    listed = run("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard")
    return {name for name in listed.splitlines() if (ROOT / name).is_file()}


def test_the_wheel_serves_every_later_python_and_brings_its_libraries(wheel: Path) -> None:
    assert re.fullmatch(rf"aoe_target-[0-9.]+-cp311-abi3-{PLATFORM}\.whl", wheel.name)
    names = ZipFile(wheel).namelist()
    assert {"aoe/engine/_engine.abi3.so", "aoe/nbd/aoe_nbd_plugin.so", "aoe/nbd/aoe-door"} <= set(names)
    assert [name for name in names if re.match(r"aoe_target\.libs/liburing-\w+\.so", name)]


def test_the_wheel_serves_and_reads_a_disk_where_nothing_else_is(
    home: Path, lab: Lab, tmp_path: Path
) -> None:
    served = image(tmp_path / "disk")
    state = ("--state-dir", tmp_path / "state", "--interface", "v0", "--engine", "c")
    command = [home / "bin" / "aoe-target", "serve", f"{served}=1.1", *state]
    with Target(lab, tmp_path, [*map(str, command)], side="target", interface="v0") as target:
        assert target.errors == ""
        lab.client().write(0, DATA)
        words = ("read", "e1.1", "--interface", "v0", "--sectors", str(PIECE))
        done = subprocess.run(
            lab.command("client", str(home / "bin" / "aoe"), *words),
            capture_output=True,
            timeout=RUN_S,
            check=False,
        )
        assert (done.returncode, done.stderr, done.stdout) == (0, b"", DATA)
        target.stop()
        assert "engine_" in target.output


def test_the_wheel_has_a_plugin_that_nbdkit_loads(home: Path) -> None:
    need("nbdkit")
    (plugin,) = home.rglob("aoe_nbd_plugin.so")
    said = run("nbdkit", "--dump-plugin", plugin)
    assert {"name=aoe", "max_thread_model=parallel"} <= set(said.splitlines())
    assert run(home / "bin" / "aoe", "--version").startswith("aoe ")
