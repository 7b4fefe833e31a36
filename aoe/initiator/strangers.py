"""Servers that tell of themselves while every place for a path is taken. Invented ones keep out no good one:

- Each is asked by IDENTIFY, with a tag that is made of its address: nothing is kept of it.
- One that answers that it may be the disk is invited: when it tells of itself once more, it gets the place of
  a path that was never usable, or of one that is of no use any more.
- Questions and invitations are bounded (`limits.STRANGERS_MAX`, `limits.INVITED_MAX`).

csrc/initiator/strangers.c does the same.
"""

from collections import deque
from typing import NamedTuple

from aoe import limits
from aoe.timing import USUAL, Timing
from aoe.wire import ata
from aoe.wire.ata import AtaRequest
from aoe.wire.opcodes import IDENTIFY_DEVICE
from aoe.wire.protocol import TAG_MASK, USER_TAG

IDENTIFY = ata.encode(AtaRequest(0, 0, 1, IDENTIFY_DEVICE, 0xA0 << 24))
FNV_PRIME = 0x01000193


class Stranger(NamedTuple):
    """Which server it is: the port of ours that hears it, its MAC and its address."""

    port: int
    mac: bytes
    shelf: int
    slot: int


class Strangers:
    """Which servers are asked, and which are invited. `seed` keeps its tags apart from another client's."""

    def __init__(self, seed: int, timing: Timing = USUAL) -> None:
        self._timing = timing
        self._seed = seed
        self._invited: deque[Stranger] = deque(maxlen=limits.INVITED_MAX)
        self._asked = 0
        self._since_ns = 0

    def tag(self, stranger: Stranger) -> int:
        """Of the question to it."""
        value = self._seed
        for byte in (*stranger.mac, stranger.shelf >> 8, stranger.shelf & 0xFF, stranger.slot, stranger.port):
            value = (value ^ byte) * FNV_PRIME & 0xFFFFFFFF
        return USER_TAG | value & TAG_MASK

    def may_ask(self, now_ns: int) -> bool:
        """Whether one more may be asked now."""
        if now_ns - self._since_ns >= self._timing.pulse_ns:
            self._since_ns, self._asked = now_ns, 0
        self._asked += 1
        return self._asked <= limits.STRANGERS_MAX

    def invite(self, stranger: Stranger) -> None:
        """It answered well."""
        if stranger not in self._invited:
            self._invited.append(stranger)

    def welcome(self, stranger: Stranger) -> bool:
        """Whether it was invited, which is good for once."""
        if stranger not in self._invited:
            return False
        self._invited.remove(stranger)
        return True
