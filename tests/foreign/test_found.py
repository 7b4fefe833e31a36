"""What vblade's and ggaoed's files mean in ours, and what is not kept of them."""

import pytest

from aoe.config.read import read
from aoe.config.values import Config, ExportConfig, TargetConfig
from aoe.foreign import ggaoed, vblade
from aoe.foreign.found import Found
from aoe.foreign.shell import commands
from aoe.foreign.together import Together, together

MAC, OTHER = bytes.fromhex("02a1b2c3d4e5"), bytes.fromhex("02a1b2c3d4e6")


def of_script(text: str) -> Together:
    return together(sum((vblade.of_command(it) for it in commands(text, "rc", vblade.PROGRAMS)), Found()))


def remarks(found: Together) -> list[str]:
    return [str(it) for it in found.remarks]


def the_export(found: Together) -> ExportConfig:
    """What is read again is what was meant."""
    assert read(found.text, "made") == found.config
    (export,) = found.config.exports
    return export


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        ("", {}),
        ("-d", {"direct": True}),
        ("-s", {}),
        ("-r", {"read_only": True}),
        ("-dr -o 8 -l 100", {"direct": True, "read_only": True, "offset": 8, "length": 100}),
        ("-m 02:A1:b2:c3:d4:e5,02a1b2c3d4e6,02:a1:b2:c3:d4:e5", {"mask": (MAC, OTHER)}),
    ],
)
def test_the_options_of_vblade(options: str, meant: dict[str, object]) -> None:
    found = of_script(f"vblade {options} 3 7 eth1 /dev/md0")
    assert the_export(found) == ExportConfig(path="/dev/md0", shelf=3, slot=7, **meant)  # type: ignore[arg-type]
    assert found.config.target == TargetConfig(interfaces=("eth1",))
    assert remarks(found) == []


def test_options_may_stand_behind_as_getopt_has_it() -> None:
    assert the_export(of_script("vblade 3 7 eth1 /dev/md0 -r")).read_only


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("vblade 3 7 eth1", "vblade takes shelf, slot, netif and filename"),
        ("vblade -q 3 7 eth1 /dev/md0", "vblade: option -q not recognized"),
        ("vblade 3 7 eth1 disk.img", "disk.img is not an absolute path; write down where it is"),
        ("vblade x 7 eth1 /dev/md0", "shelf x is not a number"),
        ("vblade -m 1,2 3 7 eth1 /dev/md0", "-m 1,2 is no list of MACs"),
        ("vblade -m $(cat macs) 3 7 eth1 /dev/md0", "what $(cat stands for is not known here"),
        ("vblade 4095 7 eth1 /dev/md0", None),
        ("vblade 3 255 eth1 /dev/md0", None),
        ("vblade -m ff:ff:ff:ff:ff:ff 3 7 eth1 /dev/md0", None),
    ],
)
def test_what_cannot_be_kept_is_left_out_and_said(line: str, why: str | None) -> None:
    found = of_script(f"\n{line}\n")
    assert found.config.exports == ()
    (said,) = remarks(found)
    assert said == f"rc:2: left out: {why}" if why else said.startswith("rc:2: left out: e")


def test_a_disk_on_two_interfaces_is_one_export() -> None:
    found = of_script("vblade 1 0 eth1 /dev/a\nvblade 1 0 eth2 /dev/a\nvblade 1 1 eth1 /dev/b\n")
    assert [it.interfaces for it in found.config.exports] == [("eth1", "eth2"), ("eth1",)]
    assert found.config.target.interfaces == ()
    assert read(found.text, "made") == found.config


def test_an_address_of_two_disks_and_a_disk_of_two_addresses() -> None:
    found = of_script("vblade 1 0 eth1 /dev/a\nvblade 1 0 eth2 /dev/b\nvblade 1 1 eth1 /dev/a\n")
    assert [it.path for it in found.config.exports] == ["/dev/a"]
    assert remarks(found)[0] == "rc:2: left out: e1.0 is something else in rc:1"
    assert remarks(found)[1].startswith("rc:3: left out: e1.1: ")
    assert len(remarks(found)) == 2


