"""Every start that cannot work: one line that names the thing and the remedy, exit 2, nothing created."""

import fcntl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.labs.fault_disk import loop_device
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, Vblade, image
from tests.support.tools import loop_obstacle, need, need_loop, need_namespaces, unavailable, which
from tests.support.waiting import wait_for

REFUSED = 2
WITHOUT_RAW = ("setpriv", "--bounding-set", "-net_raw")
WITHOUT_OVERRIDE = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")


class Refusal(NamedTuple):
    """A start that must fail: arguments and what the line must name."""

    arguments: Sequence[str]
    names: Sequence[str]
    interfaces: Sequence[str] = ("v0",)
    prefix: Sequence[str] = ()
    launcher: Sequence[str] = ("-m", "aoe.cli.target")


def attempt(lab: Lab, work: Path, refusal: Refusal) -> AoeTarget:
    """Start what must fail."""
    target = AoeTarget(
        lab,
        work,
        *refusal.arguments,
        interfaces=refusal.interfaces,
        prefix=refusal.prefix,
        launcher=refusal.launcher,
    )
    return target.launch()


def refused(target: AoeTarget, refusal: Refusal) -> None:
    """Hold a failure to what every failure promises."""
    status = target.wait()
    lines = target.errors.splitlines()
    assert (status, len(lines), target.output) == (REFUSED, 1, ""), target.errors
    for name in refusal.names:
        assert name in lines[0]
    assert not target.state_dir.exists() or not list(target.state_dir.iterdir())


def refuse(lab: Lab, work: Path, refusal: Refusal) -> None:
    refused(attempt(lab, work, refusal), refusal)


@contextmanager
def cleanup(*argv: str | Path) -> Iterator[None]:
    """Run a command afterwards."""
    try:
        yield
    finally:
        subprocess.run([which(str(argv[0])) or argv[0], *argv[1:]], timeout=30, check=True)


def command(*argv: str | Path) -> str:
    program = which(str(argv[0])) or argv[0]
    done = subprocess.run([program, *argv[1:]], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


@contextmanager
def mounted_device(work: Path) -> Iterator[Path]:
    """A block device with a file system that is in use."""
    (work / "mnt").mkdir()
    with loop_device(image(work / "medium", 16384)) as device:
        command("mkfs.ext4", "-q", device)
        command("mount", device, work / "mnt")
        with cleanup("umount", work / "mnt"):
            yield device


# What is in use is waited for, some seconds: the waiting goes on beside the other tests

Waiting = Callable[[str], tuple[AoeTarget, Refusal, float]]


@pytest.fixture(scope="module", autouse=True)
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waiting]:
    """Starts on stores in use; calling it returns one of them, ended, and the seconds that took."""
    need_namespaces()
    work = tmp_path_factory.mktemp("in-use")
    locked = image(work / "locked")
    refusals = {
        "lock": Refusal([f"{locked}=1.1"], ["locked", "in use", "--shared"]),
    }
    with ExitStack() as undo:
        lab = undo.enter_context(Lab())
        pool = undo.enter_context(ThreadPoolExecutor(3))
        holder = undo.enter_context(locked.open("r+b"))
        fcntl.flock(holder, fcntl.LOCK_EX)
        if not loop_obstacle() and which("mkfs.ext4"):
            device = undo.enter_context(mounted_device(work))
            refusals["mount"] = Refusal([f"{device}=1.4"], [str(device), "in use", "mounted"])
        began_s = time.monotonic()
        targets = {name: attempt(lab, work, refusal) for name, refusal in refusals.items()}
        ends = {name: pool.submit(ended_s, target, began_s) for name, target in targets.items()}
        yield lambda name: (targets[name], refusals[name], ends[name].result())


def ended_s(target: AoeTarget, began_s: float) -> float:
    """How long after that a target has ended; it does not wait for ever."""
    target.wait()
    return time.monotonic() - began_s


# What is served


def test_a_missing_file(lab: Lab, tmp_path: Path) -> None:
    refuse(lab, tmp_path, Refusal([f"{tmp_path}/absent=1.1"], [f"{tmp_path}/absent", "existing file"]))
    assert not (tmp_path / "absent").exists()


