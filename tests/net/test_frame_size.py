"""MTUs that change under a disk in use, switches that carry less than the ends: no error, a short pause."""

import json
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aoe.initiator.sizes import NARROW_TEXTS, Narrow
from tests.net import sized_client
from tests.support.labs.nbdkit import Door
from tests.support.labs.network import Cable, Lab
from tests.support.labs.peers import AoeTarget, Target, Vblade, image
from tests.support.labs.primaries import ADDRESSES, primaries
from tests.support.tools import need, need_engine, need_namespaces
from tests.support.waiting import at_best, own_s, wait_for

ENGINES = ("c",)
SECTORS = 4096
CLIENTS = {"python": "client in python", "c": "client in c"}
PAUSE_S = 2.0
"""How long one request may take at most as frames change. The tests print what it was."""
MTUS = (1500, 9000, 1500, 9000)
EVERY_S = 0.7

Change = Callable[[Lab, Cable, int], None]


def target_side(lab: Lab, cable: Cable, mtu: int) -> None:
    lab.link(cable.a, "mtu", str(mtu))


def client_side(lab: Lab, cable: Cable, mtu: int) -> None:
    lab.link(cable.b, "mtu", str(mtu))


def both_sides(lab: Lab, cable: Cable, mtu: int) -> None:
    lab.set_mtu(cable, mtu)


SIDES = (target_side, client_side, both_sides)


@contextmanager
def one_target(directory: Path, kind: str = "ours") -> Iterator[tuple[Lab, Target]]:
    need_namespaces()
    with Lab(mtu=9000) as lab:
        path = image(directory / "disk", SECTORS)
        target: Target = Vblade(lab, path) if kind == "vblade" else AoeTarget(lab, directory, f"{path}=1.1")
        with target:
            yield lab, target


class Load:
    """A client process under way; `stop` gives what it said."""

    def __init__(self, lab: Lab, work: Path, engine: str, seconds: float, *where: str) -> None:
        need_engine()
        self._out, self._err = work / "load.out", work / "load.err"
        with self._out.open("w") as out, self._err.open("w") as err:
            command = (sys.executable, "-m", sized_client.__name__, engine, str(seconds), *where)
            self._process = lab.popen("client", *command, stdout=out, stderr=err)
        wait_for(lambda: "go" in self._out.read_text() or self._process.poll() is not None)

    def until(self, sectors: int, why: str = "") -> None:
        """Wait until its only path carries so many, and it is known why not more."""

        def told() -> bool:
            last = self._out.read_text().splitlines()[-1]
            return last != "go" and json.loads(last) == [[sectors, why]]

        wait_for(told, what=self._out.read_text)

    def end(self) -> dict[str, Any]:
        """As `stop`, before its time."""
        self._process.send_signal(signal.SIGUSR1)
        return self.stop()

    def stop(self) -> dict[str, Any]:
        if self._process.wait(60):
            pytest.fail(self._err.read_text())
        said: dict[str, Any] = json.loads(self._out.read_text().splitlines()[-1])
        print(f"the longest of {said['requests']} requests: {said['pause_s']:.3f} s")
        assert said["requests"] > 100
        assert said["pause_s"] < PAUSE_S
        assert {path["state"] for path in said["paths"]} == {"usable"}
        return said


def change(lab: Lab, cable: Cable, how: Change) -> None:
    for mtu in MTUS:
        time.sleep(EVERY_S)
        how(lab, cable, mtu)


@pytest.mark.parametrize("how", SIDES)
@pytest.mark.parametrize("client", CLIENTS, ids=CLIENTS.get)
def test_the_mtu_changes_under_load(how: Change, client: str, tmp_path: Path) -> None:
    with one_target(tmp_path) as (lab, _):

        def tried() -> None:
            load = Load(lab, tmp_path, client, EVERY_S * (len(MTUS) + 2), "v0", "e1.1")
            change(lab, lab.cables[0], how)
            said = load.stop()
            assert said["attached"] == [16]
            assert [path["sectors"] for path in said["paths"]] == [16]

        at_best(tried, 3)


@pytest.mark.parametrize("how", SIDES)
def test_the_mtu_of_one_of_two_paths_changes(how: Change, tmp_path: Path) -> None:
    store = image(tmp_path / "disk", SECTORS)
    with primaries(tmp_path, (store, store), "--shared") as there:
        seconds = EVERY_S * (len(MTUS) + 2)

        def tried() -> None:
            load = Load(there.lab, tmp_path, "c", seconds, "v0,v1", *ADDRESSES)
            change(there.lab, there.lab.cables[0], how)
            said = load.stop()
            assert [path["reason"] for path in said["paths"]] == ["", ""]

        at_best(tried, 3)


# A switch between them


@contextmanager
def switched(directory: Path, mtu: int, kind: str = "ours") -> Iterator[Lab]:
    """Jumbo ends, each on a bridge, and between the bridges a cable with another MTU: what is too large is
    lost there, and whoever sent it is told nothing."""
    need_namespaces()
    with Lab(("target", "switch", "client"), mtu=9000, cables=0) as lab:
        lab.cable("switch", "target")
        lab.cable("switch", "client")
        lab.run("switch", "ip", "link", "add", "p0", "type", "veth", "peer", "name", "p1", check=True)
        for number in ("0", "1"):
            lab.run("switch", "ip", "link", "add", f"b{number}", "type", "bridge", check=True)
            for name in (f"v{number}", f"p{number}"):
                lab.run("switch", "ip", "link", "set", name, "master", f"b{number}", check=True)
            for name in (f"p{number}", f"b{number}"):
                lab.run("switch", "ip", "link", "set", name, "up", check=True)
        resize(lab, mtu)
        path = image(directory / "disk", SECTORS)
        argument = f"{path}=1.1"
        target: Target = (
            Vblade(lab, path) if kind == "vblade" else AoeTarget(lab, directory, argument, "--force")
        )
        target.launch()
        with lab.client() as client:
            client.config()
        yield lab
        target.kill()


