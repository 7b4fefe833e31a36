"""An image of Debian as `aoe-cloud` builds it, with what tells a test of it; kept in .cache."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from aoe.cloud import places, tree
from tests.support.labs.debian import deb_kept
from tests.support.labs.guests.debian import PATIENCE, SHELL_SCRIPT, SHELL_UNIT
from tests.support.labs.guests.kernel import CACHE, locked
from tests.support.tools import need, need_root, tool

_SHOW = "/etc/systemd/system/show-image.service"
_ALL_INTERFACES = "[Match]\nType=ether\n[Network]\nDHCP=yes\n"
_FILES = {
    "etc/systemd/system/test-shell.service": SHELL_UNIT,
    "usr/local/sbin/test-shell": SHELL_SCRIPT,
    "etc/systemd/network/50-all.network": _ALL_INTERFACES,
    "etc/systemd/system.conf.d/patience.conf": PATIENCE,
}
_PUT = "".join(
    f"""mkdir -p "$1"/{Path(path).parent}; cat >"$1"/{path} <<'EOF'\n{text}EOF\n"""
    for path, text in _FILES.items()
)
HOOK = f"""\
#!/bin/sh
set -e
{_PUT}
cat >"$1"{_SHOW} <<END
[Unit]
After=ssh.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo "root \\$(cat /etc/aoe-image) \\$(systemctl is-active ssh) END" >/dev/console'
[Install]
WantedBy=multi-user.target
END
chroot "$1" systemctl enable show-image test-shell systemd-networkd
show="$1"/etc/initramfs-tools/scripts/init-bottom/show-image
cat >"$show" <<'END'
#!/bin/sh
[ "$1" = prereqs ] || echo "initramfs $(cat /etc/aoe-image) END" >/dev/console
END
chmod +x "$show"
"""
"""The boot says which id each part has, and how the ssh server is; a shell is on the second serial port; and
networkd is to manage every interface."""
_DRACUT = f"""\
{HOOK}
cat >"$1"/usr/sbin/mkinitramfs <<'END'
#!/bin/sh
while [ $# -gt 2 ]; do shift; done # the last words are a file and a version
exec dracut --force --no-hostonly --no-hostonly-cmdline --zstd "$1" "$2"
END
"""
"""Whoever asks for an initramfs gets one of dracut, which is there beside initramfs-tools."""
_MANAGERS = f"""\
{HOOK}
cat >"$1"/etc/network/interfaces.d/root <<'END'
auto eth0
allow-hotplug eth0
iface eth0 inet static
    address 192.0.2.1/24
    mtu 1500
END
"""
"""ifupdown is to give the first interface what its root has not."""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1Dn5sDc7nQw1S3uJ7zxTtVt1zVQ2m9cXo2hY8k5b4R of@tests\n"
OF_DEB = "usr/share/of-a-deb"
OF_INITRAMFS = "of-initramfs"
_CONTROL = (
    "Package: of-tests\nVersion: 1\nArchitecture: all\nMaintainer: tests <t@localhost>\nDescription: a file\n"
)
_BUILD_S = 600


class BuiltImage(NamedTuple):
    """Where it is, the last lines of all builds of it, and the names of what is not the same in each."""

    base: Path
    builds: list[dict[str, Any]]
    differing: list[str]

    @property
    def place(self) -> places.Place:
        return places.Place(self.base)


def built_image() -> BuiltImage:
    """Built twice by the test that comes first; the others wait. Another version of the room
    builds others."""
    return _kept("image", HOOK, 2)


def dracut_image() -> BuiltImage:
    """As `built_image`, once, with an initramfs of dracut."""
    return _kept("dracut", _DRACUT, 1, "--include", "dracut-network")


def managed_image() -> BuiltImage:
    """As `built_image`, once, with NetworkManager and ifupdown besides networkd."""
    return _kept("managers", _MANAGERS, 1, "--include", "network-manager,ifupdown")


def _kept(name: str, hook: str, times: int, *words: str) -> BuiltImage:
    need_root()
    need("mmdebstrap", "mke2fs", "dpkg-deb")
    sources = sorted(Path(places.__file__).parent.glob("*.py"))
    package = deb_kept("aoe-root")
    text = b"".join(it.read_bytes() for it in (*sources, package)) + f"{hook}{KEY}{_CONTROL}{words}".encode()
    home = CACHE / f"{name}-{zlib.crc32(text):08x}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with locked(CACHE / f"{name}.lock"):
        if not home.exists():
            _build(home, hook, times, ["--deb", str(package), *words])
    return BuiltImage(home / "image", *json.loads((home / "builds").read_text()))


def _build(home: Path, hook: str, times: int, words: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        work = Path(name)
        words = [*_words(work, hook), *words]
        homes = [work / f"made{number}" for number in range(times)]
        builds = [_built(it, words) for it in homes]
        differing = _differing(homes, work) if len({it["id"] for it in builds}) > 1 else []
        (homes[0] / "builds").write_text(json.dumps([builds, differing]))
        homes[0].rename(home)


def _differing(homes: list[Path], work: Path) -> list[str]:
    """Names in the roots, and in what the initramfs unpacks to, that are not the same in both."""
    first, second = (set(tree.entries(unpacked(it, work / f"{it.name}.unpacked"))) for it in homes)
    return sorted({it.path for it in first ^ second})


def unpacked(home: Path, to: Path) -> Path:
    """The root, which has the programs that unpack its own initramfs. They end before its last member, in
    which there is nothing but the id."""
    to.mkdir()
    tool("debugfs", "-R", f'rdump / "{to}"', home / "image")
    shutil.copyfile(home / "image.initramfs", to / "initramfs")
    tool("chroot", to, "unmkinitramfs", "/initramfs", OF_INITRAMFS)
    (to / "initramfs").unlink()
    return to


def _words(work: Path, text: str) -> list[str]:
    hook, keys = work / "hook", work / "keys"
    hook.write_text(text)
    hook.chmod(0o755)
    keys.write_text(KEY)
    return ["--hook", str(hook), "--authorized-keys", str(keys), "--deb", str(_deb(work))]


def _deb(work: Path) -> Path:
    (work / "deb" / "DEBIAN").mkdir(parents=True)
    (work / "deb" / "DEBIAN" / "control").write_text(_CONTROL)
    (work / "deb" / OF_DEB).parent.mkdir(parents=True)
    (work / "deb" / OF_DEB).write_text("of a deb\n")
    tool("dpkg-deb", "--root-owner-group", "--build", work / "deb", work / "a package.deb")
    return work / "a package.deb"


def _built(directory: Path, words: list[str]) -> dict[str, Any]:
    """One build; what it says last. Not by way of `tool`, which gives up earlier."""
    directory.mkdir()
    output = ("--output", directory / "image", "--json")
    done = subprocess.run(
        [sys.executable, "-m", "aoe.cli.cloud", "image", "build", "debian12", *words, *map(str, output)],
        env={**os.environ, "SOURCE_DATE_EPOCH": ""},
        stdout=subprocess.PIPE,
        text=True,
        timeout=_BUILD_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout} (try apt-get update)"
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts
