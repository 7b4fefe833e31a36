"""Run by Debian's Python, which has libnbd: what NBD clients may ask of a disk, and what must come back.

nbd_script.py URI [read-only]. Ends with status 0 if all is right.
"""

import errno
import random
import sys
from collections.abc import Callable

import nbd

BLOCK = 4096
PLACE = 1 << 20
"""Where single requests are tried out; what is asked at random stays behind it."""
LONGEST = 40_000
OPERATIONS = 150
IN_FLIGHT = 32


def connect(uri: str) -> nbd.NBD:
    """A connection on which the server, not the library, refuses what is wrong."""
    handle = nbd.NBD()
    handle.set_strict_mode(0)
    handle.connect_uri(uri)
    return handle


def refused(call: Callable[[], object], *numbers: int) -> None:
    """A call must fail, with one of these errors."""
    number = 0
    try:
        call()
    except nbd.Error as error:
        number = error.errnum
    assert number in numbers, number


def durable_and_flushed(one: nbd.NBD, other: nbd.NBD) -> None:
    """What one connection wrote is there for another."""
    data = random.Random(1).randbytes(3 * BLOCK)
    one.pwrite(data, PLACE, nbd.CMD_FLAG_FUA)
    one.flush()
    assert other.pread(len(data), PLACE) == data


def trimmed_and_zeroed(one: nbd.NBD) -> None:
    """Nothing but the range is touched; zeroes are zeroes, what was trimmed may be anything."""
    one.pwrite(b"x" * 5 * BLOCK, PLACE)
    one.trim(BLOCK, PLACE + BLOCK)
    one.zero(BLOCK, PLACE + 3 * BLOCK, nbd.CMD_FLAG_FUA)
    kept, zeroes = b"x" * BLOCK, bytes(BLOCK)
    found = [one.pread(BLOCK, PLACE + block * BLOCK) for block in (0, 2, 3, 4)]
    assert found == [kept, kept, zeroes, kept]
    one.zero(1000, PLACE + 100)
    assert one.pread(1200, PLACE) == b"x" * 100 + bytes(1000) + b"x" * 100


def ends(one: nbd.NBD) -> None:
    """The last byte is there, and what reaches behind it is refused without an end of the connection."""
    size = one.get_size()
    one.pwrite(b"end", size - 3)
    assert one.pread(3, size - 3) == b"end"
    refused(lambda: one.pread(4, size - 3), errno.EINVAL)
    refused(lambda: one.pread(1, size + BLOCK), errno.EINVAL)
    refused(lambda: one.pwrite(b"over", size - 3), errno.ENOSPC, errno.EINVAL)
    refused(lambda: one.trim(BLOCK, size - 3), errno.ENOSPC, errno.EINVAL)
    refused(lambda: one.zero(BLOCK, size - 3), errno.ENOSPC, errno.EINVAL)
    assert one.pread(3, size - 3) == b"end"


def any_bytes(one: nbd.NBD) -> None:
    """Reads, writes and zeroes of any length at any place, one after the other, against a model."""
    rng = random.Random(2)
    first, size = 2 * PLACE, one.get_size() - 2 * PLACE
    model = bytearray(one.pread(size, first))
    for _ in range(OPERATIONS):
        length = rng.randrange(1, LONGEST)
        at, seen_from = rng.randrange(size - length), rng.randrange(size - LONGEST)
        if rng.random() < 0.8:
            model[at : at + length] = rng.randbytes(length)
            one.pwrite(model[at : at + length], first + at)
        else:
            model[at : at + length] = bytes(length)
            one.zero(length, first + at)
        assert one.pread(LONGEST, first + seen_from) == model[seen_from : seen_from + LONGEST]
    assert one.pread(size, first) == model


def many_at_once(one: nbd.NBD) -> None:
    """Requests that are open together are each answered with what is theirs."""
    pieces = [random.Random(seed).randbytes(BLOCK + seed) for seed in range(IN_FLIGHT)]
    where = [PLACE + number * 2 * BLOCK for number in range(IN_FLIGHT)]
    buffers = [nbd.Buffer.from_bytearray(bytearray(data)) for data in pieces]
    wait(one, [one.aio_pwrite(buffer, at) for buffer, at in zip(buffers, where, strict=True)])
    buffers = [nbd.Buffer(len(data)) for data in pieces]
    wait(one, [one.aio_pread(buffer, at) for buffer, at in zip(buffers, where, strict=True)])
    assert [bytes(buffer.to_bytearray()) for buffer in buffers] == pieces


def wait(one: nbd.NBD, cookies: list[int]) -> None:
    for cookie in cookies:
        while not one.aio_command_completed(cookie):
            one.poll(-1)


def read_only(one: nbd.NBD) -> None:
    """It can be read, and nothing changes it."""
    before = one.pread(BLOCK, 0)
    refused(lambda: one.pwrite(b"x", 0), errno.EPERM)
    refused(lambda: one.trim(BLOCK, 0), errno.EPERM)
    refused(lambda: one.zero(BLOCK, 0), errno.EPERM)
    assert one.pread(BLOCK, 0) == before


def main(uri: str, *words: str) -> None:
    one = connect(uri)
    if "read-only" in words:
        read_only(one)
        return
    durable_and_flushed(one, connect(uri))
    trimmed_and_zeroed(one)
    ends(one)
    any_bytes(one)
    many_at_once(one)
    one.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
