"""What a serving process cannot do any more, tried from inside; and that it serves all the same."""

import json
import os
import platform
import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aoe.node.calls import CALLS as CALLS_ALLOWED
from aoe.wire.config import ConfigCommand
from tests.node.forbidden import ATTEMPTS, CALLS
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.labs.served import SECTORS, serving
from tests.support.tools import need_engine, need_namespaces, need_users
from tests.support.waiting import statuses, wait_for

NOBODY = 65534


def launcher(results: Path, *words: str) -> tuple[str, ...]:
    return ("-m", "tests.node.forbidden", str(results), *words, "--")


def told(results: Path) -> dict[str, str]:
    done = results.with_name(results.name + ".done")
    wait_for(done.exists, what="the attempts did not come to an end")
    found: dict[str, str] = json.loads(done.read_text())
    return found


def expected() -> set[str]:
    return set(ATTEMPTS) | (set(CALLS) if platform.machine() == "x86_64" else set())


@pytest.fixture
def passable() -> Iterator[Path]:
    """Where every user comes by; pytest's own directory is root's."""
    with tempfile.TemporaryDirectory(prefix="aoe-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def lab() -> Iterator[Lab]:
    need_namespaces()
    with Lab() as made:
        yield made


def done(found: dict[str, str]) -> set[str]:
    return {name for name, it in found.items() if it}


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return image(tmp_path / "disk.img")


def test_python_can_do_nothing_but_serve(disk: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with serving(disk, "--state-dir", state, launcher=launcher(state / "tried")) as target:
        found = told(state / "tried")
        assert set(found) == expected()
        assert len(found) > 60
        assert {name: it for name, it in found.items() if it} == {}
        with target.client() as client:
            client.write(0, b"z" * 512)
            assert client.read(0)[:512] == b"z" * 512
        target.tell(signal.SIGHUP)
        status, _, errors = target.stop()
        assert (status, errors) == (0, "")


def test_without_the_sandbox_much_of_it_can_be_done(disk: Path, tmp_path: Path) -> None:
    """Or it would not be the sandbox that refuses it."""
    state = tmp_path / "state"
    state.mkdir()
    with serving(disk, "--state-dir", state, launcher=launcher(state / "tried", "free")):
        found = told(state / "tried")
    assert set(found) == expected() - {"become a program"}
    assert {"read a file", "list a directory", "open through a new io_uring", "run a program"} <= done(found)
    assert {"open an internet socket", "fork", "map memory to execute", "signal its parent"} <= done(found)
    assert len(done(found)) > 40


@pytest.mark.parametrize("engine", ["python", "c"])
def test_with_either_engine_on_an_interface(engine: str, lab: Lab, disk: Path, tmp_path: Path) -> None:
    if engine == "c":
        need_engine()
    state = tmp_path / "state"
    state.mkdir()
    target = AoeTarget(
        lab, tmp_path, f"{disk}=7.0", "--engine", engine, launcher=launcher(state / "tried"), state_dir=state
    )
    with target, lab.client() as client:
        assert {name: it for name, it in told(state / "tried").items() if it} == {}
        client.write(8, b"y" * 512, shelf=7, slot=0)
        assert client.read(8, shelf=7, slot=0) == b"y" * 512
        assert {it["Seccomp"] for it in statuses(target.pid)} == {"2"}
        assert "restricted" not in target.errors


def test_an_ordinary_user_is_confined_too(passable: Path) -> None:
    need_users()
    disk, state = image(passable / "disk.img"), passable / "state"
    state.mkdir()
    for path in (passable, state, disk):
        os.chown(path, NOBODY, NOBODY)
    with serving(disk, "--state-dir", state, launcher=launcher(state / "tried", "nobody")) as target:
        assert {name: it for name, it in told(state / "tried").items() if it} == {}
        assert target.stop()[0] == 0


def test_the_sandbox_is_kept_by_what_serves_after_it_was_changed(disk: Path, tmp_path: Path) -> None:
    """State is written, sizes are looked at, and counters told, from inside."""
    state = tmp_path / "new" / "state"
    with serving(f"{disk}=0.0,serial=ONE", "--state-dir", state) as target, target.client() as client:
        client.config(ConfigCommand.FORCE_SET, b"kept")
        disk.write_bytes(bytes(2 * SECTORS * 512))
        target.tell(signal.SIGHUP)
        assert json.loads(target.line())["bytes"] == 2 * SECTORS * 512
        target.tell(signal.SIGUSR1)
        assert json.loads(target.line())["event"] == "counters"
        assert target.stop()[0] == 0
    assert b"kept".hex() in (state / "ONE.json").read_text()


# What the kernel lacks


def test_a_kernel_without_landlock_is_said_once(disk: Path, tmp_path: Path) -> None:
    words = ("-m", "tests.node.lacking", "landlock", "--")
    with serving(disk, "--state-dir", tmp_path / "s", launcher=words) as target:
        _, _, errors = target.stop()
    assert errors.splitlines() == [
        "aoe-target: files are not restricted: no landlock in this kernel (Function not implemented)"
    ]


def test_an_architecture_whose_numbers_are_not_known_is_said_once(disk: Path, tmp_path: Path) -> None:
    words = ("-m", "tests.node.lacking", "machine", "--")
    with serving(disk, "--state-dir", tmp_path / "s", launcher=words) as target:
        _, _, errors = target.stop()
    assert errors.splitlines() == [
        "aoe-target: system calls are not restricted: their numbers on s390x are not known"
    ]


@pytest.mark.parametrize("machine", ["x86_64", "generic"])
def test_the_numbers_are_the_kernels(machine: str) -> None:
    headers = {"x86_64": "x86_64-linux-gnu/asm/unistd_64.h", "generic": "asm-generic/unistd.h"}
    header = Path("/usr/include", headers[machine])
    if not header.exists():
        pytest.skip("the kernel's headers are not here")
    told = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)$", header.read_text(), re.MULTILINE)
    numbers = {name: int(number) for name, number in told}
    numbers.setdefault("newfstatat", numbers.get("fstatat", 0))
    for name, number in CALLS_ALLOWED.items():
        assert number.on(machine == "x86_64") == numbers.get(name), name
