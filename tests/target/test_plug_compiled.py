"""What `csrc/target/plug.c` lets go as one, and what `sectors.c` makes of it, by io_uring and by threads."""

import os
import random
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cffi import FFI

from tests.support.tools import need, need_engine

CSRC = Path(__file__).parents[2] / "csrc"
PARTS, READY = 32, 2
IOS = 256
SECTOR = 512
_DECLARED = """
void anew(void);
void add(uint32_t number, uint64_t offset, uint32_t length, int fd);
uint32_t take(uint32_t *went);
void over(uint32_t first, int32_t result);
int32_t result_of(uint32_t number);
void begin(int plain, int event);
void start(uint32_t number, int write, uint64_t offset, uint32_t length, int fd, void *buffer);
void go(void);
uint32_t reap(uint32_t *done);
void end(void);
"""
_PROGRAM = """
#include <assert.h>
#include <string.h>
#include "target/sectors.h"

static struct plug plugs[2];
static struct io ios[256];
static struct sectors *sectors;

void anew(void) { memset(plugs, 0, sizeof plugs); }

void add(uint32_t number, uint64_t offset, uint32_t length, int fd)
{
    struct plug *plug = &plugs[IO_WRITE];
    ios[number] = (struct io){.offset = offset, .length = length, .fd = fd, .action = IO_WRITE, .plug = plug};
    plug_add(plug, &ios[number]);
}

uint32_t take(uint32_t *went)
{
    uint32_t count = 0;
    for (struct io *io = plug_take(&plugs[IO_WRITE]); io; io = io->joined)
        went[count++] = (uint32_t)(io - ios);
    return count;
}

void over(uint32_t first, int32_t result) { plug_over(&plugs[IO_WRITE], &ios[first], result); }
int32_t result_of(uint32_t number) { return ios[number].result; }

void begin(int plain, int event)
{
    anew();
    sectors = sectors_open(plain, event);
    assert(sectors && !sectors_begin(sectors));
}

void start(uint32_t number, int write, uint64_t offset, uint32_t length, int fd, void *buffer)
{
    enum action action = write ? IO_WRITE : IO_READ;
    ios[number] = (struct io){.buffer = buffer, .offset = offset, .length = length, .fd = fd, .may_block = 1,
                              .action = action, .plug = &plugs[action]};
    sectors_start(sectors, &ios[number]);
}

void go(void) { sectors_go(sectors); }

uint32_t reap(uint32_t *done)
{
    uint32_t count = 0;
    for (struct io *io = sectors_reap(sectors); io; io = io->link)
        done[count++] = (uint32_t)(io - ios);
    return count;
}

void end(void)
{
    assert(!sectors_busy(sectors) && !sectors_threads_busy(sectors));
    sectors_close(sectors);
}
"""


class Compiled(NamedTuple):
    """The program above."""

    ffi: FFI
    lib: Any

    def take(self) -> list[int]:
        """The numbers of what goes as one."""
        went = self.ffi.new("uint32_t[]", IOS)
        return list(went[0 : self.lib.take(went)])

    def reap(self) -> list[int]:
        """The numbers of what is done."""
        done = self.ffi.new("uint32_t[]", IOS)
        return list(done[0 : self.lib.reap(done)])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    need("gcc")
    need_engine()
    work = tmp_path_factory.mktemp("plug")
    (work / "around.c").write_text(_PROGRAM)
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-shared", "-fPIC", "-UNDEBUG", "-pthread", f"-I{CSRC}"]
    sources = [*(str(CSRC / "target" / f"{name}.c") for name in ("plug", "sectors")), str(work / "around.c")]
    subprocess.run(["gcc", *flags, *sources, "-luring", "-o", str(work / "plug.so")], check=True)
    ffi = FFI()
    ffi.cdef(_DECLARED)
    return Compiled(ffi, ffi.dlopen(str(work / "plug.so")))


@pytest.fixture
def compiled(built: Compiled) -> Compiled:
    built.lib.anew()
    return built


def sectors(compiled: Compiled, *numbers: int, fd: int = 3) -> None:
    """Add requests for one sector each."""
    for number in numbers:
        compiled.lib.add(number, number * SECTOR, SECTOR, fd)


def test_what_follows_goes_as_one(compiled: Compiled) -> None:
    sectors(compiled, 0, 1, 2, 7, 8, 5)
    assert [compiled.take() for _ in range(4)] == [[0, 1, 2], [7, 8], [5], []]


def test_another_descriptor_is_another_file(compiled: Compiled) -> None:
    sectors(compiled, 0, 1)
    sectors(compiled, 2, 3, fd=4)
    assert [compiled.take() for _ in range(2)] == [[0, 1], [2, 3]]


