"""Every command of the README runs as it stands there, but for the names of disks, interfaces and sockets."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.net.service import Service
from tests.pool.pools import working
from tests.support.checkers.readme import README, commands
from tests.support.labs.fault_disk import small_filesystem
from tests.support.labs.nbdkit import need_nbdkit, socket_path
from tests.support.labs.network import Lab
from tests.support.labs.peers import image
from tests.support.tools import need_namespaces
from tests.support.waiting import PATIENCE_S, at_best, wait_for

ROOT = Path(__file__).parents[2]
ENGINES = ("c",)
PROGRAMS = {"aoe": "aoe.cli.client", "aoe-target": "aoe.cli.target"}
SERVICE = "tests/vm/test_service.py"
ELSEWHERE = {
    "pip install .": ("tests/packages/test_install.py", 'build("install", sources'),
    "tools/demo": (".ci/run", "tools/demo"),
    "aoe nbd e1.0 --attach /dev/nbd0": (
        "tests/vm/test_nbd_client.py",
        'f"--attach {DEVICE}"',
    ),
    "sudo apt-get build-dep .": (
        "tests/packages/test_debian.py",
        '"apt-get", "build-dep", "--simulate", "."',
    ),
    "dpkg-buildpackage -us -uc -b": (
        "tests/support/labs/debian.py",
        '"dpkg-buildpackage", "-us", "-uc", "-b"',
    ),
    "sudo apt-get install ../aoe-target_*.deb": (SERVICE, "apt-get install -y ../aoe-target_"),
    "sudo cp /usr/share/doc/aoe-target/examples/aoe-target.toml /etc": (
        SERVICE,
        "cp /usr/share/doc/aoe-target/examples/aoe-target.toml /etc",
    ),
    "sudo systemctl enable --now aoe-target": (SERVICE, "systemctl enable --now aoe-target"),
    "qemu-system-x86_64 -drive file=nbd+unix:///?socket=/run/disk.sock,format=raw,if=virtio,cache=none": (
        "tests/vm/test_disk_over_primaries.py",
        "file=nbd+unix:///?socket={socket},format=raw,if=virtio,cache=none",
    ),
}
"""Commands of others, and the file that runs them, with words that are in it."""


def ours(*beginning: str) -> list[str]:
    """Those that begin so, each once."""
    return list(dict.fromkeys(line for line in commands() if line.split()[: len(beginning)] == [*beginning]))


DISKLESS = commands("A machine without a disk")
"""`tests/vm/test_demo.py` has them."""
SERVE = [line for line in ours("aoe-target", "serve") if "drbd" not in line and line not in DISKLESS]
PRIMARIES = [line for line in ours("aoe-target", "serve") if "drbd" in line]
STATE = ours("aoe-target", "state")
FROM_A_TEMPLATE = commands("From a template to a hundred disks")
OVER_BOTH = [line for line in ours("aoe", "nbd") if "e2.0" in line or "--status" in line]
USE = [line for line in ours("aoe") if line not in OVER_BOTH and line not in ELSEWHERE]


class Host:
    """One side of a lab, and the directory in which its administrator types."""

    def __init__(self, lab: Lab, side: str, work: Path, names: dict[str, str]) -> None:
        self._lab, self._side, self._work = lab, side, work
        self._names = {"/dev/md0": "md0", "/dev/drbd0": "drbd0", **names}

    def command(self, line: str) -> list[str]:
        """A line of the README, for what there is here."""
        for name, here in self._names.items():
            line = line.replace(name, here)
        program, *words = shlex.split(line)
        return self._lab.command(self._side, sys.executable, "-m", PROGRAMS[program], *words)

    def run(self, line: str) -> str:
        """What it prints; it ends well."""
        done = subprocess.run(
            self.command(line),
            cwd=self._work,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr)
        return done.stdout

    @contextmanager
    def running(self, line: str, lines: int) -> Iterator[list[str]]:
        """While it runs: the lines that it prints at first."""
        out = self._work / f"out-{self._side}"
        with out.open("w") as stdout:
            process = subprocess.Popen(self.command(line), cwd=self._work, env=self._env, stdout=stdout)
        with process:
            try:
                wait_for(lambda: out.read_text().count("\n") >= lines or process.poll() is not None)
                assert process.poll() is None, line
                yield out.read_text().splitlines()
            finally:
                process.terminate()
                assert process.wait(30) == 0

    @property
    def _env(self) -> dict[str, str]:
        return os.environ | {"STATE_DIRECTORY": str(self._work / f"state-{self._side}")}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    for name in ("md0", "disk.img", "root.img", "drbd0"):
        image(tmp_path / name)
    return tmp_path


@contextmanager
def two_hosts(work: Path, cables: int, **names: str) -> Iterator[tuple[Host, Host]]:
    need_namespaces()
    with Lab(cables=cables, mtu=9000) as lab:
        yield Host(lab, "target", work, {"eth1": "v0", "eth2": "v1"}), Host(lab, "client", work, names)


def test_every_command_is_known() -> None:
    assert commands()
    ran = {*SERVE, *PRIMARIES, *STATE, *USE, *OVER_BOTH, *ELSEWHERE, *FROM_A_TEMPLATE, *DISKLESS}
    assert set(commands()) == ran
    assert len(PRIMARIES) == len(OVER_BOTH) == 2


@pytest.mark.parametrize("line", ELSEWHERE)
def test_what_others_run_is_run_by_the_test_that_is_named(line: str) -> None:
    path, words = ELSEWHERE[line]
    assert words in (ROOT / path).read_text()


@pytest.mark.parametrize("line", SERVE)
def test_it_serves(line: str, work: Path) -> None:
    several = line.count("--interface")
    addresses = re.findall(r"=(\d+\.\d+)", line) or ["0.0"]
    over = " --link udp:127.0.0.1:0,peer=127.0.0.1:7000" if "--link" in line else ""
    with two_hosts(work, several or 1) as (server, client), server.running(line, len(addresses)) as said:
        asker = server if over else client
        for address, told in zip(addresses, said, strict=True):
            assert told.startswith(f"e{address}: ")
            interfaces = re.findall("eth[12]", line) or [""]
            for number, _ in enumerate(interfaces):
                where = over or f" --interface v{number}"
                assert f"e{address}" in asker.run(f"aoe identify e{address}{where}")


def test_it_remembers(work: Path) -> None:
    with two_hosts(work, 1) as (server, _), server.running(SERVE[0], 1):
        for line in STATE:
            assert "md0" in server.run(line)


def test_a_client_uses_it(work: Path) -> None:
    need_nbdkit()
    serve = "aoe-target serve md0=1.0"
    with (
        socket_path() as socket,
        two_hosts(work, 1, **{"/run/disk.sock": str(socket)}) as (server, client),
        server.running(serve, 1),
    ):
        for line in USE:
            if line.startswith("aoe nbd"):
                with client.running(line, 1) as (said,):
                    assert "serves e1.0" in said
            else:
                assert at_best(partial(client.run, line)), line


def test_two_primaries(work: Path) -> None:
    need_namespaces()
    need_nbdkit()
    serving, asking = OVER_BOTH
    with socket_path() as socket, Lab(("one", "client", "two"), cables=1, mtu=9000) as lab:
        lab.cable("two", "client")
        names = {"eth0": "v0", "eth1": "v1", "/run/disk.sock": str(socket)}
        client = Host(lab, "client", work, names)
        one, two = (Host(lab, side, work, {}) for side in ("one", "two"))
        with (
            one.running(PRIMARIES[0], 1),
            two.running(PRIMARIES[1], 1),
            client.running(serving, 1) as (said,),
        ):
            assert "serves e1.0 e2.0" in said
            wait_for(lambda: client.run(asking).count("usable") == 2)


def test_from_a_template_to_a_hundred_disks(work: Path) -> None:
    """With three of them, by a service that had an empty file at first."""
    said = re.search(r"## From a template.*?```toml\n(.*?)```", README, re.DOTALL)
    assert said is not None
    pool, serving = (f"[[{it}" for it in said[1].split("[[")[1:])
    with small_filesystem("xfs", work / "srv", 400 << 20) as store, Lab() as lab:
        pool = pool.replace("/srv/fast", str(store))
        service = Service(lab, work, [pool])
        typed = work / "aoe-target"
        typed.write_text(f'#!/bin/sh\nexec {sys.executable} -m aoe.cli.target "$@" $WHERE\n')
        typed.chmod(0o755)
        with service.launch().ready():
            for line in FROM_A_TEMPLATE:
                if line == "aoe-target apply":
                    service.write([pool, serving])
                where = f"--config {service.file}" if " pool " in line else f"--socket {service.socket}"
                done = subprocess.run(
                    ["bash", "-ec", line.replace("seq 100", "seq 3")],
                    env=os.environ | {"PATH": f"{work}:{os.environ['PATH']}", "WHERE": where},
                    capture_output=True,
                    text=True,
                    timeout=100,
                    check=False,
                )
                assert done.returncode == 0, (line, done.stderr, service.errors)
            (one,) = service.ask("status")["exports"]
            assert (one["path"], one["state"], one["bytes"]) == ("fast/web1", "serving", 10 << 30)
        with working(store, patience_s=PATIENCE_S) as pooled:
            assert sorted(pooled.volumes) == ["template", "web1", "web2", "web3"]
            assert [it.name[:15] for it in pooled.volumes["web1"].snapshots] == ["fresh", "before-rollback"]


# What it says beside them


def test_every_option_that_it_names_exists() -> None:
    from aoe.cli import cloud_parser, parser, target_parser
    from man.generate import commands as subcommands

    known = {"--now"}  # systemctl's
    for top in (parser.parser(), target_parser.parser(), cloud_parser.parser()):
        for command in subcommands(top).values():
            known |= {flag for action in command._actions for flag in action.option_strings}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) <= known


def test_every_counter_that_it_names_exists() -> None:
    from aoe.metrics.table import COUNTERS

    (row,) = [line for line in README.splitlines() if "counters (SIGUSR1)" in line]
    assert set(re.findall(r"`([a-z_]+)`", row)) <= set(COUNTERS)


def test_it_is_as_short_as_it_is_meant_to_be() -> None:
    assert len(README.splitlines()) <= 155


def test_what_it_points_to_is_there() -> None:
    for name in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / name).exists(), name
