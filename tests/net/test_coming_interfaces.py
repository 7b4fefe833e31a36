"""A daemon follows its interfaces by what its file calls them: they come, go and are renamed under load."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.image import write_image
from tests.net.service import Service, export
from tests.support.labs.load import SECTORS, loaded
from tests.support.labs.network import Cable, Lab
from tests.support.labs.raw_client import NoAnswer
from tests.support.waiting import wait_for

MTU = 9000
OTHER = "02:a0:e0:00:07:07"


def ip(lab: Lab, *words: str) -> None:
    done = lab.run("target", "ip", "link", *words)
    assert done.returncode == 0, done.stderr


def make(lab: Lab, cable: Cable, name: str, mac: str, peer: str) -> None:
    """Another interface of the target, on a cable to the client's `peer`."""
    lab.run("client", "ip", "link", "delete", peer)
    words = ("add", "name", name, "address", mac, "mtu", str(MTU), "type", "veth", "peer", "name", peer)
    ip(lab, *words, "mtu", str(MTU), "netns", lab.namespace("client"))
    ip(lab, "set", name, "up")
    assert not lab.run("client", "ip", "link", "set", peer, "up").returncode


def serves(lab: Lab, interface: str) -> bool:
    try:
        return lab.client(interface=interface, timeout=0.25, retries=2).read(0, 1) != b""
    except NoAnswer:
        return False


def until(lab: Lab, interface: str, there: bool = True) -> None:
    wait_for(lambda: serves(lab, interface) is there, what=f"{interface} is served: {not there}")


def mac_of(cable: Cable) -> str:
    return cable.a.mac.hex(":")


@contextmanager
def daemon(lab: Lab, work: Path, *interfaces: str) -> Iterator[Service]:
    """It serves e1.1; by v0 it is under load meanwhile, which loses nothing."""
    write_image(work / "disk", SECTORS)
    with Service(lab, work, [export(work / "disk", "1.1")], interfaces=interfaces) as made:
        try:
            yield made.ready()
        except AssertionError as error:
            error.add_note(made.errors)
            raise


@contextmanager
def loaded_by_v0(lab: Lab, load: Path) -> Iterator[None]:
    """It loses nothing meanwhile."""
    results: list[dict[str, Any]] = []
    stop = threading.Event()
    asking = threading.Thread(target=lambda: results.extend(loaded(lab, load, "randread", stop)))
    asking.start()
    try:
        yield
    finally:
        stop.set()
        asking.join()
    assert results
    assert sum(it["lost"] + it["errors"] + it["bad"] for it in results) == 0


def interfaces(service: Service) -> list[str]:
    return sorted(it["name"] for it in service.ask("status")["interfaces"] if it["up"])


def test_a_mac_and_a_glob_that_fit_nothing_yet(engine: str, lab: Lab, load: Path, tmp_path: Path) -> None:
    """Two words mean the same interface in the end."""
    cable = Cable(lab._end("target"), lab._end("client"), MTU)
    with daemon(lab, tmp_path, "v0", mac_of(cable), "lan*") as service, loaded_by_v0(lab, load):
        assert len(service.ask("status")["notes"]) == 2
        make(lab, cable, "lan0", mac_of(cable), "w0")
        until(lab, "w0")
        assert interfaces(service) == ["lan0", "v0"]
        assert service.ask("status")["notes"] == []
        make(lab, cable, "lan1", OTHER, "w1")
        until(lab, "w1")
        assert interfaces(service) == ["lan0", "lan1", "v0"]


def test_one_that_returns_under_another_name(engine: str, lab: Lab, load: Path, tmp_path: Path) -> None:
    """By its MAC; what has its name now is another one."""
    cable = lab.cable("target", "client")
    with daemon(lab, tmp_path, "v0", mac_of(cable)) as service, loaded_by_v0(lab, load):
        until(lab, "v1")
        lab.unplug(cable)
        make(lab, cable, "v1", OTHER, "w0")
        assert not serves(lab, "w0"), "it only has the name"
        make(lab, cable, "enp9s9", mac_of(cable), "w1")
        until(lab, "w1")
        assert interfaces(service) == ["enp9s9", "v0"]
        assert not serves(lab, "w0")


def test_renamed_and_back_under_load(engine: str, lab: Lab, load: Path, tmp_path: Path) -> None:
    """By its alternative name, which another one gets in the end."""
    cable = lab.cable("target", "client")
    ip(lab, "property", "add", "dev", "v1", "altname", "storage")
    with daemon(lab, tmp_path, "v0", "storage") as service, loaded_by_v0(lab, load):
        until(lab, "v1")
        for name in ("lan5", "v1", "lan6"):
            current = next(it for it in interfaces(service) if it != "v0")
            ip(lab, "set", current, "name", name)
            wait_for(lambda name=name: name in interfaces(service), what=f"it is not called {name}")
            until(lab, "v1")
        ip(lab, "property", "del", "dev", "lan6", "altname", "storage")
        make(lab, cable, "lan7", OTHER, "w0")
        ip(lab, "property", "add", "dev", "lan7", "altname", "storage")
        until(lab, "w0")
        until(lab, "v1", there=False)


def test_a_file_with_other_interfaces_and_links(engine: str, lab: Lab, load: Path, tmp_path: Path) -> None:
    lab.cable("target", "client")
    with daemon(lab, tmp_path, "v0") as service, loaded_by_v0(lab, load):
        first = service.file.read_text()
        assert not serves(lab, "v1")
        service.file.write_text(first.replace('["v0"]', '["v0", "v1"]'))
        assert "all: change interfaces to v0, v1" in service.apply("--plan")
        assert "all: change interfaces to v0, v1" in service.apply()
        until(lab, "v1")
        assert service.apply() == "nothing to do\n"
        service.file.write_text(first)
        service.apply()
        assert not serves(lab, "v1")
        service.file.write_text(first.replace('["v0"]', '["v0"]\nlinks = ["udp:127.0.0.1:0"]'))
        said = service.apply(exit_status=2 if engine == "c" else 0)
        assert ("serves on Ethernet interfaces only" in said) == (engine == "c")
        service.file.write_text(first.replace('["v0"]', '["v0", "v9"]'))
        assert "no interface is called v9 yet" in service.apply(exit_status=1)