def test_it_is_not_too_much_at_a_time(compiled: Compiled) -> None:
    sectors(compiled, *range(PARTS + 2))
    assert [len(compiled.take()) for _ in range(2)] == [PARTS, 2]


def test_more_is_waited_for_while_there_is_something_to_do(compiled: Compiled) -> None:
    sectors(compiled, 0)
    assert compiled.take() == [0]
    sectors(compiled, 1)
    assert compiled.take() == [1]
    sectors(compiled, 2)
    assert compiled.take() == []
    sectors(compiled, 3)
    compiled.lib.over(0, SECTOR)
    assert compiled.take() == [2, 3]
    sectors(compiled, 4, 9)
    assert [compiled.take() for _ in range(2)] == [[4], [9]], "nothing can come between them any more"


def test_what_does_not_follow_waits_for_nothing(compiled: Compiled) -> None:
    for number in (9, 7, 5, 3, 1):
        sectors(compiled, number)
        assert compiled.take() == [number]


@pytest.mark.parametrize(
    ("result", "each"),
    [
        (3 * SECTOR, [SECTOR, SECTOR, SECTOR]),
        (SECTOR + 100, [SECTOR, 100, 0]),
        (0, [0, 0, 0]),
        (-107, [-107, -107, -107]),
    ],
)
def test_each_has_its_own_result(compiled: Compiled, result: int, each: list[int]) -> None:
    sectors(compiled, 0, 1, 2)
    assert compiled.take() == [0, 1, 2]
    compiled.lib.over(0, result)
    assert [compiled.lib.result_of(number) for number in range(3)] == each


@pytest.mark.parametrize("seed", range(20))
def test_all_go_once_in_their_order(compiled: Compiled, seed: int) -> None:
    """And never none while none is under way."""
    chance = random.Random(seed)
    places: list[int] = []
    went: list[int] = []
    under_way: list[int] = []
    while len(went) < IOS:
        if len(places) < IOS and chance.random() < 0.6:
            follows = places and chance.random() < 0.8
            places.append(places[-1] + 1 if follows else chance.randrange(1 << 20))
            compiled.lib.add(len(places) - 1, places[-1] * SECTOR, SECTOR, 3)
        elif under_way and chance.random() < 0.5:
            compiled.lib.over(under_way.pop(chance.randrange(len(under_way))), SECTOR)
        while numbers := compiled.take():
            first = places[numbers[0]]
            assert [places[it] for it in numbers] == list(range(first, first + len(numbers)))
            under_way.append(numbers[0])
            went += numbers
        assert len(under_way) >= READY or len(went) == len(places)
    assert went == list(range(IOS))


@pytest.fixture(params=[0, 1], ids=["uring", "threads"])
def event(request: pytest.FixtureRequest, built: Compiled) -> Iterator[int]:
    made = os.eventfd(0)
    built.lib.begin(request.param, made)
    yield made
    built.lib.end()
    os.close(made)


def done(compiled: Compiled, event: int, count: int) -> dict[int, int]:
    """What each of so many requests came to."""
    them: list[int] = []
    compiled.lib.go()
    while len(them) < count:
        them += compiled.reap() or (select.select([event], [], []) and os.eventfd_read(event) and [])
        compiled.lib.go()
    return {number: compiled.lib.result_of(number) for number in them}


def test_what_went_as_one_is_written_and_read(built: Compiled, event: int, tmp_path: Path) -> None:
    content = random.Random(1).randbytes(IOS // 2 * SECTOR)
    whole = built.ffi.from_buffer("uint8_t[]", bytearray(content))
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    for number in range(IOS // 2):
        built.lib.start(number, 1, number * SECTOR, SECTOR, fd, whole + number * SECTOR)
    assert done(built, event, IOS // 2) == dict.fromkeys(range(IOS // 2), SECTOR)
    assert (tmp_path / "file").read_bytes() == content
    os.ftruncate(fd, len(content) - SECTOR - 100)
    back = built.ffi.new("uint8_t[]", len(content))
    for number in range(IOS // 2):
        built.lib.start(number, 0, number * SECTOR, SECTOR, fd, back + number * SECTOR)
    last = {IOS // 2 - 2: SECTOR - 100, IOS // 2 - 1: 0}
    assert done(built, event, IOS // 2) == dict.fromkeys(range(IOS // 2), SECTOR) | last
    assert bytes(back)[: -SECTOR - 100] == content[: -SECTOR - 100]
    os.close(fd)
