"""`csrc/target/work.c` counts as `aoe.target.work` does, whoever asks, and however many."""

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cffi import FFI

from aoe.limits import CLIENTS_IN_ALL_MAX, CLIENTS_MAX
from aoe.metrics.table import CLIENT, EXPORT, bucket_of, length_of, place_of
from aoe.target.work import READ, WRITTEN, Crowd, Work
from aoe.timing import CLIENT_HEARD_NS, CLIENTS_SWEPT_NS
from tests.support.tools import need

CSRC = Path(__file__).parent.parent.parent / "csrc"
START = 10 * CLIENT_HEARD_NS
EXPORTS = 20
DECLARED = f"""
typedef struct {{ uint64_t name, numbers[{length_of(CLIENT)}]; }} aoe_client;
void *made(uint32_t exports);
void ended(void *all, uint32_t exports);
void ask(void *all, uint32_t at, const uint8_t *mac, uint32_t tag, uint64_t size, uint64_t now_ns);
void sweep(void *all, uint32_t at, uint64_t now_ns);
void leave(void *all, uint32_t at);
void took(void *all, uint32_t at, uint32_t what, uint64_t ns);
uint64_t one(void *all, uint32_t at, uint32_t what);
uint32_t crowded(void *all);
uint64_t full_ns(void *all);
uint32_t found(void *all, uint32_t at, aoe_client *clients, uint64_t *other);
"""
AROUND = """
#include <stdlib.h>
#include "target/work.h"
struct all { struct crowd crowd; struct work work[]; };
struct all *made(uint32_t exports) { return calloc(1, sizeof(struct all) + exports * sizeof(struct work)); }
void ended(struct all *a, uint32_t exports)
{
    for (uint32_t i = 0; i < exports; i++)
        work_end(&a->work[i]);
    free(a);
}
void ask(struct all *a, uint32_t at, const uint8_t *mac, uint32_t tag, uint64_t size, uint64_t now_ns)
{
    uint32_t way = tag & 1 ? AOE_CLIENT_WRITTEN_BYTES : AOE_CLIENT_READ_BYTES;
    work_asked(&a->work[at], &a->crowd, &(struct asked){mac, tag, way, size}, now_ns);
}
void sweep(struct all *a, uint32_t at, uint64_t now_ns) { work_sweep(&a->work[at], &a->crowd, now_ns); }
void leave(struct all *a, uint32_t at) { work_leave(&a->work[at], &a->crowd); }
void took(struct all *a, uint32_t at, uint32_t what, uint64_t ns) { work_time(&a->work[at], what, ns); }
uint64_t one(struct all *a, uint32_t at, uint32_t what) { return number(&a->work[at].numbers[what]); }
uint32_t crowded(struct all *a) { return a->crowd.count; }
uint64_t full_ns(struct all *a) { return number(&a->crowd.full_ns); }
uint32_t found(struct all *a, uint32_t at, aoe_client *clients, uint64_t *other)
{
    return work_clients(&a->work[at], clients, other);
}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[FFI, Any]:
    need("gcc")
    work = tmp_path_factory.mktemp("work")
    (work / "around.c").write_text(AROUND)
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-shared", "-fPIC", "-UNDEBUG", f"-I{CSRC}"]
    sources = [str(CSRC / "target" / "work.c"), str(work / "around.c")]
    subprocess.run(["gcc", *flags, *sources, "-o", str(work / "work.so")], check=True)
    ffi = FFI()
    ffi.cdef(DECLARED)
    return ffi, ffi.dlopen(str(work / "work.so"))


class Both:
    """The same exports in either language."""

    def __init__(self, ffi: FFI, lib: Any) -> None:
        self.ffi, self.lib = ffi, lib
        self.all = lib.made(EXPORTS)
        self.crowd = Crowd()
        self.works = [Work() for _ in range(EXPORTS)]
        for work in self.works:
            work.begin(self.crowd, 0)
        self._swept_ns = 0

    def ask(self, at: int, mac: bytes, tag: int, size: int, now_ns: int) -> None:
        self.works[at].asked(mac, tag, WRITTEN if tag & 1 else READ, size, now_ns)
        self.lib.ask(self.all, at, mac, tag, size, now_ns)

    def passes(self, now_ns: int) -> None:
        """As a thread does it, and the responder."""
        self.crowd.sweep(self.works, now_ns)
        if self.lib.full_ns(self.all) > self._swept_ns + CLIENTS_SWEPT_NS:
            self._swept_ns = now_ns
            for at in range(EXPORTS):
                self.lib.sweep(self.all, at, now_ns)

    def leave(self, at: int) -> None:
        self.works[at].end()
        self.lib.leave(self.all, at)

    def in_c(self, at: int) -> tuple[dict[bytes, list[int]], list[int]]:
        clients = self.ffi.new("aoe_client[]", CLIENTS_MAX)
        other = self.ffi.new("uint64_t[]", length_of(CLIENT))
        count = self.lib.found(self.all, at, clients, other)
        macs = {it.name.to_bytes(8, "little")[:6]: list(it.numbers) for it in clients[0:count]}
        assert len(macs) == count
        return macs, list(other)

    def check(self) -> int:
        """How many clients there are."""
        assert self.lib.crowded(self.all) == self.crowd.count
        for at, work in enumerate(self.works):
            expected = work.numbers("", 0)
            clients = {it.mac: list(it.numbers) for it in expected.clients}
            assert self.in_c(at) == (clients, list(expected.other)), at
        return self.crowd.count


@pytest.fixture
def both(compiled: tuple[FFI, Any]) -> Iterator[Both]:
    made = Both(*compiled)
    yield made
    made.lib.ended(made.all, EXPORTS)


def mac(number: int) -> bytes:
    return b"\x02\x11" + number.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("seed", "exports", "hosts", "steps_ns"),
    [
        (1, 1, 3, (0, 1000)),
        (2, 2, 200, (0, CLIENTS_SWEPT_NS)),
        (3, 3, 90, (0, 0, CLIENT_HEARD_NS // 20)),
        (4, EXPORTS, 5000, (0, 1000)),
        (5, EXPORTS, 5000, (0, 0, 0, 0, CLIENT_HEARD_NS // 100)),
        (6, EXPORTS, 400, (0, 0, 0, CLIENT_HEARD_NS // 300)),
    ],
)
def test_clients_are_the_same_in_c(
    both: Both, seed: int, exports: int, hosts: int, steps_ns: tuple[int, ...]
) -> None:
    rng = random.Random(seed)
    now_ns, most = START, 0
    for step in range(6000):
        now_ns += rng.choice(steps_ns)
        both.passes(now_ns)
        at = rng.randrange(exports)
        tag = rng.choice((0, 1, 0xFFFFFFFF, rng.randrange(40), rng.getrandbits(32)))
        both.ask(at, mac(rng.randrange(hosts)), tag, rng.randrange(1 << 20), now_ns)
        if rng.random() < 0.001:
            both.leave(at)
        if step % 500 == 0:
            most = max(most, both.check())
    assert both.check() <= most <= CLIENTS_IN_ALL_MAX


def test_ten_thousand_strangers_do_not_move_a_client_that_is_there(both: Both) -> None:
    for number in range(10_000):
        now_ns = START + number * 1_000_000
        both.passes(now_ns)
        both.ask(0, mac(number + 1), 0, 512, now_ns)
        both.ask(0, mac(0), 0, 512, now_ns)
    assert both.check() == CLIENTS_MAX
    clients, other = both.in_c(0)
    requests = place_of(CLIENT, "requests")
    assert clients[mac(0)][requests] == 10_000
    assert other[requests] == 10_000 - (CLIENTS_MAX - 1)


def test_times_are_in_the_same_buckets(both: Both) -> None:
    reply = place_of(EXPORT, "reply")
    times = [0, 1, 2, *(1 << bits + more for bits in range(12, 62) for more in (0, 1))]
    times += [(1 << bits) + more for bits in range(12, 62) for more in (-1, 1)]
    counts = [0] * 12
    for ns in times:
        both.lib.took(both.all, 0, reply, ns)
        counts[bucket_of(ns)] += 1
    assert [both.lib.one(both.all, 0, reply + at) for at in range(12)] == counts
    assert both.lib.one(both.all, 0, reply + 12) == sum(times) % (1 << 64)
