"""Snapshots with invented numbers."""

from random import Random

from aoe.limits import LATENCY_BUCKETS
from aoe.metrics.snapshot import ClientNumbers, ExportNumbers, Snapshot, ThreadNumbers
from aoe.metrics.table import CLIENT, EXPORT, LINK, TARGET, THREAD, length_of

LARGEST = 1 << 50
NOW_NS = 1_000_000_000_000


def export(rng: Random, address: str, clients: int = 0) -> ExportNumbers:
    """One, with so many clients."""
    known = tuple(
        ClientNumbers(bytes([2, 0, 0, 0, 0, number]), _clients(rng)) for number in reversed(range(clients))
    )
    numbers = [rng.randrange(LARGEST) for _ in range(length_of(EXPORT))]
    return ExportNumbers(address, 1, numbers, known, _clients(rng))


def _clients(rng: Random) -> list[int]:
    return [rng.randrange(NOW_NS) for _ in range(length_of(CLIENT))]


def snapshot(seed: int = 1, exports: int = 2, clients: int = 0) -> Snapshot:
    """Of a target that has counted much, but not everything."""
    rng = Random(seed)
    return Snapshot(
        NOW_NS,
        {row.name: rng.randrange(LARGEST) for row in TARGET[::2]},
        {
            "eth0": {row.name: rng.randrange(9) for row in LINK[1:]},
            'udp:"%s\\': {LINK[0].name: 7},
        },
        tuple(export(rng, f"e{at // 200}.{at % 200}", clients) for at in range(exports)),
        (ThreadNumbers("engine0", [rng.randrange(LARGEST) for _ in range(length_of(THREAD))]),),
    )


def counted(numbers: list[int], at: int) -> tuple[list[int], int]:
    """The buckets of a histogram in an array, and its sum."""
    return numbers[at : at + LATENCY_BUCKETS], numbers[at + LATENCY_BUCKETS]
