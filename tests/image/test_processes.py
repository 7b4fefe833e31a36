"""Processes that serve images, which a disk keeps, or which do nothing: they are not waited for for long."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aoe import timing
from aoe.errors import ConfigurationError
from aoe.image import processes
from aoe.image.processes import Forked, is_at_work
from aoe.image.qmp import Qmp
from aoe.image.serving import Images
from tests.image.daemons import daemon_of
from tests.image.test_serving import DATA, create, wanted
from tests.support.waiting import PATIENCE_S, wait_for

LONG_S = 10 * PATIENCE_S
"""Longer than a test may take."""


class Kept:
    """Stands for a process that a disk keeps: it ends when that is over."""

    def __init__(self, process: processes.Process) -> None:
        self._process = process
        self.pid = process.pid
        self.is_over = False

    def kill(self) -> None: ...

    def poll(self) -> object:
        if not self.is_over:
            return None
        self._process.kill()
        return self._process.poll()


@pytest.mark.usefixtures("programs")
def test_what_does_not_end_is_left_and_its_image_is_not_served_meanwhile(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "IMAGE_KILLED_S", 0.0)
    path, other = create(tmp_path / "d.qcow2"), create(tmp_path / "other.qcow2")
    told, fd = images.open(wanted(path, name="volume"))
    os.pwrite(fd, DATA, 0)
    kept = keep(images, "volume")
    for _ in range(2):
        with pytest.raises(
            ConfigurationError, match=rf"d.qcow2: process {kept.pid}, .* was killed .*; look at that disk$"
        ):
            images.again(told.image)
    images.open(wanted(other))
    over = create(tmp_path / "over", "-b", path.name, "-F", "qcow2")
    with pytest.raises(ConfigurationError, match=f"over: process {kept.pid}"):
        images.open(wanted(over))
    kept.is_over = True
    wait_for(lambda: not processes.left_with([str(path)]))
    _, fd = images.again(told.image)
    assert os.pread(fd, len(DATA), 0) == DATA


def keep(images: Images, key: str) -> Kept:
    """Let a disk keep what serves an image."""
    daemon = images._them[key].daemon
    assert daemon._process is not None
    kept = Kept(daemon._process)
    daemon._process = kept  # type: ignore[assignment]
    return kept


@pytest.mark.usefixtures("programs")
def test_what_only_reads_keeps_nobody_from_its_image(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "IMAGE_KILLED_S", 0.0)
    told, _ = images.open(wanted(create(tmp_path / "d.qcow2"), name="volume", read_only=True))
    kept = keep(images, "volume")
    images.again(told.image)
    kept.is_over = True
    wait_for(lambda: kept.poll() is not None)


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("verb", ["query-jobs", "blockdev-add", "blockdev-snapshot"])
def test_what_does_nothing_at_a_cut_is_ended_and_the_next_has_the_overlay(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """If it has done what it was asked for is not known."""
    path = create(tmp_path / "d.qcow2")
    told, fd = images.open(wanted(path, name="volume"))
    os.pwrite(fd, DATA, 0)
    os.fdatasync(fd)
    over = create(tmp_path / "over", "-b", path.name, "-F", "qcow2")
    serving = daemon_of(path)
    monkeypatch.setattr(timing, "IMAGE_ANSWER_S", LONG_S)
    asked_of(images, "volume").idle_s = 0.1
    with stopped_at(verb, serving):
        images.switch("volume", str(over))
    assert daemon_of(path) != serving
    _, fd = images.again(told.image)
    assert (os.pread(fd, len(DATA), 0), daemon_of(over) not in (0, serving)) == (DATA, True)
    kept = path.read_bytes()
    os.pwrite(fd, DATA, len(DATA))
    os.fdatasync(fd)
    assert path.read_bytes() == kept


def asked_of(images: Images, key: str) -> Qmp:
    asked = images._them[key].daemon._asked
    assert asked is not None
    return asked


@contextmanager
def stopped_at(verb: str, process: int) -> Iterator[None]:
    """Inside, a process stops before it hears that."""
    asking = Qmp.do

    def do(self: Qmp, asked: str, *words: Any, **arguments: Any) -> Any:
        if asked == verb:
            os.kill(process, signal.SIGSTOP)
            wait_for(lambda: not is_at_work(process))
        return asking(self, asked, *words, **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Qmp, "do", do)
        yield


@pytest.mark.usefixtures("programs")
def test_what_a_disk_keeps_at_a_cut_goes_on(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would not end sooner, and in write-back mode a FLUSH of its clients would fail."""
    path = create(tmp_path / "d.qcow2")
    _, fd = images.open(wanted(path, name="volume"))
    over = create(tmp_path / "over", "-b", path.name, "-F", "qcow2")
    serving, looks = daemon_of(path), []

    def is_kept(process: int) -> bool:
        looks.append(process)
        os.kill(process, signal.SIGCONT)
        return True

    monkeypatch.setattr(processes, "is_at_work", is_kept)
    asked_of(images, "volume").idle_s = 0.01
    with stopped_at("blockdev-snapshot", serving):
        images.switch("volume", str(over))
    os.pwrite(fd, DATA, 0)
    assert (os.pread(fd, len(DATA), 0), daemon_of(over), {*looks}) == (DATA, serving, {serving})


@pytest.mark.usefixtures("programs")
def test_one_that_serves_may_do_nothing_for_less_time_than_one_that_starts(
    images: Images, tmp_path: Path
) -> None:
    images.open(wanted(create(tmp_path / "d.qcow2"), name="volume"))
    assert asked_of(images, "volume").idle_s == timing.IMAGE_IDLE_S < timing.IMAGE_ANSWER_S


def test_a_process_at_work_is_told_from_one_that_stands() -> None:
    assert is_at_work(os.getpid())
    with subprocess.Popen(["/bin/sleep", "1000"]) as child:
        wait_for(lambda: not is_at_work(child.pid))
        child.kill()
    assert not is_at_work(child.pid)


def test_one_that_has_ended_is_ended_again() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    forked = Forked(child)
    for _ in range(2):
        processes.end(forked)
    assert (forked.poll(), processes.left_with(["any"])) == (0, 0)


def test_one_is_known_by_its_number_alone() -> None:
    started = subprocess.Popen(["sleep", str(LONG_S)])
    forked = Forked(started.pid)
    assert forked.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        forked.wait(0.01)
    forked.kill()
    assert [forked.wait(PATIENCE_S), forked.wait(0.0), forked.poll()] == [-signal.SIGKILL] * 3
    forked.kill()
    started.returncode = 0  # it was waited for
