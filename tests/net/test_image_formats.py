"""Disks in vmdk, vdi, vhdx and LUKS through the commands: used, served again, and read by QEMU; and each that
cannot be served is said in a line."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import aoe
from aoe.initiator.blocking import BlockingDisk
from tests.image.daemons import daemon_of
from tests.image.test_serving import create, create_luks
from tests.net.service import Service, export
from tests.net.test_bad_input import Refusal, refuse
from tests.support.labs.engine_target import engine_target
from tests.support.labs.network import Lab, in_namespace
from tests.support.labs.peers import Target
from tests.support.tools import need_images, tool
from tests.support.waiting import PATIENCE_S, wait_for

ENGINES = ("c",)
MTU = 9000
FORMATS = ("vmdk", "vdi", "vhdx", "luks")
SIZE = 1 << 20


@pytest.fixture(scope="module")
def luks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty image, of which copies are used: QEMU tries for seconds how fast a key is derived."""
    need_images()
    path = tmp_path_factory.mktemp("luks") / "disk"
    path.with_name("key").write_text("secret")
    create_luks(path, path.with_name("key"), SIZE)
    return path


@pytest.fixture
def key(luks: Path) -> Path:
    return luks.with_name("key")


def made(path: Path, form: str, luks: Path) -> Path:
    """An empty image."""
    return shutil.copyfile(luks, path) if form == "luks" else create(path, form=form, size=SIZE)


def data_of(slot: int) -> bytes:
    return bytes([slot]) * SIZE


def at_client(lab: Lab, slots: int, use: Callable[[int, BlockingDisk], None]) -> None:
    """Each disk, by our initiator."""

    def used() -> None:
        for slot in range(1, slots + 1):
            with aoe.open(f"e1.{slot}", interface="v0", timeout_s=PATIENCE_S) as disk:
                use(slot, disk)

    in_namespace(lab.namespace("client"), used)


def prove(lab: Lab, target: Target, images: Mapping[str, Path], key: Path) -> None:
    """What is written is there after a restart, and for QEMU, which finds the images whole."""

    def write(slot: int, disk: BlockingDisk) -> None:
        disk.write(0, data_of(slot))
        disk.flush()

    def read(slot: int, disk: BlockingDisk) -> None:
        assert disk.read(0, disk.size) == data_of(slot)

    at_client(lab, len(images), write)
    target.restart()
    at_client(lab, len(images), read)
    target.stop()
    for slot, (form, path) in enumerate(images.items(), 1):
        wait_for(lambda path=path: not daemon_of(path))
        raw = path.with_name("raw")
        raw.write_bytes(data_of(slot))
        if form != "luks":  # of which QEMU checks nothing
            tool("qemu-img", "check", "-q", "-f", form, path)
        keyed = ",key-secret=k" if form == "luks" else ""
        words = f"driver={form},file.filename={path}{keyed}", f"driver=raw,file.filename={raw}"
        tool("qemu-img", "compare", "-q", "--object", f"secret,id=k,file={key}", "--image-opts", *words)


def test_a_format_is_told_by_the_end_of_a_name(lab: Lab, tmp_path: Path, luks: Path, key: Path) -> None:
    """The key is for what has one."""
    images = {form: made(tmp_path / f"disk.{form}", form, luks) for form in FORMATS}
    words = [f"{path}=1.{slot}" for slot, path in enumerate(images.values(), 1)]
    with engine_target(lab, tmp_path, *words, "--key-file", key) as target:
        prove(lab, target, images, key)


def test_a_file_says_it_and_what_cannot_be_served_leaves_the_rest_alone(
    lab: Lab, tmp_path: Path, luks: Path, key: Path
) -> None:
    images = {form: made(tmp_path / form, form, luks) for form in FORMATS}
    tables = [
        export(path, f"1.{slot}", format=form, **({"key-file": str(key)} if form == "luks" else {}))
        for slot, (form, path) in enumerate(images.items(), 1)
    ]
    wrong = {f"e2.{slot}": it for slot, it in enumerate(bad(tmp_path, images, key), 1)}
    tables += [export(path, address[1:], **keys) for address, (path, keys, _) in wrong.items()]
    forged = create(tmp_path / "forged", size=SIZE)
    tables.append(export(forged, "3.1"))
    with Service(lab, tmp_path, tables) as service:
        wait_for(lambda: reasons(service).keys() == wrong.keys(), what=lambda: str(reasons(service)))
        for address, reason in reasons(service).items():
            _, _, said = wrong[address]
            assert said in reason, (address, reason)
            assert reason.isprintable()
            about = [it for it in service.errors.splitlines() if f" {address}: " in it]
            assert set(about) == {f"aoe-target: {address}: {reason}"}
        with lab.client(3, 1) as raw:
            assert raw.read(0)[:4] == forged.read_bytes()[:4] == b"QFI\xfb"
        prove(lab, service, images, key)


def reasons(service: Service) -> dict[str, str]:
    """Of what is not served, and not being looked at."""
    exports = service.ask("status")["exports"]
    return {it["address"]: it["reason"] for it in exports if it["state"] == "failed"}


def bad(directory: Path, images: Mapping[str, Path], key: Path) -> list[tuple[Path, dict[str, str], str]]:
    """Images, what is said of each, and why it is not served."""
    newline, other = directory / "newline", directory / "other"
    newline.write_text("secret\n")
    other.write_text("another")

    def copy(name: str, form: str, cut: int | None = None) -> Path:
        path = directory / name
        shutil.copyfile(images[form], path)
        os.truncate(path, path.stat().st_size if cut is None else cut)
        return path

    def keyed(file: Path) -> dict[str, str]:
        return {"key-file": str(file)}

    corrupt = copy("corrupt.vdi", "vdi")
    with corrupt.open("r+b") as file:
        file.seek(512)
        file.write(b"\x7f" * 512)  # where its blocks are
    unkeyed = create(directory / "plain.qcow2", size=SIZE)
    return [
        (copy("wrong.vmdk", "vdi"), {}, "is not in vmdk (qemu-img: vdi); say which format it is in"),
        (copy("a.luks", "luks"), {}, "an image in luks has a key; name the file with it (key-file)"),
        (copy("b.luks", "luks"), keyed(directory / "none"), "none: No such file or directory; name the file"),
        (copy("c.luks", "luks"), keyed(newline), "newline, which counts: write it without (printf %s)"),
        (copy("d.luks", "luks"), keyed(other), "Invalid password"),
        (unkeyed, keyed(key), "is not encrypted, and needs no key; leave the key file out"),
        (corrupt, {}, "is damaged; look at it: qemu-img check"),
        (copy("cut.vmdk", "vmdk", 1000), {}, "cannot be read as an image (File truncated"),
        (copy("cut.vhdx", "vhdx", 100 << 10), {}, "cannot be read as an image ("),
        (copy("cut.vdi", "vdi", 100), {}, "cannot be read as an image ("),
    ]


def test_a_command_that_serves_none_says_why_in_a_line(lab: Lab, tmp_path: Path, luks: Path) -> None:
    path, key = made(tmp_path / "disk.luks", "luks", luks), tmp_path / "key"
    key.write_text("secret\n")
    names = str(path), "ends with a newline, which counts: write it without (printf %s)"
    refuse(lab, tmp_path, Refusal([f"{path}=1.1", "--key-file", str(key)], names))
