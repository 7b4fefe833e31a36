"""What `pip install` makes of the sources, with a compiler and without."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support.labs.load import DATA, PIECE
from tests.support.labs.network import Lab
from tests.support.labs.peers import Target, image
from tests.support.tools import need, unavailable

ROOT = Path(__file__).parents[2]
BUILD_S = 60
NO_COMPILER = {"CC": "/nonexistent", "AOE_NBD": ""}
TOOLS = ["setuptools>=70.1", "cffi>=1.16"]
"""What pyproject.toml asks for; setuptools makes wheels of its own since 70.1."""


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build requirements, fetched once instead of for each build."""
    made = tmp_path_factory.mktemp("tools")
    done = pip("install", "--target", made, *TOOLS, tools=None)
    if done.returncode:
        unavailable(f"no package index to build with: {done.stderr.strip().splitlines()[-1]}")
    return made


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of what is, or would be, under version control: builds leave files in the tree."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        unavailable(f"not a git checkout: {listed.stderr.strip()}")
    copy = tmp_path / "sources"
    for name in filter(wanted, listed.stdout.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    return copy


def need_nbdkit_header() -> None:
    if not Path("/usr/include/nbdkit-plugin.h").exists():
        unavailable("no header of nbdkit: apt-get install nbdkit-plugin-dev")


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


def test_one_wheel_serves_every_later_python(sources: Path, tools: Path, tmp_path: Path) -> None:
    need("gcc")
    need_nbdkit_header()
    required = {"AOE_ENGINE": "require", "AOE_NBD": "require"}
    done = build("wheel", sources, "--wheel-dir", tmp_path, tools=tools, **required)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.split("-")[2:4] == ["cp311", "abi3"]
    names = ZipFile(wheel).namelist()
    assert "aoe/engine/_engine.abi3.so" in names
    assert "aoe/nbd/aoe_nbd_plugin.so" in names
    assert not [name for name in names if name.endswith((".c", ".h", ".o"))]
    pages = {name.split("/data/")[1] for name in names if "/data/" in name}
    assert pages == {"share/man/man1/aoe.1", "share/man/man8/aoe-target.8"}


def test_without_a_compiler_an_engine_that_is_required_is_an_error(
    sources: Path, tools: Path, tmp_path: Path
) -> None:
    done = build("wheel", sources, "--wheel-dir", tmp_path, tools=tools, AOE_ENGINE="require", **NO_COMPILER)
    assert done.returncode != 0
    assert "apt-get install gcc python3-dev liburing-dev" in done.stderr
    assert not list(tmp_path.glob("*.whl"))


@pytest.mark.parametrize("required", ["", "require"])
def test_without_nbdkits_header_there_is_no_plugin(
    required: str, sources: Path, tools: Path, tmp_path: Path
) -> None:
    """A compiler that finds none."""
    need("gcc")
    compiler = tmp_path / "gcc"
    compiler.write_text(
        '#!/bin/sh\nfor word; do case $word in csrc/nbd/*) exit 1; esac; done; exec gcc "$@"\n'
    )
    compiler.chmod(0o755)
    options = {"CC": str(compiler), "AOE_ENGINE": "require", "AOE_NBD": required}
    done = build("wheel", sources, "--wheel-dir", tmp_path, "-vv", tools=tools, **options)
    assert "apt-get install gcc nbdkit-plugin-dev" in done.stdout + done.stderr
    wheels = list(tmp_path.glob("*.whl"))
    if required:
        assert done.returncode != 0
        assert not wheels
        return
    assert done.returncode == 0, done.stderr
    names = ZipFile(wheels[0]).namelist()
    assert "aoe/engine/_engine.abi3.so" in names
    assert not [name for name in names if "aoe_nbd_plugin" in name]


def test_the_plugin_of_an_installed_package_is_one(sources: Path, tools: Path, tmp_path: Path) -> None:
    need("gcc", "nbdkit")
    need_nbdkit_header()
    home = fresh_venv(tmp_path / "venv")
    python = home / "bin" / "python"
    done = build("install", sources, tools=tools, python=python, AOE_NBD="require")
    assert done.returncode == 0, done.stderr
    (plugin,) = home.rglob("aoe_nbd_plugin.so")
    said = subprocess.run(["nbdkit", "--dump-plugin", plugin], capture_output=True, text=True, check=True)
    assert {"name=aoe", "max_thread_model=parallel"} <= set(said.stdout.splitlines())


def test_without_a_compiler_python_serves_and_says_so(
    sources: Path, tools: Path, lab: Lab, tmp_path: Path
) -> None:
    home = fresh_venv(tmp_path / "venv")
    done = build("install", sources, tools=tools, python=home / "bin" / "python", **NO_COMPILER)
    assert done.returncode == 0, done.stderr
    lend_dependencies(home)
    assert not list(home.rglob("_engine*.so"))
    state = ("--state-dir", tmp_path / "state", "--interface", "v0")
    command = [home / "bin" / "aoe-target", "serve", f"{image(tmp_path / 'disk')}=1.1", "--engine"]
    with Target(lab, tmp_path, [*command, "auto", *state], side="target", interface="v0") as target:
        (line,) = target.errors.splitlines()
        assert "serving without the compiled engine" in line
        assert "liburing-dev" in line
        client = lab.client()
        client.write(0, DATA)
        assert client.read(0, PIECE) == DATA
        target.stop()
        assert "engine_" not in target.output
    refused = lab.run("target", *command, "c", *state)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "gcc, python3-dev and liburing-dev" in refused.stderr


def fresh_venv(home: Path) -> Path:
    venv.create(home, symlinks=True)
    return home


def lend_dependencies(home: Path) -> None:
    """What is installed here can be imported there, but for this package."""
    (site,) = home.glob("lib/python*/site-packages")
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