def resize(lab: Lab, mtu: int) -> None:
    """The MTU between the bridges."""
    for name in ("p0", "p1"):
        lab.run("switch", "ip", "link", "set", name, "mtu", str(mtu), check=True)


@pytest.mark.parametrize("client", CLIENTS, ids=CLIENTS.get)
@pytest.mark.parametrize(("mtu", "sectors"), [(1500, 2), (4200, 8), (9000, 16)])
def test_jumbo_ends_over_a_switch(mtu: int, sectors: int, client: str, tmp_path: Path) -> None:
    with switched(tmp_path, mtu) as lab:
        said = Load(lab, tmp_path, client, 2.0, "v0", "e1.1").stop()
        (path,) = said["paths"]
        assert (path["sectors"], path["sectors_max"]) == (sectors, 16), path
        assert bool(path["narrow"]) is (sectors < 16)


def test_vblade_behind_a_switch(tmp_path: Path) -> None:
    need("vblade")
    with switched(tmp_path, 1500, "vblade") as lab:
        said = Load(lab, tmp_path, "c", 2.0, "v0", "e1.1").stop()
        assert said["paths"][0]["sectors"] == 2


def test_vblade_has_large_frames(tmp_path: Path) -> None:
    need("vblade")
    with one_target(tmp_path, "vblade") as (lab, _):
        said = Load(lab, tmp_path, "c", 1.0, "v0", "e1.1").stop()
        assert said["attached"] == [16]


@pytest.mark.parametrize("client", CLIENTS, ids=CLIENTS.get)
def test_the_switch_carries_less_and_more_again_under_load(client: str, tmp_path: Path) -> None:
    with switched(tmp_path, 9000) as lab:
        load = Load(lab, tmp_path, client, 120.0, "v0", "e1.1")
        load.until(16)
        resize(lab, 1500)
        load.until(2, NARROW_TEXTS[Narrow.BOTH])
        resize(lab, 9000)
        time.sleep(1.5)
        said = load.end()
        assert said["attached"] == [16]
        assert said["paths"][0]["sectors"] == 2, "it looks for more after a minute"


def test_stat_shows_the_size_in_use(tmp_path: Path) -> None:
    with switched(tmp_path, 1500) as lab:
        command = (sys.executable, "-m", "aoe.cli.client", "stat", "--interface", "v0")

        def shown() -> None:
            said = lab.run("client", *command, "--json", timeout=60).stdout.splitlines()
            told = [json.loads(it) for it in said]
            assert [(it.get("payload_bytes"), it.get("payload_max_bytes")) for it in told] == [(1024, 8192)]
            assert told[0]["narrow"].startswith("larger frames")
            text = lab.run("client", *command, timeout=60).stdout
            assert " 1024 " in text
            assert "larger frames" in text

        at_best(shown)


# Under aoe nbd


class Clients:
    """Threads that write, read and compare over NBD, each in a part of its own."""

    def __init__(self, door: Door, threads: int = 4) -> None:
        self.door = door
        self.pause_s = 0.0
        self.requests = 0
        self.errors: list[BaseException] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n, threads)) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int, threads: int) -> None:
        try:
            self._work(number, SECTORS * 512 // threads)
        except BaseException as error:
            self.errors.append(error)

    def _work(self, number: int, share: int) -> None:
        rng, base, held = random.Random(number), number * share, bytearray(share)
        with self.door.connect() as client:
            client.write(base, bytes(held))
            while not self._stop.is_set():
                length = rng.choice([512, 4096, 8192, 65536])
                at = rng.randrange((share - length) // 512) * 512
                began_s = own_s()
                if rng.random() < 0.6:
                    held[at : at + length] = data = rng.randbytes(length)
                    client.write(base + at, data)
                else:
                    assert client.read(base + at, length) == held[at : at + length]
                self.pause_s = max(self.pause_s, own_s() - began_s)
                self.requests += 1
            assert client.read(base, share) == held

    def stop(self) -> None:
        wait_for(lambda: self.errors or self.requests > 100)
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        print(f"the longest of {self.requests} requests: {self.pause_s:.3f} s")
        if self.errors or any(thread.is_alive() for thread in self._threads):
            pytest.fail(f"{self.errors or 'it hangs'}")
        assert self.pause_s < PAUSE_S


OVER = ("--interface", "v0")


@pytest.mark.parametrize("how", SIDES)
def test_the_mtu_changes_under_nbd(how: Change, tmp_path: Path) -> None:
    with one_target(tmp_path) as (lab, _), Door(lab, tmp_path, "e1.1", *OVER) as door:

        def tried() -> None:
            told, clients = len(door.errors), Clients(door)
            change(lab, lab.cables[0], how)
            time.sleep(EVERY_S)
            clients.stop()
            assert "down" not in door.errors[told:], door.errors

        at_best(tried, 3)


def test_nbd_over_a_switch_with_smaller_frames(tmp_path: Path) -> None:
    with switched(tmp_path, 1500) as lab, Door(lab, tmp_path, "e1.1", *OVER) as door:
        clients = Clients(door)
        time.sleep(2.0)
        clients.stop()
        door.says("requests carry 1024 bytes, not 8192")


def test_the_switch_carries_less_under_nbd(tmp_path: Path) -> None:
    with switched(tmp_path, 9000) as lab, Door(lab, tmp_path, "e1.1", *OVER) as door:
        clients = Clients(door)
        time.sleep(1.0)
        resize(lab, 1500)
        time.sleep(2.0)
        clients.stop()
        door.says("requests carry 1024 bytes, not 8192")
