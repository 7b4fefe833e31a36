"""What `aoeroot=` means, and how interfaces are found: the functions of the initramfs, in both shells."""

import re
from pathlib import Path

import pytest

from tests.packages.initramfs import FUNCTIONS, each_shell, run
from tests.support.labs.building import ROOT

MAC, OTHER = "52:54:00:12:34:56", "52:54:00:ab:cd:ef"
MEANT = (
    "$aoe_addresses|$aoe_macs|$aoe_mtu|$aoe_vlan|$aoe_bridge|$aoe_timeout|$aoe_overlay|$aoe_size|$aoe_rescue"
)
SHOW = f'aoe_parse "$1" && echo "{MEANT}"'


@each_shell
@pytest.mark.parametrize(
    ("words", "means"),
    [
        ("e0.5", "e0.5||||||||"),
        ("1.5,e65534.254", "e1.5 e65534.254||||||||"),
        ("e0.5,e1.5,rescue,timeout=20,mtu=9000", "e0.5 e1.5||9000|||20|||yes"),
        (f"interfaces={MAC}+52:54:00:AB:CD:EF,e0.5", f"e0.5|{MAC} {OTHER}|||||||"),
        (f"e0.5,interfaces={MAC},interfaces={OTHER}", f"e0.5|{MAC} {OTHER}|||||||"),
        ("e0.5,overlay=tmpfs", "e0.5||||||tmpfs||"),
        ("e0.5,size=100%,overlay=tmpfs", "e0.5||||||tmpfs|100%|"),
        ("e0.5,overlay=tmpfs,size=512M", "e0.5||||||tmpfs|512M|"),
        ("e0.5,vlan=7,bridge=br-0.x", "e0.5|||7|br-0.x||||"),
    ],
)
def test_what_words_mean(shell: str, words: str, means: str) -> None:
    done = run(shell, SHOW, words)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{means}\n", "")


@each_shell
@pytest.mark.parametrize(
    ("words", "device"), [("e0.5,e1.5", "nbd0"), ("driver=kernel,e65534.254", "etherd/e65534.254")]
)
def test_which_device_the_disk_is(shell: str, words: str, device: str) -> None:
    done = run(shell, 'aoe_parse "$1" && echo $aoe_device', words)
    assert (done.stdout, done.stderr) == (f"/dev/{device}\n", "")


@each_shell
@pytest.mark.parametrize(
    ("words", "wrong", "remedy"),
    [
        ("mtu=9000", "it names no disk", "aoeroot=e0.5"),
        ("e0.5,", "a comma", "remove the comma"),
        ("e0.5,,rescue", "a comma", "remove the comma"),
        ("e0.5,mtuu=9000", "'mtuu=9000'", "mtu="),
        ("e0.5,Rescue", "'Rescue'", "rescue"),
        ("e0.5,mtu=", "'mtu='", "1500 to 65535"),
        ("e0.5,mtu=9k", "'mtu=9k'", "1500 to 65535"),
        ("e0.5,mtu=1499", "'mtu=1499'", "1500 to 65535"),
        ("e0.5,timeout=0", "'timeout=0'", "1 to 999999"),
        ("e0.5,timeout=99999999999999999999", "'timeout=99999999999999999999'", "1 to 999999"),
        ("e0.5,vlan=4095", "'vlan=4095'", "1 to 4094"),
        ("e0.5,vlan=eth0.7", "'vlan=eth0.7'", "1 to 4094"),
        ("e0.5,bridge=", "'bridge='", "br0"),
        ("e0.5,bridge=../br0", "'bridge=../br0'", "br0"),
        ("e0.5,bridge=a-name-of-16.let", "'bridge=a-name-of-16.let'", "br0"),
        ("e0.5,overlay=disk", "'overlay=disk'", "overlay=tmpfs"),
        ("e0.5,overlay=", "'overlay='", "overlay=tmpfs"),
        ("e0.5,size=50%", "size=", "overlay=tmpfs"),
        ("e0.5,overlay=tmpfs,size=", "'size='", "50%"),
        ("e0.5,overlay=tmpfs,size=101%", "'size=101%'", "50%"),
        ("e0.5,overlay=tmpfs,size=0M", "'size=0M'", "512M"),
        ("e0.5,overlay=tmpfs,size=512", "'size=512'", "512M"),
        ("e0.5,overlay=tmpfs,size=M", "'size=M'", "512M"),
        ("e0.5,driver=door", "'driver=door'", "driver=kernel"),
        ("e0.5,e1.5,driver=kernel", "driver=kernel takes one address", "leave out"),
        ("e0.255", "'e0.255'", "eSHELF.SLOT"),
        ("e00.5", "'e00.5'", "eSHELF.SLOT"),
        ("e65535.0", "'e65535.0'", "eSHELF.SLOT"),
        ("e0", "'e0'", "eSHELF.SLOT"),
        ("e0.5.1", "'e0.5.1'", "eSHELF.SLOT"),
        ("e0.5/dev", "'e0.5/dev'", "eSHELF.SLOT"),
        ("e0.*", "'e0.*'", "eSHELF.SLOT"),
        ("e0.5,interfaces=eth0", "'eth0'", "52:54:00:12:34:56"),
        (f"e0.5,interfaces={MAC}+", "''", "52:54:00:12:34:56"),
        (f"e0.5,interfaces={MAC}:78", f"'{MAC}:78'", "52:54:00:12:34:56"),
        ("e0.5,interfaces=52:54:00:12:34:5g", "'52:54:00:12:34:5g'", "52:54:00:12:34:56"),
    ],
)
def test_a_word_that_is_wrong_is_named_with_its_remedy(
    shell: str, words: str, wrong: str, remedy: str
) -> None:
    done = run(shell, SHOW, words)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("aoe-root: aoeroot=: ")
    assert wrong in line
    assert remedy in line


