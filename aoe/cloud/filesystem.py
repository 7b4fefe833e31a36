"""A root as an ext4 file system, every bit of which depends on the tree, the id and the time alone."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from aoe.cloud import identity, programs

_ROOT, _FIRST = 2, 11
"""Inodes: that of the root, and the first that is no reserved one (ext4(5))."""


def make(tree: Path, file: Path, size: int, id: str, epoch: int) -> None:
    """A new file of `size` bytes; `epoch` is seconds since 1970. AoeError."""
    uuid = identity.uuid_of(id)
    fixed = {"E2FSPROGS_FAKE_TIME": str(epoch)}
    extended = f"hash_seed={uuid},root_owner=0:0"
    words = ["mke2fs", "-q", "-F", "-t", "ext4", "-m", "1", "-U", uuid, "-E", extended, "-d", str(tree)]
    programs.run([*words, str(file), str(size >> 10)], fixed)
    listed: list[str] = []
    programs.run(["dumpe2fs", str(file)], told=listed.append)
    commands = file.with_name(f"{file.name}.times")
    commands.write_text("".join(times(used(listed), epoch)))
    programs.run(["debugfs", "-w", "-f", str(commands), str(file)], fixed)
    commands.unlink()


def times(inodes: Iterable[int], epoch: int) -> Iterator[str]:
    """Commands for debugfs(8): mke2fs takes the time of the last change of an inode, which cannot be set in a
    tree, and that of the last access, which its own reading changes."""
    for inode in inodes:
        for field in ("atime", "ctime"):
            yield f"set_inode_field <{inode}> {field} @{epoch}\n"


def used(lines: Iterable[str]) -> Iterator[int]:
    """Inodes of files, as dumpe2fs(8) has it."""
    text = "\n".join(lines)
    count = re.search(r"^Inode count: +(\d+)$", text, re.MULTILINE)
    assert count, "dumpe2fs has succeeded"
    free: set[int] = set()
    for line in re.findall(r"^  Free inodes: (.*)$", text, re.MULTILINE):
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", line):
            free.update(range(int(first), int(last or first) + 1))
    return (it for it in (_ROOT, *range(_FIRST, int(count[1]) + 1)) if it not in free)
