"""Runs inside the client's namespace: writes `TEXT` to the start of e1.0, then says "done"."""

import sys

import aoe

with aoe.open("e1.0", interface="v0", timeout_s=60.0) as disk:
    print("attached", flush=True)
    disk.write(0, sys.argv[1].encode().ljust(4096, b"."))
    print("done", flush=True)
