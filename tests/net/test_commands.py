"""Every command of `aoe` over Ethernet, with our target and with vblade as the server."""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest

from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, Vblade, image
from tests.support.tools import need, need_namespaces
from tests.support.waiting import at_best

ENGINES = ("c",)
SECTORS = 8192
SIZE = SECTORS * 512
WRITING = ("--runtime", "0.3", "--overwrite")


class Site(NamedTuple):
    """A client's host; `store` is what the server on the other host serves as e1.1."""

    lab: Lab
    store: Path
    ours: bool

    def aoe(self, *words: str | Path, data: bytes | None = None) -> bytes:
        """What the command printed; it ends well."""
        command = (sys.executable, "-m", "aoe.cli.client", *map(str, words), "--interface", "v0")
        inside = self.lab.command("client", *command)
        done = subprocess.run(inside, input=data or b"", capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return bytes(done.stdout)

    def told(self, *words: str | Path) -> list[dict[str, Any]]:
        """The JSON objects that it printed."""
        return [json.loads(line) for line in self.aoe(*words, "--json").splitlines()]


@pytest.fixture(params=["ours", "vblade"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    need_namespaces()
    store = image(tmp_path / "disk", SECTORS)
    store.write_bytes(random.Random(1).randbytes(SIZE))
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(mtu=9000))
        if request.param == "vblade":
            need("vblade")
            stack.enter_context(Vblade(lab, store))
        else:
            stack.enter_context(AoeTarget(lab, tmp_path, f"{store}=1.1"))
        yield Site(lab, store, request.param == "ours")


def test_who_is_there(site: Site) -> None:
    found = at_best(lambda: only(site.told("discover")))
    assert (found["address"], found["bytes"], found["interface"]) == ("e1.1", SIZE, "v0")
    assert found["mac"] == site.lab.cables[0].a.mac.hex(":")

    def asked_once() -> dict[str, Any]:
        stat = only(site.told("stat"))
        assert (stat["state"], stat["retransmits"]) == ("usable", 0)
        return stat

    assert at_best(asked_once)["payload_bytes"] == found["payload_bytes"] >= 8192
    said = only(site.told("identify", "e1.1"))
    assert said["bytes"] == SIZE
    assert said["paths"][0]["state"] == "usable"

    def answered_each() -> None:
        *pings, summary = site.told("ping", "e1.1", "--count", "2", "--interval", "0.1")
        assert [ping["seq"] for ping in pings] == [1, 2]
        assert all(ping["rtt_us"] > 0 for ping in pings)
        assert (summary["sent"], summary["received"]) == (2, 2)

    at_best(answered_each)


def only(lines: list[dict[str, Any]]) -> dict[str, Any]:
    assert len(lines) == 1, lines
    return lines[0]


def test_sectors_go_both_ways(site: Site, tmp_path: Path) -> None:
    data = random.Random(2).randbytes(100 * 512)
    site.aoe("write", "e1.1", "--lba", "77", data=data)
    assert site.aoe("read", "e1.1", "--lba", "77", "--sectors", "100") == data
    assert site.store.read_bytes()[77 * 512 : 177 * 512] == data
    copy = tmp_path / "copy"
    (said,) = site.told("copy", "e1.1", copy, "--verify")
    assert (said["bytes"], said["verified"]) == (SIZE, True)
    assert copy.read_bytes() == site.store.read_bytes()
    copy.write_bytes(bytes(SIZE))
    site.aoe("copy", copy, "e1.1", "--verify")
    assert not any(site.store.read_bytes())


@pytest.mark.parametrize("rw", ["randread", "randwrite", "read", "write", "randrw"])
def test_a_load_is_measured(rw: str, site: Site) -> None:
    def measured() -> dict[str, Any]:
        said = only(site.told("bench", "e1.1", "--rw", rw, "--bs", "8k", "--iodepth", "8", *WRITING))
        assert said["errors"] == 0
        assert said["requests_per_s"] > 100
        return said

    said = at_best(measured)
    assert 0 < said["p50_us"] <= said["p99_us"] <= said["p999_us"]
    assert said["bytes_per_s"] == pytest.approx(said["requests_per_s"] * 8192)


def test_a_load_is_drawn(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "out.svg"
    words = ("--rw", "randread", "--bs", "4k", "--iodepth", "8", "--runtime", "0.5")

    def drawn() -> None:
        assert only(site.told("bench", "e1.1", *words, "--plot", str(file)))["errors"] == 0
        lines = [*ElementTree.parse(file).iter()]
        assert [it.text for it in lines if it.text and "randread, 4096 bytes" in it.text]
        assert max(len(it.get("points", "").split()) for it in lines) > 5

    at_best(drawn)


def test_the_verbs(site: Site) -> None:
    """vblade's mask list is left alone: it cannot be edited without harm."""
    assert site.told("config", "e1.1", "--set", "one")[0]["config"] == "one"
    assert site.told("config", "e1.1", "--force-set", "two")[0]["config"] == "two"
    site.aoe("config", "e1.1", "--test", "two")
    site.aoe("config", "e1.1", "--prefix", "t")
    own = site.lab.cables[0].b.mac.hex(":")
    assert site.told("mask", "e1.1")[0]["macs"] == []
    if site.ours:
        assert site.told("mask", "e1.1", "--add", own)[0]["macs"] == [own]
        assert site.told("mask", "e1.1", "--delete", own)[0]["macs"] == []
    assert site.told("reserve", "e1.1", "--set")[0]["macs"] == [own]
    assert site.told("reserve", "e1.1")[0]["macs"] == [own]
    assert site.told("reserve", "e1.1", "--release")[0]["macs"] == []
