"""The Debian package: what is in it, what it needs, and that Debian's own Python, cffi and uvloop run it."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from aoe.cli import cloud_parser, parser, target_parser
from aoe.config.read import read
from man import generate
from tests.support.labs.building import ROOT
from tests.support.labs.debian import deb_kept, field
from tests.support.labs.load import DATA, PIECE
from tests.support.labs.network import Lab
from tests.support.labs.peers import Target, image
from tests.support.tools import need, tool, unavailable

pytestmark = pytest.mark.timeout(900)

LIBRARY = "usr/lib/python3/dist-packages"
COMPLETE = """
. {file}
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
function=$(complete -p ${{COMP_WORDS[0]}} | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def package() -> Path:
    return deb_kept()


@pytest.fixture(scope="module")
def root(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its files."""
    there = tmp_path_factory.mktemp("debian") / "root"
    tool("dpkg-deb", "--extract", package, there)
    return there


def test_its_version_is_the_projects() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    (said,) = re.findall(r"^aoe-target \((\S+)\)", (ROOT / "debian/changelog").read_text(), re.MULTILINE)[:1]
    assert said == version


def test_what_builds_it_is_in_debian() -> None:
    """As `apt-get build-dep .` would install it."""
    done = subprocess.run(
        ["apt-get", "build-dep", "--simulate", "."], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if "You must put some 'deb-src' URIs" in done.stderr or "Unable to locate" in done.stderr:
        unavailable(f"no list of Debian's packages: apt-get update: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr


def test_its_example_is_a_file_that_can_be_served() -> None:
    (export,) = read((ROOT / "debian/examples/aoe-target.toml").read_bytes(), "example").exports
    assert export.address == "e1.0"


def test_what_it_needs(package: Path) -> None:
    needs = {one.split()[0] for one in field(package, "Depends").split(", ")}
    assert {"python3", "python3-cffi-backend", "python3-uvloop", "liburing2", "libc6"} <= needs
    assert not [one for one in needs if "dgram" in one]
    assert field(package, "Recommends") == "nbdkit"


def test_what_is_in_it(root: Path) -> None:
    for path in (
        *("usr/bin/aoe", "usr/bin/aoe-cloud", "usr/bin/aoe-target", f"{LIBRARY}/aoe/engine/_engine.abi3.so"),
        *(f"{LIBRARY}/aoe/nbd/{name}" for name in ("aoe_nbd_plugin.so", "aoe-door")),
        *("usr/share/man/man1/aoe-cloud.1.gz", "usr/share/man/man1/aoe.1.gz"),
        "usr/share/man/man8/aoe-target.8.gz",
        *("usr/sbin/aoe-door", "usr/share/man/man8/aoe-door.8.gz"),
        *("usr/share/bash-completion/completions/aoe", "usr/share/zsh/vendor-completions/_aoe-target"),
        *("usr/lib/sysusers.d/aoe-target.conf", "usr/share/doc/aoe-target/copyright"),
        *("usr/share/doc/aoe-target/examples/aoe-target.toml", "lib/systemd/system/aoe-target.service"),
        *("usr/share/doc/aoe-target/examples/tutorial.md", "lib/systemd/system/aoe-nbd@.service"),
        *(
            "usr/share/doc/aoe-target/examples/prometheus/rules.yml",
            "lib/systemd/system/aoe-target-metrics.socket",
        ),
        *(f"lib/systemd/system/aoe-target-opener.{kind}" for kind in ("service", "socket")),
        *(f"lib/systemd/system/aoe-target-images.{kind}" for kind in ("service", "socket")),
        *(f"lib/systemd/system/aoe-target-lvm{kind}" for kind in ("@.service", ".socket")),
    ):
        assert (root / path).is_file(), path
    assert not list(root.rglob("tests")) + list(root.rglob("csrc"))
    assert "aoe-target" in (root / "usr/lib/sysusers.d/aoe-target.conf").read_text()


def test_a_root_disk_needs_no_python(package: Path) -> None:
    (other,) = package.parent.glob("aoe-root_*.deb")
    needs = {one.split()[0] for one in field(other, "Depends").split(", ")}
    assert {"initramfs-tools", "nbdkit"} <= needs
    assert not [one for one in needs if "python" in one or "aoe" in one]
    listed = [it.split() for it in tool("dpkg-deb", "--contents", other).splitlines()]
    modes = {name.removeprefix("./").removeprefix("usr/"): mode for mode, *_, name in listed}
    for path in (
        *("lib/aoe-root/aoe-door", "lib/aoe-root/aoe_nbd_plugin.so", "share/man/man7/aoe-root.7.gz"),
        "share/initramfs-tools/scripts/aoe-root",
    ):
        assert path in modes
    for path in (
        *("lib/aoe-root/aoe-door", "lib/aoe-root/pack", "share/initramfs-tools/hooks/aoe-root"),
        *(f"share/initramfs-tools/scripts/local-{it}/aoe-root" for it in ("top", "premount", "bottom")),
        *(f"lib/dracut/modules.d/90aoe-root/{it}.sh" for it in ("module-setup", "hook")),
        "etc/network/if-pre-up.d/aoe-root",
    ):
        assert modes[path] == "-rwxr-xr-x"


@pytest.mark.parametrize(("unit", "most"), [("aoe-target.service", 0.5), ("aoe-target-opener.service", 3.5)])
def test_a_unit_has_few_rights(root: Path, unit: str, most: float) -> None:
    """The one that frames come to next to none."""
    need("systemd-analyze")
    file = root / "lib/systemd/system" / unit
    said = tool("systemd-analyze", "security", "--offline=true", "--no-pager", file)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found, said
    assert float(found[1]) <= most


def test_nbdkit_loads_its_plugin(root: Path) -> None:
    need("nbdkit")
    said = tool("nbdkit", "--dump-plugin", root / LIBRARY / "aoe/nbd/aoe_nbd_plugin.so")
    assert {"name=aoe", "max_thread_model=parallel"} <= set(said.splitlines())


@pytest.mark.parametrize("program", ["aoe", "aoe-cloud", "aoe-target"])
def test_bash_completes_every_command_and_option(root: Path, program: str) -> None:
    top = {"aoe": parser, "aoe-cloud": cloud_parser, "aoe-target": target_parser}[program].parser()
    for name, command in generate.commands(top).items():
        words = name.split()
        assert words[-1] in completed(root, program, *words[:-1], words[-1][:-1])
        for action in command._actions:
            for flag in action.option_strings:
                assert flag in completed(root, program, *words, flag)


def test_bash_completes_values(root: Path, tmp_path: Path) -> None:
    (tmp_path / "disk.img").touch()
    assert completed(root, "aoe-target", "") == sorted(
        {it.split()[0] for it in generate.commands(target_parser.parser())}
    )
    assert completed(root, "aoe", "bench", "--rw", "rand") == ["randread", "randrw", "randwrite"]
    assert completed(root, "aoe", "stat", "--interface", "l") == ["lo"]
    assert completed(root, "aoe-target", "serve", f"{tmp_path}/d") == [f"{tmp_path}/disk.img"]


def completed(root: Path, *words: str) -> list[str]:
    """What bash offers for the last word."""
    file = root / "usr/share/bash-completion/completions" / words[0]
    script = COMPLETE.format(file=file, words=" ".join(f'"{word}"' for word in words))
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return sorted(done.stdout.split())


def test_debians_own_python_serves_and_reads(root: Path, lab: Lab, tmp_path: Path) -> None:
    served = image(tmp_path / "disk")
    place = ("env", f"PYTHONPATH={root / LIBRARY}", "/usr/bin/python3", "-W", "error")
    state = ("--state-dir", str(tmp_path / "state"), "--interface", "v0", "--engine", "c")
    command = [*place, str(root / "usr/bin/aoe-target"), "serve", f"{served}=1.1", *state]
    with Target(lab, tmp_path, command, side="target", interface="v0") as target:
        assert target.errors == ""
        lab.client().write(0, DATA)
        read = ("read", "e1.1", "--interface", "v0", "--sectors", str(PIECE))
        words = lab.command("client", *place, str(root / "usr/bin/aoe"), *read)
        done = subprocess.run(words, capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stderr, done.stdout) == (0, b"", DATA)
        target.stop()
        assert "engine_" in target.output
