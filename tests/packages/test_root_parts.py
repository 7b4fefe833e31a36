"""What the initramfs calls on the way to its root, with stand-ins for what needs a kernel: the disk by
the kernel's driver, and a root that is not used."""

from pathlib import Path

import pytest

from tests.packages.initramfs import each_shell, run

SECTORS = 2048
PANIC = 'panic() { echo "panic: $*"; }\n'
KERNEL = (
    PANIC
    + """\
modprobe() { echo "modprobe $*"; [ ! -e "$AOE_RUN/no-driver" ]; }
sleep() { command sleep 0; }
aoe_look() { aoe_names="ens3 ens4" aoe_missing=''; }
aoe_up() { :; }
aoe_told_of() { echo "ens3 has MTU 9000"; }
[ -z "$2" ] || : >"$AOE_DEVICES/etherd/$2"
aoe_parse "$1"; began=0; aoe_try; echo "$? $aoe_why"
"""
)


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    """As /dev has them, once the driver is loaded."""
    (tmp_path / "dev" / "etherd").mkdir(parents=True)
    return tmp_path / "dev"


@each_shell
@pytest.mark.parametrize(
    ("there", "means"),
    [
        ("e0.5", "0 "),
        (
            "",
            "1 e0.5 does not answer the kernel's driver; is it served there, and is this host "
            "allowed to use it?",
        ),
    ],
)
def test_the_kernels_driver_attaches_a_disk(
    shell: str, devices: Path, tmp_path: Path, there: str, means: str
) -> None:
    where = {"AOE_DEVICES": str(devices), "AOE_RUN": str(tmp_path)}
    done = run(shell, KERNEL, "e0.5,driver=kernel", there, **where)
    loaded, *_, said = done.stdout.splitlines()
    assert loaded == "modprobe aoe aoe_deadsecs=0 aoe_iflist=ens3,ens4"
    assert said == (f"{means} (ens3 has MTU 9000)" if not there else means)
    assert (devices / "etherd" / "interfaces").read_text() == "ens3 ens4\n"
    assert (devices / "etherd" / "discover").read_text() == "\n"


@each_shell
def test_a_kernel_without_that_driver_is_said(shell: str, devices: Path, tmp_path: Path) -> None:
    (tmp_path / "no-driver").touch()
    where = {"AOE_DEVICES": str(devices), "AOE_RUN": str(tmp_path)}
    done = run(shell, KERNEL, "e0.5,driver=kernel", "", **where)
    assert done.stdout.splitlines()[-1].startswith("1 this kernel has no driver aoe; leave out driver=kernel")


@each_shell
@pytest.mark.parametrize(
    ("name", "kind", "size", "fits"),
    [
        ("nbd0", "ext4", SECTORS * 512, True),
        ("nbd0", "ext4", SECTORS * 512 + 1, False),
        ("etherd/e0.5", "xfs", SECTORS * 512, True),
        ("etherd/e0.5", "xfs", SECTORS * 512 + 1, False),
        ("nbd0", "btrfs", SECTORS * 1024, True),
        ("nbd0", "unknown", 0, True),
        ("strange", "ext4", SECTORS * 1024, True),
    ],
)
def test_a_disk_smaller_than_its_file_system_is_said(
    shell: str, devices: Path, tmp_path: Path, name: str, kind: str, size: int, fits: bool
) -> None:
    for it in ("nbd0", "etherd!e0.5"):
        (tmp_path / "block" / it).mkdir(parents=True)
        (tmp_path / "block" / it / "size").write_text(f"{SECTORS}\n")
    (devices / "root").symlink_to(devices / name)
    code = f"{PANIC}fstype() {{ echo FSTYPE={kind}; echo FSSIZE={size}; }}\naoe_check $1"
    where = {"AOE_BLOCK": str(tmp_path / "block"), "AOE_DEVICES": str(devices)}
    done = run(shell, code, str(devices / "root"), **where)
    if fits:
        assert (done.stdout, done.stderr) == ("", "")
    else:
        called = name.replace("/", "!")
        assert "serve the whole image of it, or name another disk" in done.stdout
        assert f"{called} has {SECTORS * 512} bytes" in done.stderr
        assert f"the file system on it was made for {size}: it was cut off" in done.stderr


@each_shell
def test_a_root_of_another_image_is_not_used(shell: str, tmp_path: Path) -> None:
    line, root = tmp_path / "cmdline", tmp_path / "root"
    line.write_text("quiet aoeimage=b2\n")
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "aoe-image").write_text("a1\n")
    code = f"{PANIC}aoe_end $1"
    done = run(shell, code, str(root), AOE_CMDLINE=str(line))
    assert "boot the kernel, the initramfs and the root of one image" in done.stdout
    (root / "etc" / "aoe-image").write_text("b2\n")
    assert not run(shell, code, str(root), AOE_CMDLINE=str(line)).stdout
    line.write_text("quiet\n")
    (root / "etc" / "aoe-image").unlink()
    assert not run(shell, code, str(root), AOE_CMDLINE=str(line)).stdout


@each_shell
def test_words_of_no_use_attach_nothing(shell: str) -> None:
    done = run(shell, f"{PANIC}aoe_begin e0.5,mtuu=9000 || echo none")
    assert done.stdout.splitlines() == [
        "panic: aoe-root: there is no root disk; correct aoeroot= on the kernel's command line",
        "none",
    ]
    assert "'mtuu=9000' is not known" in done.stderr
