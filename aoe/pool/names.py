"""Names of pools, volumes and snapshots, and how they are written together: `pool/volume@snapshot`."""

import re
from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

from aoe import limits
from aoe.errors import ConfigurationError
from aoe.printable import plain

Kind = Literal["directory", "lvm-thin"]
"""Of what a pool is made."""
Format = Literal["raw", "qcow2"]
FORMATS: tuple[Format, ...] = ("raw", "qcow2")
"""How the bytes of a disk are kept."""
Foreign = Literal["raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc"]
FOREIGN: tuple[Foreign, ...] = ("raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc")
"""What images of others are read."""

RULE = (
    f"1 to {limits.POOL_NAME_MAX} letters (a to z, A to Z), digits, dots, hyphens and underscores, with a "
    "letter or digit first"
)
_LVM_NAME = re.compile(r"(?!-|\.{1,2}$)[A-Za-z0-9+_.-]{1,127}")
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{limits.POOL_NAME_MAX - 1}}}")
_PATTERN = re.compile(rf"[A-Za-z0-9._*?\[\]!-]{{1,{2 * limits.POOL_NAME_MAX}}}")


class VolumeName(NamedTuple):
    """A volume of a pool, or one of its snapshots."""

    pool: str
    volume: str
    snapshot: str = ""

    def __str__(self) -> str:
        return said(*self)


def said(pool: str, volume: str, snapshot: str = "") -> str:
    """As it is written; without the pool where that has no name."""
    within = f"{volume}@{snapshot}" if snapshot else volume
    return f"{pool}/{within}" if pool else within


def is_name(text: str) -> bool:
    """Whether a text may be the name of a pool, volume or snapshot."""
    return _NAME.fullmatch(text) is not None


def is_lvm_name(text: str) -> bool:
    """Whether a text may be the name of a volume group or logical volume (lvm(8))."""
    return _LVM_NAME.fullmatch(text) is not None


def check(text: str, what: str) -> str:
    """The same text; ConfigurationError where it cannot name a pool, volume or snapshot (`what`)."""
    if is_name(text):
        return text
    raise ConfigurationError(f"{_quoted(text)} cannot name a {what}; use {RULE}")


def parse(text: str) -> VolumeName:
    """`pool/volume` or `pool/volume@snapshot`; ConfigurationError for anything else."""
    pool, slash, within = text.partition("/")
    volume, at, snapshot = within.partition("@")
    if not (pool and slash and volume) or bool(at) != bool(snapshot):
        raise ConfigurationError(
            f"{_quoted(text)} names no volume; write it as POOL/VOLUME or POOL/VOLUME@SNAPSHOT"
        )
    check(pool, "pool")
    check(volume, "volume")
    return VolumeName(pool, volume, check(snapshot, "snapshot") if at else "")


def is_volume_name(text: str) -> bool:
    """Whether a text is `pool/volume` or `pool/volume@snapshot`."""
    try:
        parse(text)
    except ConfigurationError:
        return False
    return True


def is_pattern(text: str) -> bool:
    """Whether a text is `pool/volume`, where the volume may have `*`, `?` and `[...]`."""
    pool, _, volume = text.partition("/")
    return is_name(pool) and _PATTERN.fullmatch(volume) is not None


def check_free(name: str, what: str, taken: Iterable[str]) -> str:
    """The same name; ConfigurationError where it cannot be one, or is among those that are `taken`, also by
    another case: some file systems, and many people, do not tell these apart."""
    check(name, what)
    for other in taken:
        if other == name:
            raise ConfigurationError(f"there is a {what} {name}; choose another name, or delete it first")
        if other.casefold() == name.casefold():
            raise ConfigurationError(
                f"there is a {what} {other}, which differs from {name} only by case; choose another name"
            )
    return name


def fresh(wanted: str, taken: Collection[str]) -> str:
    """A name like the one that is wanted, cut to fit, and with a number behind it where it is taken."""
    folded = {it.casefold() for it in taken}
    name, number = wanted[: limits.POOL_NAME_MAX], 1
    while name.casefold() in folded:
        number += 1
        end = f"-{number}"
        name = wanted[: limits.POOL_NAME_MAX - len(end)] + end
    return name


def _quoted(text: str) -> str:
    shown = plain(text[: limits.CONFIG_SHOWN_MAX]) + "..." * (len(text) > limits.CONFIG_SHOWN_MAX)
    return f'"{shown}"'
