"""A process that locks a store for its life, and is killed with a write under way: `PATH BYTES` (in hex)."""

import ctypes
import mmap
import os
import sys
import time

from aoe.disk.locks import LifeLock
from tests.support.labs.ring import WRITE, Ring

if __name__ == "__main__":
    fd = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
    assert LifeLock(fd).take()
    page = mmap.mmap(-1, 4096)
    page[:] = bytes.fromhex(sys.argv[2])
    Ring().submit(WRITE, fd, ctypes.addressof(ctypes.c_char.from_buffer(page)), 4096, 0)
    print("under way", flush=True)
    time.sleep(60)
