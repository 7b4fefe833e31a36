"""What the initramfs does on the way to its root, with stubs for what needs a kernel."""

import os
import pty
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest

from tests.packages.initramfs import command, each_shell, run, surroundings
from tests.support.waiting import PATIENCE_S, wait_for

STUBS = """\
modprobe() { echo "modprobe $*"; }
uname() { echo 6.1.0-test; }
mount() { echo "mount $*"; [ ! -e "$AOE_RUN/refused" ]; }
"""


@each_shell
@pytest.mark.parametrize(("size", "given"), [("", "50%"), ("512M", "512M")])
def test_what_is_written_goes_into_memory(shell: str, tmp_path: Path, size: str, given: str) -> None:
    code = f"{STUBS}aoe_size=$1; aoe_lay_over /root; echo is $?"
    done = run(shell, code, size, AOE_RUN=str(tmp_path))
    below, above = f"{tmp_path}/aoe-root/disk", f"{tmp_path}/aoe-root/memory"
    layers = f"lowerdir={below},upperdir={above}/upper,workdir={above}/work"
    assert done.stdout.splitlines() == [
        "modprobe overlay",
        f"mount -n -o move /root {below}",
        f"mount -n -t tmpfs -o mode=0755,size={given} aoe-root {above}",
        f"mount -n -t overlay -o {layers} aoe-root /root",
        "is 0",
    ]
    assert Path(above, "upper").is_dir()
    assert Path(above, "work").is_dir()


@each_shell
def test_a_root_without_an_overlay_is_not_gone_on_with(shell: str, tmp_path: Path) -> None:
    (tmp_path / "refused").touch()
    done = run(shell, f"{STUBS}aoe_size=; aoe_lay_over /root || echo refused", AOE_RUN=str(tmp_path))
    assert done.stdout.splitlines()[-1] == "refused"


@each_shell
def test_a_root_that_systemd_has_shared_is_bound(shell: str, tmp_path: Path) -> None:
    code = f"{STUBS}mount() {{ echo mount $*; [ $3 != move ]; }}\naoe_size=; aoe_lay_over /root && echo over"
    done = run(shell, code, AOE_RUN=str(tmp_path))
    below = tmp_path / "aoe-root" / "disk"
    said = done.stdout.splitlines()
    assert said[2:4] == [f"mount -n -o bind /root {below}", f"mount -n --make-private {below}"]
    assert said[-1] == "over"


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """As an initramfs has them."""
    there = tmp_path / "modules" / "6.1.0-test"
    (there / "kernel" / "net").mkdir(parents=True)
    (there / "modules.dep").write_text("of all\n")
    (there / "kernel" / "net" / "nbd.ko").write_bytes(b"\x7fELF\0")
    (there / "build").symlink_to("/nowhere")
    return tmp_path / "modules"


@each_shell
def test_a_root_of_another_kernel_gets_the_modules_of_this_one(
    shell: str, modules: Path, tmp_path: Path
) -> None:
    root, mounted = tmp_path / "root", "mount -n -t tmpfs -o mode=0755 aoe-modules"
    (root / "lib" / "modules" / "5.10").mkdir(parents=True)
    where = {"AOE_RUN": str(tmp_path), "AOE_MODULES": str(modules)}
    done = run(shell, f"{STUBS}aoe_bring_modules $1", str(root), **where)
    assert done.stdout.splitlines() == [f"{mounted} {root}/lib/modules"]
    assert "the root has no /lib/modules/6.1.0-test, so it is of another kernel" in done.stderr
    brought = root / "lib" / "modules" / "6.1.0-test"
    assert (brought / "modules.dep").read_text() == "of all\n"
    assert (brought / "kernel" / "net" / "nbd.ko").read_bytes() == b"\x7fELF\0"
    again = run(shell, f"{STUBS}aoe_bring_modules $1", str(root), **where)
    assert (again.stdout, again.stderr) == ("", "")


@each_shell
def test_a_root_that_cannot_get_modules_is_said(shell: str, modules: Path, tmp_path: Path) -> None:
    (tmp_path / "refused").touch()
    where = {"AOE_RUN": str(tmp_path), "AOE_MODULES": str(modules)}
    done = run(shell, f"{STUBS}aoe_bring_modules $1", "/proc", **where)
    assert "it gets none, as it has no directory /lib/modules and cannot be written" in done.stderr


# Interfaces on interfaces


@pytest.fixture
def interfaces(tmp_path: Path) -> Path:
    """As /sys/class/net has them."""
    for name in ("ens3", "ens4"):
        (tmp_path / "net" / name).mkdir(parents=True)
        for file, text in (("address", MAC), ("mtu", 1500), ("flags", "0x1003")):
            (tmp_path / "net" / name / file).write_text(f"{text}\n")
    return tmp_path / "net"


