"""What others' NBD programs find behind `aoe nbd`: nbdinfo, nbdcopy, qemu-img, and a script with libnbd."""

import json
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.labs.fault_disk import loop_device, need_fuse
from tests.support.labs.nbdkit import nbd_door, socket_path
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.tools import need, need_libnbd, need_namespaces, which
from tests.support.waiting import wait_for

ENGINES = ("c",)
SECTORS = 16384
SIZE = SECTORS * 512
SCRIPT = Path(__file__).with_name("nbd_script.py")


class Door(NamedTuple):
    """`store` is what the target behind the door serves."""

    uri: str
    store: Path


@contextmanager
def door(directory: Path, *options: str) -> Iterator[Door]:
    need_namespaces()
    store = image(directory / "disk", SECTORS)
    with (
        Lab(mtu=9000) as lab,
        AoeTarget(lab, directory, f"{store}=1.1"),
        socket_path() as socket,
        nbd_door(lab, "client", socket, "e1.1", options=options),
    ):
        yield Door(f"nbd+unix:///?socket={socket}", store)


def tool(*argv: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [which(str(argv[0])) or str(argv[0]), *map(str, argv[1:])]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def told(uri: str) -> dict[str, Any]:
    """What nbdinfo says of the only export."""
    done = tool("nbdinfo", "--json", uri)
    assert done.returncode == 0, done.stderr
    (export,) = json.loads(done.stdout)["exports"]
    return dict(export)


def faults(uri: str, *words: str) -> str:
    """What the script found wrong; nothing if all is right."""
    done = tool(need_libnbd(), SCRIPT, uri, *words)
    return done.stderr if done.returncode else ""


def test_what_the_disk_can_is_told(tmp_path: Path) -> None:
    need("nbdinfo")
    with door(tmp_path) as there:
        said = told(there.uri)
    assert said["export-size"] == SIZE
    assert not said["is_read_only"]
    for word in ("flush", "fua", "trim", "zero", "multi_conn"):
        assert said[f"can_{word}"], word


def test_a_read_only_disk_cannot_be_changed(tmp_path: Path) -> None:
    need("nbdinfo")
    with door(tmp_path, "--read-only") as there:
        assert told(there.uri)["is_read_only"]
        assert faults(there.uri, "read-only") == ""
        assert not any(there.store.read_bytes())


def test_images_are_copied_in_and_out(tmp_path: Path) -> None:
    need("nbdcopy", "qemu-img")
    picture, copy = tmp_path / "picture", tmp_path / "copy"
    picture.write_bytes(random.Random(3).randbytes(SIZE // 2) + bytes(SIZE // 2))
    with door(tmp_path) as there:
        assert tool("nbdcopy", "--flush", picture, there.uri).returncode == 0
        assert there.store.read_bytes() == picture.read_bytes()
        assert tool("nbdcopy", there.uri, copy).returncode == 0
        assert copy.read_bytes() == picture.read_bytes()
        compare = ("qemu-img", "compare", "-f", "raw", "-F", "raw", picture, there.uri)
        assert tool(*compare).returncode == 0
        with there.store.open("r+b") as file:
            file.write(bytes([picture.read_bytes()[0] ^ 1]))
        assert tool(*compare).returncode == 1


def test_a_file_system_is_mounted_through_nbdfuse(tmp_path: Path) -> None:
    """As the manual has it: nbdfuse makes a file of the disk, a loop device a block device of the file."""
    need_fuse()
    need("nbdfuse", "mkfs.ext4", "mount", "umount")
    file, directory = tmp_path / "file", tmp_path / "data"
    file.touch()
    directory.mkdir()
    with door(tmp_path) as there:
        command = [which("nbdfuse") or "nbdfuse", str(file), there.uri]
        with subprocess.Popen(command) as fuse:
            try:
                wait_for(lambda: file.stat().st_size == SIZE, what="nbdfuse does not mount")
                assert tool("mkfs.ext4", "-q", "-F", file).returncode == 0
                with loop_device(file) as device:
                    assert tool("mount", device, directory).returncode == 0
                    (directory / "kept").write_bytes(b"kept" * 5000)
                    assert tool("umount", directory).returncode == 0
            finally:
                tool("umount", "--lazy", file)
                fuse.wait(30)
        assert b"kept" * 1000 in there.store.read_bytes()


def test_a_script_may_ask_for_anything(tmp_path: Path) -> None:
    with door(tmp_path) as there:
        assert faults(there.uri) == ""


def test_the_script_finds_what_it_looks_for() -> None:
    """A server that forgets, and one that lets a disk be changed."""
    need("nbdkit")
    with socket_path() as socket:
        uri = f"nbd+unix:///?socket={socket}"
        command = ["nbdkit", "--foreground", "--exit-with-parent", "--unix", str(socket), "null", str(SIZE)]
        with subprocess.Popen(command) as server:
            wait_for(socket.exists, what="nbdkit does not listen")
            found = faults(uri), faults(uri, "read-only")
            server.terminate()
    assert ["AssertionError" in text for text in found] == [True, True]
