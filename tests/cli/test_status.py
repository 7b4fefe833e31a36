"""What `aoe-target status` shows of what a daemon says."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aoe.cli.status import Look, sentences
from aoe.cli.target import main
from aoe.control.rights import Rights
from aoe.metrics.table import COUNTERS, WORK
from tests.control.asking import served
from tests.control.fake_node import FakeNode

EXPORT: dict[str, Any] = {
    "address": "e1.0",
    "path": "/dev/md0",
    "state": "serving",
    "reason": "",
    "mask": ["02:00:00:00:00:01"],
    "queue": 3,
    "reads": 100,
    "writes": 50,
    "flushes": 0,
    "read_bytes": 409600,
    "written_bytes": 204800,
    "counted": {"masked": 7, "expired": 2},
    "clients": [
        {
            "mac": "02:00:00:00:00:01",
            "requests": 150,
            "read_bytes": 409600,
            "written_bytes": 204800,
            "repeated": 0,
            "heard_us": 1_500_000,
        },
        {"mac": "other", "requests": 9, "repeated": 3, "heard_us": 70_000_000},
    ],
}
FACTS: dict[str, Any] = {
    "number": 4,
    "log_level": "info",
    "release": "0.9.1",
    "exports": [
        EXPORT,
        {"address": "e2.0", "path": "/dev/x", "state": "waiting", "reason": "it is not there"},
    ],
    "interfaces": [{"name": "eth1", "up": True}],
    "counters": {"reads": 100, "masked": 7, "expired": 0, "eth1.rebound": 1},
    "patches": [{"sentence": "set e1.0 mask (by root (uid 0) at 2026-11-28T12:00:00Z)"}],
}


def later(**more: Any) -> Look:
    """Two seconds after."""
    return Look({**FACTS, "exports": [{**EXPORT, **more}]}, 12.0, Look(FACTS, 10.0))


def test_all_of_it_is_said_in_lines() -> None:
    assert [*sentences(Look(FACTS, 10.0))] == [
        "change 4: 2 exports, logs info, release 0.9.1",
        "e1.0: /dev/md0, serving, mask 02:00:00:00:00:01",
        "  02:00:00:00:00:01: 150 requests, 0.4 MB read, 0.2 MB written, heard 1.5 s ago",
        "  other: 9 requests, 3 repeated, heard 70.0 s ago",
        "  failed or dropped: masked=7 expired=2",
        "e2.0: /dev/x, waiting (it is not there)",
        "interface eth1: up",
        "errors: masked=7 eth1.rebound=1",
        "beside the file: set e1.0 mask (by root (uid 0) at 2026-11-28T12:00:00Z)",
    ]


LIMITS = {"limit-iops": 100, "limit-bandwidth": 20971520, "limit-client-iops": 0, "limit-burst": 0.5}


@pytest.mark.parametrize(
    ("limits", "shown"),
    [
        (LIMITS, ", limit-iops 100, limit-bandwidth 20M, limit-burst 0.5"),
        ({"limit-client-bandwidth": 3}, ", limit-client-bandwidth 3"),
        ({}, ""),
        ({"limit-iops": "\x1b"}, ""),
        ([7], ""),
    ],
)
def test_limits_are_shown_as_the_file_has_them(limits: object, shown: str) -> None:
    look = Look({**FACTS, "exports": [{**EXPORT, "limits": limits}]}, 10.0)
    assert [*sentences(look)][1] == f"e1.0: /dev/md0, serving, mask 02:00:00:00:00:01{shown}"


def test_what_was_dropped_for_a_limit_is_counted() -> None:
    over = {**EXPORT, "mask": [], "limits": {"limit-iops": 100}, "counted": {"limited": 5, "masked": 1}}
    shown = [*sentences(Look({**FACTS, "exports": [over]}, 10.0))][1]
    assert shown == "e1.0: /dev/md0, serving, limit-iops 100, 5 requests over limits"
    assert "errors: limited=5" in [*sentences(Look({**FACTS, "counters": {"reads": 9, "limited": 5}}, 10.0))]


def test_how_fast_it_is_is_the_difference() -> None:
    look = later(reads=1100, writes=1050, read_bytes=409600 + 4_000_000)
    (export,) = look.exports()
    assert export["requests_per_s"] == 1000.0
    assert export["bytes_per_s"] == 2_000_000.0
    assert [*sentences(look)][
        1
    ] == "e1.0: /dev/md0, serving, 1000 IOPS, 2.0 MB/s, queue 3, mask 02:00:00:00:00:01"


def test_one_that_began_anew_has_no_rate_yet() -> None:
    assert "requests_per_s" not in later(reads=1, writes=0).exports()[0]
    assert "requests_per_s" not in later(address="e9.9").exports()[0]


@pytest.mark.parametrize("name", ["path", "state", "reason", "address"])
def test_no_line_has_a_control_character(name: str) -> None:
    evil = "a\x1b[2J\nb\u202e"
    facts = {**FACTS, "exports": [{**EXPORT, name: evil}], "patches": [{"sentence": evil}]}
    facts["interfaces"] = [{"name": evil, "up": evil}]
    facts["counters"] = {evil: 1}
    assert all(line.isprintable() for line in sentences(Look(facts, 0.0)))


@pytest.mark.parametrize(
    "facts", [{}, {"exports": 3}, {"exports": [1, {}]}, {"exports": [{"clients": 5}], "counters": 7}]
)
def test_a_daemon_of_another_release_is_shown_as_far_as_it_goes(facts: dict[str, Any]) -> None:
    assert [*sentences(Look(facts, 1.0, Look(FACTS, 0.0)))]


def test_what_is_no_error_is_known() -> None:
    assert {"reads", "changes", "engine_handed_up"} <= WORK <= set(COUNTERS)
    assert not WORK & {"masked", "disk_errors", "refused_ata"}


def test_the_command_looks_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node = FakeNode()
    node.said = FACTS
    with served(tmp_path / "control", node, Rights(os.geteuid())):
        assert main(["status", "--socket", str(tmp_path / "control"), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert main(["status", "--socket", str(tmp_path / "control")]) == 0
    assert found["exports"][0]["requests_per_s"] == 0.0
    assert found["number"] == 4
    assert capsys.readouterr().out.splitlines()[1].startswith("e1.0: /dev/md0, serving, 0 IOPS")
    assert node.asked == [("status",)] * 4


def test_the_table_shows_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from aoe.cli import watching

    monkeypatch.setattr("aoe.cli.watching.WATCHED_S", 0.01)
    drawn = io.StringIO()
    looks = iter([later(reads=1100, path="/dev/\x1b]0;x\x07[red]")])

    def look(_: Look) -> Look:
        try:
            return next(looks)
        except StopIteration:
            raise KeyboardInterrupt from None

    console = Console(file=drawn, force_terminal=True, width=150, color_system=None)
    with pytest.raises(KeyboardInterrupt):
        watching.watch(look, Look(FACTS, 10.0), console)
    shown = drawn.getvalue()
    for word in (
        "e1.0",
        "500",
        "0.0",
        "serving",
        "02:00:00:00:00:01 (150, 0.4 + 0.2 MB, 1.5 s ago)",
        "[red]",
        "masked 7",
    ):
        assert word in shown, word
    assert "\x1b]0;" not in shown
    assert "\x07" not in shown


def test_nothing_but_the_table_loads_rich() -> None:
    code = "import aoe.cli.status, aoe.cli.asking, sys; raise SystemExit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_ctrl_c_ends_the_table_and_gives_the_terminal_back(tmp_path: Path) -> None:
    node = FakeNode()
    node.said = FACTS
    master, slave = pty.openpty()
    shown = b""
    with served(tmp_path / "control", node, Rights(os.geteuid())):
        words = [sys.executable, "-c", "import aoe_start; raise SystemExit(aoe_start.target())"]
        words += ["status", "--watch", "--socket", str(tmp_path / "control")]
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
        watching = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, env=environment)
        os.close(slave)
        while b"masked" not in shown:
            shown += os.read(master, 65536)
        watching.send_signal(signal.SIGINT)
        with suppress(OSError):  # the last one has closed it
            while piece := os.read(master, 65536):
                shown += piece
        assert watching.wait(30) == 0
    os.close(master)
    assert b"\x1b[?1049h" in shown, "a screen of its own"
    assert shown.rfind(b"\x1b[?1049l") > shown.rfind(b"\x1b[?1049h")
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l")
    assert b"Traceback" not in shown
