"""`aoe-cloud image build` with a small tree: what is built, and that nothing is left of what is not."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from aoe.cli.cloud import main
from aoe.cloud import member
from aoe.cloud.building import Built, kept
from aoe.cloud.places import Place
from aoe.errors import ConfigurationError, PoolError
from aoe.pool.marking import init
from aoe.pool.requests import Create
from aoe.pool.work import Work
from tests.cloud.test_list import RECORD
from tests.support.tools import need, tool
from tests.support.waiting import wait_for

Build = Callable[..., "subprocess.Popen[str]"]
PATIENCE_S = 60


def done(process: "subprocess.Popen[str]", status: int = 0) -> str:
    """What it printed: all, where it did what was asked, else the errors."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == status, err
    return err if status else out


def made(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """The last object."""
    facts: dict[str, Any] = json.loads(done(process).splitlines()[-1])
    return facts


@pytest.fixture
def out(tmp_path: Path) -> Path:
    directory = tmp_path / "out"
    directory.mkdir()
    return directory


def build_file(build: Build, path: Path, *words: str | Path, **variables: Any) -> dict[str, Any]:
    return made(build("build", "debian12", "--output", path, "--size", "80M", "--json", *words, **variables))


def names(directory: Path) -> list[str]:
    return sorted(it.name for it in directory.iterdir())


def read(image: Path, path: str) -> str:
    return tool("debugfs", "-R", f"cat {path}", image)


def test_two_builds_are_equal_in_every_bit(build: Build, out: Path) -> None:
    first, second = build_file(build, out / "a"), build_file(build, out / "b", umask=0o077)
    assert first["id"] == second["id"]
    assert (out / "a").read_bytes() == (out / "b").read_bytes()
    assert (out / "a.initramfs").read_bytes() == (out / "b.initramfs").read_bytes()
    assert names(out) == [
        f"{name}{part}" for name in "ab" for part in ("", ".initramfs", ".kernel", ".record")
    ]
    tool("e2fsck", "-fn", out / "a")


def test_where_a_package_was_is_not_in_it(build: Build, out: Path) -> None:
    package = out / "of, mine.deb"
    package.write_text("a package")
    first, second = (build_file(build, out / name, "--deb", package) for name in "ab")
    assert first == second | {"root": "a", "name": "a"}


def test_the_id_is_in_all_parts(build: Build, out: Path) -> None:
    facts = build_file(build, out / "a")
    id = facts["id"]
    assert read(out / "a", "/etc/aoe-image") == id
    assert (out / "a.initramfs").read_bytes() == b"initramfs" + member.member(id)
    assert facts["command_line"].endswith(f"aoeimage={id}")
    uuid = facts["command_line"].split()[0].removeprefix("root=UUID=")
    assert f"Filesystem UUID:          {uuid}\n" in tool("dumpe2fs", "-h", out / "a")
    assert json.loads((out / "a.record").read_text())["id"] == id


def test_what_belongs_to_one_machine_is_not_in_it(build: Build, out: Path) -> None:
    build_file(build, out / "a")
    assert "Size: 0" in tool("debugfs", "-R", "stat /etc/machine-id", out / "a")
    listed = tool("debugfs", "-R", "ls -p /etc/ssh", out / "a") + tool(
        "debugfs", "-R", "ls -p /boot", out / "a"
    )
    assert "ssh_host" not in listed
    assert "vmlinuz" not in listed
    assert "dpkg.log" not in tool("debugfs", "-R", "ls -p /var/log", out / "a")


def test_another_size_has_another_id(build: Build, out: Path) -> None:
    words = ("build", "debian12", "--json", "--output")
    ids = {made(build(*words, out / size, "--size", size))["id"] for size in ("80M", "81M")}
    assert len(ids) == 2


def test_another_tree_or_hook_has_another_id(build: Build, out: Path) -> None:
    hook = out / "hook"
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o755)
    ids = {
        build_file(build, out / "a")["id"],
        build_file(build, out / "b", AOE_TEST_MORE="x")["id"],
        build_file(build, out / "c", "--hook", hook)["id"],
    }
    assert len(ids) == 3


def test_a_failure_is_said_and_leaves_nothing(build: Build, out: Path) -> None:
    said = done(build("build", "debian12", "--output", out / "a", AOE_TEST_FAIL="nothing"), 1)
    assert said == "aoe-cloud: mmdebstrap failed: Unable to locate package nothing\n"
    assert names(out) == []


def test_a_root_that_does_not_fit_leaves_nothing(build: Build, out: Path) -> None:
    said = done(build("build", "debian12", "--output", out / "a", "--size", "1M"), 2)
    assert "choose --size 65M" in said
    assert names(out) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_of_it(build: Build, out: Path, number: signal.Signals) -> None:
    hangs = out.parent / "hangs"
    process = build("build", "debian12", "--output", out / "a", AOE_TEST_HANG=str(hangs))
    wait_for(lambda: hangs.exists() and hangs.read_text().endswith("\n"), PATIENCE_S)
    assert len(names(out)) == 1
    process.send_signal(number)
    assert done(process, 128 + number).startswith("aoe-cloud: ")
    assert names(out) == []


def test_the_next_build_removes_what_a_killed_one_left(build: Build, out: Path) -> None:
    hangs = out.parent / "hangs"
    process = build("build", "debian12", "--output", out / "a", AOE_TEST_HANG=str(hangs))
    wait_for(lambda: hangs.exists() and hangs.read_text().endswith("\n"), PATIENCE_S)
    build_file(build, out / "b")
    (running,) = (it for it in names(out) if it.startswith("."))
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    assert (out / running).is_dir()
    build_file(build, out / "c")
    assert not (out / running).exists()
    assert "a" not in names(out)


