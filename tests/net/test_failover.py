"""Two primaries, each a host of its own, on one shared file: what a client's writers see when one is lost."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.net import Lab, wait_for
from tests.support.peers import AoeTarget, image
from tests.support.tools import need_namespaces

ENGINES = ("c",)
SECTORS = 8192
BLOCK = 4096
RUN_S = 5.0
LINK_DOWN_S = 0.5
SILENT_S = 3.0


class Pair(NamedTuple):
    """The primary that is the owner at first, the other one, and their cables."""

    lab: Lab
    owner: AoeTarget
    other: AoeTarget


@contextmanager
def pair(directory: Path) -> Iterator[Pair]:
    need_namespaces()
    path = image(directory / "disk", SECTORS)
    path.write_bytes(bytes(SECTORS * 512))
    with Lab(("first", "client", "second"), mtu=9000) as lab:
        lab.cable("second", "client")
        targets = [
            AoeTarget(
                lab,
                directory,
                f"{path}={number}.0",
                "--shared",
                "--serial",
                "ONE",
                side=side,
                state_dir=directory / side,
            )
            for number, side in ((1, "first"), (2, "second"))
        ]
        with targets[0], targets[1]:
            yield Pair(lab, targets[0], targets[1])


def run(directory: Path, trouble: Callable[[Pair], None]) -> dict[str, Any]:
    """What the writers said after the trouble."""
    with pair(directory) as started:
        there, out = started, directory / "client.out"
        with out.open("w") as file, (directory / "client.err").open("w") as errors:
            command = (sys.executable, "-m", "tests.support.failover_client", str(RUN_S), str(BLOCK))
            client = there.lab.popen("client", *command, stdout=file, stderr=errors)
        wait_for(lambda: out.read_text().startswith("go") and out.read_text().endswith("\n"))
        if "e2.0" in out.read_text():
            there = Pair(there.lab, there.other, there.owner)
        time.sleep(0.5)
        trouble(there)
        assert client.wait(60) == 0, (directory / "client.err").read_text()
        said: dict[str, Any] = json.loads(out.read_text().splitlines()[1])
    assert said["calls"] > 200
    assert not said["faults"]
    print(said)
    return said


def client_end(there: Pair) -> Any:
    return there.lab.cables[0 if there.owner.side == "first" else 1].b


def test_the_link_to_the_owner_goes_down(tmp_path: Path) -> None:
    def trouble(there: Pair) -> None:
        there.lab.down(client_end(there))
        time.sleep(1)
        there.lab.up(client_end(there))

    said = run(tmp_path, trouble)
    assert said["pause_s"] < LINK_DOWN_S
    assert said["moves"] == 1


def test_the_owner_is_killed(tmp_path: Path) -> None:
    said = run(tmp_path, lambda there: there.owner.kill())
    assert said["pause_s"] < SILENT_S
    assert said["moves"] == 1
    assert sorted(path["state"] for path in said["paths"]) == ["down", "usable"]


def test_the_owner_is_killed_and_starts_again(tmp_path: Path) -> None:
    def trouble(there: Pair) -> None:
        there.owner.kill()
        time.sleep(0.2)
        there.owner.launch()

    assert run(tmp_path, trouble)["pause_s"] < SILENT_S


def test_the_owner_is_paused_and_goes_on(tmp_path: Path) -> None:
    """What it had in its queue must not land over what was written by the other one meanwhile."""

    def trouble(there: Pair) -> None:
        there.owner.pause()
        time.sleep(2)
        there.owner.resume()

    assert run(tmp_path, trouble)["pause_s"] < SILENT_S


def test_one_after_the_other_is_restarted(tmp_path: Path) -> None:
    def trouble(there: Pair) -> None:
        there.owner.restart()
        time.sleep(1)
        there.other.restart()

    assert run(tmp_path, trouble)["pause_s"] < 2 * SILENT_S


def test_links_that_flap(tmp_path: Path) -> None:
    def trouble(there: Pair) -> None:
        for turn in range(6):
            end = there.lab.cables[turn % 2].b
            there.lab.down(end)
            time.sleep(0.2)
            there.lab.up(end)
            time.sleep(0.1)

    run(tmp_path, trouble)
