"""Runs inside the client's namespace: writes to e1.1 and says how each FLUSH ends, which a line asks for."""

import sys

import aoe
from aoe.errors import AoeError

if __name__ == "__main__":
    with aoe.open("e1.1", interface="v0", timeout_s=60.0) as disk:
        disk.write(0, b"1" * 512)
        disk.flush()
        disk.write(0, b"2" * 512)
        print("written", flush=True)
        for _ in sys.stdin:
            try:
                disk.flush()
                print("flushed", flush=True)
            except AoeError as error:
                print(f"lost: {error}", flush=True)
