"""A disk in qcow2 whose qemu-storage-daemon is killed under load: clients see a pause, and no error; nothing
that was acknowledged is lost, or the next FLUSH says that it may be (order rules T6 and I6)."""

import subprocess
import sys
import threading
from itertools import islice
from pathlib import Path
from typing import cast

import pytest

from aoe.image import mounts
from aoe.wire import frame
from aoe.wire.protocol import SECTOR
from tests.image.daemons import daemon_of, kill_daemon
from tests.net.test_kill9 import SECTORS, WRITERS, Writer
from tests.support.labs.load import write_request
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget
from tests.support.labs.raw_client import AtaFailed, Client
from tests.support.tools import need_images, tool
from tests.support.waiting import PATIENCE_S, wait_for

KILLS = 5
AT_ONCE = 32
MAC = bytes((2, 0, 0, 0, 0x89))


@pytest.fixture(autouse=True)
def programs() -> None:
    need_images()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.qcow2"
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, str(SECTORS * SECTOR))
    return path


def client(lab: Lab, number: int = 0) -> Client:
    """One that waits out any pause."""
    mac = MAC + bytes([number])
    return lab.client(mac=mac, timeout=1, retries=int(PATIENCE_S), dst=lab.cables[0].a.mac)


class Load:
    """Eight hosts that write until the end of the block. `alive` are those whose requests had no error."""

    def __init__(self, lab: Lab) -> None:
        self.writers = [Writer(number, client(lab, number)) for number in range(WRITERS)]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=it.run, args=(self._stop,)) for it in self.writers]

    def __enter__(self) -> "Load":
        for it in self._threads:
            it.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for it in self._threads:
            it.join()

    @property
    def done(self) -> int:
        return sum(sum(it.acknowledged.values()) for it in self.writers)

    @property
    def alive(self) -> int:
        return sum(it.is_alive() for it in self._threads)

    def goes_on(self) -> None:
        before = self.done
        wait_for(lambda: self.done > before + WRITERS)


def kill(path: Path) -> None:
    """The daemon of an image; return when there is another one."""
    killed = kill_daemon(path)
    wait_for(lambda: daemon_of(path) not in (0, killed))


@pytest.mark.parametrize("direct", [False, True], ids=["buffered", "direct"])
def test_a_killed_daemon_is_a_pause(lab: Lab, tmp_path: Path, disk: Path, direct: bool) -> None:
    with AoeTarget(lab, tmp_path, f"{disk}=1.1", *["--direct"] * direct) as target:
        with Load(lab) as load:
            for _ in range(KILLS):
                load.goes_on()
                kill(disk)
            load.goes_on()
            assert load.alive == WRITERS
        reader = client(lab)
        content = b"".join(reader.read(at, 2) for at in range(0, SECTORS, 2))
        assert [it for writer in load.writers for it in writer.problems(content)] == []
        kill_daemon(disk)  # what is read then is in the image
        target.stop()
    raw = tmp_path / "raw"
    tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", disk, raw)
    assert [it for writer in load.writers for it in writer.problems(raw.read_bytes())] == []
    wait_for(lambda: not daemon_of(disk))
    wait_for(lambda: mounts.PREFIX not in Path("/proc/self/mountinfo").read_text(), what="it is mounted")


def flushes(one: Client) -> bool:
    try:
        one.flush()
    except AtaFailed:
        return False
    return True


def test_what_was_written_back_and_lost_is_told_once(lab: Lab, tmp_path: Path, disk: Path) -> None:
    with AoeTarget(lab, tmp_path, f"{disk}=1.1", "--durability", "write-back"):
        one, other, reader = (client(lab, number) for number in range(3))
        one.write(0, bytes(SECTOR))
        other.write(1, bytes(SECTOR))
        assert flushes(one)
        before = one.identify()
        one.write(0, b"x" * SECTOR)
        kill_daemon(disk)
        assert [flushes(it) for it in (one, one, reader, other, other, one)] == [
            False,
            True,
            True,
            False,
            True,
            True,
        ]
        assert one.identify() != before, "it is another instance"


