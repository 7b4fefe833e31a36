"""Memory that cannot be had is an error to the caller, and never ends the process of the user."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cffi import FFI

from aoe.initiator import compiled_core
from aoe.initiator.compiled_core import CompiledCore
from aoe.initiator.request import Outcome, Verb
from aoe.wire.protocol import SECTOR
from csrc.build import DECLARATION
from tests.initiator.play import Play, Server
from tests.support.tools import need

CSRC = Path(__file__).parent.parent.parent / "csrc"
INPUT_OUTPUT = {"load.c", "remote.c", "socket_port.c"}
DATA = bytes(range(256)) * 64
"""More than a frame holds, and with odd ends where it is written."""
ALLOCATOR = """
#include <stddef.h>
static long left = -1, asked;
void memory_left(long number) { left = number; asked = 0; }
long memory_asked(void) { return asked; }
static int fails(void) { asked++; return left >= 0 && (left == 0 || !left--); }
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size) { return fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) { return fails() ? NULL : __real_calloc(count, size); }
void *__wrap_realloc(void *old, size_t size) { return fails() ? NULL : __real_realloc(old, size); }
"""


@pytest.fixture(scope="module")
def arithmetic(tmp_path_factory: pytest.TempPathFactory) -> tuple[FFI, Any]:
    """The initiator's arithmetic in C, with an allocator that can be told to fail."""
    need("gcc")
    work = tmp_path_factory.mktemp("memory")
    (work / "allocator.c").write_text(ALLOCATOR)
    sources = [path for path in (CSRC / "initiator").glob("*.c") if path.name not in INPUT_OUTPUT]
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-shared", "-fPIC", "-UNDEBUG", f"-I{CSRC}"]
    wrap = "-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc"
    library = str(work / "arithmetic.so")
    subprocess.run(
        ["gcc", *flags, wrap, *map(str, sources), str(work / "allocator.c"), "-o", library], check=True
    )
    ffi = FFI()
    ffi.cdef("\n".join(DECLARATION.findall((CSRC / "shared" / "generated.h").read_text())))
    ffi.cdef((CSRC / "engine.h").read_text())
    ffi.cdef("void memory_left(long number); long memory_asked(void);")
    return ffi, ffi.dlopen(library)


@pytest.fixture
def lib(arithmetic: tuple[FFI, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(compiled_core, "library", lambda: arithmetic)
    yield arithmetic[1]
    arithmetic[1].memory_left(-1)


def attached() -> Play:
    """Two servers of one disk, chosen and proved."""
    play = Play(CompiledCore, Server(1), Server(2)).run(2000)
    assert play.core.chosen
    return play


def work(play: Play) -> list[Any]:
    """Requests of all kinds, until one cannot even be begun."""
    asked = []
    try:
        for place in range(0, 20 * len(DATA), len(DATA)):
            asked.append(play.start(Verb.WRITE, place + 100, data=DATA))
            asked.append(play.start(Verb.READ, place, len(DATA)))
        asked.append(play.start(Verb.WRITE_FUA, 0, data=DATA))
        asked.append(play.start(Verb.FLUSH))
    except MemoryError:
        pass
    return asked


def outcomes(play: Play, asked: list[Any]) -> set[Outcome]:
    """How they end; each has to."""
    ended = [play.wait(request) for request in asked]
    assert None not in ended
    return {result.outcome for result in ended if result is not None}


def test_wherever_memory_ends_all_requests_do(lib: Any) -> None:
    play = attached()
    lib.memory_left(1 << 30)
    assert outcomes(play, work(play)) == {Outcome.OK}
    enough = lib.memory_asked()
    assert enough > 100
    seen = set[Outcome]()
    for number in range(0, enough, max(1, enough // 150)):
        play = attached()
        lib.memory_left(number)
        found = outcomes(play, work(play))
        assert found <= {Outcome.OK, Outcome.NO_MEMORY}
        seen |= found
        lib.memory_left(-1)
        play.run(100)
        del play
    assert seen == {Outcome.OK, Outcome.NO_MEMORY}


def test_where_memory_ends_while_a_disk_is_looked_for_nothing_breaks(lib: Any) -> None:
    lib.memory_left(1 << 30)
    attached()
    enough = lib.memory_asked()
    for number in range(enough):
        lib.memory_left(number)
        try:
            play = Play(CompiledCore, Server(1), Server(2)).run(500)
        except MemoryError:
            continue
        assert outcomes(play, work(play)) <= {Outcome.NO_MEMORY, Outcome.OUT_OF_RANGE, Outcome.OK}
        lib.memory_left(-1)


def spent(lib: Any) -> Play:
    """One that had no memory in the middle of its work."""
    for number in range(1, 1000):
        play = attached()
        lib.memory_left(number)
        asked = work(play)
        lib.memory_left(-1)
        outcomes(play, asked)
        if outcomes(play, [play.start(Verb.READ, 0, SECTOR)]) == {Outcome.NO_MEMORY}:
            return play
    raise AssertionError("it never was")


def test_a_core_without_memory_sends_nothing_any_more(lib: Any) -> None:
    play = spent(lib)
    said = len(play.said)
    asked = work(play)
    assert len(play.said) == said
    assert outcomes(play, asked) == {Outcome.NO_MEMORY}
    play.run(30_000)
    assert len(play.said) == said
    request = play.start(Verb.READ, 0, SECTOR)
    play.core.abandon(request, play.now)
    assert not play.core.switch(1, play.now)


def test_a_request_that_is_too_large_fails_alone(lib: Any) -> None:
    play = attached()
    small = play.start(Verb.READ, 0, SECTOR)
    lib.memory_left(1)
    large = play.start(Verb.READ, 0, 1 << 20)
    lib.memory_left(-1)
    assert outcomes(play, [large]) == {Outcome.NO_MEMORY}
    assert outcomes(play, [small]) == {Outcome.OK}
    assert outcomes(play, work(play)) == {Outcome.OK}
