"""Judges stores: whether they answer, can be opened and written, and have room."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aoe import limits
from aoe.doctor.checks import Finding, fault, fine


class Store(NamedTuple):
    """What is at the path of an export. `hangs`: it did not answer. `protected`: the kernel has the block
    device read-only, and `writable` that the export is meant to be written. `missing` are bytes of a sparse
    file that have no place yet on `filesystem` (its number), where `free` of `total` bytes are free.
    `closed` is a directory or file that the user of the service may not pass (empty: none)."""

    address: str
    path: str
    hangs: bool = False
    writable: bool = True
    protected: bool = False
    missing: int = 0
    filesystem: int = 0
    free: int = 0
    total: int = 0
    closed: str = ""


def judge(them: Sequence[Store | None], user: str) -> Iterator[Finding]:
    """`user` is that of the service; where there was nothing to be seen is None."""
    there = [it for it in them if it is not None]
    for one in there:
        yield from _one(one, user)
    yield from _room([it for it in there if not it.hangs])


def _one(one: Store, user: str) -> Iterator[Finding]:
    if one.hangs:
        remedy = f"dmesg, and the server of it if it is remote: stat {one.path}"
        yield fault("store-silent", one.address, f"{one.path} does not answer", remedy)
        return
    yield fine("store-silent", one.address, f"{one.path} answers")
    if one.protected and one.writable:
        seen = f"the kernel has {one.path} read-only"
        remedy = f"blockdev --setrw {one.path}, or read-only = true in the file"
        yield fault("store-read-only", one.address, seen, remedy)
    if one.closed:
        seen = f"user {user} may not open {one.closed}"
        remedy = f"namei -l {one.path}; give {user} access, or move the file out of /home and /root"
        yield fault("store-access", one.address, seen, remedy)


def _room(them: Sequence[Store]) -> Iterator[Finding]:
    """Sparse files of one file system share what is free there."""
    by_filesystem = defaultdict[int, list[Store]](list)
    for one in them:
        if one.missing and one.writable:
            by_filesystem[one.filesystem].append(one)
    for sparse in by_filesystem.values():
        missing, free, total = sum(it.missing for it in sparse), sparse[0].free, sparse[0].total
        full = missing > free and free < total // limits.DOCTOR_FULL_ONE_IN
        for one in sparse:
            seen = f"{free} bytes are free under {one.path}, {missing} are not written yet"
            if full:
                yield fault("store-full", one.address, seen, f"df {one.path}, and make room or move a disk")
            else:
                yield fine("store-full", one.address, seen)