@pytest.fixture
def interfaces(tmp_path: Path) -> Path:
    """As /sys/class/net has them: two of hardware, a bridge with the MAC of one, and the loopback."""
    for name, kind, mac in (
        ("br0", 1, MAC),
        ("ens3", 1, MAC),
        ("ens4", 1, OTHER),
        ("lo", 772, "00:00:00:00:00:00"),
    ):
        (tmp_path / name).mkdir()
        for file, text in (("type", kind), ("address", mac), ("mtu", 1500), ("flags", "0x1002")):
            (tmp_path / name / file).write_text(f"{text}\n")
    for name in ("ens3", "ens4"):
        (tmp_path / name / "device").mkdir()
    return tmp_path


@each_shell
@pytest.mark.parametrize(
    ("macs", "names", "missing"),
    [("", "ens3 ens4", ""), (MAC, "ens3", ""), (f"{OTHER} 52:54:00:00:00:01", "ens4", "52:54:00:00:00:01")],
)
def test_interfaces_are_those_of_hardware_with_their_macs(
    shell: str, interfaces: Path, macs: str, names: str, missing: str
) -> None:
    done = run(
        shell, 'aoe_macs=$1; aoe_look; printf "%s\n" $aoe_names / $aoe_missing', macs, AOE_NET=str(interfaces)
    )
    assert (done.stdout, done.stderr) == ("\n".join(f"{names} / {missing}".split()) + "\n", "")


@each_shell
def test_an_interface_comes_up_with_its_mtu(shell: str, interfaces: Path) -> None:
    code = "aoe_mtu=9000 aoe_used=ens3; aoe_up ens3; aoe_told_of; aoe_mtu=9100; aoe_told_of"
    done = run(shell, code, AOE_NET=str(interfaces))
    first, second = done.stdout.splitlines()
    assert (first, done.stderr) == ("ens3 has MTU 9000", "")
    assert second == "ens3 has MTU 9000 and takes no mtu=9100"
    assert int((interfaces / "ens3" / "flags").read_text()) == 0x1003
    assert (interfaces / "ens4" / "flags").read_text() == "0x1002\n"


@each_shell
def test_what_manages_interfaces_is_told(shell: str, interfaces: Path, tmp_path: Path) -> None:
    there = tmp_path / "run"
    code = "aoe_names='ens3 ens4' aoe_used='br0 ens4 br-san-1'; aoe_leave_alone"
    assert not run(shell, code, AOE_NET=str(interfaces), AOE_RUN=str(there)).stderr
    network = (there / "systemd/network/00-aoe-root.network").read_text()
    assert network == f"[Match]\nMACAddress={MAC} {OTHER}\n[Link]\nUnmanaged=yes\n"
    devices = f"mac:{MAC};mac:{OTHER};interface-name:br0;interface-name:ens4;interface-name:br-san-1"
    manager = (there / "NetworkManager/conf.d/aoe-root.conf").read_text()
    assert manager == f"[device-aoe-root]\nmatch-device={devices}\nmanaged=0\n"
    for name in ("ens3", "ens4", "br0", "br-san-1"):
        escaped = name.replace("-", r"\x2d")
        assert (there / f"network/ifstate.{name}").read_text() == "aoe-root\n"
        unit = (there / f"systemd/system/ifup@{escaped}.service.d/aoe-root.conf").read_text()
        assert unit == "[Service]\nExecStart=\nExecStart=/bin/true\nExecStop=\n"
    refused = "aoe-root: the root comes by {}, which stays as it is; remove it from /etc/network/interfaces\n"
    for name in ("ens3", "ens4", "br0", "br-san-1"):
        assert _ifupdown_asks(shell, name, there) == (1, refused.format(name))
    for name in ("ens5", "br-san", "--all", "lo", ""):
        assert _ifupdown_asks(shell, name, there) == (0, "")


def _ifupdown_asks(shell: str, name: str, there: Path) -> tuple[int, str]:
    """Whether an interface may be brought up, and what is said of that."""
    done = run(shell, f". {ROOT}/debian/aoe-root.if-pre-up", IFACE=name, AOE_RUN=str(there))
    return done.returncode, done.stderr


@each_shell
def test_the_parts_of_an_image_are_compared(shell: str, tmp_path: Path) -> None:
    (tmp_path / "id").write_text("a1\n")
    assert run(shell, f"aoe_is_of a1 root {tmp_path}/id").returncode == 0
    other = run(shell, f"aoe_is_of b2 root {tmp_path}/id")
    assert (other.returncode, other.stderr) == (
        1,
        "aoe-root: the root is of the image a1, and aoeimage= names b2\n",
    )
    none = run(shell, f"aoe_is_of b2 initramfs {tmp_path}/none")
    assert none.returncode == 1
    assert "the initramfs says nothing of an image: it was cut off" in none.stderr


def test_values_of_local_variables_are_quoted() -> None:
    """The sh of klibc splits them into words otherwise, as dash did once."""
    declared = re.findall(r"^ *local (.*=.*)$", FUNCTIONS.read_text(), re.MULTILINE)
    assert declared
    assert not [it for it in declared if re.search(r"=\$", it)]
