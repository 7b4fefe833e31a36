"""Which images are checked before they are served, and what is served meanwhile."""

import logging
import os
import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from aoe import timing
from aoe.disk.open import Opening
from aoe.errors import ConfigurationError
from aoe.image import serving
from aoe.image.asking import Asked, StillChecked
from aoe.image.messages import Checking, Wanted, encode
from aoe.image.nodes import Part
from aoe.image.serving import Images
from aoe.image.user import reader
from aoe.node.opener_portions import stores_of
from tests.image.daemons import daemon_of, kill_daemon
from tests.support.tools import need_images, tool, unavailable
from tests.support.waiting import PATIENCE_S, wait_for

SIZE = 4 << 20


class Checks:
    """Stands for the checks of images: which layers were looked at, and whether that is over."""

    def __init__(self) -> None:
        self.of: list[list[str]] = []
        self.over = True
        self.ended = 0

    def begin(self, layers: Sequence[tuple[Part, str]]) -> "Checks":
        self.of.append([Path(place).name for _, place in layers])
        return self

    def is_over(self, wait_s: float) -> bool:
        return self.over

    def end(self) -> None:
        self.ended += 1

    def taken(self) -> list[list[str]]:
        """Those since the last look."""
        found, self.of = self.of, []
        return found


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    found = Checks()
    monkeypatch.setattr(serving, "Check", found.begin)
    return found


@pytest.fixture
def images(checks: Checks) -> Iterator[Images]:
    need_images()
    made = Images(reader())
    yield made
    made.close()


def create(path: Path, *words: str) -> Path:
    tool("qemu-img", "create", "-q", "-f", "qcow2", *words, path, str(SIZE))
    try:
        os.setxattr(path, "user.aoe-target.tried", b"")
    except OSError:
        unavailable("files can have no notes here (xattr(7))")
    return path


def wanted(path: Path, **how: bool) -> Wanted:
    return Wanted(path=str(path), format="qcow2", **how)


def served(images: Images, path: Path, data: bytes = b"") -> None:
    """For a while, and closed then."""
    told, fd = images.open(wanted(path))
    os.pwrite(fd, data, 0)
    images.release(told.image.rpartition(":")[0])


def test_only_what_was_not_closed_whole_is_checked(images: Images, checks: Checks, tmp_path: Path) -> None:
    path = create(tmp_path / "d.qcow2")
    served(images, path, b"data")
    assert checks.taken() == [["d.qcow2"]], "nothing is known of it"
    served(images, path, b"more")
    assert not checks.taken()
    shutil.copy2(path, tmp_path / "copy.qcow2")
    served(images, tmp_path / "copy.qcow2")
    assert checks.taken() == [["copy.qcow2"]]
    tool("qemu-io", "-f", "qcow2", "-c", "write 1M 64k", path)
    served(images, path)
    assert checks.taken() == [["d.qcow2"]], "another program wrote to it"


def test_what_a_killed_daemon_had_is_checked(images: Images, checks: Checks, tmp_path: Path) -> None:
    path = create(tmp_path / "d.qcow2")
    served(images, path)
    told, _ = images.open(wanted(path))
    kill_daemon(path)
    wait_for(lambda: not daemon_of(path))
    told, fd = images.again(told.image)
    os.pwrite(fd, b"data", 0)
    images.release(told.image.rpartition(":")[0])
    checks.taken()
    served(images, path)
    assert checks.taken() == [["d.qcow2"]]


def test_what_is_below_is_checked_once(images: Images, checks: Checks, tmp_path: Path) -> None:
    create(tmp_path / "base.qcow2")
    one, other = (
        create(tmp_path / f"{name}.qcow2", "-b", "base.qcow2", "-F", "qcow2") for name in ("one", "other")
    )
    served(images, one)
    assert checks.taken() == [["one.qcow2", "base.qcow2"]]
    served(images, other)
    assert checks.taken() == [["other.qcow2"]]


def test_others_are_served_while_one_is_checked(images: Images, checks: Checks, tmp_path: Path) -> None:
    large, small = create(tmp_path / "large.qcow2"), create(tmp_path / "small.qcow2")
    checks.over = False
    for _ in range(2):
        with pytest.raises(Checking):
            images.open(wanted(large))
    assert checks.taken() == [["large.qcow2"]], "one check, however often it is asked for"
    assert daemon_of(large), "no other program writes to it"
    checks.over = True
    served(images, small, b"data")
    told, fd = images.open(wanted(large))
    assert os.lseek(fd, 0, os.SEEK_END) == SIZE
    images.release(told.image.rpartition(":")[0])


def test_what_is_not_asked_for_any_more_is_let_go_of(
    images: Images, checks: Checks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = create(tmp_path / "d.qcow2")
    checks.over = False
    with pytest.raises(Checking):
        images.open(wanted(path))
    images.forget()
    assert daemon_of(path)
    assert not checks.ended
    monkeypatch.setattr(timing, "IMAGE_FORGOTTEN_S", -1.0)
    images.forget()
    assert not daemon_of(path)
    assert checks.ended == 1
    with pytest.raises(Checking):
        images.open(wanted(path, read_only=True))
    with pytest.raises(Checking):
        images.open(wanted(path))
    assert checks.ended == 2, "it is wanted in another way"


@pytest.fixture
def asked() -> Iterator[tuple[Asked, socket.socket]]:
    """And whom it asks."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made = Asked(ours)
    with its:
        yield made, its
    made.close()


def test_a_long_check_is_told_and_asked_for_again(
    asked: tuple[Asked, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    to, its = asked

    def answer() -> None:
        for for_s in (44.0, 46.0, 61.0, 62.0):  # the first is waited for
            if its.recv(1 << 16):
                its.send(encode({"ok": {"checking_s": for_s}}))

    thread = threading.Thread(target=answer)
    thread.start()
    for _ in range(3):
        with pytest.raises(StillChecked, match=r"d\.qcow2 is being checked .* wait"):
            to.open(Path("/d.qcow2"), Opening(format="qcow2"))
    thread.join(PATIENCE_S)
    assert [it.getMessage() for it in caplog.records] == [
        "/d.qcow2 is being checked for 61 s now, and is served after that"
    ]


def test_one_that_does_not_answer_is_given_up(
    asked: tuple[Asked, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "IMAGE_ASKED_S", 0.01)
    to, _ = asked
    with pytest.raises(ConfigurationError, match="does not answer"):
        to.release("1:2")
    assert to.fileno() < 0, "its late answer is to nothing"


def test_an_opener_tells_that_it_goes_on() -> None:
    (found,) = stores_of({"stores": [{"checked": "d.qcow2 is being checked; wait"}]}, (), 1)
    assert isinstance(found, StillChecked)
    assert str(found) == "d.qcow2 is being checked; wait"
