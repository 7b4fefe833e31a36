"""Bytes at random: nothing raises, only replies leave, nothing outside the disk is touched."""

import random

import pytest

from aoe.target.state import AoeState
from tests.target.driver import (
    BROADCAST,
    CLIENT,
    RIVAL,
    STRANGER,
    ata,
    cache,
    config,
    flush,
    framed,
    identify,
    make_driver,
    make_export,
    mask,
    read,
    reserve,
    trim,
    write,
)

SEEDS = [
    identify(),
    read(2040, 16),
    write(2040, b"w" * 512 * 8),
    trim((0, 8), (2047, 1)),
    flush(),
    cache(True),
    ata(0x40, 0, 100),
    config(0, b"junk"),
    config(1, b"text"),
    config(3, b"text"),
    config(4, b"other"),
    mask(0),
    mask(1, (1, CLIENT), (1, RIVAL), (2, STRANGER)),
    reserve(0),
    reserve(1, CLIENT, RIVAL),
    reserve(2, STRANGER),
    framed(0x77, bytes(12)),
    identify(dst=BROADCAST, shelf=0xFFFF, slot=0xFF),
]
STATES = [
    AoeState(),
    AoeState(b"text"),
    AoeState(b"t", (CLIENT, RIVAL), (CLIENT,)),
    AoeState(reserve=(RIVAL,)),
]


def spoil(rng: random.Random, raw: bytes) -> bytes:
    """Flip, cut, lengthen; the addresses stay, or little would get past the gate."""
    spoilt = bytearray(raw)
    for _ in range(rng.choice([0, 1, 1, 2, 8])):
        at = rng.randrange(14, min(len(spoilt), 64))
        spoilt[at] = rng.choice([0, 1, 2, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    if rng.random() < 0.3:
        del spoilt[rng.randrange(len(spoilt)) :]
    if rng.random() < 0.2:
        spoilt += rng.randbytes(rng.choice([1, 24, 1500]))
    return bytes(spoilt)


@pytest.mark.parametrize("mtu", [534, 1500, 9000])
@pytest.mark.parametrize("admin", [True, False])
def test_spoilt_messages(mtu: int, admin: bool) -> None:
    rng = random.Random(mtu)
    driver = make_driver(make_export(7, 3), make_export(7, 4), make_export(9, 9), mtu=mtu, remote_admin=admin)
    for number in range(12_000):
        if number % 20 == 0:
            driver.export.restore(rng.choice(STATES))
        driver.send(spoil(rng, rng.choice(SEEDS)))
    assert driver.responder.active == 0
    assert all(len(disk) == 512 * 2048 for disk in driver.disks.values())
    assert len(driver.counters) > 15


def test_noise() -> None:
    rng = random.Random(1)
    driver = make_driver()
    for _ in range(5000):
        head = SEEDS[0][: rng.choice([0, 12, 14, 19, 24])]
        driver.send(head + rng.randbytes(rng.randrange(100)))
    assert driver.responder.active == 0
