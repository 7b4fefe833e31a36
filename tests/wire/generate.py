"""Seeded frames of every kind, with the values that went into them."""

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from aoe.wire import ata, config, frame, mask, reserve
from aoe.wire.ata import AtaReply, AtaRequest
from aoe.wire.config import Config
from aoe.wire.frame import FLAG_ERROR, FLAG_RESPONSE, Header
from aoe.wire.mask import Directive, Mask
from aoe.wire.reserve import Reserve

Message = AtaRequest | AtaReply | Config | Mask | Reserve


class Sample(NamedTuple):
    """A frame and what it says."""

    header: Header
    message: Message
    raw: bytes


def samples(seed: int, count: int) -> Iterator[Sample]:
    """Requests, replies and error replies of the four commands, in turn."""
    rng = random.Random(seed)
    makers = (_ata_request, _ata_reply, _config, _mask, _reserve)
    for number in range(count):
        maker = makers[number % len(makers)]
        command, replies, message, body = maker(rng)
        yield _sample(rng, command, replies, message, body)


def _sample(rng: random.Random, command: int, replies: bool, message: Message, body: bytes) -> Sample:
    flags, error = FLAG_RESPONSE if replies else 0, 0
    if replies and rng.random() < 0.3:
        flags, error = flags | FLAG_ERROR, rng.randint(1, 6)
    shelf, slot = rng.choice([(0xFFFF, 0xFF), (rng.randrange(0xFFFF), rng.randrange(0xFF))])
    header = Header(_mac(rng), _mac(rng), 1, flags, error, shelf, slot, command, rng.getrandbits(32))
    return Sample(header, message, frame.encode(header, body))


def _mac(rng: random.Random) -> bytes:
    return rng.randbytes(6)


def _aflags(rng: random.Random) -> int:
    return sum(bit for bit in (0x40, 0x10, 0x02, 0x01) if rng.random() < 0.5)


def _registers(rng: random.Random) -> tuple[int, int, int, int, int, bytes]:
    count = rng.choice([0, 1, 2, 255])
    data = rng.randbytes(512 * count) if count < 3 else b""
    return _aflags(rng), rng.randrange(256), count, rng.randrange(256), rng.getrandbits(48), data


Made = tuple[int, bool, Message, bytes]


def _ata_request(rng: random.Random) -> Made:
    request = AtaRequest(*_registers(rng))
    return 0, False, request, ata.encode(request)


def _ata_reply(rng: random.Random) -> Made:
    reply = AtaReply(*_registers(rng))
    return 0, True, reply, ata.encode(reply)


def _config(rng: random.Random) -> Made:
    text = rng.randbytes(rng.choice([0, 1, 28, 29, 1024]))
    if rng.random() < 0.5:
        query = Config(rng.randrange(5), text)
        return 1, False, query, config.encode(query)
    values = rng.getrandbits(16), rng.getrandbits(16), rng.randrange(256)
    answer = config.reply(rng.randrange(5), text, *values)
    return 1, True, answer, config.encode(answer)


def _mask(rng: random.Random) -> Made:
    count = rng.choice([0, 1, 3, 255])
    directives = tuple(Directive(rng.randrange(3), _mac(rng)) for _ in range(count))
    made: Callable[[], Mask] = rng.choice(
        [
            lambda: mask.edit(*directives),
            lambda: Mask(0, 0, count, directives),
            lambda: Mask(1, rng.randint(1, 3), rng.randrange(256)),
        ]
    )
    message = made()
    return 2, rng.random() < 0.5, message, mask.encode(message)


def _reserve(rng: random.Random) -> Made:
    message = Reserve(rng.randrange(3), tuple(_mac(rng) for _ in range(rng.choice([0, 1, 3, 255]))))
    return 3, rng.random() < 0.5, message, reserve.encode(message)
