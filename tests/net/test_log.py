"""The log of a target on Ethernet: nobody need read it, and it tells of interfaces and clients."""

import contextlib
import fcntl
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from aoe.timing import MESSAGE_INTERVAL_S
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget
from tests.support.labs.raw_client import AtaFailed, Client, NoAnswer
from tests.support.waiting import PROMPT_S, wait_for

SECTORS = 2048
BAD = 1500
"""A sector of the disk that was cut off."""


def answers(client: Client, slot: int) -> bool:
    with contextlib.suppress(NoAnswer):
        return bool(client.read(0, shelf=1, slot=slot))
    return False


def images(tmp_path: Path) -> tuple[Path, Path]:
    """A disk whose end will be missing, and a good one."""
    bad, good = tmp_path / "bad", tmp_path / "good"
    for path in (bad, good):
        path.write_bytes(b"d" * SECTORS * 512)
    return bad, good


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_log_that_nobody_reads_stops_neither_disk(
    lab: Lab, tmp_path: Path, engine: str, stream: str
) -> None:
    """Reads that fail and what is asked before a disk is used are answered in Python, with either engine."""
    bad, good = images(tmp_path)
    read, write = os.pipe()
    os.write(write, bytes(fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)))
    serve = [sys.executable, "-m", "aoe.cli.target", "serve", f"{bad}=1.1", f"{good}=1.2", "--engine", engine]
    streams = {stream: write}
    serve += ["--interface", "v0", "--state-dir", str(tmp_path / "state")]
    process = lab.popen("target", *serve, **streams)
    with lab.client() as client:
        wait_for(lambda: answers(client, 2), what="not serving")
        os.truncate(bad, SECTORS * 512 // 2)
        for _ in range(500):
            with pytest.raises(AtaFailed):
                client.read(BAD, shelf=1, slot=1)
        process.send_signal(signal.SIGUSR1)
        assert client.read(BAD, shelf=1, slot=2) == b"d" * 512
        assert client.read(0, shelf=1, slot=1) == b"d" * 512
        assert len(client.identify(shelf=1, slot=2)) == 512
    process.send_signal(signal.SIGTERM)
    assert process.wait(PROMPT_S) == 0, "it waits for who reads the log"
    os.close(read)
    os.close(write)


def test_failures_clients_and_interfaces_are_a_line_each(lab: Lab, tmp_path: Path) -> None:
    bad, _ = images(tmp_path)
    with AoeTarget(lab, tmp_path, f"{bad}=1.1") as target, lab.client() as client:
        client.identify(shelf=1, slot=1)
        os.truncate(bad, SECTORS * 512 // 2)
        began_s = time.monotonic()
        for _ in range(50):
            with pytest.raises(AtaFailed):
                client.read(BAD, shelf=1, slot=1)
        lasted_s = time.monotonic() - began_s
        end = lab.cables[0].a
        lab.down(end)
        target.says("v0: the interface is down, gone")
        lab.up(end)
        target.says("the interface is there again")
        wait_for(lambda: answers(client, 1), what="not serving again")
        assert target.errors.count("first contact") == 1
        target.stop()
    told = [line for line in target.errors.splitlines() if "at sector 1500" in line]
    more = [int(count) for count in re.findall(r"\(and (\d+) more like it\)", target.errors)]
    assert len(told) + sum(more) == 50
    assert len(told) <= 2 + lasted_s / MESSAGE_INTERVAL_S
