"""Runs inside the client's namespace: writes `TEXT` to the start of e1.0, then says "done"."""

import sys

import aoe

LENGTH = 1024
"""Bytes that go in one frame: of several, another than the first might be the first to come to the disk."""

if __name__ == "__main__":
    with aoe.open("e1.0", interface="v0", timeout_s=60.0) as disk:
        print("attached", flush=True)
        disk.write(0, sys.argv[1].encode().ljust(LENGTH, b"."))
        print("done", flush=True)
