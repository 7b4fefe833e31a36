"""What `pip install` makes of the sources, with a compiler and without."""

import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support.labs.building import (
    REQUIRED,
    build,
    copied,
    fresh_venv,
    lend_dependencies,
    need_nbdkit_header,
)
from tests.support.labs.load import DATA, PIECE
from tests.support.labs.network import Lab
from tests.support.labs.peers import Target, image
from tests.support.tools import need

pytestmark = pytest.mark.timeout(900)

NO_COMPILER = {"CC": "/nonexistent", "AOE_NBD": ""}


@pytest.fixture(scope="module")
def wheel(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install .` makes and installs."""
    need("gcc")
    need_nbdkit_header()
    made = tmp_path_factory.mktemp("wheel")
    done = build("wheel", copied(made / "sources"), "--wheel-dir", made, tools=tools, **REQUIRED)
    assert done.returncode == 0, done.stderr
    (wheel,) = made.glob("*.whl")
    return wheel


def test_one_wheel_serves_every_later_python(wheel: Path) -> None:
    assert wheel.name.split("-")[2:4] == ["cp311", "abi3"]
    names = ZipFile(wheel).namelist()
    assert "aoe/engine/_engine.abi3.so" in names
    assert {"aoe/nbd/aoe_nbd_plugin.so", "aoe/nbd/aoe-door"} <= set(names)
    assert not [name for name in names if name.endswith((".c", ".h", ".o"))]
    pages = {name.split("/data/")[1] for name in names if "/data/" in name}
    assert pages == {
        "share/doc/aoe-target/aoe-target.toml",
        "share/man/man1/aoe-cloud.1",
        "share/man/man1/aoe.1",
        "share/man/man5/aoe-target.toml.5",
        "share/man/man8/aoe-door.8",
        "share/man/man8/aoe-target.8",
    }


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


def test_the_plugin_of_an_installed_package_is_one(wheel: Path, tools: Path, tmp_path: Path) -> None:
    need("nbdkit")
    home = fresh_venv(tmp_path / "venv")
    python = home / "bin" / "python"
    done = build("install", wheel, tools=tools, python=python)
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
        (line,) = target.says("serving without the compiled engine").splitlines()
        assert "liburing-dev" in line
        client = lab.client()
        client.write(0, DATA)
        assert client.read(0, PIECE) == DATA
        target.stop()
        assert "engine_" not in target.output
    refused = lab.run("target", *command, "c", *state)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "gcc, python3-dev and liburing-dev" in refused.stderr
