"""A file that another one is to share all blocks with, range by range, as it goes on being written."""

import os
import threading
from itertools import islice

from aoe import limits
from aoe.disk import syscalls


class Cloning:
    """Into the file of a descriptor, which stays the caller's, `length` bytes in ranges of `step` bytes. What
    its calls do to a store may fail with OSError; they may wait, and are for threads."""

    def __init__(self, into: int, length: int, step: int) -> None:
        self.length = length
        self.step = step
        self._into = os.dup(into)
        self._using = threading.Lock()

    @property
    def into(self) -> int:
        """Of our own, for one that makes a descriptor of its own of it."""
        return self._into

    def empty(self) -> None:
        """Let it have all bytes, as zeroes."""
        with self._using:
            os.ftruncate(self._into, 0)
            os.ftruncate(self._into, self.length)

    def clone(self, of: int, number: int) -> int:
        """A range that nothing writes to meanwhile, or find that there are zeroes only: the first range
        behind that may be otherwise."""
        offset = number * self.step
        data = syscalls.data_from(of, offset)
        if data < 0 or data >= self.length:
            return -(-self.length // self.step)
        if data < offset + self.step:
            length = min(self.step, self.length - offset)
            with self._using:
                syscalls.clone_range(self._into, of, offset, length)
            return number + 1
        return data // self.step

    def sync(self) -> None:
        """Have it on stable storage."""
        with self._using:
            os.fsync(self._into)

    def close(self) -> None:
        """Once nothing is under way."""
        with self._using:
            fd, self._into = self._into, -1
            syscalls.close_all([fd])


def step_for(of: int, length: int) -> int:
    """How many bytes of a file are cloned at a time: all where that does not take long. OSError."""
    if sum(1 for _ in islice(syscalls.extents(of), limits.CUT_EXTENTS_MAX + 1)) <= limits.CUT_EXTENTS_MAX:
        return -(-length // limits.CUT_RANGE) * limits.CUT_RANGE
    step = limits.CUT_RANGE
    while -(-length // step) > limits.CUT_RANGES_MAX:
        step *= 2
    return step
