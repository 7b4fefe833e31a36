"""What has images served as a service itself: started by its socket, for one opener after the other."""

import errno
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import aoe
from aoe.disk.open import Opening
from aoe.disk.opened import Opened
from aoe.disk.syscalls import close_all
from aoe.errors import ConfigurationError
from aoe.image import carried
from aoe.image.asking import Asked, Unknown, token_of
from tests.image.daemons import daemon_of, kill_daemon
from tests.image.unit import Holding, Unit
from tests.support.tools import need_images, tool
from tests.support.waiting import PATIENCE_S, wait_for, wait_for_end

QCOW2 = Opening(format="qcow2")


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[Unit]:
    need_images()
    with Unit(tmp_path / "socket") as made:
        yield made


@pytest.fixture
def manager() -> Iterator[Holding]:
    made = Holding()
    yield made
    made.stop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "d.qcow2"
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M")
    return path


@contextmanager
def opener(unit: Unit, tmp_path: Path, manager: Holding | None = None) -> Iterator[Asked]:
    """One life of it."""
    asked = Asked(None, tmp_path / "socket")
    if manager is not None:
        asked.lasts = manager.hold
    yield asked
    asked.close()


def wrote(opened: Opened, data: bytes) -> None:
    """Without having it flushed."""
    assert os.pwrite(opened.store.fd, data, 0) == len(data)


def has(opened: Opened, data: bytes) -> None:
    assert os.pread(opened.store.fd, len(data), 0) == data
    os.close(opened.store.fd)


def content(path: Path, length: int) -> bytes:
    """Of an image that nothing serves and that is whole."""
    wait_for(lambda: not daemon_of(path))
    tool("qemu-img", "check", "-q", path)
    raw = path.with_suffix(".raw")
    tool("qemu-img", "convert", "-O", "raw", path, raw)
    return raw.read_bytes()[:length]


def test_nobody_listens(tmp_path: Path, path: Path) -> None:
    need_images()
    with pytest.raises(ConfigurationError, match=r"systemctl start aoe-target-images\.socket"):
        Asked(None, tmp_path / "socket").open(path, QCOW2)


def test_it_serves_until_nothing_asks_it(unit: Unit, tmp_path: Path, path: Path) -> None:
    with opener(unit, tmp_path) as asked:
        opened = asked.open(path, QCOW2)
        assert (opened.store.size, opened.remote, opened.trims) == (1 << 20, True, True)
        wrote(opened, b"data")
        os.close(opened.store.fd)
        asked.release(token_of(opened.image))
        wait_for(lambda: not daemon_of(path))
        again = asked.open(path, QCOW2)
        has(again, b"data")
        (only,) = unit.started
        only.kill()
        only.wait()
        wait_for(lambda: not daemon_of(path))
        with pytest.raises(ConfigurationError, match="has ended"):
            asked.again(again.image)
        with pytest.raises(Unknown):
            asked.again(again.image)
        wrote(asked.open(path, QCOW2), b"more")
    assert len(unit.started) == 2
    assert content(path, 4) == b"more"


def test_the_next_opener_has_what_the_last_one_had_served(
    unit: Unit, tmp_path: Path, path: Path, manager: Holding
) -> None:
    """From the same process, also what was not flushed; and what wrote before can do so no more."""
    with opener(unit, tmp_path, manager) as asked:
        before = asked.open(path, QCOW2)
        wrote(before, b"before")
    serves = daemon_of(path)
    assert serves
    with opener(unit, tmp_path, manager) as asked:
        after = asked.open(path, QCOW2)
        assert (daemon_of(path), after.image != before.image) == (serves, True)
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            wrote(before, b"late")
        close_all([before.store.fd])
        has(after, b"before")
        asked.release(token_of(after.image))
        wait_for_end(serves)
    assert content(path, 6) == b"before"
    assert len(unit.started) == 1


def test_what_is_not_opened_again_goes_with_the_last_life(
    unit: Unit, tmp_path: Path, path: Path, manager: Holding
) -> None:
    other = tmp_path / "other.qcow2"
    tool("qemu-img", "create", "-q", "-f", "qcow2", other, "1M")
    with opener(unit, tmp_path, manager) as asked:
        for it in (path, other):
            wrote(asked.open(it, QCOW2), b"data")
    held, serves = Holding(), daemon_of(path)
    with opener(unit, tmp_path, held) as asked:
        opened = asked.open(path, QCOW2)
        assert daemon_of(other)
        manager.stop()
        assert content(other, 4) == b"data"
        assert daemon_of(path) == serves
        has(opened, b"data")
        held.stop()  # the target stops, and its opener has not ended yet
    assert content(path, 4) == b"data"