IP = """\
ip() {
    echo "ip $*"
    [ "$3" != "$refused" ] || return 1
    name=$3
    [ "$3" != link ] || name=$6
    [ "$2" != set ] || { mkdir "$AOE_NET/$3/master" && return; }
    mkdir "$AOE_NET/$name"
    echo 0x1002 >"$AOE_NET/$name/flags"
    echo 02:00:00:00:00:01 >"$AOE_NET/$name/address"
}
"""
MAC = "02:00:00:00:00:01"
STACK = f"{STUBS}{IP}" + (
    'aoe_names="ens3 ens4" aoe_mtu= aoe_vlan=$1 aoe_bridge=$2 refused=$3; aoe_stack; echo "$?$aoe_used"'
)


@each_shell
@pytest.mark.parametrize(
    ("vlan", "bridge", "used"),
    [
        ("", "", "ens3 ens4"),
        ("7", "", "ens3.7 ens4.7"),
        ("", "br0", "br0 ens4"),
        ("7", "br0", "br0 ens4.7"),
    ],
)
def test_vlans_and_a_bridge_are_made_once(
    shell: str, interfaces: Path, vlan: str, bridge: str, used: str
) -> None:
    done = run(shell, f"{STACK}; aoe_stack; echo $?$aoe_used", vlan, bridge, "-", AOE_NET=str(interfaces))
    made = done.stdout.splitlines()
    assert made[-1] == f"0 {used}"
    assert made.count(f"0 {used}") == 2
    calls = [it for it in made if it.startswith("ip ")]
    assert len(calls) == 2 * bool(vlan) + 2 * bool(bridge)
    if bridge:
        port = "ens3.7" if vlan else "ens3"
        assert calls[-1 - bool(vlan)] == f"ip link set {port} master br0"
        assert f"ip link add br0 address {MAC} type bridge forward_delay 0" in calls
    for name in used.split():
        assert int((interfaces / name / "flags").read_text(), 0) & 1


@each_shell
@pytest.mark.parametrize(
    ("refused", "why"),
    [
        ("link", "the VLAN ens3.7 cannot be made"),
        ("br0", "the bridge br0 cannot be made"),
        ("ens3.7", "ens3.7 cannot be put into the bridge br0"),
    ],
)
def test_what_cannot_be_made_is_said(shell: str, interfaces: Path, refused: str, why: str) -> None:
    done = run(shell, f"{STACK}; echo $aoe_why", "7", "br0", refused, AOE_NET=str(interfaces))
    assert done.stdout.splitlines()[-1] == why


@each_shell
def test_a_vlan_whose_name_is_too_long_is_said(shell: str, tmp_path: Path) -> None:
    code = "aoe_names=enx525400123456 aoe_mtu= aoe_bridge= aoe_vlan=7; aoe_stack || echo $aoe_why"
    said = run(shell, code, AOE_NET=str(tmp_path)).stdout
    assert said.startswith("the VLAN enx525400123456.7 cannot be made: a name has at most 15 letters")
    assert "net.ifnames=0" in said


@each_shell
@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("ens3", ""),
        (
            "ens3 ens4",
            "aoe-root: of ens3 ens4, only ens3 is in the bridge br0; interfaces= says which one "
            "comes first\n",
        ),
    ],
)
def test_it_is_said_which_interface_is_in_the_bridge(shell: str, names: str, said: str) -> None:
    assert run(shell, f"aoe_bridge=br0; aoe_tell_port {names}").stderr == said


# Name servers


@each_shell
@pytest.mark.parametrize("had", [None, "nameserver 10.0.0.1\n"])
def test_the_root_gets_name_servers(shell: str, tmp_path: Path, had: str | None) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    if had is not None:
        (root / "etc" / "resolv.conf").write_text(had)
    (tmp_path / "net-eth0.conf").write_text("IPV4DNS0='192.168.55.53'\nIPV4DNS1='0.0.0.0'\n")
    done = run(shell, "aoe_name_servers $1", str(root), AOE_RUN=str(tmp_path))
    assert (done.stdout, done.stderr) == ("", "")
    assert (root / "etc" / "resolv.conf").read_text() == (had or "nameserver 192.168.55.53\n")
    resolved = (tmp_path / "systemd/resolved.conf.d/aoe-root.conf").read_text()
    assert resolved == "[Resolve]\nDNS=192.168.55.53\n"


