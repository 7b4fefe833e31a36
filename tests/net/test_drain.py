"""`aoe-target drain`: clients of ours leave for the other primary, and others are named."""

import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.net.service import ask
from tests.support.labs import drains, restarts
from tests.support.labs.drains import Client, Site
from tests.support.waiting import at_best, wait_for

AOE = (sys.executable, "-m", "aoe.cli.client")
PAUSE_MAX_S = 2.5
"""Much else runs on the machine of these tests, which costs more than the move: `bench.drain_pause` judges
the pause. Had a client waited until nothing can be carried out any more, that would have been 3 s."""


def test_two_clients_under_full_load_leave_and_leave_again(tmp_path: Path) -> None:
    def tried() -> None:
        said = drains.run(Path(tempfile.mkdtemp(dir=tmp_path)), times=3)
        print(said)
        if said["faults"]:
            pytest.fail(f"{said['faults']}")
        assert said["calls"] > 1000
        assert said["pause_s"] < PAUSE_MAX_S

    at_best(tried, 3)


def stays(there: Site, side: str) -> dict[str, str]:
    """Which clients do, and why."""
    export, _ = ask(there.socket(side), "status")["exports"]
    found: dict[str, str] = export["stays"]
    return found


def test_those_that_stay_are_named_and_served(tmp_path: Path, engine: str) -> None:
    with drains.site(tmp_path, engine) as there:
        foreign = there.lab.client(shelf=1, slot=0, side="nbd")
        foreign.read(0)
        with Client(there.lab, "python", "disk", "auto", "e1.0") as alone:
            done = there.command("first", "drain", "e1.0", "--timeout", "0.5", "--json")
            assert done.returncode == 1, done.stderr
            facts: dict[str, Any] = json.loads(done.stdout)
            known = {foreign.mac.hex(":"): "knows nothing", mac_of(there): "has no other server"}
            named = {mac: why[: len(known[mac])] for mac, why in facts["stays"]["e1.0"].items()}
            assert named == known
            foreign.read(0)
            assert stays(there, "first") == facts["stays"]["e1.0"]
            said = alone.said()
        assert not said["faults"]
        # One that has gone is not waited for
        wait_for(
            lambda: (
                not {mac_of(there)} & ask(there.socket("first"), "drain", all=True)["stays"]["e1.0"].keys()
            )
        )
        done = there.command("first", "resume", "e1.0")
        assert (done.returncode, done.stdout) == (0, "e1.0: clients may use it again\n")
        export, _ = ask(there.socket("first"), "status")["exports"]
        assert (export["state"], export["stays"]) == ("serving", None)


def mac_of(there: Site) -> str:
    """Of the client whose only path leads to the first primary."""
    end = next(it.b for it in there.lab.cables if it.a.side == "first" and it.b.side == "python")
    return end.mac.hex(":")


def test_what_drains_does_so_after_restarts_and_crashes_until_the_service_is_stopped(tmp_path: Path) -> None:
    def states() -> list[str]:
        return [it["state"] for it in ask(tmp_path / "control", "status")["exports"]]

    with restarts.site() as lab, restarts.service(lab, tmp_path, "auto", ["1.0", "1.1"]) as manager:
        ask(tmp_path / "control", "drain", addresses=["e1.1"])
        for how in (signal.SIGTERM, signal.SIGKILL):
            manager.kill(how)
            manager.start(ready_s=restarts.READY_S)
            assert states() == ["serving", "draining"]
        manager.stop()
        manager.start(ready_s=restarts.READY_S)
        assert states() == ["serving", "serving"]


def test_a_client_sees_that_a_server_drains(tmp_path: Path) -> None:
    """`aoe stat`, and an `aoe nbd` that stays, as it has no other server."""

    def seen() -> dict[str, Any]:
        stat = there.lab.run("nbd", *AOE, "stat", "--json").stdout.splitlines()
        asked = there.lab.run("nbd", *AOE, "nbd", "--status", str(socket), "--json", check=True).stdout
        paths = [*map(json.loads, stat), *json.loads(asked)["paths"]]
        found = [(it.get("address"), it.get("draining")) for it in paths]
        return dict(found) if len(found) == 5 else {}  # two disks of two servers, and what is attached

    with (
        drains.site(tmp_path) as there,
        drains.socket_path() as socket,
        drains.nbd_door(there.lab, "nbd", socket, "e1.1"),
    ):
        served = dict.fromkeys(("e1.0", "e1.1", "e2.0", "e2.1"), False)
        wait_for(lambda: seen() == served)
        ask(there.socket("first"), "drain", addresses=["e1.1"])
        wait_for(lambda: seen() == {**served, "e1.1": True})
        said = there.lab.run("nbd", *AOE, "nbd", "--status", str(socket), check=True).stdout
        assert "e1.1 at " in said
        assert "usable (its server drains), carries what is written" in said
        ask(there.socket("first"), "resume", addresses=["e1.1"])
        wait_for(lambda: seen() == served)
