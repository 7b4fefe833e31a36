"""Who else uses a store: QEMU, which has locks of its own, and loop devices, which have none."""

import errno
import fcntl
import logging
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from aoe.disk.identity import Host
from aoe.disk.open import Opening, open_disk
from aoe.errors import ConfigurationError
from tests.disk.helpers import open_descriptors, opened, sparse
from tests.support.labs.fault_disk import loop_device
from tests.support.tools import need, tool, which
from tests.support.waiting import PROMPT_S, wait_for

NOW = Opening(direct=False, lock_wait_s=0)
READING = NOW._replace(read_only=True)
SHARED = Opening(shared=True)


def refusal(path: Path, how: Opening = NOW, host: Host = Host()) -> str:  # noqa: B008
    before = open_descriptors()
    with pytest.raises(ConfigurationError) as caught:
        open_disk(path, how, host)
    assert open_descriptors() <= before
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@contextmanager
def qemu(path: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """QEMU's block layer has the image open."""
    need("qemu-io")
    command = [str(which("qemu-io")), "-f", "raw", *options, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("length\n")
        process.stdin.flush()
        said = process.stdout.readline()
        assert "iB" in said or "bytes" in said, said
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait(30)


def qemu_opens(path: Path, *options: str) -> bool:
    command = [str(which("qemu-io")), "-f", "raw", "-c", "length", *options, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0 or "lock" in done.stderr, done.stderr
    return done.returncode == 0


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return sparse(tmp_path / "disk.img", 2048)


# QEMU has it


@pytest.mark.parametrize("how", [NOW, READING])
def test_an_image_that_qemu_writes_is_refused_with_its_name(how: Opening, image: Path) -> None:
    with qemu(image) as process:
        message = refusal(image, how)
        assert f"in use by qemu-io (process {process.pid})" in message
        assert "--shared" in message
    with opened(image, how):
        pass


def test_an_image_that_qemu_reads_may_be_read_only(image: Path) -> None:
    with qemu(image, "-r"), opened(image, READING):
        pass


def test_who_has_it_is_said_only_where_it_is_seen(image: Path, tmp_path: Path) -> None:
    with qemu(image):
        assert "another program, such as QEMU" in refusal(image, NOW, Host(proc=tmp_path))


def test_a_device_that_qemu_writes_is_refused(image: Path) -> None:
    with loop_device(image) as device:
        with qemu(device) as process:
            assert f"process {process.pid}" in refusal(device)
        with opened(device):
            assert not qemu_opens(device)


def test_an_image_that_qemu_gives_back_meanwhile_is_waited_for(image: Path) -> None:
    with qemu(image) as process:
        assert process.stdin is not None
        timer = threading.Timer(0.3, process.stdin.close)
        began = time.monotonic()
        timer.start()
        with opened(image, Opening(direct=False, lock_wait_s=2 * PROMPT_S)):
            assert 0.3 <= time.monotonic() - began < PROMPT_S
        timer.join()


# We have it


def test_what_qemu_may_do_meanwhile(image: Path) -> None:
    need("qemu-io")
    with opened(image, NOW):
        assert not qemu_opens(image)
        assert qemu_opens(image, "-r", "-U")
    with opened(image, READING):
        assert not qemu_opens(image)
        assert qemu_opens(image, "-r")
    with opened(image, SHARED):
        assert qemu_opens(image)
    assert qemu_opens(image)


def test_two_that_read_do_not_disturb_each_other(image: Path) -> None:
    with opened(image, READING), opened(image, READING):
        assert "in use by" in refusal(image)


def test_a_holder_of_our_own_lock_is_named(image: Path) -> None:
    with opened(image, NOW):
        assert f"(process {os.getpid()})" in refusal(image)


def test_a_lock_of_others_on_the_whole_file_counts(image: Path) -> None:
    with image.open("r+b") as other:
        fcntl.lockf(other, fcntl.LOCK_EX)  # of a process, so its own are no obstacle: held by a child below
        child = os.fork()
        if not child:
            try:
                open_disk(image, NOW)
            except ConfigurationError as error:
                os._exit(7 if "in use" in str(error) else 8)
            os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_there_are_no_such_locks_that_is_said_and_flock_is_left(
    code: int, image: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def without(*_: object) -> bytes:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "fcntl", without)
        with caplog.at_level(logging.WARNING), opened(image, NOW):
            (line,) = caplog.messages
            assert str(image) in line
            assert "QEMU" in line
            assert "in use" in refusal(image)


# Loop devices


@pytest.mark.parametrize("how", [NOW, READING])
def test_an_image_of_a_loop_device_is_refused(how: Opening, image: Path) -> None:
    with loop_device(image) as device:
        message = refusal(image, how)
        assert f"losetup --detach {device}" in message
    with opened(image, how):
        pass


def test_an_image_is_free_though_another_test_had_its_loop_device_open(image: Path) -> None:
    """Two that run `losetup --find` may find the same one free."""
    with loop_device(image) as device:
        late = os.open(device, os.O_RDONLY)
        timer = threading.Timer(0.3, os.close, [late])
        timer.start()
    with opened(image, NOW):
        pass
    timer.join()


def test_a_loop_device_that_is_mounted_elsewhere_is_not_waited_for(tmp_path: Path) -> None:
    """As it is in a lab that began while a test had it mounted here."""
    need("mkfs.ext4", "unshare", "mount")
    where = tmp_path / "mnt"
    where.mkdir()
    with ExitStack() as stack, loop_device(sparse(tmp_path / "disk", 2048)) as device:
        tool("mkfs.ext4", "-q", device)
        tool("mount", device, where)
        elsewhere = stack.enter_context(subprocess.Popen(["unshare", "--mount", "sleep", "infinity"]))
        stack.callback(elsewhere.kill)
        space = Path(f"/proc/{elsewhere.pid}/ns/mnt")
        wait_for(lambda: space.readlink() != Path("/proc/self/ns/mnt").readlink())
        tool("umount", where)


def test_both_may_read(image: Path) -> None:
    with loop_device(image, read_only=True):
        assert "losetup" in refusal(image)
        with opened(image, READING):
            pass


def test_it_is_the_file_that_counts_not_its_name(image: Path) -> None:
    other = image.with_name("other")
    other.hardlink_to(image)
    with loop_device(image) as device:
        image.unlink()
        assert str(device) in refusal(other)
        sparse(image, 2048)
        with opened(image, NOW):
            pass


def test_where_the_loop_device_may_not_be_opened_its_path_is_looked_at(image: Path, tmp_path: Path) -> None:
    with loop_device(image) as device:
        assert str(device) in refusal(image, NOW, Host(dev=tmp_path))
        with opened(sparse(tmp_path / "another", 64), NOW, Host(dev=tmp_path)):
            pass


def test_a_store_that_another_host_serves_too_has_no_locks(image: Path) -> None:
    with qemu(image), opened(image, SHARED), opened(image, SHARED):
        pass


def test_a_loop_device_whose_file_is_used_otherwise_is_refused(image: Path) -> None:
    with loop_device(image) as device:
        with qemu(image) as process:
            message = refusal(device)
            assert f"(process {process.pid})" in message
            assert "the file behind" in message
        with opened(device):
            pass


# Devices that are in use


def test_a_device_that_is_mounted_or_served_is_refused_with_where_and_who(tmp_path: Path) -> None:
    need("mkfs.ext4", "mount", "umount")
    with loop_device(sparse(tmp_path / "disk.img", 16384)) as device:
        with opened(device):
            assert f"(process {os.getpid()})" in refusal(device)
        tool("mkfs.ext4", "-q", "-F", "-O", "^has_journal", device)
        (tmp_path / "mnt").mkdir()
        tool("mount", device, tmp_path / "mnt")
        try:
            assert f"in use (mounted on {tmp_path}/mnt)" in refusal(device)
            assert "in use (mounted, or used by" in refusal(device, NOW, Host(proc=tmp_path, sys=tmp_path))
        finally:
            tool("umount", tmp_path / "mnt")


def test_a_device_that_another_is_made_of_is_refused_with_its_name(tmp_path: Path) -> None:
    with loop_device(sparse(tmp_path / "disk.img", 64)) as device, opened(device):
        number = device.stat().st_rdev
        node = tmp_path / "dev/block" / f"{os.major(number)}:{os.minor(number)}"
        (node / "holders" / "dm-3").mkdir(parents=True)
        assert "in use (a part of dm-3)" in refusal(device, NOW, Host(sys=tmp_path))
