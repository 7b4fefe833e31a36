"""What the code for snapshots costs where none is under way: python -m bench.cut_cost.

The engine does what recorded inputs of its fuzzer ask, with the sockets and disks of the fuzzer, under
callgrind of valgrind, which counts instructions line by line: so a busy machine says the same. For each way
to serve a disk it prints how many the engine takes for a frame, and how many of these are in lines that are
there for snapshots: is one under way, does a request wait for one? Real sockets and disks take thousands
more, in the kernel, so that the part is smaller there.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CSRC = Path(__file__).parent.parent / "csrc"
SEEDS = CSRC / "fuzz" / "seeds" / "loop"
WAYS = {"past the page cache": "direct", "by the page cache": "buffered", "in memory": "instant"}
ASKS = ("order", "queue", "shared", "turns")
"""Reads, writes and flushes of several clients."""
ROOMS = re.compile(r"csrc/(?:\./)?(target/(?!engine\.|requests\.)\w+\.[ch])")
"""But for what is mostly done at the start, once for the engine."""
WORDS = re.compile(r"snapshot|->cuts\b|\bcuts_|->kept\b|\bcut_")
TAKES = "serve_frame"
MOST = 0.01


class Counted(NamedTuple):
    """Instructions by source file of the engine and line, and frames that it took."""

    lines: Counter[tuple[str, int]]
    frames: int


def counted(program: Path, inputs: list[Path]) -> Counted:
    """What these take."""
    with tempfile.NamedTemporaryFile() as out:
        how = ("--tool=callgrind", "--dump-line=yes", f"--callgrind-out-file={out.name}")
        subprocess.run(["valgrind", *how, program, *inputs], check=True, capture_output=True)
        text = Path(out.name).read_text()
    known = re.search(rf"^c?fn=\((\d+)\) {TAKES}$", text, re.MULTILINE)
    assert known, "it takes frames"
    calls = re.findall(rf"^cfn=\({known[1]}\).*\ncalls=(\d+)", text, re.MULTILINE)
    return Counted(Counter(dict(_own(text))), sum(map(int, calls)))


def _own(text: str) -> Iterator[tuple[tuple[str, int], int]]:
    """Of callgrind's account (its manual: "Callgrind Format Specification") what each line took itself."""
    names, file, line, called = dict[str, str](), "", 0, False
    spent = Counter[tuple[str, int]]()
    for row in text.splitlines():
        if named := re.match(r"(?:fl|fi|fe)=\((\d+)\)(?: (.*))?", row):
            file = names.setdefault(named[1], named[2] or "")
        elif named := re.match(r"(?:cfi|cfl)=\((\d+)\) (.*)", row):
            names[named[1]] = named[2]
        elif row.startswith("calls="):
            called = True
        elif cost := re.match(r"(\+|-|\*)?(\d*) ?(\d+)?$", row):
            line = _line(line, cost[1], cost[2])
            if not called and cost[3] and (room := ROOMS.search(file)):
                spent[room[1], line] += int(cost[3])
            called = False
    yield from spent.items()


def _line(last: int, sign: str | None, number: str) -> int:
    """Lines are told by how far they are from the last."""
    step = int(number or 0)
    return {None: step, "+": last + step, "-": last - step, "*": last}[sign]


def about_snapshots(lines: Counter[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Those that were executed."""
    for room, line in lines:
        if WORDS.search((CSRC / room).read_text().splitlines()[line - 1]):
            yield room, line


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cut_cost", description=__doc__)
    parser.add_argument("--lines", action="store_true", help="show where they are")
    said = parser.parse_args()
    too_much = False
    with tempfile.TemporaryDirectory() as name:
        subprocess.run([CSRC / "fuzz" / "build", "replay", name, "-O2"], check=True)
        for way, prefix in WAYS.items():
            found = counted(Path(name) / "loop", [SEEDS / f"{prefix}-{asks}" for asks in ASKS])
            about = sorted(about_snapshots(found.lines))
            all_of_it = sum(found.lines.values()) / found.frames
            of_it = sum(found.lines[at] for at in about) / found.frames
            too_much |= of_it > MOST * all_of_it
            print(f"{way}: {of_it:.2f} of {all_of_it:.0f} instructions a frame ({of_it / all_of_it:.2%})")
            for at in about if said.lines else ():
                text = (CSRC / at[0]).read_text().splitlines()[at[1] - 1].strip()
                print(f"  {at[0]}:{at[1]} {found.lines[at] / found.frames:.2f} {text}")
    sys.exit(too_much)


if __name__ == "__main__":
    main()
