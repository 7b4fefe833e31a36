"""The engine's rings do what the engine asks of them, and nothing else, whoever gets hold of one."""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aoe.engine import Engine, PortFacts
from tests.support.labs.ring import (
    AT_FDCWD,
    ENABLE_RINGS,
    FSYNC,
    OPENAT,
    R_DISABLED,
    READ,
    READV,
    SOCKET,
    UNREGISTER_FILES,
    WRITE,
    WRITEV,
    Ring,
)
from tests.support.tools import need_engine, unavailable

ASYNC, LINK = 1 << 4, 1 << 2


def descriptors() -> set[str]:
    return {link.name for link in Path("/proc/self/fd").iterdir()}


def rings() -> set[int]:
    """Descriptors of this process that are rings."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            if str(link.readlink()) == "anon_inode:[io_uring]":
                found.add(int(link.name))
        except FileNotFoundError:
            continue
    return found


def engine(*, threads: int = 1, plain_io: bool = False) -> Engine:
    need_engine()
    return Engine(
        [PortFacts(bytes(6), 2)],
        exports_max=1,
        frame_max=1514,
        frame_age_ns=10**9,
        threads=threads,
        plain_io=plain_io,
    )


@contextmanager
def ring_of_an_engine() -> Iterator[Ring]:
    before = rings()
    made = engine()
    try:
        if not made.uses_uring:
            unavailable("this kernel, or what confines us, refuses io_uring")
        (fd,) = rings() - before
        yield Ring(1024, R_DISABLED, 8192, fd)
    finally:
        made.close()


@pytest.fixture
def ring() -> Iterator[Ring]:
    with ring_of_an_engine() as found:
        found.register(ENABLE_RINGS)
        yield found


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"stored")
    yield fd
    os.close(fd)


def test_there_is_one_for_each_thread_before_any_thread_is() -> None:
    before = rings()
    made = engine(threads=3)
    assert len(rings() - before) == (3 if made.uses_uring else 0)
    made.close()
    assert rings() == before


def test_there_is_none_where_none_is_wanted() -> None:
    before = rings()
    made = engine(plain_io=True)
    assert rings() == before
    assert not made.uses_uring
    made.close()


def test_it_reads_writes_and_syncs(ring: Ring, file: int) -> None:
    buffer = ctypes.create_string_buffer(b"other!")
    at = ctypes.addressof(buffer)
    ring.submit(WRITE, file, at, 6, 6)
    assert ring.result() == 6
    ring.submit(FSYNC, file, 0, 0, 0, sqe_flags=ASYNC)
    assert ring.result() == 0
    ring.submit(READ, file, at, 6, 0)
    assert ring.result() == 6
    assert buffer.raw[:6] == b"stored"
    assert os.pread(file, 20, 0) == b"storedother!"


def test_it_reads_and_writes_several_at_once(ring: Ring, file: int) -> None:
    buffer = ctypes.create_string_buffer(b"..other!")
    at = ctypes.addressof(buffer)
    parts = (ctypes.c_uint64 * 4)(at + 2, 3, at + 5, 3)
    ring.submit(WRITEV, file, ctypes.addressof(parts), 2, 6)
    assert ring.result() == 6
    ring.submit(READV, file, ctypes.addressof(parts), 2, 0)
    assert ring.result() == 6
    assert buffer.raw[:8] == b"..stored"
    assert os.pread(file, 20, 0) == b"storedother!"


@pytest.mark.parametrize("opcode", sorted(set(range(60)) - {READ, WRITE, READV, WRITEV, FSYNC}))
def test_it_does_nothing_else(opcode: int, ring: Ring, file: int) -> None:
    name = ctypes.create_string_buffer(b"/etc/passwd")
    before = descriptors()
    ring.submit(opcode, AT_FDCWD if opcode == OPENAT else file, ctypes.addressof(name), 0, 0)
    assert ring.result() in (-errno.EACCES, -errno.EINVAL)
    assert descriptors() == before


@pytest.mark.parametrize(("opcode", "domain"), [(SOCKET, 2), (OPENAT, AT_FDCWD)])
def test_what_it_refuses_the_kernel_has_for_others(opcode: int, domain: int) -> None:
    """Or the test before would prove nothing."""
    name = ctypes.create_string_buffer(b"/etc/passwd")
    free = Ring()
    free.submit(
        opcode, domain, ctypes.addressof(name) if opcode == OPENAT else 0, 0, 2 if opcode == SOCKET else 0
    )
    fd = free.result()
    assert fd >= 0
    os.close(fd)
    os.close(free.fd)


def test_it_links_no_requests(ring: Ring, file: int) -> None:
    ring.submit(FSYNC, file, 0, 0, 0, sqe_flags=LINK)
    assert ring.result() == -errno.EACCES


@pytest.mark.parametrize("what", [UNREGISTER_FILES, ENABLE_RINGS])
def test_nothing_more_is_registered_with_it(what: int, ring: Ring) -> None:
    with pytest.raises(OSError):  # noqa: PT011 (it depends on what)
        ring.register(what)


def test_it_does_nothing_before_its_thread_begins(file: int) -> None:
    with ring_of_an_engine() as found, pytest.raises(OSError, match=os.strerror(errno.EBADFD)):
        found.submit(FSYNC, file, 0, 0, 0)
