"""`csrc/target/depth.c`, `turns.c` and `background.c` are `aoe/target/depth.py` and so on, step by step."""

import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cffi import FFI

from aoe.limits import BACKGROUND_MAX, CLIENTS_MAX
from aoe.target.background import Background, Leeway, Rest
from aoe.target.depth import Depth
from aoe.target.turns import Turns
from aoe.timing import BACKGROUND_REST_MAX_NS, SHARED_NS
from tests.support.tools import need

CSRC = Path(__file__).parents[2] / "csrc"
OPS = 512
START_NS = 10 * SHARED_NS
MS = 1_000_000
_DECLARED = """
void *depth_of(uint32_t places, int adapts);
void asks(void *depth, uint8_t client, uint64_t now_ns);
void ended(void *depth, uint64_t now_ns, uint32_t at_disk);
void depth_adapt(void *depth, int adapts);
uint32_t now(void *depth);
void anew(void);
void add(uint32_t number, uint8_t client);
void goes(uint32_t number, uint8_t client);
int64_t first(void);
int64_t take(void);
void says(const uint8_t *mac, int can_wait);
int has(const uint8_t *mac);
uint32_t leeway_now(void);
void ends(void);
int grows(uint32_t most);
void rests(uint32_t which, uint64_t began_ns, uint64_t now_ns, int others_asked);
int64_t due(uint64_t now_ns);
uint64_t until(uint32_t which);
uint64_t left(uint64_t now_ns, uint64_t most_ns);
"""
_PROGRAM = """
#include <stdlib.h>
#include <string.h>
#include "target/background.h"
#include "target/depth.h"
#include "target/turns.h"

static struct turns turns;
static struct op ops[512];

void *depth_of(uint32_t places, int adapts)
{
    static struct depth depth;
    depth_begin(&depth, places);
    depth_adapt(&depth, adapts);
    return &depth;
}

void asks(struct depth *d, uint8_t client, uint64_t now_ns) { depth_asks(d, client, now_ns); }
void ended(struct depth *d, uint64_t now_ns, uint32_t at_disk) { depth_ended(d, now_ns, at_disk); }
uint32_t now(struct depth *d) { return d->now; }
void anew(void) { memset(&turns, 0, sizeof turns); }

static struct op *op_of(uint32_t number, uint8_t client)
{
    ops[number].client = client;
    return &ops[number];
}

void add(uint32_t number, uint8_t client) { turns_add(&turns, op_of(number, client)); }
void goes(uint32_t number, uint8_t client) { turns_pass(&turns, op_of(number, client)); }
int64_t first(void)
{
    struct op *op = turns.now.first ? turns.now.first : turns.next.first;
    return op ? op - ops : -1;
}
int64_t take(void) { return turns_take(&turns) - ops; }

static struct background background;
static _Atomic uint32_t now_free;

void says(const uint8_t *mac, int can_wait) { background_says(&background, mac, can_wait); }
int has(const uint8_t *mac) { return background_has(&background, mac); }
uint32_t leeway_now(void) { return leeway(&now_free); }
void ends(void) { leeway_end(&now_free); }
int grows(uint32_t most) { return leeway_grow(&now_free, most); }

static struct rest each[3], *resting;

void rests(uint32_t which, uint64_t began_ns, uint64_t now_ns, int others_asked)
{
    rest_ended(&each[which], &resting, began_ns, now_ns, others_asked);
}

int64_t due(uint64_t now_ns)
{
    struct rest *rest = rests_due(&resting, now_ns);
    return rest ? rest - each : -1;
}

uint64_t until(uint32_t which) { return each[which].until_ns; }
uint64_t left(uint64_t now_ns, uint64_t most_ns) { return rests_left_ns(resting, now_ns, most_ns); }
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    need("gcc")
    work = tmp_path_factory.mktemp("fair")
    (work / "around.c").write_text(_PROGRAM)
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-shared", "-fPIC", "-UNDEBUG", f"-I{CSRC}"]
    sources = [
        *(str(CSRC / "target" / f"{name}.c") for name in ("background", "depth", "turns")),
        str(work / "around.c"),
    ]
    subprocess.run(["gcc", *flags, *sources, "-o", str(work / "fair.so")], check=True)
    ffi = FFI()
    ffi.cdef(_DECLARED)
    return ffi.dlopen(str(work / "fair.so"))


@pytest.mark.parametrize(("seed", "clients"), [(1, 1), (2, 3), (3, CLIENTS_MAX + 1)])
def test_turns_are_the_same_in_c(compiled: Any, seed: int, clients: int) -> None:
    """What finds nothing before it goes at once in C, and not by a line of its own."""
    rng = random.Random(seed)
    turns: Turns[int] = Turns()
    compiled.anew()
    free = list(range(OPS))
    for _ in range(20_000):
        waits = bool(turns)
        if free and rng.random() < (0.5 if len(free) > OPS // 2 else 0.3):
            number, client = free[0], rng.randrange(clients)
            turns.add(client, number)
            if not waits and rng.random() < 0.5:
                compiled.goes(number, client)
                assert turns.take() == number
            else:
                compiled.add(number, client)
                free.remove(number)
        elif waits:
            number = turns.take()
            assert compiled.take() == number
            free.append(number)
        assert compiled.first() == next(turns.heads(), -1)


@pytest.mark.parametrize(
    ("places", "slots"), [(64, 1), (64, 3), (64, 8), (64, 40), (64, 200), (48, 200), (5, 40), (1, 3)]
)
def test_depths_are_the_same_in_c(compiled: Any, places: int, slots: int) -> None:
    """A disk that works on some requests side by side, with noise, as clients come and go."""
    rng = random.Random(places * slots)
    ours, theirs = Depth(places, adapts=True), compiled.depth_of(places, 1)
    now_ns, seen = START_NS, set()
    for _ in range(20_000):
        now_ns += int(100_000 / min(ours.now, slots) * rng.choice((0, 1, 1, 1, 1, 2, rng.choice((1, 40)))))
        if rng.random() < 0.0002:
            now_ns += SHARED_NS
        if rng.random() < 0.1:
            client = rng.choice((0, 0, 0, 1, CLIENTS_MAX))
            ours.asks(client, now_ns)
            compiled.asks(theirs, client, now_ns)
        at_disk = ours.now if rng.random() < 0.9 else rng.randrange(1, places + 1)
        ours.ended(now_ns, at_disk)
        compiled.ended(theirs, now_ns, at_disk)
        assert compiled.now(theirs) == ours.now
        seen.add(ours.now)
    assert places in seen
    assert len(seen) > 1 or places == 1


def test_what_adapts_no_more_has_all_places_again(compiled: Any) -> None:
    depth = compiled.depth_of(64, 1)
    for client in (1, 2):
        compiled.asks(depth, client, START_NS)
    assert compiled.now(depth) < 64
    compiled.depth_adapt(depth, 0)
    assert compiled.now(depth) == 64


def test_those_that_can_wait_are_the_same_in_c(compiled: Any) -> None:
    rng = random.Random(1)
    known = Background()
    macs = [bytes((2, 0, 0, 0, 0, last)) for last in range(BACKGROUND_MAX + 3)]
    for _ in range(5000):
        mac, can_wait = rng.choice(macs), rng.random() < 0.7
        known.says(mac, can_wait)
        compiled.says(mac, can_wait)
        assert [compiled.has(it) == 1 for it in macs] == [it in known for it in macs]


def test_their_leeway_is_the_same_in_c(compiled: Any) -> None:
    rng = random.Random(2)
    ours = Leeway()
    for _ in range(2000):
        if rng.random() < 0.1:
            ours.end()
            compiled.ends()
        else:
            assert compiled.grows(12) == ours.grow(12)
        assert compiled.leeway_now() == ours.now <= 12


def test_their_rest_is_the_same_in_c(compiled: Any) -> None:
    """In C all that rest are asked which of them is over."""
    rng = random.Random(3)
    ours = [Rest(), Rest(), Rest()]
    now_ns = START_NS
    for _ in range(20_000):
        now_ns += rng.choice((0, 1, 1000, MS // 10, MS, 30 * MS))
        over = [which for which, it in enumerate(ours) if 0 < it.until_ns <= now_ns]
        assert sorted(compiled.due(now_ns) for _ in over) == over
        assert compiled.due(now_ns) == -1
        for it in ours:
            it.over(now_ns)
        which, began_ns, asked = rng.randrange(3), now_ns - rng.choice((0, 1, MS, 9 * MS)), rng.random() < 0.5
        before_ns = ours[which].until_ns
        assert ours[which].ended(began_ns, now_ns, asked) == (ours[which].until_ns != before_ns)
        compiled.rests(which, began_ns, now_ns, asked)
        untils = [it.until_ns for it in ours]
        assert [compiled.until(which) for which in range(3)] == untils
        assert max(untils) <= now_ns + BACKGROUND_REST_MAX_NS
        most_ns = rng.choice((0, MS, 5000 * MS))
        left_ns = min([until_ns - now_ns for until_ns in untils if until_ns] + [most_ns])
        assert compiled.left(now_ns, most_ns) == left_ns
