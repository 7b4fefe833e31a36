"""The module of dracut, with stand-ins for it: what goes into an initramfs, and what is done at its hooks."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.packages.initramfs import FUNCTIONS, each_shell, run
from tests.support.labs.building import ROOT

MODULE = ROOT / "debian" / "root" / "dracut" / "90aoe-root"
AT = {
    "initqueue/finished": "attached",
    "initqueue/settled": "attach",
    "pre-mount": "check",
    "pre-pivot": "finish",
}
DRACUT = """\
set -u
for it in inst_multiple inst_binary inst_simple inst_script instmods dracut_need_initqueue \\
    require_binaries; do
    eval "$it() { echo $it \\"\\$@\\"; }"
done
hostonly=yes
. "$moddir/module-setup.sh"
"""
FSTYPE = "/usr/lib/klibc/bin/fstype"
OWN = {"aoe-door", "fstype", "ip", "modprobe"}
"""Programs of the functions that are not of klibc."""
KLIBC = {"cat", "cpio", "ln", "mkdir", "mount", "readlink", "sleep", "uname"}


def _asked(tmp_path: Path, code: str) -> list[str]:
    """What the module asks dracut for."""
    for hook in AT:
        (tmp_path / "lib/dracut/hooks" / hook).mkdir(parents=True, exist_ok=True)
    (tmp_path / "pack").write_text('#!/bin/sh\necho pack "$@"\n')
    (tmp_path / "pack").chmod(0o755)
    setup = (MODULE / "module-setup.sh").read_text()
    for path in ("/usr/lib/aoe-root/pack", FSTYPE, "/lib/klibc-"):
        setup = setup.replace(path, f"{tmp_path}/{Path(path).name}")
    (tmp_path / "module-setup.sh").write_text(setup)
    done = subprocess.run(
        ["bash", "-c", DRACUT + code],
        env={"PATH": "/usr/bin:/bin", "moddir": str(tmp_path), "initdir": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert not done.stderr
    return done.stdout.splitlines()


def test_it_puts_the_same_functions_into_the_initramfs(tmp_path: Path) -> None:
    asked = _asked(tmp_path, "install")
    assert {
        "inst_binary /usr/lib/aoe-root/aoe-door /usr/sbin/aoe-door",
        "inst_simple /usr/share/initramfs-tools/scripts/aoe-root /scripts/aoe-root",
        f"inst_script {tmp_path}/hook.sh /usr/sbin/aoe-root",
        f"pack {tmp_path}/usr/lib/aoe-root.cpio",
        "dracut_need_initqueue",
    } <= set(asked)
    for hook, verb in AT.items():
        (found,) = (tmp_path / "lib/dracut/hooks" / hook).iterdir()
        assert found.suffix == ".sh"
        assert found.read_text() == f"/usr/sbin/aoe-root {verb}\n"


def test_it_brings_a_program_of_klibc_with_its_loader(tmp_path: Path) -> None:
    """Where there is one; it does not run without that."""
    asked = _asked(tmp_path, "install")
    assert not [it for it in asked if "fstype" in it or "klibc" in it]
    for name in ("fstype", "klibc-a.so"):
        (tmp_path / name).touch()
    assert {f"inst_binary {tmp_path}/fstype /usr/bin/fstype", f"inst_simple {tmp_path}/klibc-a.so"} <= set(
        _asked(tmp_path, "install")
    )


def test_it_brings_every_program_and_driver_that_is_used(tmp_path: Path) -> None:
    (programs,) = [it.split()[1:] for it in _asked(tmp_path, "install") if it.startswith("inst_multiple")]
    text = FUNCTIONS.read_text() + (MODULE / "hook.sh").read_text()
    used = {it for it in KLIBC | OWN if re.search(rf"(^|[ ({{]){it} ", text, re.MULTILINE)}
    assert used == KLIBC | OWN
    assert {*programs, "aoe-door", "fstype"} == used
    (drivers,) = [it.split()[1:] for it in _asked(tmp_path / "again", "installkernel")]
    assert set(re.findall(r"modprobe ([a-z0-9]+)", text)) <= set(drivers)


def test_it_is_there_where_all_that_it_needs_is(tmp_path: Path) -> None:
    asked = _asked(tmp_path, "check; depends")
    assert asked == ["require_binaries cpio ip nbdkit", "base kernel-network-modules"]


def _hook(line: str, tmp_path: Path, before: str = "") -> str:
    """The script of the hooks, on a machine with this command line."""
    (tmp_path / "cmdline").write_text(f"{line}\n")
    text = (MODULE / "hook.sh").read_text()
    return text.replace(". /scripts/aoe-root\n", before).replace("/dev/aoeroot", f"{tmp_path}/aoeroot")


STANDINS = """\
for it in aoe_begin aoe_give_rescue aoe_check aoe_end aoe_shell; do
    eval "$it() { echo $it \\"\\$@\\"; }"
done
root=block:/dev/nbd0 NEWROOT=/sysroot
"""


@each_shell
@pytest.mark.parametrize(
    ("line", "verb", "does"),
    [
        ("root=LABEL=x aoeroot=e1.0", "attach", ["aoe_begin e1.0", "aoe_give_rescue"]),
        ("aoeroot=e1.0", "attach", ["aoe_shell dracut needs root=", "aoe_begin e1.0", "aoe_give_rescue"]),
        ("aoeroot=e1.0", "attached", ["status 1"]),
        ("aoeroot=e1.0", "check", ["aoe_check /dev/nbd0"]),
        ("aoeroot=e1.0", "finish", ["aoe_end /sysroot"]),
        ("quiet", "attach", []),
        ("quiet", "attached", []),
    ],
)
def test_what_is_done_at_a_hook(shell: str, tmp_path: Path, line: str, verb: str, does: list[str]) -> None:
    done = run(shell, _hook(line, tmp_path, STANDINS), verb, AOE_CMDLINE=str(tmp_path / "cmdline"))
    said = done.stdout.splitlines() + ([f"status {done.returncode}"] if done.returncode else [])
    assert len(said) == len(does)
    assert all(one.startswith(other) for one, other in zip(said, does, strict=True))


@each_shell
def test_a_disk_is_attached_once(shell: str, tmp_path: Path) -> None:
    (tmp_path / "aoeroot").touch()
    for verb in ("attach", "attached"):
        code = _hook("root=LABEL=x aoeroot=e1.0", tmp_path, STANDINS)
        done = run(shell, code, verb, AOE_CMDLINE=str(tmp_path / "cmdline"))
        assert (done.returncode, done.stdout) == (0, "")
