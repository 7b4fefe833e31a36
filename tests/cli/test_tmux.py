"""`status --watch` on real terminals of 80 and of 200 columns: what is on the screen, captured by tmux."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aoe.control.rights import Rights
from aoe.limits import LATENCY_BUCKETS
from tests.control.asking import served
from tests.control.fake_node import FakeNode
from tests.support.tools import need
from tests.support.waiting import wait_for

PATH = "/dev/disk/by-id/md-uuid-8d5f6c6e:0b1a7c4e:2f7f3f0a:91d6a1b2"
MACS = tuple(f"02:00:00:00:00:{number:02x}" for number in range(1, 4))
BUSY, STILL = "[▂▃▄▅▆▇█]", "▁"


class Pulsing(FakeNode):
    """Each second time it is asked, e1.0 has done something since."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    async def status(self) -> Mapping[str, Any]:
        self.looks += 1
        done = 1000 * (self.looks // 2)
        reply = [0] * (LATENCY_BUCKETS + 1)
        reply[3] = done
        moved = {"read_bytes": 1_250_000, "written_bytes": 12_000_000_000}
        clients = [{"mac": mac, "requests": 7, "heard_us": 1_500_000, **moved} for mac in MACS]
        busy = {"address": "e1.0", "path": PATH, "state": "serving", "reads": done, "reply": reply}
        idle = {"address": "e1.1", "path": "/srv/a.img", "state": "waiting", "reason": "it is not there"}
        return {
            "number": 4,
            "exports": [{**busy, "read_bytes": 4096 * done, "queue": 12, "clients": clients}, idle],
            "counters": {"masked": 7},
        }


@contextmanager
def terminal(work: Path, columns: int, words: list[str]) -> Iterator[list[str]]:
    """A terminal on which a command runs; the beginning of what asks tmux about it."""
    need("tmux")
    tmux = ["tmux", "-u", "-S", str(work / f"tmux{columns}"), "-f", "/dev/null"]
    # Not the size that readline exports where the tests run (xdist loads it): it would outweigh this one's.
    inherited = {name: it for name, it in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environment = {**inherited, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
    size = ("-x", str(columns), "-y", "24")
    subprocess.run([*tmux, "new-session", "-d", *size, *words], check=True, env=environment, timeout=60)
    try:
        yield tmux
    finally:
        subprocess.run([*tmux, "kill-server"], check=True, env=environment, timeout=60)


def screen(tmux: list[str]) -> str:
    done = subprocess.run(
        [*tmux, "capture-pane", "-p"], check=True, capture_output=True, encoding="utf-8", timeout=60
    )
    return done.stdout


def beating(tmux: list[str]) -> str:
    """The screen, once it shows some looks, down to its last line, and is not just being drawn."""
    beat = re.compile(f"{STILL}{BUSY}{STILL}{BUSY}.*^errors: ", re.DOTALL | re.MULTILINE)

    def drawn() -> str:
        before = screen(tmux)
        time.sleep(0.2)
        return before if beat.search(before) and screen(tmux) == before else ""

    return wait_for(drawn, 60, lambda: screen(tmux))


@pytest.fixture(scope="module")
def screens(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """By the columns, once some looks are on them."""
    work = tmp_path_factory.mktemp("tmux")
    found = {}
    for columns in (80, 200):
        place = work / f"control{columns}"
        words = [sys.executable, "-m", "aoe.cli.target", "status", "--watch", "--socket", str(place)]
        with served(place, Pulsing(), Rights(os.geteuid())), terminal(work, columns, words) as tmux:
            found[columns] = beating(tmux)
    return found


def row(text: str) -> list[str]:
    """The cells of the first export, lines joined."""
    lines = [line for line in text.splitlines() if line.startswith("│") or line.startswith("┃")]
    cells = [[cell.strip() for cell in line.strip("│┃").split("│")] for line in lines if "│" in line[1:]]
    first = next(at for at, line in enumerate(cells) if line[0] == "e1.0")
    last = next(at for at, line in enumerate(cells) if line[0] == "e1.1")
    return ["".join(parts) for parts in zip(*cells[first:last], strict=True)]


def test_both_show_the_same_disk(screens: dict[int, str]) -> None:
    narrow, wide = row(screens[80]), row(screens[200])
    assert narrow[:3] == wide[:3] == ["e1.0", PATH, "serving"], "names are whole, however narrow it is"
    assert narrow[6] == wide[6] == "12"
    for cells in (narrow, wide):
        assert re.search(f"{BUSY}{STILL}{BUSY}", cells[3]), cells[3]
        assert re.match(r"\d+ us", cells[4]) or re.search(BUSY, cells[4]), cells[4]


def test_both_fit(screens: dict[int, str]) -> None:
    for columns, text in screens.items():
        lines = text.splitlines()
        assert max(map(len, lines)) == columns
        assert "…" not in text, "nothing is cut off"
        assert len([line for line in lines if line.startswith(("┏", "└"))]) == 2, "the table is whole"
        assert "errors: masked 7" in text


def test_only_the_wide_one_has_room_for_clients(screens: dict[int, str]) -> None:
    assert all(mac in screens[200] for mac in MACS)
    assert not any(mac in screens[80] for mac in MACS)
    clients = row(screens[200])[-1].replace(" ", "")  # where it folds they are left out
    assert clients == "".join(f"{mac}(7,1.2+12000.0MB,1.5sago)" for mac in MACS)
    assert row(screens[80])[-1] == "3"


def test_the_wide_one_remembers_more(screens: dict[int, str]) -> None:
    cells = {columns: max(map(len, re.findall(r"[ ▁-█]*[▁-█]", text))) for columns, text in screens.items()}
    assert cells[80] >= 4
    assert len(row(screens[200])[3]) > len(row(screens[80])[3])
