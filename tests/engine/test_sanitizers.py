"""A load through the initiator's C and the NBD plugin, both built with sanitizers: nothing is reported."""

import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.labs.door import need_door, socket_path
from tests.support.labs.peers import image
from tests.support.tools import need, need_engine, which
from tests.support.waiting import wait_for

ROOT = Path(__file__).parent.parent.parent
CC = "gcc -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
ENGINE = "aoe/engine/_engine.abi3.so"
PLUGIN = "aoe/nbd/aoe_nbd_plugin.so"
SECTORS = 16384
RIGHT, SHORT = "malloc(l->depth * l->block)", "malloc(l->depth * l->block - 1)"


class Checked(NamedTuple):
    """A copy of the package with what is compiled in it, and where the sanitizers write what they find."""

    directory: Path

    def found(self) -> str:
        return "\n".join(path.read_text() for path in self.directory.glob("report.*"))

    def environment(self) -> dict[str, str]:
        library = subprocess.check_output(["gcc", "-print-file-name=libasan.so"], text=True).strip()
        report = f"log_path={self.directory}/report"
        return {
            **os.environ,
            "LD_PRELOAD": library,
            "PYTHONMALLOC": "malloc",
            "PYTHONPATH": str(self.directory),
            "ASAN_OPTIONS": f"detect_leaks=0:{report}",
            "UBSAN_OPTIONS": f"print_stacktrace=1:{report}",
        }

    def run(self, *command: str | Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [which(str(command[0])) or str(command[0]), *map(str, command[1:])],
            cwd=self.directory,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def client(self, *words: str | Path) -> "subprocess.CompletedProcess[str]":
        return self.run(sys.executable, "-m", "aoe.cli.client", *words)


def copied(to: Path) -> Checked:
    """What is built from, without what was built."""
    need("gcc")
    need_engine()
    need_door()
    for name in ("aoe", "csrc"):
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, to)
    return Checked(to)


def build(there: Checked) -> Checked:
    """The engine and the plugin, as they are installed but with the sanitizers."""
    done = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--parallel", "2"],
        cwd=there.directory,
        env={**os.environ, "CC": CC, "AOE_ENGINE": "require", "AOE_NBD": "require"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in (ENGINE, PLUGIN):
        assert b"__asan_init" in (there.directory / name).read_bytes()
    return there


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    return build(copied(tmp_path_factory.mktemp("checked")))


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """The link by which a client reaches e1.1."""
    store, port = image(directory / "disk", SECTORS), free_port()
    words = [f"{store}=1.1", "--link", f"udp:127.0.0.1:{port}", "--state-dir", str(directory / "state")]
    with (directory / "target.out").open("w") as out:
        command = [sys.executable, "-m", "aoe.cli.target", "serve", *words]
        target: subprocess.Popen[Any] = subprocess.Popen(command, stdout=out)
    try:
        wait_for(lambda: (directory / "target.out").stat().st_size > 0)
        yield f"udp:127.0.0.1:0,peer=127.0.0.1:{port}"
    finally:
        target.terminate()
        target.wait(10)


def bench(there: Checked, link: str, mode: str) -> "subprocess.CompletedProcess[str]":
    load = ("--rw", mode, "--bs", "8k", "--iodepth", "16", "--runtime", "1", "--overwrite")
    return there.client("bench", "e1.1", "--link", link, *load)


def test_the_initiator_in_c(there: Checked, tmp_path: Path) -> None:
    with served(tmp_path) as link:
        done = bench(there, link, "randrw")
    assert not there.found()
    assert done.returncode == 0, done.stderr
    assert " 0 errors" in done.stdout


def test_the_nbd_plugin(there: Checked, tmp_path: Path) -> None:
    need("nbdcopy")
    picture, copy = tmp_path / "picture", tmp_path / "copy"
    picture.write_bytes(random.Random(1).randbytes(SECTORS * 512))
    with served(tmp_path) as link, socket_path() as path:
        address = ("address=e1.1", f"link={link},mtu=9000")
        nbdkit = ("nbdkit", "--foreground", f"--unix={path}", there.directory / PLUGIN, *address, "--run")
        there_and_back = f'nbdcopy --flush {picture} "$uri" && nbdcopy "$uri" {copy}'
        done = there.run(*nbdkit, there_and_back)
    assert not there.found()
    assert done.returncode == 0, done.stderr
    assert copy.read_bytes() == picture.read_bytes()


def test_a_buffer_that_is_too_short_is_found(tmp_path: Path) -> None:
    """So the tests above can fail."""
    there = copied(tmp_path)
    load = tmp_path / "csrc" / "load.c"
    right = load.read_text()
    assert right.count(RIGHT) == 1
    load.write_text(right.replace(RIGHT, SHORT))
    build(there)
    with served(tmp_path) as link:
        done = bench(there, link, "read")
    assert done.returncode != 0
    assert "heap-buffer-overflow" in there.found()
