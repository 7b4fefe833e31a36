"""The words of `aoe-target pool` and `aoe-target volume`."""

import argparse
import re
from pathlib import Path
from typing import Any

from aoe.pool.names import FOREIGN, FORMATS

_CONFIG = Path("/etc/aoe-target.toml")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_VOLUME, _SNAPSHOT, _EITHER = "POOL/VOLUME", "POOL/VOLUME@SNAPSHOT", "POOL/VOLUME[@SNAPSHOT]"


def add(commands: Any) -> None:
    """Add them."""
    what = "make pools of volumes, and look at them"
    pool = commands.add_parser("pool", help=what, description=what)
    _add_pool(pool.add_subparsers(dest="verb", required=True))
    what = "make, clone, keep and restore disks of a pool"
    volume = commands.add_parser("volume", help=what, description=what)
    _add_volume(volume.add_subparsers(dest="verb", required=True))


def _command(verbs: Any, name: str, means: str, what: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = verbs.add_parser(name, help=what, description=what)
    command.set_defaults(means=means)
    file = f"the configuration file, which names the pools ({_CONFIG})"
    command.add_argument("--config", type=Path, default=_CONFIG, metavar="FILE", help=file)
    _json(command)
    return command


def _json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON, one object a line")


def _planned(verbs: Any, name: str, means: str, what: str) -> argparse.ArgumentParser:
    command = _asked(verbs, name, means, what)
    _plan(command)
    return command


def _plan(command: argparse.ArgumentParser) -> None:
    command.add_argument("--plan", action="store_true", help="only show what would be done")


def _asked(verbs: Any, name: str, means: str, what: str) -> argparse.ArgumentParser:
    """One that a daemon does, if there is one."""
    command: argparse.ArgumentParser = verbs.add_parser(name, help=what, description=what)
    command.set_defaults(means=means)
    either = command.add_mutually_exclusive_group()
    file = f"work without a daemon on the pools of this configuration file; where there is none, {_CONFIG}"
    either.add_argument("--config", type=Path, metavar="FILE", help=file)
    _socket(either)
    _json(command)
    return command


def _copied(verbs: Any, name: str, means: str, what: str) -> argparse.ArgumentParser:
    """One that copies by itself, and has a daemon do the rest, if there is one."""
    command: argparse.ArgumentParser = verbs.add_parser(name, help=what, description=what)
    command.set_defaults(means=means)
    file = f"the configuration file, which names the pools ({_CONFIG}); with --socket a daemon is asked, too"
    command.add_argument("--config", type=Path, metavar="FILE", help=file)
    _socket(command)
    _json(command)
    _plan(command)
    return command


def _socket(command: Any) -> None:
    where = "the control socket of the daemon; by default this user's own, or else that of root's"
    command.add_argument("--socket", type=Path, metavar="PATH", help=where)


def _add_pool(verbs: Any) -> None:
    _command(verbs, "list", "pools.List", "show the pools of the file: room, volumes, and what is wrong")
    command = _command(verbs, "init", "pools.Init", "make a pool of a directory or thin pool, by a marker")
    command.add_argument("name", metavar="POOL", help="name of a pool in the file")
    plain = "also where the directory is on the root file system, and not one that may not be mounted"
    command.add_argument("--plain", action="store_true", help=plain)


def _add_volume(verbs: Any) -> None:
    what = "make a volume of zeroes: raw where files can share blocks (XFS, btrfs), else qcow2"
    command = _planned(verbs, "create", "volumes.create", what)
    command.add_argument("volume", metavar=_VOLUME, help="name of the new volume")
    command.add_argument("size", type=size, metavar="SIZE", help="bytes, or such as 512M, 10G, 1T")
    command.add_argument("--format", choices=FORMATS, help="how its bytes are kept")
    command = _asked(verbs, "list", "volumes.List", "list volumes, the room they take, and their snapshots")
    command.add_argument("pool", nargs="?", metavar="POOL", help="only those of this pool")
    command = _asked(verbs, "show", "volumes.Show", "show all of a volume")
    command.add_argument("volume", metavar=_VOLUME, help="name of the volume")
    _add_states(verbs)
    _add_changes(verbs)
    _add_copies(verbs)
    _add_merge(verbs)


def _add_states(verbs: Any) -> None:
    what = "make a volume that begins as another one, or as a snapshot, and shares its blocks"
    command = _planned(verbs, "clone", "volumes.clone", what)
    command.add_argument("source", metavar=_EITHER, help="what is cloned")
    command.add_argument("volume", metavar=_VOLUME, help="name of the new volume, in the same pool")
    what = "keep what a volume has now, also while it is served; what several have, at one moment"
    command = _planned(verbs, "snapshot", "volumes.snapshot", what)
    named = "the volume, and a name for its state; others of the pool by the same name"
    command.add_argument("snapshots", nargs="+", metavar=_SNAPSHOT, help=named)
    what = "give a volume the content of a snapshot again; what it has now is kept as another snapshot"
    command = _planned(verbs, "rollback", "volumes.rollback", what)
    command.add_argument("snapshot", metavar=_SNAPSHOT, help="the snapshot")
    _forced(command)


def _forced(command: argparse.ArgumentParser) -> None:
    force = "also where a client used the volume in the last minute"
    command.add_argument("--force", action="store_true", help=force)


def _add_changes(verbs: Any) -> None:
    command = _planned(verbs, "resize", "volumes.resize", "give a volume another size")
    command.add_argument("volume", metavar=_VOLUME, help="name of the volume")
    command.add_argument("size", type=size, metavar="SIZE", help="bytes, or such as 512M, 10G, 1T")
    shrink = "also where that is less than it has: what is behind the new end is lost"
    command.add_argument("--shrink", action="store_true", help=shrink)
    _forced(command)
    what = "give a volume another name; its UUID, snapshots and clones stay"
    command = _planned(verbs, "rename", "volumes.rename", what)
    command.add_argument("volume", metavar=_VOLUME, help="name of the volume")
    command.add_argument("new", metavar=_VOLUME, help="its new name, in the same pool")
    command = _planned(verbs, "delete", "volumes.delete", "delete a snapshot, or a volume without clones")
    command.add_argument("volume", metavar=_EITHER, help="what is deleted")
    recursive = "also where the volume has snapshots, which are deleted, too"
    command.add_argument("--recursive", action="store_true", help=recursive)


def _add_copies(verbs: Any) -> None:
    what = "make a volume of an image, which is checked, copied whole, and never changed"
    command = _copied(verbs, "import", "filling.Import", what)
    command.add_argument("image", metavar="FILE|URL", help="a file, a block device, or http://, https://")
    command.add_argument("volume", metavar=_VOLUME, help="name of the new volume")
    form = "what the image is, where its name does not say it: raw, unless it ends as .qcow2, .vmdk ..."
    command.add_argument("--format", choices=FOREIGN, help=form)
    kept = "how its bytes are kept: raw where files can share blocks, else qcow2"
    command.add_argument("--kept", choices=FORMATS, help=kept)
    command.add_argument("--sha256", type=sha256, metavar="SUM", help="refuse an image that has another one")
    what = "write what a volume or snapshot has to a new file, as an image of its own"
    command = _command(verbs, "save", "filling.Save", what)
    _plan(command)
    command.add_argument("volume", metavar=_EITHER, help="what is saved")
    command.add_argument("file", type=Path, metavar="FILE", help="the image; nothing may be there")
    form = "what the image is, where its name does not say it: raw, unless it ends as .qcow2"
    command.add_argument("--format", choices=FORMATS, help=form)
    what = "make a volume that is only cloned: it is copied once, so that each clone takes a moment"
    command = _copied(verbs, "template", "filling.Template", what)
    command.add_argument("volume", metavar=_VOLUME, help="name of the volume, which has no snapshots")


def _add_merge(verbs: Any) -> None:
    what = "let later states take what they need of deleted ones, of which they are differences (qcow2)"
    command = _copied(verbs, "merge", "filling.Merge", what)
    command.add_argument("volume", metavar=_VOLUME, help="name of the volume, which nothing uses")


def sha256(text: str) -> str:
    """A type for argparse: 64 hexadecimal digits."""
    if re.fullmatch("[0-9a-fA-F]{64}", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no SHA-256, which has 64 hexadecimal digits")
    return text.lower()


def size(text: str) -> int:
    """A type for argparse: `10G` -> bytes."""
    match = re.fullmatch(r"([0-9]{1,19})([kKmMgGtT]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write it as 10G, or as a number of bytes")
    return int(match[1]) * _UNITS[match[2].lower()]
