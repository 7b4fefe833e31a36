"""The disk of an image grows while it is served, and what serves it does not answer for a while."""

import os
import signal
import socket
from pathlib import Path

import pytest

from aoe import timing
from aoe.errors import ConfigurationError
from aoe.image.qmp import Gone, Qmp
from aoe.image.serving import Images
from tests.image.daemons import daemon_of, kill_daemon
from tests.image.test_serving import DATA, SIZE, create, wanted
from tests.support.waiting import PATIENCE_S, wait_for


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("read_only", [False, True])
def test_a_disk_grows_while_it_is_open(images: Images, tmp_path: Path, *, read_only: bool) -> None:
    """Its kernel may have had its size just before, and keeps that for a second."""
    path = create(tmp_path / "d.qcow2")
    told, fd = images.open(wanted(path, name="volume", read_only=read_only))
    serving = daemon_of(path)
    assert os.lseek(fd, 0, os.SEEK_END) == SIZE
    images.check("volume")
    images.grow("volume", 2 * SIZE)
    wait_for(lambda: os.lseek(fd, 0, os.SEEK_END) == 2 * SIZE)
    assert os.pread(fd, len(DATA), 2 * SIZE - len(DATA)) == bytes(len(DATA))
    assert daemon_of(path) == serving
    if not read_only:
        over = create(tmp_path / "over", "-b", path.name, "-F", "qcow2", size=2 * SIZE)
        images.switch("volume", str(over))
        images.grow("volume", 3 * SIZE)
        os.pwrite(fd, DATA, 3 * SIZE - len(DATA))
        os.fdatasync(fd)
        assert os.pread(fd, len(DATA), 3 * SIZE - len(DATA)) == DATA
    kill_daemon(path)
    with pytest.raises(ConfigurationError, match=r"has ended.*; try again"):
        images.grow("volume", 4 * SIZE)
    _, fd = images.again(told.image)
    assert os.lseek(fd, 0, os.SEEK_END) == (2 if read_only else 3) * SIZE
    with pytest.raises(ConfigurationError, match="has ended, or was changed; try again"):
        images.grow("none", SIZE)


@pytest.mark.usefixtures("programs")
def test_what_does_not_answer_is_told_and_goes_on_when_it_does(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = create(tmp_path / "d.qcow2")
    _, fd = images.open(wanted(path, name="volume"))
    serving = daemon_of(path)
    os.kill(serving, signal.SIGSTOP)
    monkeypatch.setattr(timing, "IMAGE_READY_S", 0.1)
    with pytest.raises(ConfigurationError, match=r"has not answered for 0\.1 s; look at the disk"):
        images.check("volume")
    os.kill(serving, signal.SIGCONT)
    monkeypatch.setattr(timing, "IMAGE_READY_S", PATIENCE_S)
    images.check("volume")
    os.pwrite(fd, DATA, 0)
    assert (os.pread(fd, len(DATA), 0), daemon_of(path)) == (DATA, serving)


def test_an_answer_that_comes_late_is_no_answer_to_what_is_asked_then() -> None:
    ours, its = socket.socketpair()
    with ours, its:
        asked = Qmp(ours)
        with pytest.raises(Gone, match="has not answered"):
            asked.do("first", within_s=0.01)
        assert not asked.answers
        its.sendall(b'{"return": 1, "id": 1}\n{"event": "one"}\n{"return": 2, "id": 2}\n')
        assert asked.do("second") == 2
        assert asked.answers
