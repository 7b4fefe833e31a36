"""How long clients pause when their server is drained: python -m bench.drain_pause, as root.

Two primaries of one disk are drained in turn, 20 times, under the full load of two clients, one with the
arithmetic in Python and one of `aoe nbd`. It prints the longest request of each, in ms, and that of
both without drains, which says what the machine itself costs; and how long drains took.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from tests.support.labs import drains

PAUSE_MAX_S = 0.05


def main() -> int:
    """1 where a client had an error, or paused for too long."""
    parser = argparse.ArgumentParser(prog="bench.drain_pause")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--engine", default="c", help="of the targets")
    parser.add_argument("--initiator", default="python", help="of the client that is not aoe nbd")
    how = parser.parse_args()
    words = {"times": how.times, "engine": how.engine, "initiator": how.initiator}
    with tempfile.TemporaryDirectory() as work, tempfile.TemporaryDirectory() as other:
        unmoved_s = drains.unmoved_s(Path(work), **words)
        said = drains.run(Path(other), **words)
    print(f"without drains: longest request {1000 * unmoved_s:.1f} ms")
    for side, pause_s in said["pauses_s"].items():
        print(f"{side}: longest request {1000 * pause_s:.1f} ms")
    left = said["left_s"]
    print(f"{len(left)} drains took {statistics.median(left):.2f} s, at most {max(left):.2f} s")
    print(f"{said['calls']} requests, {len(said['faults'])} faults", *said["faults"], sep="\n")
    return int(bool(said["faults"]) or said["pause_s"] >= PAUSE_MAX_S)


if __name__ == "__main__":
    sys.exit(main())
