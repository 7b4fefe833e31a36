"""A load through the engine's C, the target's and the initiator's, and through the NBD plugin, all built with
sanitizers: nothing is reported. Once for memory and undefined behaviour, once for what two threads share."""

import os
import random
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aoe.wire.config import ConfigCommand
from aoe.wire.mask import Directive, DirectiveCommand
from aoe.wire.reserve import ReserveCommand
from tests.support.labs.engine_target import counted
from tests.support.labs.load import repeated
from tests.support.labs.nbdkit import need_nbdkit, socket_path
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.labs.ports import own_address
from tests.support.labs.raw_client import Client
from tests.support.tools import need, need_engine, need_namespaces
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parent.parent.parent
ENGINE = "aoe/engine/_engine.abi3.so"
PLUGIN = "aoe/nbd/aoe_nbd_plugin.so"
LOAD = "csrc/initiator/load.c"
QUICKER = {'"-O2"': '"-O1"', '"-flto=auto"': ""}
"""As sanitizers advise; to compile it takes half of the time."""
BUILT = "built"
"""The commands that built it."""
SECTORS = 16384
TRIM, TRIMMED = 0x06, struct.pack("<Q", SECTORS - 64 | 64 << 48).ljust(512, b"\0")
CPUS = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))
MOST_S = 240.0
RIGHT, SHORT = "malloc(l->depth * l->block)", "malloc(l->depth * l->block - 1)"
RACE = """
#include <pthread.h>
static int shared;
static void *add(void *none) { shared++; return none; }
void race(void)
{
    pthread_t other;
    pthread_create(&other, 0, add, 0);
    add(0);
    pthread_join(other, 0);
}
"""


class Sanitizer(NamedTuple):
    """What a compiler looks for, what a program needs for it, and where that takes options from."""

    flags: str
    library: str
    options: dict[str, str]

    @property
    def compiler(self) -> str:
        return f"gcc {self.flags} -fno-omit-frame-pointer"


ADDRESS = Sanitizer(
    "-fsanitize=address,undefined -fno-sanitize-recover=all",
    "libasan.so",
    {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"},
)
THREAD = Sanitizer("-fsanitize=thread -Wno-tsan", "libtsan.so", {"TSAN_OPTIONS": "history_size=4"})


class Checked(NamedTuple):
    """A copy of the package with what is compiled in it, and where the sanitizer writes what it finds."""

    directory: Path
    sanitizer: Sanitizer

    def found(self) -> str:
        return "\n".join(path.read_text() for path in self.directory.glob("report.*"))

    def environment(self) -> dict[str, str]:
        """What is set for a process that is to be checked."""
        command = ["gcc", f"-print-file-name={self.sanitizer.library}"]
        report = f"log_path={self.directory}/report"
        return {
            "LD_PRELOAD": subprocess.check_output(command, text=True).strip(),
            "PYTHONMALLOC": "malloc",
            "PYTHONPATH": str(self.directory),
            **{name: f"{words}:{report}" for name, words in self.sanitizer.options.items()},
        }

    def prefix(self) -> tuple[str, ...]:
        """What stands before a command that is to be checked."""
        variables = (f"{name}={value}" for name, value in self.environment().items())
        return ("env", "-C", str(self.directory), *variables)

    def run(self, *command: str | Path) -> "subprocess.CompletedProcess[str]":
        words = [*self.prefix(), *map(str, command)]
        return subprocess.run(words, capture_output=True, text=True, timeout=MOST_S, check=False)

    def client(self, *words: str | Path) -> "subprocess.CompletedProcess[str]":
        return self.run(sys.executable, "-m", "aoe.cli.client", *words)


class WatchedTarget(AoeTarget):
    """A sanitizer makes everything slow, and all else here comes first."""

    stop_s = MOST_S


def copied(to: Path, sanitizer: Sanitizer) -> Checked:
    """What is built from, without what was built."""
    need("gcc")
    need_engine()
    need_nbdkit()
    for name in ("aoe", "csrc"):
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, to)
    flags = to / "csrc" / "flags.py"
    said = flags.read_text()
    for usual, instead in QUICKER.items():
        assert usual in said
        said = said.replace(usual, instead)
    flags.write_text(said)
    return Checked(to, sanitizer)