def test_one_buffer_count_is_for_all() -> None:
    found = of_script("vblade -b 32 1 0 eth1 /dev/a\nvblade -b 16 1 1 eth1 /dev/b\n")
    assert found.config.target.buffer_count == 32
    assert remarks(found) == ["rc:2: buffer-count is not kept: all have that of rc:1"]


FRAGMENT = "shelf=10\nslot=3\nnetif=em3\nfilename=/dev/mapper/export\n"


def test_a_fragment_of_debian() -> None:
    more = "options='-m 02:a1:b2:c3:d4:e5 -o 8'\nionice='--class best-effort'\n"
    found = together(vblade.of_fragment(FRAGMENT + more, "export.conf"))
    assert the_export(found) == ExportConfig(
        path="/dev/mapper/export", shelf=10, slot=3, offset=8, mask=(MAC,)
    )
    assert remarks(found) == [
        "export.conf:6: ionice is not kept: set IOSchedulingClass= with systemctl edit aoe-target"
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            FRAGMENT.replace("slot=3\n", ""),
            "f:1: left out: slot is missing, so Debian does not serve it either",
        ),
        (FRAGMENT.replace("=3", "=$N"), "f:2: left out: what $N stands for is not known here"),
        (FRAGMENT + "options=-m$X\n", "f:5: left out: what -m$X stands for is not known here"),
    ],
)
def test_a_fragment_that_cannot_be_known(text: str, why: str) -> None:
    found = together(vblade.of_fragment(text, "f"))
    assert (found.config, remarks(found)) == (Config(), [why])


GGAOED = """\
# the cluster
[defaults]
interfaces = eth1, vif*
queue-length = 64
[acls]
web = 02:a1:b2:c3:d4:e5, 02:a1:b2:c3:d4:e6
[root]
path = /dev/vg/root
shelf = 1
slot = 0
accept = web
read-only = true
[swap]
uuid = 1b2c
shelf = 1
slot = 1
direct-io = false
interfaces = eth1
"""


def test_ggaoed() -> None:
    found = together(ggaoed.of_text(GGAOED, "g"))
    root, swap = found.config.exports
    assert ggaoed.is_ggaoed(GGAOED)
    assert read(found.text, "made") == found.config
    assert root == ExportConfig(
        path="/dev/vg/root",
        shelf=1,
        slot=0,
        direct=True,
        read_only=True,
        mask=(MAC, OTHER),
        interfaces=("eth1", "vif*"),
    )
    assert swap == ExportConfig(path="UUID=1b2c", shelf=1, slot=1, direct=False, interfaces=("eth1",))
    assert remarks(found) == ["g:4: queue-length is not kept: no key is like it"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("deny = web", "deny cannot be kept; name the hosts that are served in accept, or in mask"),
        ("accept = nobody", "accept: nobody is no MAC, and no list of [acls]"),
        ("direct-io = maybe", "direct-io maybe is neither true nor false"),
        ("shelf = one", "shelf one is not a number"),
    ],
)
def test_access_is_not_widened_by_what_is_not_understood(line: str, why: str) -> None:
    text = f"[acls]\nweb = 02:a1:b2:c3:d4:e5\n[a]\npath = /a\nshelf = 1\nslot = 0\n{line}\n"
    found = together(ggaoed.of_text(text, "g"))
    assert found.config.exports == ()
    assert [it.rpartition("]: ")[2] for it in remarks(found)] == [why]


def test_a_thousand_disks() -> None:
    script = "\n".join(f"vblade {n // 250} {n % 250} eth1 /dev/vg/{n % 999}" for n in range(1000))
    found = of_script(script)
    assert len(found.config.exports) == 999
    assert len(found.remarks) == 1
