"""`csrc/target/cut.c` is `aoe/target/cut.py`, step by step."""

import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cffi import FFI

from aoe.limits import SPANS_MAX
from aoe.target.cut import Cut
from tests.support.tools import need

CSRC = Path(__file__).parents[2] / "csrc"
OPS = 64
STEP = 4096
SECTORS = STEP // 512
_DECLARED = """
void anew(uint64_t length, uint64_t step);
int keeps(uint32_t number, uint32_t spans, const uint64_t *sectors);
int64_t needed(void);
int64_t following(void);
uint32_t left(void);
uint32_t has(uint32_t first, uint32_t last, uint32_t *go);
uint32_t end(uint32_t *go);
"""
_PROGRAM = """
#include <stdlib.h>
#include <string.h>
#include "target/cut.h"

static struct cut *cut;
static struct op ops[64];

void anew(uint64_t length, uint64_t step)
{
    free(cut);
    cut = cut_new(length, step);
}

int keeps(uint32_t number, uint32_t spans, const uint64_t *sectors)
{
    struct op *op = &ops[number];
    memset(op, 0, sizeof *op);
    for (uint32_t i = 0; i < spans; i++)
        spans_add(&op->where, (struct span){sectors[2 * i], sectors[2 * i + 1]});
    return cut_keeps(cut, op);
}

int64_t needed(void) { return cut_needed(cut); }
int64_t following(void) { return cut_following(cut); }
uint32_t left(void) { return cut->left; }

static uint32_t listed(const struct op *op, uint32_t *go)
{
    uint32_t count = 0;
    for (; op; op = op->link)
        go[count++] = (uint32_t)(op - ops);
    return count;
}

uint32_t has(uint32_t first, uint32_t last, uint32_t *go) { return listed(cut_has(cut, first, last), go); }
uint32_t end(uint32_t *go) { return listed(cut_end(cut), go); }
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[FFI, Any]:
    need("gcc")
    work = tmp_path_factory.mktemp("cut")
    (work / "around.c").write_text(_PROGRAM)
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-shared", "-fPIC", "-UNDEBUG", f"-I{CSRC}"]
    sources = [str(CSRC / "target" / "cut.c"), str(work / "around.c")]
    subprocess.run(["gcc", *flags, *sources, "-o", str(work / "cut.so")], check=True)
    ffi = FFI()
    ffi.cdef(_DECLARED)
    return ffi, ffi.dlopen(str(work / "cut.so"))


def spans(rng: random.Random, sectors: int) -> list[tuple[int, int]]:
    """Those of a request, which may reach over the end."""
    found = []
    for _ in range(rng.choice((1, 1, 1, 2, SPANS_MAX))):
        first = rng.randrange(sectors)
        found.append((first, first + rng.choice((1, SECTORS, 3 * SECTORS, 100))))
    return found


@pytest.mark.parametrize("seed", range(12))
def test_cuts_are_the_same_in_c(compiled: tuple[FFI, Any], seed: int) -> None:
    ffi, theirs = compiled
    rng = random.Random(seed)
    length = STEP * rng.randrange(1, 40) + rng.choice((0, 512))
    ours: Cut[int] = Cut(length, STEP)
    theirs.anew(length, STEP)
    free, go = list(range(OPS)), ffi.new(f"uint32_t[{OPS}]")
    for _ in range(400):
        if free and rng.random() < 0.6:
            number, where = free.pop(), spans(rng, length // 512 + SECTORS)
            kept = ours.keeps(number, tuple(where))
            flat = [sector for span in where for sector in span]
            assert bool(theirs.keeps(number, len(where), flat)) == kept
            free += [] if kept else [number]
        elif ours.left:
            first = ours.needed if ours.needed >= 0 and rng.random() < 0.7 else rng.randrange(ours.count)
            last = rng.choice((first + 1, min(ours.count, first + 3)))
            may_go = ours.has(first, last)
            assert list(go[0 : theirs.has(first, last, go)]) == may_go
            free += may_go
        assert (theirs.needed(), theirs.following(), theirs.left()) == (
            ours.needed,
            ours.following,
            ours.left,
        )
    assert list(go[0 : theirs.end(go)]) == ours.end()
    assert theirs.needed() == -1