def test_a_directory(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    refuse(lab, tmp_path, Refusal([f"{tmp_path}/folder=1.1"], ["folder", "regular file or a block device"]))


@pytest.mark.parametrize("size", [0, 1, 511])
def test_less_than_a_sector(size: int, lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "tiny").write_bytes(bytes(size))
    refuse(lab, tmp_path, Refusal([f"{tmp_path}/tiny=1.1"], ["tiny", "no whole sector", "larger"]))


def test_no_permission(lab: Lab, tmp_path: Path) -> None:
    need("setpriv")
    path = image(tmp_path / "secret")
    path.chmod(0)
    refuse(lab, tmp_path, Refusal([f"{path}=1.1"], ["secret", "permission"], prefix=WITHOUT_OVERRIDE))


def test_a_file_that_may_only_be_read_says_so(lab: Lab, tmp_path: Path) -> None:
    need("setpriv")
    path = image(tmp_path / "readable")
    path.chmod(0o444)
    refusal = Refusal([f"{path}=1.1"], ["readable", "--read-only"], prefix=WITHOUT_OVERRIDE)
    refuse(lab, tmp_path, refusal)
    served = AoeTarget(lab, tmp_path, f"{path}=1.1", "--read-only", prefix=WITHOUT_OVERRIDE)
    with served:
        assert lab.client().read(0) == bytes(512)


def test_a_lock_that_is_released_in_time_is_no_obstacle(lab: Lab, tmp_path: Path) -> None:
    path = image(tmp_path / "locked")
    with path.open("r+b") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        target = AoeTarget(lab, tmp_path, f"{path}=1.1").launch()
        time.sleep(0.5)
        assert target.alive
        assert not target.output
    with target:
        assert lab.client().read(0) == bytes(512)


def test_a_block_device_is_served_and_held(lab: Lab, tmp_path: Path) -> None:
    """The refusal above is about the mount, not about loop devices."""
    need_loop()
    with loop_device(image(tmp_path / "medium", 16384)) as device, AoeTarget(lab, tmp_path, f"{device}=1.1"):
        client = lab.client()
        client.write(5, b"\x5a" * 512)
        assert client.read(5) == b"\x5a" * 512


# Where it is served


def test_no_such_interface(lab: Lab, tmp_path: Path) -> None:
    path = image(tmp_path / "disk")
    refuse(lab, tmp_path, Refusal([f"{path}=1.1"], ["nosuch0", "v0"], interfaces=["nosuch0"]))


def test_an_interface_that_is_not_ethernet(lab: Lab, tmp_path: Path) -> None:
    made = lab.run("target", "ip", "tuntap", "add", "dev", "tun0", "mode", "tun")
    if made.returncode:
        unavailable(f"no tun device: {made.stderr.strip()}")
    path = image(tmp_path / "disk")
    refuse(lab, tmp_path, Refusal([f"{path}=1.1"], ["tun0", "not an Ethernet"], interfaces=["tun0"]))


def test_an_mtu_too_small_for_a_sector(lab: Lab, tmp_path: Path) -> None:
    path = image(tmp_path / "disk")
    lab.link(lab.cables[0].a, "mtu", "533")
    refuse(lab, tmp_path, Refusal([f"{path}=1.1"], ["533", "v0", "534"]))
    lab.link(lab.cables[0].a, "mtu", "534")
    with AoeTarget(lab, tmp_path, f"{path}=1.1"):
        assert lab.client().config().sector_count == 1
        assert lab.client().read(0) == bytes(512)


def test_no_right_to_raw_sockets(lab: Lab, tmp_path: Path) -> None:
    need("setpriv")
    path = image(tmp_path / "disk")
    refuse(lab, tmp_path, Refusal([f"{path}=1.1"], ["v0", "cap_net_raw"], prefix=WITHOUT_RAW))


def test_no_interface_chosen_among_two(tmp_path: Path, lab: Lab) -> None:
    lab.cable("target", "client")
    path = image(tmp_path / "disk")
    refuse(lab, tmp_path, Refusal([f"{path}=1.1"], ["v0", "v1", "--interface"], interfaces=[]))


# What is said on the command line


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["{disk}=4095.1"], ["4095", "choose"]),
        (["{disk}=65535.1"], ["65535", "choose"]),
        (["{disk}=1.255"], ["255", "choose"]),
        (["{disk}", "--shelf", "4095"], ["4095", "choose"]),
        (["{disk}", "--slot", "255"], ["255", "choose"]),
        (["{disk}=1.1", "{other}=1.1"], ["1.1", "twice"]),
        (["{disk}=1.1,serial=SAME", "{other}=1.2,serial=SAME"], ["SAME", "one serial"]),
        (["{disk}=1.1", "{other}=1.2", "--serial", "ONE"], ["--serial", "PATH,serial="]),
        (["{disk}=1.1", "--serial", "twenty-one characters"], ["twenty-one", "20"]),
        (["{disk}=1.1", "--mask", "02:00:00:00:00"], ["--mask", "02:00:00:00:00", "02:00:00:00:00:01"]),
        (["{disk}=1.1", "--mask", "01:00:5e:00:00:01"], ["--mask", "01:00:5e:00:00:01", "group"]),
        (["{disk}=1.1", "--mask", ""], ["--mask"]),
        (["{disk}=1.1", "--direct", "--buffered"], ["--direct", "--buffered"]),
        (["{disk}=1.1", "--shared", "--buffered"], ["--shared", "--buffered"]),
        (["{disk}=1.1", "--buffer-count", "1"], ["--buffer-count", "2"]),
        (["{disk}=1.1", "--max-frame-age", "0"], ["--max-frame-age"]),
        (["{disk}=1.1", "--offset", "2048"], ["disk", "--offset 2048"]),
        (["{disk}=1.1", "--length", "2049"], ["disk", "--length 2049"]),
        (["{disk}=1.1", "--link", "udp:0.0.0.0:4700"], ["udp:0.0.0.0:4700", "peer="]),
        (["{disk}=1.1", "--link", "udp:127.0.0.1"], ["udp:127.0.0.1"]),
    ],
    ids=lambda value: " ".join(value).replace("{", "").replace("}", "") if isinstance(value, list) else None,
)
def test_a_bad_command_line(arguments: list[str], names: list[str], lab: Lab, tmp_path: Path) -> None:
    places = {"disk": str(image(tmp_path / "disk")), "other": str(image(tmp_path / "other"))}
    filled = [argument.format(**places) for argument in arguments]
    refuse(lab, tmp_path, Refusal(filled, names))


