"""The command line of `aoe-cloud`: its words. Each subcommand names what it means, which is loaded then."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aoe.cli import words
from aoe.cli.pool_parser import size
from aoe.cli.target_parser import Command
from aoe.cli.version import Version

_LIBRARY = Path("/var/lib/aoe-cloud")


def command_of(arguments: Sequence[str] | None) -> Command:
    """The command that was typed; ConfigurationError for a word that means nothing."""
    command: Command = words.bound(vars(parser().parse_args(arguments)))
    return command


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = words.Parser(prog="aoe-cloud", description="Make images for machines without a disk.")
    top.add_argument("--version", action=Version)
    commands = top.add_subparsers(dest="command", required=True)
    what = "build images that machines without a disk start from, and look at them"
    image = commands.add_parser("image", help=what, description=what)
    verbs = image.add_subparsers(dest="verb", required=True)
    _add_build(verbs)
    _add_list(verbs)
    return top


def _command(verbs: Any, name: str, means: str, what: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = verbs.add_parser(name, help=what, description=what)
    command.set_defaults(means=means)
    library = f"where kernels and initramfs are of images whose roots are volumes ({_LIBRARY})"
    command.add_argument("--directory", type=Path, default=_LIBRARY, metavar="DIR", help=library)
    command.add_argument("--json", action="store_true", help="print JSON, one object a line")
    return command


def _add_build(verbs: Any) -> None:
    what = "build root, kernel and initramfs with one id, which is the same whenever the same is built"
    command = _command(verbs, "build", "cloud_images.Build", what)
    add = command.add_argument
    add("release", metavar="RELEASE", help="what is built: debian12")
    add("volume", nargs="?", metavar="POOL/VOLUME", help="the new volume that becomes the root")
    output = "instead of a volume a new file; kernel, initramfs and record are beside it"
    add("--output", type=Path, metavar="FILE", help=output)
    more = "further packages; repeatable. A linux-image-* package replaces the kernel for virtual machines"
    add("--include", action="append", default=[], metavar="PKG,...", help=more)
    add("--deb", action="append", default=[], type=Path, metavar="FILE", help=_DEB)
    keys = "public ssh keys that may log in as root; the image gets an ssh server"
    add("--authorized-keys", type=Path, metavar="FILE", help=keys)
    add("--hook", type=Path, metavar="FILE", help=_HOOK)
    add("--size", type=size, metavar="SIZE", help="bytes of the root, such as 4G; by default what it needs")
    sources = "apt sources to install from, which stay in the image; by default those of Debian"
    add("--sources", type=Path, metavar="FILE", help=sources)
    _add_daemon(command)


_DEB = "a package that is a file here, such as the one for a root over AoE; repeatable"
_HOOK = "a program that gets the root as its argument and changes it, before the initramfs is made"


def _add_daemon(command: argparse.ArgumentParser) -> None:
    file = "the configuration file, which names the pool; with --socket a daemon is asked, too"
    command.add_argument("--config", type=Path, metavar="FILE", help=file)
    where = "the control socket of the daemon that has the pool"
    command.add_argument("--socket", type=Path, metavar="PATH", help=where)


def _add_list(verbs: Any) -> None:
    what = "list the images of a directory, and say what is wrong with their parts"
    command = _command(verbs, "list", "cloud_images.List", what)
    check = "also read kernels, initramfs and roots that are files, and compare their digests"
    command.add_argument("--check", action="store_true", help=check)