LOST = """
import sys
from dataclasses import replace
from aoe.cli.target import main
from aoe.image.serving import Images
opened = Images.open
def lost(self, wanted):
    told, fd = opened(self, wanted)
    return replace(told, lost=True), fd
Images.open = lost
sys.exit(main(sys.argv[1:]))
"""
"""A target whose images were lost when an earlier life had them."""


@pytest.mark.parametrize(("durability", "first"), [("write-back", False), ("write-through", True)])
def test_what_was_lost_between_two_lives_is_told_once(
    lab: Lab, tmp_path: Path, disk: Path, durability: str, first: bool
) -> None:
    """To each, as this life does not know who wrote."""
    said = (f"{disk}=1.1", "--durability", durability)
    with AoeTarget(lab, tmp_path, *said, launcher=("-c", LOST)) as target:
        one, other = (client(lab, number) for number in range(2))
        assert [flushes(it) for it in (one, one, other, other)] == [first, True, first, True]
        assert ("had ended before this start" in target.errors) is not first


def test_our_initiator_has_one_flush_fail(lab: Lab, tmp_path: Path, disk: Path) -> None:
    """By the instance that it finds, not by an answer."""
    with AoeTarget(lab, tmp_path, f"{disk}=1.1", "--durability", "write-back"):
        command = lab.command("client", sys.executable, "-m", "tests.net.lost_writes")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, text=True, bufsize=1, **pipes) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "written\n"
            kill_daemon(disk)
            said = []
            for _ in range(3):
                process.stdin.write("\n")
                said.append(process.stdout.readline())
            process.stdin.close()
        assert said[0].startswith("lost: ")
        assert said[1:] == ["flushed\n", "flushed\n"]


def test_what_was_written_through_is_there(lab: Lab, tmp_path: Path, disk: Path) -> None:
    with AoeTarget(lab, tmp_path, f"{disk}=1.1"):
        one = client(lab)
        before = one.identify()
        for number in range(3):
            one.write(number, bytes([number + 1]) * SECTOR)
            kill_daemon(disk)
            assert flushes(one)
        assert one.read(0, 2) == b"\1" * SECTOR + b"\2" * SECTOR
        assert one.identify() == before


def calls(path: Path) -> int:
    """What the daemon of an image was asked for, at least, and its other reads."""
    numbers = Path(f"/proc/{daemon_of(path)}/io").read_text().split()
    return int(numbers[numbers.index("syscr:") + 1])


def written_at_once(target: AoeTarget, one: Client, disk: Path) -> int:
    """What the daemon was asked for while all of some writes came before the first was taken, each where the
    one before it ended; -1: not all are acknowledged."""
    before = calls(disk)
    target.pause()
    tags = set()
    for number in range(AT_ONCE):
        request = write_request(one, number, bytes([number]) * SECTOR)
        tags.add(cast("frame.Header", frame.decode(request)).tag)
        one.send(request)
    target.resume()
    answered = list(islice(one.replies(tags, PATIENCE_S), AT_ONCE))
    return calls(disk) - before if len(answered) == AT_ONCE else -1


def test_writes_that_follow_each_other_go_as_one(lab: Lab, tmp_path: Path, disk: Path, engine: str) -> None:
    """With the C engine: a request of the daemon costs far more than the bytes of one."""
    with AoeTarget(lab, tmp_path, f"{disk}=1.1", "--max-frame-age", str(PATIENCE_S)) as target:
        one = client(lab)
        one.write(0, bytes(SECTOR))
        if engine == "c":
            wait_for(lambda: 0 < written_at_once(target, one, disk) < AT_ONCE // 2)
        else:
            wait_for(lambda: written_at_once(target, one, disk) >= AT_ONCE)
        assert b"".join(one.read(number) for number in range(AT_ONCE)) == b"".join(
            bytes([number]) * SECTOR for number in range(AT_ONCE)
        )


def test_nothing_is_left_behind(lab: Lab, tmp_path: Path, disk: Path) -> None:
    """Not by a target that is killed either; the next one serves the image at once."""
    for _ in range(2):
        with AoeTarget(lab, tmp_path, f"{disk}=1.1") as target:
            client(lab).write(0, bytes(SECTOR))
            target.kill()
    wait_for(lambda: not daemon_of(disk))