def test_a_stop_ends_all_of_it(unit: Unit, tmp_path: Path, path: Path, manager: Holding) -> None:
    with opener(unit, tmp_path, manager) as asked:
        wrote(asked.open(path, QCOW2), b"data")
    assert daemon_of(path)
    manager.stop()
    assert content(path, 4) == b"data"


def test_what_is_wanted_otherwise_is_served_anew(
    unit: Unit, tmp_path: Path, path: Path, manager: Holding
) -> None:
    with opener(unit, tmp_path, manager) as asked:
        wrote(asked.open(path, QCOW2), b"data")
    serves = daemon_of(path)
    with opener(unit, tmp_path, manager) as asked:
        has(asked.open(path, QCOW2._replace(read_only=True)), b"data")
        wait_for_end(serves)
        assert not asked.open(path, QCOW2._replace(read_only=True)).lost


def test_what_was_killed_meanwhile_may_have_been_lost(
    unit: Unit, tmp_path: Path, path: Path, manager: Holding
) -> None:
    with opener(unit, tmp_path, manager) as asked:
        os.close(asked.open(path, QCOW2).store.fd)
    wait_for_end(kill_daemon(path))
    with opener(unit, tmp_path, manager) as asked:
        opened = asked.open(path, QCOW2)
        assert opened.lost
        assert not asked.open(path, QCOW2).lost
        os.close(opened.store.fd)


def test_told_to_end_it_lets_them_write_what_they_have(
    unit: Unit, tmp_path: Path, path: Path, manager: Holding
) -> None:
    """As at the end of a machine: what was acknowledged and never flushed is there afterwards."""
    with opener(unit, tmp_path, manager) as asked:
        wrote(asked.open(path, QCOW2), b"data")
        (only,) = unit.started
        only.terminate()
        assert only.wait(PATIENCE_S) == 0
        assert content(path, 4) == b"data"


def test_an_opener_of_another_release_has_its_own_go_on(
    unit: Unit, tmp_path: Path, path: Path, manager: Holding
) -> None:
    """As after an upgrade: it is the same process, with the same children, and executes what is installed."""
    unit.release = "0.0"
    with pytest.MonkeyPatch.context() as patch, opener(unit, tmp_path, manager) as asked:
        patch.setattr(aoe, "__version__", "0.0")
        wrote(asked.open(path, QCOW2), b"data")
    serves = daemon_of(path)
    with opener(unit, tmp_path, manager) as asked:
        opened = asked.open(path, QCOW2)
        assert daemon_of(path) == serves
        has(opened, b"data")
        asked.check(token_of(opened.image))
        asked.grow(token_of(opened.image), 2 << 20)
        os.kill(serves, signal.SIGKILL)
        _, fd = asked.again(opened.image)
        assert daemon_of(path) not in (0, serves)
        assert os.pwrite(fd, b"more", 0) == 4
        os.close(fd)
    manager.stop()
    assert content(path, 4) == b"more"
    assert len(unit.started) == 1


def test_one_that_is_not_what_is_installed_is_refused(unit: Unit, tmp_path: Path, path: Path) -> None:
    wrong = (
        rf"is of version {aoe.__version__}, as what is installed, and the opener of 9\.9: systemctl restart"
    )
    with pytest.MonkeyPatch.context() as patch, opener(unit, tmp_path) as asked:
        patch.setattr(aoe, "__version__", "9.9")
        with pytest.raises(ConfigurationError, match=wrong):
            asked.open(path, QCOW2)


def test_what_is_not_understood_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later release had carried over what this one does not know; its children had something to write."""
    child = subprocess.Popen(["sleep", str(PATIENCE_S)])
    fd = os.memfd_create("carried")
    os.write(fd, json.dumps({"form": 2, "listener": 7, "children": [child.pid], "later": 1}).encode())
    monkeypatch.setenv(carried.WORD, str(fd))
    assert carried.found() == carried.Found(7, None)
    assert carried.WORD not in os.environ
    child.returncode = 0  # it was waited for
    assert carried.found() is None