@each_shell
def test_without_any_nothing_is_written(shell: str, tmp_path: Path) -> None:
    done = run(shell, "aoe_name_servers $1", str(tmp_path), AOE_RUN=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


# Interfaces that come late

LATE = """\
passed=0
aoe_uptime() { echo $passed; }
sleep() { passed=$((passed + $1)); [ $passed -ne $at ] || mv "$AOE_RUN/later" "$AOE_NET/ens3"; }
modprobe() { :; }
aoe_by_door() { echo "at $passed by$aoe_used"; }
aoe_macs=$1 at=$2 aoe_mtu= aoe_vlan= aoe_bridge= aoe_timeout= aoe_driver=; aoe_attach && echo attached
"""
LATER = "02:00:00:00:00:02"
NONE = "there is no interface"


@each_shell
@pytest.mark.parametrize(
    ("macs", "at", "attached", "told"),
    [
        (LATER, 70, "at 70 by ens3", [f"{NONE} with the MAC {LATER}"] * 2),
        (f"{MAC} {LATER}", 5, "at 5 by ens4 ens3", [f"{NONE} with the MAC {LATER}"]),
        (f"{MAC} {LATER}", 70, "at 10 by ens4", [f"{NONE} with the MAC {LATER}", f"used without {LATER}"]),
    ],
)
def test_an_interface_that_comes_late(
    shell: str, tmp_path: Path, macs: str, at: int, attached: str, told: list[str]
) -> None:
    """Alone it is waited for, and that is told each minute; beside another one for some seconds."""
    for place, mac in (("net/ens4", MAC), ("later", LATER)):
        (tmp_path / place / "device").mkdir(parents=True)
        for file, text in (("address", mac), ("type", 1), ("flags", "0x1002")):
            (tmp_path / place / file).write_text(f"{text}\n")
    where = {"AOE_NET": str(tmp_path / "net"), "AOE_RUN": str(tmp_path), "panic": "-1"}
    done = run(shell, LATE, macs, str(at), **where)
    assert done.stdout.splitlines() == [attached, "attached"]
    said = done.stderr.splitlines()
    assert len(said) == len(told)
    assert all(words in line for words, line in zip(told, said, strict=True))


# A shell while it waits

WAITING = """\
sleep() { command sleep 0.05; }
modprobe() { :; }
aoe_try() {
    aoe_why="e0.5 does not answer"
    [ ! -e "$AOE_RUN/there" ] || aoe_why=''
    [ ! "$aoe_why" ]
}
aoe_timeout= aoe_driver=; aoe_attach && echo attached
"""


class Waiting:
    """A machine that looks for its disk, which is there when a file is; and its console."""

    def __init__(self, shell: str, there: Path, **environment: str) -> None:
        self._there = there
        self._seen = b""
        self._console, machines = pty.openpty()
        os.set_blocking(self._console, False)
        with (there / "said").open("w") as said:
            self._process = subprocess.Popen(
                command(shell, WAITING),
                env=surroundings(AOE_RUN=str(there), AOE_CONSOLE=os.ttyname(machines), **environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )
        self._machines = machines

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        os.close(self._console)
        os.close(self._machines)

    def said(self) -> str:
        """What the script has said."""
        return (self._there / "said").read_text()

    def press(self, keys: bytes) -> None:
        """On the console."""
        os.write(self._console, keys)

    def shown(self) -> str:
        """What is on the console, since it was cleared last."""
        with suppress(BlockingIOError):
            self._seen += os.read(self._console, 65536)
        return self._seen.decode()

    def clear(self) -> None:
        """The console."""
        self.shown()
        self._seen = b""

    def end(self) -> str:
        """What it comes to when the disk is there."""
        (self._there / "there").touch()
        return self._process.communicate(timeout=PATIENCE_S)[0]


@each_shell
def test_enter_gives_a_shell_while_there_is_no_disk(shell: str, tmp_path: Path) -> None:
    with Waiting(shell, tmp_path) as it:
        wait_for(lambda: "trying again; Enter gives a shell" in it.said(), what=it.said)
        for _ in range(2):  # each time
            it.clear()
            it.press(b"\n")
            wait_for(lambda: "(aoe-root)" in it.shown(), what=it.shown)
            it.press(b"echo sum=$((40 + 2)); exit\n")
            wait_for(lambda: "sum=42" in it.shown(), what=it.shown)
        assert "when this shell ends, it is looked for again" in it.said()
        assert it.end() == "attached\n"


@each_shell
def test_there_is_no_shell_where_panic_forbids_it(shell: str, tmp_path: Path) -> None:
    with Waiting(shell, tmp_path, panic="-1") as it:
        wait_for(lambda: "e0.5 does not answer; trying again\n" in it.said(), what=it.said)
        it.press(b"\n")
        assert it.end() == "attached\n"
        assert "(aoe-root)" not in it.shown()
        assert "shell" not in it.said()
