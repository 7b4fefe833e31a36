"""`aoe-cloud image list`: which images there are, and what is wrong with them."""

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from aoe.cli.cloud import main
from aoe.cloud import member
from aoe.cloud.record import Record, read, written
from aoe.errors import ConfigurationError

ID, OTHER = "ab" * 16, "cd" * 16
KERNEL, ROOT = b"kernel", b"root"
INITRAMFS = b"initramfs" + member.member(ID)
RECORD = Record(
    id=ID,
    release="debian12",
    kernel="6.1.0-1",
    packages=("udev",),
    root="",
    in_pool=False,
    root_bytes=len(ROOT),
    root_sha256=sha256(ROOT).hexdigest(),
    kernel_sha256=sha256(KERNEL).hexdigest(),
    initramfs_bytes=len(INITRAMFS),
    initramfs_sha256=sha256(INITRAMFS).hexdigest(),
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    base = tmp_path / "node.img"
    base.write_bytes(ROOT)
    Path(f"{base}.kernel").write_bytes(KERNEL)
    Path(f"{base}.initramfs").write_bytes(INITRAMFS)
    Path(f"{base}.record").write_bytes(written(replace(RECORD, root=str(base))))
    return base


def listed(directory: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["image", "list", "--directory", str(directory), *words])
    out, err = capsys.readouterr()
    return status, out, err


def test_an_image_is_a_line(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"{image}: debian12, kernel 6.1.0-1, 4 bytes, id {ID}\n"
    assert listed(image.parent, capsys, "--check") == (0, line, "")


def test_an_image_is_an_object(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = listed(image.parent, capsys, "--json")
    facts = json.loads(out)
    assert (status, facts["name"], facts["directory"]) == (0, "node.img", str(image.parent))
    assert facts["command_line"] == f"root=UUID=abababab-abab-abab-abab-abababababab aoeimage={ID}"
    assert facts["problems"] == []


def test_a_volume_is_not_looked_for_in_files(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image.unlink()
    Path(f"{image}.record").write_bytes(written(replace(RECORD, root="fast/node", in_pool=True)))
    status, out, _ = listed(image.parent.parent, capsys, "--check")  # in a directory below
    assert (status, out.partition(":")[0]) == (0, "fast/node")


def cut(image: Path) -> None:
    Path(f"{image}.initramfs").write_bytes(INITRAMFS[:-1])


def exchange(image: Path) -> None:
    Path(f"{image}.initramfs").write_bytes(INITRAMFS.replace(ID.encode(), OTHER.encode()))


def spoil(image: Path) -> None:
    Path(f"{image}.initramfs").write_bytes(INITRAMFS.replace(ID.encode(), OTHER[:31].encode() + b"\xff"))


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (cut, f"is cut off: {len(INITRAMFS) - 1} of {len(INITRAMFS)} bytes; copy it again"),
        (exchange, f"is of the image {OTHER}, not {ID}; copy the right one"),
        (spoil, "does not end with the id of an image; copy it again"),
        (lambda image: image.unlink(), "node.img is missing; bring it back"),
        (lambda image: Path(f"{image}.kernel").unlink(), "node.img.kernel is missing; bring it back"),
        (lambda image: Path(f"{image}.record").write_text("{}"), "is no record of an image; build"),
        (lambda image: Path(f"{image}.record").write_text("[1"), "is no record of an image; build"),
    ],
)
def test_what_is_wrong_is_said(
    image: Path, capsys: pytest.CaptureFixture[str], harm: Callable[[Path], object], why: str
) -> None:
    harm(image)
    status, _, err = listed(image.parent, capsys)
    assert status == 1
    assert why in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("suffix", ["", ".kernel"])
def test_a_change_of_a_part_is_found_by_reading_it(
    image: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    Path(f"{image}{suffix}").write_bytes(b"some")
    assert listed(image.parent, capsys)[0] == 0
    status, _, err = listed(image.parent, capsys, "--check")
    assert status == 1
    assert f"node.img{suffix} is not what was built; copy it again" in err


def test_a_directory_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = listed(tmp_path / "none", capsys)
    assert (status, out) == (2, "")
    assert "is not there; build an image first" in err
    assert listed(tmp_path, capsys) == (0, "", "")


def test_a_record_is_read_as_it_was_written() -> None:
    assert read(written(RECORD), "it") == RECORD


@pytest.mark.parametrize("change", [{"version": 2}, {"id": "x"}, {"id": 1}, {"packages": 1}])
def test_a_record_of_another_kind_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="is no record of an image"):
        read(json.dumps(json.loads(written(RECORD)) | change).encode(), "it")