@pytest.mark.parametrize("suffix", ["", ".kernel", ".initramfs", ".record"])
def test_nothing_is_replaced(build: Build, out: Path, suffix: str) -> None:
    (out / f"a{suffix}").write_text("kept")
    said = done(build("build", "debian12", "--output", out / "a"), 2)
    assert "is there already: an image is never replaced; choose another name" in said
    assert names(out) == [f"a{suffix}"]
    assert (out / f"a{suffix}").read_text() == "kept"


# Refusals


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["debian12"], "say where the root goes: POOL/VOLUME, or --output FILE"),
        (["debian12", "p/v", "--output", "{out}/a"], "say where the root goes"),
        (["debian13", "--output", "{out}/a"], "debian13 cannot be built; choose debian12"),
        (["debian12", "p/v@s"], "names a snapshot"),
        (["debian12", "--output", "{out}/no/a"], "is no directory; name a file in one that is there"),
        (["debian12", "--output", "{out}/a", "--hook", "{out}"], "is no file; name a program"),
        (["debian12", "--output", "{out}/a", "--hook", "{out}/plain"], "is not executable; begin it with #!"),
        (["debian12", "--output", "{out}/a", "--deb", "{out}/plain"], "is no package; name a .deb file"),
        (["debian12", "--output", "{out}/a", "--sources", "{out}/none"], "is no file; name a file of apt's"),
        (["debian12", "--output", "{out}/a", "--include", "Vim"], "cannot be a package"),
        (
            ["debian12", "--output", "{out}/a", "--authorized-keys", "{out}/none"],
            "name a file of public ssh keys",
        ),
        (["debian12", "--output", "{out}/a", "--size", "1X"], "is not a size"),
    ],
)
def test_what_cannot_be_built_is_said(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], why: str
) -> None:
    monkeypatch.setattr("aoe.cloud.programs.check", lambda: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (out / "plain").write_text("")
    assert main(["image", "build", *(it.format(out=out) for it in words)]) == 2
    assert why in capsys.readouterr().err
    assert names(out) == ["plain"]


def test_it_is_built_as_root(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["image", "build", "debian12", "--output", str(out / "a")]) == 2
    assert "build it as root (sudo)" in capsys.readouterr().err


def test_a_missing_program_is_named_with_its_package(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        "aoe.cloud.programs.shutil.which", lambda name, **_: None if name == "mmdebstrap" else name
    )
    assert main(["image", "build", "debian12", "--output", str(out / "a")]) == 2
    assert capsys.readouterr().err == "aoe-cloud: mmdebstrap missing: apt-get install mmdebstrap\n"


# Into a pool


@pytest.fixture
def config(tmp_path: Path) -> Path:
    need("qemu-img")
    store, file = tmp_path / "store", tmp_path / "config.toml"
    store.mkdir()
    file.write_text(f'[[pool]]\nname = "fast"\npath = "{store}"\n')
    init(str(store), name="fast", plain_directory=True)
    return file


@contextmanager
def opened(config: Path) -> Iterator[Work]:
    work = Work(str(config.parent / "store"), name="fast")
    try:
        yield work
    finally:
        work.close()


def test_the_root_becomes_a_volume(build: Build, out: Path, config: Path) -> None:
    where = ("--directory", out, "--config", config)
    facts = made(build("build", "debian12", "fast/node", *where, "--size", "80M", "--json"))
    assert (facts["root"], facts["in_pool"]) == ("fast/node", True)
    assert names(out) == ["fast"]
    assert names(out / "fast") == ["node.initramfs", "node.kernel", "node.record"]
    saved = out / "saved"
    command = [
        sys.executable,
        "-m",
        "aoe.cli.target",
        "volume",
        "save",
        "fast/node",
        saved,
        "--config",
        config,
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
    assert sha256(saved.read_bytes()).hexdigest() == facts["root_sha256"]
    assert done(build("list", "--directory", out, "--check")).startswith(
        "fast/node: debian12, kernel 6.1.0-1"
    )
    said = done(build("build", "debian12", "fast/node", *where), 2)
    assert "fast/node.kernel is there already" in said


def test_what_the_pool_refuses_is_said_before_it_is_built(build: Build, out: Path, config: Path) -> None:
    where = ("--directory", out, "--config", config)
    said = done(build("build", "debian12", "slow/node", *where, AOE_TEST_FAIL="this"), 2)
    assert "names no pool slow; it has fast" in said
    with opened(config) as work:
        work.do(Create("node", 1 << 20, None))
    said = done(build("build", "debian12", "fast/node", *where, AOE_TEST_FAIL="this"), 2)
    assert "node" in said
    assert "this" not in said
    assert names(out) == []


def empty(directory: Path) -> Built:
    parts = [directory / name for name in ("root", "kernel", "initramfs")]
    for path in parts:
        path.touch()
    return Built(*parts, RECORD)


def test_a_volume_that_does_not_come_about_leaves_no_kernel(out: Path) -> None:
    place = Place(out / "fast" / "node")
    with pytest.raises(PoolError), kept(empty(out), place, (), RECORD):
        assert names(place.base.parent) == ["node.initramfs", "node.kernel"]
        raise PoolError("full")
    assert names(place.base.parent) == []
    place.initramfs.write_text("of another")
    with (
        pytest.raises(ConfigurationError, match="initramfs is there already"),
        kept(empty(out), place, (), RECORD),
    ):
        pytest.fail("this is not begun")
    assert names(place.base.parent) == ["node.initramfs"]
    place.initramfs.unlink()
    with pytest.raises(ConfigurationError, match="is there already"), kept(empty(out), place, (), RECORD):
        place.record.write_text("of another")
    assert names(place.base.parent) == ["node.record"]