def build(there: Checked) -> Checked:
    """With the sanitizer, the engine and the plugin as they are installed; what was run for it is kept."""
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=there.directory,
        env={**os.environ, "CC": there.sanitizer.compiler, "AOE_ENGINE": "require", "AOE_NBD": "require"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (there.directory / BUILT).write_text(done.stdout)
    return there


@pytest.fixture(scope="module", params=[ADDRESS, THREAD], ids=["address", "thread"])
def there(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checked:
    there = build(copied(tmp_path_factory.mktemp("checked"), request.param))
    for name in (ENGINE, PLUGIN):
        assert there.sanitizer.library.encode() in (there.directory / name).read_bytes()
    return there


@pytest.fixture(autouse=True)
def nothing_found_before(request: pytest.FixtureRequest) -> None:
    """A test is not blamed for what the one before it found."""
    if "there" in request.fixturenames:
        for report in request.getfixturevalue("there").directory.glob("report.*"):
            report.unlink()


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """The link by which a client reaches e1.1."""
    store = image(directory / "disk", SECTORS)
    host, port = own_address()
    words = [f"{store}=1.1", "--link", f"udp:{host}:{port}", "--state-dir", str(directory / "state")]
    with (directory / "target.out").open("w") as out:
        command = [sys.executable, "-m", "aoe.cli.target", "serve", *words]
        target: subprocess.Popen[Any] = subprocess.Popen(command, stdout=out)
    try:
        wait_for(lambda: (directory / "target.out").stat().st_size > 0, MOST_S)
        yield f"udp:127.0.0.1:0,peer={host}:{port}"
    finally:
        target.terminate()
        target.wait(MOST_S)


def load(mode: str) -> tuple[str, ...]:
    return ("--rw", mode, "--bs", "8k", "--iodepth", "16", "--runtime", "1", "--overwrite")


def test_the_initiator_in_c(there: Checked, tmp_path: Path) -> None:
    with served(tmp_path) as link:
        done = there.client("bench", "e1.1", "--link", link, *load("randrw"))
    assert not there.found()
    assert done.returncode == 0, done.stderr
    assert " 0 errors" in done.stdout


@pytest.mark.parametrize("cache", ["--buffered", "--direct"])
def test_both_ends_in_c(there: Checked, cache: str, tmp_path: Path) -> None:
    """Over Ethernet, which the target's engine needs: a disk on each of its threads, a load on each disk, and
    everything beside them that Python tells the threads."""
    need_namespaces()
    exports = [f"{image(tmp_path / f'disk{n}', SECTORS)}=1.{n}" for n in (1, 2)]
    words = (*exports, cache, "--engine", "c", "--cpus", CPUS)
    with Lab(mtu=9000) as lab, WatchedTarget(lab, tmp_path, *words, prefix=there.prefix()) as target:
        loads = [loaded(there, lab, f"e1.{n}") for n in (1, 2)]
        other = lab.client(1, 1, timeout=30)
        with repeated(lambda: changes(target, other)):
            said = [load.communicate(timeout=MOST_S)[0] for load in loads]
        maps = Path(f"/proc/{target.pid}/maps").read_text()
        numbers = counted(target)
        target.stop()
    assert not there.found()
    assert str(there.directory / ENGINE) in maps
    assert [load.returncode for load in loads] == [0, 0], said
    assert all(" 0 errors" in each for each in said), said
    assert min(numbers[f"engine_{kind}"] for kind in ("reads", "writes")) > 32
    assert min(numbers[kind] for kind in ("changes", "trims")) > 0
    assert target.status == 0


def loaded(there: Checked, lab: Lab, address: str) -> "subprocess.Popen[str]":
    command = (*there.prefix(), sys.executable, "-m", "aoe.cli.client", "bench", address, "--interface", "v0")
    return lab.popen(
        "client", *command, *load("randrw"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def changes(target: AoeTarget, client: Client) -> None:
    """Each way to change a disk that is in use, and to ask after it; none keeps its other client out."""
    client.config(ConfigCommand.FORCE_SET, b"another")
    client.reserve(ReserveCommand.SET, client.mac)
    client.reserve(ReserveCommand.SET)
    client.mask(Directive(DirectiveCommand.ADD, client.mac))
    client.mask(Directive(DirectiveCommand.DELETE, client.mac))
    assert not client.ata(TRIM, 0, 1, TRIMMED, feature=1, aflags=0x41).status & 1
    client.write(SECTORS - 8, bytes(8 * 512), fua=True)
    client.flush()
    for number in (signal.SIGHUP, signal.SIGUSR1):
        os.kill(target.pid, number)


def test_the_nbd_plugin(there: Checked, tmp_path: Path) -> None:
    """With several connections, whose threads share one disk."""
    need("nbdcopy")
    picture = tmp_path / "picture"
    picture.write_bytes(random.Random(1).randbytes(SECTORS * 512))
    with served(tmp_path) as link, socket_path() as path:
        words = (f"--unix={path}", there.directory / PLUGIN, "address=e1.1", f"link={link},mtu=9000")
        command = [*there.prefix(), "nbdkit", "--foreground", *map(str, words)]
        with (tmp_path / "nbdkit").open("w") as out:
            nbdkit = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            wait_for(lambda: path.exists() or nbdkit.poll() is not None, MOST_S)
            assert nbdkit.poll() is None, (tmp_path / "nbdkit").read_text()
            there_and_back(f"nbd+unix:///?socket={path}", picture, tmp_path / "copy")
        finally:
            nbdkit.terminate()
            nbdkit.wait(MOST_S)
    assert not there.found()
    assert nbdkit.returncode == 0, (tmp_path / "nbdkit").read_text()
    assert (tmp_path / "copy").read_bytes() == picture.read_bytes()


def there_and_back(uri: str, picture: Path, copy: Path) -> None:
    many = ("nbdcopy", "--connections=4", "--requests=16")
    for words in ((*many, "--flush", picture, uri), (*many, uri, copy)):
        subprocess.run(words, check=True, timeout=MOST_S)


# So the tests above can fail


@pytest.mark.parametrize("there", [ADDRESS], indirect=True, ids=["address"])
def test_a_buffer_that_is_too_short_is_found(there: Checked, tmp_path: Path) -> None:
    source = there.directory / LOAD
    right = source.read_text()
    assert right.count(RIGHT) == 1
    source.write_text(right.replace(RIGHT, SHORT))
    try:
        wrong = with_another(there, LOAD, tmp_path)
    finally:
        source.write_text(right)
    with served(tmp_path) as link:
        done = wrong.client("bench", "e1.1", "--link", link, *load("read"))
    assert done.returncode != 0
    assert "heap-buffer-overflow" in wrong.found()


def with_another(there: Checked, source: str, to: Path) -> Checked:
    """A copy whose engine has another object of that source: what is in it is compiled, and all linked."""
    shutil.copytree(there.directory / "aoe", to / "aoe", ignore=shutil.ignore_patterns(Path(ENGINE).name))
    commands = [line.split() for line in (there.directory / BUILT).read_text().splitlines()]
    (compiles,) = (words for words in commands if source in words)
    (links,) = (words for words in commands if "-shared" in words and after(words, "-o").endswith(ENGINE))
    instead = {after(compiles, "-o"): to / "other.o", after(links, "-o"): to / ENGINE}
    for command in (compiles, links):
        words = [str(instead.get(word, word)) for word in command]
        subprocess.run(words, cwd=there.directory, check=True)
    return Checked(to, there.sanitizer)


def after(words: list[str], word: str) -> str:
    return words[words.index(word) + 1]


def test_what_two_threads_share_unprotected_is_found(tmp_path: Path) -> None:
    need("gcc")
    there = Checked(tmp_path, THREAD)
    (tmp_path / "race.c").write_text(RACE)
    compiler = there.sanitizer.compiler.split()
    subprocess.run([*compiler, "-shared", "-fPIC", "-o", "race.so", "race.c"], cwd=tmp_path, check=True)
    there.run(sys.executable, "-c", "import ctypes; ctypes.CDLL('./race.so').race()")
    assert "data race" in there.found()
