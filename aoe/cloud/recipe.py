"""What an image is made of, as words for mmdebstrap(1), and the files that are put into it."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aoe import limits
from aoe.errors import ConfigurationError
from aoe.printable import plain

RELEASES = {"debian12": "bookworm"}
"""What can be built, and what Debian calls it."""
BASE = ("systemd-sysv", "udev", "dbus", "kmod", "iproute2", "e2fsprogs", "procps", "initramfs-tools", "zstd")
SSH = "openssh-server"
EPOCH = 1_686_355_200
"""The time that all of an image bears unless SOURCE_DATE_EPOCH says another one: when Debian 12 came out."""
KEYS_AT = "root/.ssh/authorized_keys"
_MIB = 1 << 20
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?")
_KERNEL = "linux-image-"
_LEFT_OUT = ("man", "info", "locale", "i18n", "lintian", "doc/*/changelog*", "doc/*/NEWS*")
_HOOKS = "/usr/share/mmdebstrap/hooks"
_OWN_KEYS = """\
[Service]
ExecStartPre=
ExecStartPre=/usr/bin/ssh-keygen -A
ExecStartPre=/usr/sbin/sshd -t
"""
"""Each machine makes ssh host keys when it starts: an image has none."""
_FILES = {
    "etc/systemd/system/ssh.service.d/host-keys.conf": _OWN_KEYS,
    "etc/fstab": "# The root is named on the kernel's command line.\n",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """An image: the word for its `release`, further `packages`, .deb files, a `hook` that changes the root
    before the initramfs is made, ssh `keys` of its administrators, a file of apt `sources`. `epoch` is
    seconds since 1970."""

    release: str
    architecture: str
    packages: tuple[str, ...] = ()
    debs: tuple[str, ...] = ()
    hook: str | None = None
    keys: str = ""
    sources: str | None = None
    epoch: int = EPOCH

    @property
    def included(self) -> list[str]:
        """All packages that are named to mmdebstrap: with keys ssh is one, and there is one kernel."""
        kernel = [it for it in self.packages if it.startswith(_KERNEL)]
        return sorted(
            {
                *BASE,
                *self.packages,
                *([SSH] if self.keys else ()),
                *(kernel or [f"{_KERNEL}cloud-{self.architecture}"]),
            }
        )

    @property
    def files(self) -> dict[str, str]:
        """Paths below the root, and the text of each."""
        return _FILES | ({KEYS_AT: self.keys} if self.keys else {})

    def inputs(self, digests: Mapping[str, str]) -> dict[str, Any]:
        """What the id stands for besides the tree; `digests` are those of the files that are named."""
        return {
            "release": self.release,
            "architecture": self.architecture,
            "packages": self.included,
            "epoch": self.epoch,
            "keys": self.keys,
            "files": dict(digests),
        }


def packages(text: str) -> tuple[str, ...]:
    """`PKG,...`; ConfigurationError for what cannot be the name of a package (Debian Policy 5.6.1)."""
    names = tuple(it.strip() for it in text.split(",") if it.strip())
    for name in names:
        if _PACKAGE.fullmatch(name) is None:
            raise ConfigurationError(
                f"{plain(name)!r} cannot be a package; name packages of Debian, with commas between them, "
                "and files with --deb"
            )
    return names


def keys(text: str, said: str) -> str:
    """The public keys of a file; ConfigurationError where they are none."""
    if len(text) > limits.CLOUD_KEYS_BYTES_MAX:
        raise ConfigurationError(
            f"{said} has more than {limits.CLOUD_KEYS_BYTES_MAX} bytes; name a file of ssh keys"
        )
    if "PRIVATE KEY-----" in text:
        raise ConfigurationError(f"{said} is a private key; name the file of the public one (.pub)")
    lines = [it.strip() for it in text.splitlines() if it.strip() and not it.lstrip().startswith("#")]
    if not lines or any(len(it.split()) < 2 or not it.isprintable() for it in lines):
        raise ConfigurationError(
            f"{said} is no list of ssh keys; name a file such as ~/.ssh/id_ed25519.pub or authorized_keys"
        )
    return "".join(f"{it}\n" for it in lines)


def check_release(name: str) -> None:
    """ConfigurationError for one that cannot be built."""
    if name not in RELEASES:
        raise ConfigurationError(f"{plain(name)} cannot be built; choose {', '.join(RELEASES)}")


def words(recipe: Recipe, root: str, furniture: str) -> list[str]:
    """The command that makes the root; `furniture` is a directory with `files`. Only at the end it makes the
    initramfs, so that what packages and the hook leave counts."""
    hooks = [
        *(_install(furniture, path) for path in recipe.files),
        'rm -f "$1"/etc/hostname',
        *([f'{shlex.quote(recipe.hook)} "$1"'] if recipe.hook else ()),
        'if cmp -s /etc/resolv.conf "$1"/etc/resolv.conf; then rm "$1"/etc/resolv.conf; fi',
        f'chroot "$1" sh -ec {shlex.quote(_INITRAMFS)}',
    ]
    return [
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"),
        f"--architectures={recipe.architecture}",
        f"--include={','.join(recipe.included)}",
        *(f"--include={path}" for path in recipe.debs),
        f"--hook-dir={_HOOKS}/merged-usr",  # or apt brings usrmerge, and with it perl
        *([f"--hook-dir={_HOOKS}/file-mirror-automount"] if recipe.debs else ()),
        *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in _LEFT_OUT),
        *(f"--customize-hook={it}" for it in hooks),
        RELEASES[recipe.release],
        root,
        *([recipe.sources] if recipe.sources else ()),
    ]


_INITRAMFS = (
    'for it in /lib/modules/*; do mkinitramfs -c zstd -o "/boot/initrd.img-${it##*/}" "${it##*/}"; done'
)


def stage(line: str) -> str:
    """What mmdebstrap is doing, from a line that it prints; nothing where that is of no use."""
    if "mkinitramfs" in line:
        return "making the initramfs"
    found = re.match(r"I: ((?:running apt-get|downloading|extracting|installing|cleaning) .*?)\.*$", line)
    return found[1] if found else ""


def _install(furniture: str, path: str) -> str:
    mode = "0600" if path == KEYS_AT else "0644"
    return f'install -D -m {mode} {shlex.quote(f"{furniture}/{path}")} "$1"/{shlex.quote(path)}'


def environment(recipe: Recipe) -> dict[str, str]:
    """What mmdebstrap and what it starts are told besides. The package of a kernel makes no initramfs of its
    own: that would be made twice."""
    return {
        "SOURCE_DATE_EPOCH": str(recipe.epoch),
        "LC_ALL": "C",
        "INITRD": "No",
        "DEBIAN_FRONTEND": "noninteractive",
    }


def kernel_of(names: Sequence[str]) -> str:
    """The version of the one kernel whose modules a root has; ConfigurationError where there is none, or
    another one: root, kernel and initramfs are to be of one version."""
    if len(names) == 1:
        return names[0]
    found = f"{len(names)} kernels ({', '.join(sorted(names))})" if names else "no kernel"
    raise ConfigurationError(f"the packages bring {found}; include one linux-image-* package")


def size_for(tree_bytes: int, asked: int | None) -> int:
    """The size of a root that has so many bytes of files, in whole MiB: what was asked for, or half as much
    again, and at least 1 GiB; what is empty takes no room. ConfigurationError where they do not fit."""
    least = tree_bytes * 5 // 4 + limits.CLOUD_ROOT_SPARE_BYTES
    if asked is not None and asked < least:
        mib = -(-least // _MIB)
        raise ConfigurationError(f"the root does not fit into {asked} bytes; choose --size {mib}M, or more")
    size = max(limits.CLOUD_ROOT_BYTES_MIN, tree_bytes * 3 // 2) if asked is None else asked
    return -(-size // _MIB) * _MIB


def epoch(text: str) -> int:
    """SOURCE_DATE_EPOCH as it stands in the environment. ConfigurationError."""
    if not text:
        return EPOCH
    if re.fullmatch("[0-9]{1,10}", text) is None or int(text) > limits.CLOUD_EPOCH_MAX:
        raise ConfigurationError(
            f"SOURCE_DATE_EPOCH is {plain(text)!r}; set it to seconds since 1970, up to "
            f"{limits.CLOUD_EPOCH_MAX}, or to nothing"
        )
    return int(text)
