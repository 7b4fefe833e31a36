"""`aoe nbd` and its paths: what it says when one is lost and back, and what it answers to who asks."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.net.test_nbd_ethernet import OVER, SIZE, disk, jumbo, pair_door, target
from tests.support.labs.failover import Pair, pair
from tests.support.labs.nbd_client import READ, WRITE
from tests.support.labs.nbdkit import Door
from tests.support.labs.peers import AoeTarget
from tests.support.waiting import PROMPT_S, wait_for

__all__ = ["disk", "jumbo", "target"]
ENGINES = ("c",)


def asked(path: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "aoe.cli.client", "nbd", "--status", str(path), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def status(door: Door) -> dict[str, Any]:
    done = asked(door.path, "--json")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[0])
    return found


def test_a_running_door_tells_its_paths(target: AoeTarget, tmp_path: Path) -> None:
    with Door(target.lab, tmp_path, "e1.1", *OVER) as door:
        said = status(door)
        assert (said["address"], said["bytes"], said["socket"]) == ("e1.1", SIZE, str(door.path))
        (path,) = said["paths"]
        assert (path["state"], path["owner"], path["interface"]) == ("usable", True, "v0")
        with door.connect() as client:
            client.read(0, 4096)
        assert status(door)["paths"][0]["rtt_us"] > 0
        text = asked(door.path)
        assert text.returncode == 0
        assert text.stdout.startswith(f"e1.1 at {path['mac']} on v0: usable, carries what is written, ")
        assert door.stop() == 0
    done = asked(door.path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no aoe nbd serves there" in done.stderr
    assert not [it.name for it in tmp_path.iterdir() if it.name.startswith("nbd") and it.is_socket()]


def test_a_path_that_is_lost_is_told_since_when_and_when_it_is_back(tmp_path: Path) -> None:
    with pair(tmp_path) as there, pair_door(there, tmp_path) as door:
        wait_for(lambda: len(status(door)["paths"]) == 2)
        assert door.errors == ""
        began = time.monotonic()
        there.lab.down(there.client_end)
        door.says("down: link down")
        time.sleep(1)
        down, used = sorted(status(door)["paths"], key=lambda path: path["owner"])
        assert (down["state"], down["reason"], used["state"]) == ("down", "link down", "usable")
        assert 900_000 < down["state_us"] < 30_000_000
        told = re.search(r"down for (\d+) s: link down", asked(door.path).stdout)
        assert told
        assert 1 <= int(told[1]) <= round(time.monotonic() - began)
        there.lab.up(there.client_end)
        door.says("is usable again after ")
        of_it = [line for line in door.errors.splitlines() if f" on {there.client_end.interface} " in line]
        assert len(of_it) == 2, door.errors
        assert "error" not in door.errors


def test_no_path_at_all_is_a_failure_and_requests_of_unknown_fate_are_counted(
    target: AoeTarget, tmp_path: Path
) -> None:
    with Door(target.lab, tmp_path, "e1.1", *OVER) as door, door.connect() as client:
        target.lab.down(target.lab.cables[0].b)
        for at in range(4):
            client.send(WRITE, at * 4096, 4096, b"x" * 4096)
        wait_for(lambda: asked(door.path).returncode == 1)
        (line, *_) = asked(door.path).stdout.splitlines()
        assert "down for " in line
        target.lab.up(target.lab.cables[0].b)
        assert [client.answer()[1] for _ in range(4)] == [0] * 4


@pytest.mark.parametrize("how", ["idle", "under way", "half a write"])
def test_a_client_that_leaves_is_no_error_and_takes_nobody_with_it(
    target: AoeTarget, tmp_path: Path, how: str
) -> None:
    """What is read does not fit the socket, so that replies wait for each other when it leaves."""
    with Door(target.lab, tmp_path, "e1.1", *OVER) as door, door.connect() as other:
        for _ in range(30):
            client = door.connect()
            for at in range(8 if how != "idle" else 0):
                client.send(READ, (at << 20) % SIZE, 1 << 20)
            if how == "half a write":
                client.send(WRITE, 0, 4096, b"x" * 100)
            client.vanish()
            assert other.read(0, 4096)
        assert door.stop() == 0
        assert door.errors == ""


def test_ctrl_c_ends_it_at_once_whatever_waits(target: AoeTarget, tmp_path: Path) -> None:
    with Door(target.lab, tmp_path, "e1.1", *OVER) as door, door.connect() as client:
        target.kill()
        for at in range(8):
            client.send(WRITE, at * 4096, 4096, b"x" * 4096)
        wait_for(client.heard)
        started = time.monotonic()
        door.process.send_signal(signal.SIGINT)
        assert door.process.wait(30) == 130
        assert time.monotonic() - started < PROMPT_S, "it waits for who does not answer"
        assert door.errors.splitlines()[-1] == "aoe: interrupted"


class Fence:
    """A door with a fence command that writes down what it is told."""

    def __init__(self, work: Path) -> None:
        self._told = work / "told"
        self._script = work / "fence"
        self._script.write_text(f'#!/bin/sh\necho "$@" >> {self._told}\n')
        self._script.chmod(0o755)

    def door(self, there: Pair, work: Path) -> Door:
        return pair_door(there, work, "--hold", "--fence", f"{self._script} 'a b'")

    @property
    def told(self) -> list[str]:
        return self._told.read_text().splitlines() if self._told.exists() else []


def owner_of(there: Pair, door: Door) -> AoeTarget:
    """The primary that carries what is written; on a busy machine not always the first."""
    wait_for(lambda: [path["state"] for path in status(door)["paths"]] == ["usable", "usable"])
    (owner,) = (path["address"] for path in status(door)["paths"] if path["owner"])
    return there.owner if owner == "e1.0" else there.other


@contextmanager
def under_way(door: Door, kind: int, depth: int = 8) -> Iterator[None]:
    """So many requests of one kind are always under way, and no other; each is done without an error."""
    answers: list[int] = []
    over = threading.Event()

    def work() -> None:
        with door.connect() as client:
            for at in range(depth):
                client.send(kind, at * 4096, 4096, b"x" * 4096 * (kind == WRITE))
            while not over.is_set():
                answers.append(client.answer()[1])
                at = len(answers) % depth
                client.send(kind, at * 4096, 4096, b"x" * 4096 * (kind == WRITE))
            answers.extend(client.answer()[1] for _ in range(depth))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        wait_for(lambda: answers)
        yield
    finally:
        over.set()
        thread.join()
    assert not any(answers)


@pytest.mark.parametrize("trouble", ["kill", "pause"])
def test_the_fence_command_is_told_who_was_lost(tmp_path: Path, trouble: str) -> None:
    """With --hold nothing but the fence opens the ranges of what the lost server was asked for. Only for
    writes that it has not answered is it fenced: it is paused while some are under way, and lost then."""
    fence = Fence(tmp_path)
    with pair(tmp_path) as there, fence.door(there, tmp_path) as door:
        with under_way(door, WRITE):
            owner = owner_of(there, door)
            owner.pause()
            if trouble == "kill":
                time.sleep(0.2)
                owner.kill()
            (line, *_) = wait_for(lambda: fence.told)
            address = "e1.0" if owner is there.owner else "e2.0"
            assert re.fullmatch(rf"a b 02:a0:e0:[0-9a-f:]+ {address}", line)
        wait_for(lambda: not any(path["unsettled"] for path in status(door)["paths"]))
        if trouble == "pause":
            owner.resume()


def test_a_server_that_is_lost_with_reads_alone_is_not_fenced(tmp_path: Path) -> None:
    """They change nothing, so nothing need be made sure of, and writes wait for nothing."""
    fence = Fence(tmp_path)
    with pair(tmp_path) as there, fence.door(there, tmp_path) as door:
        with under_way(door, READ):
            owner = owner_of(there, door)
            owner.pause()
            time.sleep(0.2)
            owner.kill()
            wait_for(lambda: [path["state"] for path in status(door)["paths"]].count("usable") == 1)
        with door.connect() as client:
            for at in range(8):
                client.write(at * 4096, b"y" * 4096)
        assert fence.told == []
