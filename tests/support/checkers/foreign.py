"""A client that is none of ours, and leaves whatever it had in memory where the standard means nothing."""

import random

from tests.target import driver

_READS, _WRITES, _FLUSHES = (0x20, 0x24, 0x25, 0x29), (0x30, 0x34, 0x35, 0x39, 0x3D, 0xCE), (0xE7, 0xEA)
_EXTENDED = frozenset({0x24, 0x25, 0x29, 0x34, 0x35, 0x39, 0x3D, 0xCE})
_FILL_AT_MOST = 64


class Foreigner:
    """Reads, writes and flushes of `shelf.slot` behind the MAC `server`, of at most `most` sectors, and what
    its disk of so many `sectors` must hold then. Who has several under way asks in `parts` of the disk."""

    def __init__(
        self, rng: random.Random, server: bytes, shelf: int, slot: int, *, sectors: int, most: int = 2
    ) -> None:
        self._rng = rng
        self._to = {"dst": server, "shelf": shelf, "slot": slot}
        self._sectors = sectors
        self._most = most
        self._tags: set[int] = set()
        self._disk = bytearray(512 * sectors)

    @property
    def disk(self) -> bytes:
        """What was written."""
        return bytes(self._disk)

    def request(self, parts: int = 1, part: int = 0) -> bytes:
        """The next one, in the given part of the disk."""
        rng, room = self._rng, self._sectors // parts
        count = rng.randint(1, self._most)
        lba = room * part + rng.randrange(room - count + 1)
        kind = rng.random()
        if kind < 0.45:
            return self._spoilt(rng.choice(_READS), count, lba, b"")
        if kind < 0.55:
            return self._spoilt(rng.choice(_FLUSHES), rng.randrange(256), rng.getrandbits(48), b"")
        data = rng.randbytes(512 * count)
        self._disk[512 * lba : 512 * (lba + count)] = data
        return self._spoilt(rng.choice(_WRITES), count, lba, data)

    def _spoilt(self, opcode: int, count: int, lba: int, data: bytes) -> bytes:
        rng = self._rng
        aflags = 0x40 * (opcode in _EXTENDED) | 0x01 * bool(data)
        raw = bytearray(driver.ata(opcode, count, lba, data, aflags=aflags, tag=self._tag(), **self._to))
        raw[25] = rng.randrange(256)
        raw[34:36] = rng.randbytes(2)
        return bytes(raw) + self._filler(ours_by_tag=bool(raw[20] & 0x80))

    def _filler(self, ours_by_tag: bool) -> bytes:
        """Sometimes an old frame of our initiator's was there; not all of it, or the tag is another's."""
        rng = self._rng
        filler = rng.randbytes(rng.randrange(_FILL_AT_MOST))
        if rng.random() < 0.9:
            return filler
        return (driver.TRAILER + filler)[: 11 if ours_by_tag else None]

    def _tag(self) -> int:
        """One that no request under way can have."""
        while (tag := self._rng.getrandbits(32)) in self._tags or not tag:
            pass
        self._tags.add(tag)
        return tag

    def check(self, asked: bytes, raw: bytes) -> None:
        """That a frame is the answer to the one that was asked, and success."""
        assert raw[20:24] == asked[20:24], "another tag"
        assert (raw[14], raw[25], raw[27]) == (0x18, 0, 0x40), raw[:36].hex()
        if asked[27] in _READS:
            lba, length = int.from_bytes(asked[28:34], "little"), 512 * asked[26]
            assert raw[36:] == self._disk[512 * lba : 512 * lba + length]
