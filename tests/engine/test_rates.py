"""`csrc/target/rates.c` and `delays.c` are `aoe/target/rates.py` and a sorted list, step by step."""

import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from aoe.limits import LIMITED_HOSTS_MAX
from aoe.target.rates import Limits, Rates, patience_ns
from tests.support.tools import need_engine

CSRC = Path(__file__).parents[2] / "csrc"
SECOND = 1_000_000_000
_LIMITS = "typedef struct { uint64_t iops, bandwidth, client_iops, client_bandwidth, burst_ns; } aoe_limits;"
_PROGRAM = """
#include <stdlib.h>
#include "target/rates.h"
#include "target/delays.h"

static struct delays delays;
static struct op ops[DELAYED_MAX];

void add(uint32_t number, uint64_t begin_ns)
{
    ops[number].begin_ns = begin_ns;
    delays_add(&delays, &ops[number]);
}

int64_t due(uint64_t now_ns)
{
    struct op *op = delays_due(&delays, now_ns);
    return op ? op - ops : -1;
}

uint64_t left(uint64_t now_ns, uint64_t most_ns) { return delays_left_ns(&delays, now_ns, most_ns); }
"""
_DECLARED = f"""
{_LIMITS}
void *rates_new(const aoe_limits *limits);
int rates_alike(const void *one, const void *other);
uint64_t rates_patience_ns(uint64_t frame_age_ns);
uint64_t rates_begin_ns(void *rates, const uint8_t *mac, uint64_t now_ns);
void rates_pay(void *rates, const uint8_t *mac, uint64_t size, uint64_t now_ns);
void add(uint32_t number, uint64_t begin_ns);
int64_t due(uint64_t now_ns);
uint64_t left(uint64_t now_ns, uint64_t most_ns);
void free(void *);
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The library and its ffi."""
    need_engine()
    from cffi import FFI

    directory = tmp_path_factory.mktemp("rates")
    (directory / "program.c").write_text(_PROGRAM)
    sources = [str(directory / "program.c"), str(CSRC / "target/rates.c"), str(CSRC / "target/delays.c")]
    checks = ["-fsanitize=undefined", "-fno-sanitize-recover"]
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *checks]
    library = directory / "rates.so"
    subprocess.run(["gcc", *flags, f"-I{CSRC}", *sources, "-o", library], check=True, timeout=120)
    ffi = FFI()
    ffi.cdef(_DECLARED)
    return ffi, ffi.dlopen(str(library))


def some_limits(rng: random.Random) -> Limits:
    def rate(least: int, most: int) -> int:
        return rng.choice((0, rng.randint(least, least * 100), rng.randint(least, most)))

    burst_ns = rng.choice((0, rng.randrange(SECOND), rng.randrange(60 * SECOND)))
    client = rate(10, 10**9), rate(1 << 16, 1 << 40)
    return Limits(rate(10, 10**9), rate(1 << 16, 1 << 40), *client, burst_ns)


@pytest.mark.parametrize("seed", range(40))
def test_both_say_the_same_of_random_requests(compiled: Any, seed: int) -> None:
    ffi, lib = compiled
    rng = random.Random(seed)
    limits = some_limits(rng)
    reference = Rates(limits)
    rates = ffi.gc(lib.rates_new(ffi.new("aoe_limits *", tuple(limits))), lib.free)
    hosts = rng.choice((2, LIMITED_HOSTS_MAX, 3 * LIMITED_HOSTS_MAX))
    pause = rng.choice((100, SECOND // 10_000, SECOND // 10))
    now = rng.randrange(1 << 62)
    for _ in range(3000):
        now += rng.randrange(pause) if rng.random() < 0.7 else 0
        mac = bytes((2, 0, 0, 0, 0, rng.randrange(hosts)))
        begins = reference.begins_ns(mac, now)
        assert lib.rates_begin_ns(rates, mac, now) == begins
        if begins - now < SECOND:
            size = rng.choice((0, 512 * rng.randint(1, 17), 1 << 25))
            reference.pay(mac, size, now)
            lib.rates_pay(rates, mac, size, now)


def test_which_limits_need_not_begin_anew(compiled: Any) -> None:
    ffi, lib = compiled
    made = [
        ffi.gc(lib.rates_new(ffi.new("aoe_limits *", it)), lib.free)
        for it in ((10, 0, 0, 0, 5), (10, 0, 0, 0, 5), (10, 0, 0, 0, 6), (10, 0, 1, 0, 5))
    ]
    assert [bool(lib.rates_alike(made[0], it)) for it in made] == [True, True, False, False]
    assert not lib.rates_alike(made[0], ffi.NULL)
    assert not lib.rates_alike(ffi.NULL, ffi.NULL)


@pytest.mark.parametrize("age_ns", [0, 3, SECOND // 2, SECOND, 3600 * SECOND])
def test_both_have_the_same_patience(compiled: Any, age_ns: int) -> None:
    assert compiled[1].rates_patience_ns(age_ns) == patience_ns(age_ns)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_delayed_begins_in_the_order_of_its_times(compiled: Any, seed: int) -> None:
    _, lib = compiled
    rng = random.Random(seed)
    free, times, now = set(range(8192)), {}, 0
    for _ in range(20000):
        if free and rng.random() < 0.52:
            number = free.pop()
            times[number] = now + rng.randrange(1000)
            lib.add(number, times[number])
        else:
            now += rng.randrange(10)
        first = min(times.values(), default=now + 500)
        assert lib.left(now, 500) == max(0, min(first - now, 500))
        while (number := lib.due(now)) >= 0:
            assert times[number] == min(times.values()) <= now
            del times[number]
            free.add(number)
        assert all(at > now for at in times.values())
    while times:
        number = lib.due(1 << 63)
        assert times.pop(number) <= min(times.values(), default=1 << 63)