def test_the_engine_forced_where_there_is_none(lab: Lab, tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['aoe.engine._engine'] = None"
    launcher = ("-c", f"{hidden}; from aoe.cli.target import main; sys.exit(main())")
    path = image(tmp_path / "disk")
    refusal = Refusal([f"{path}=1.1", "--engine", "c"], ["engine", "install"], launcher=launcher)
    refuse(lab, tmp_path, refusal)
    with AoeTarget(lab, tmp_path, f"{path}=1.1", "--engine", "auto", launcher=launcher):
        assert lab.client().read(0) == bytes(512)


# Who else is there


def foreign(lab: Lab, tmp_path: Path) -> Vblade:
    """Another host's target with the same address and another disk."""
    need("vblade")
    return Vblade(lab, image(tmp_path / "foreign"), side="client")


def test_an_address_that_another_disk_has(lab: Lab, tmp_path: Path) -> None:
    path = image(tmp_path / "disk")
    with foreign(lab, tmp_path):
        mac = lab.cables[0].b.mac.hex(":")
        refuse(lab, tmp_path, Refusal([f"{path}=1.1"], ["1.1", mac, "--force"]))


def warns(target: AoeTarget) -> None:
    target.says("1.1", target.lab.cables[0].b.mac.hex(":"))


def test_force_serves_an_address_that_another_disk_has(lab: Lab, tmp_path: Path) -> None:
    path = image(tmp_path / "disk")
    with foreign(lab, tmp_path):
        target = AoeTarget(lab, tmp_path, f"{path}=1.1", "--force").launch()
        wait_for(lambda: target.output, what="not serving")
        warns(target)
        assert target.alive


def test_an_address_served_before_is_served_again(lab: Lab, tmp_path: Path) -> None:
    """After a crash a rival must not be able to keep the owner out."""
    path = image(tmp_path / "disk")
    with AoeTarget(lab, tmp_path, f"{path}=1.1") as target:
        target.stop()
        with foreign(lab, tmp_path):
            target.launch()
            wait_for(lambda: target.output.count("e1.1:") == 2, what="not serving again")
            warns(target)


def test_the_other_primary_of_the_same_disk_is_welcome(lab: Lab, tmp_path: Path) -> None:
    path = image(tmp_path / "disk")
    arguments = (f"{path}=1.1,serial=SAME", "--shared")
    with (
        AoeTarget(lab, tmp_path, *arguments, side="client", state_dir=tmp_path / "other"),
        AoeTarget(lab, tmp_path, *arguments) as target,
    ):
        warns(target)
        assert target.alive


@pytest.mark.parametrize("name", ["lock", "mount"])
def test_what_is_in_use_is_waited_for_and_then_refused(name: str, waiting: Waiting) -> None:
    """A lock of another process, a mounted file system."""
    if name == "mount":
        need_loop()
        need("mkfs.ext4", "mount")
    target, refusal, seconds = waiting(name)
    refused(target, refusal)
    assert seconds > 3
