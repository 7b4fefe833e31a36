"""The raw-socket tools of aoetools 36: right answers from us, and what becomes of them with vblade.

aoeping and aoecfg throw away replies shorter than 60 bytes. vblade does not pad, veth neither.
"""

import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from aoe.wire.config import ConfigCommand
from aoe.wire.frame import format_mac
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, Vblade, image
from tests.support.labs.raw_client import text_of
from tests.support.tools import need, need_namespaces

ENGINES = ("c",)
"""All tests share one target."""

OURS = ("2", "1", "v0")
VBLADE = ("7", "3", "v1")
LONG = "a string that makes a reply of sixty bytes"
assert len(LONG) >= 28

PING_S = ("-s", "1")
CFG_S = ("-t", "1")
PINGS = {"plain": (), "-i": ("-i",), "-I": ("-I",)}
TIMED_OUT = -signal.SIGALRM


class Answer(NamedTuple):
    """What a command came to."""

    status: int
    output: str


class Bench:
    """Both servers and the tools, each server on a cable of its own."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def run(self, *argv: str) -> Answer:
        done = self.lab.run("client", *argv, timeout=30)
        return Answer(done.returncode, done.stdout)

    def ping(self, address: tuple[str, ...], *options: str) -> Answer:
        return self.run("aoeping", *PING_S, *options, *address)

    def cfg(self, address: tuple[str, ...], verb: str = "read", text: str = "") -> Answer:
        return self.run("aoecfg", *CFG_S, "-c", verb, *(("-s", text) if text else ()), *address)


@contextmanager
def benched(work: Path) -> Iterator[Bench]:
    """Ours with two exports on the first cable, vblade on the second."""
    need_namespaces()
    need("vblade", "aoeping", "aoecfg")
    ours = [f"{image(work / name)}=2.{slot},serial=SERIAL{slot}" for name, slot in (("a", 1), ("b", 2))]
    with (
        Lab(cables=2) as lab,
        AoeTarget(lab, work, *ours),
        Vblade(lab, image(work / "v"), shelf=7, slot=3, interface="v1"),
    ):
        yield Bench(lab)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with benched(tmp_path_factory.mktemp("aoetools")) as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def sancheck(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Sancheck"]:
    """aoe-sancheck listens for five seconds, so it runs beside the other tests, and in a lab of its own:
    it takes every reply it sees for one of its own."""
    need("aoe-sancheck")
    work = tmp_path_factory.mktemp("sancheck")
    with benched(work) as made:
        yield Sancheck(made.lab, work / "report")


class Sancheck:
    """A run of aoe-sancheck."""

    def __init__(self, lab: Lab, report: Path) -> None:
        self.lab = lab
        self.report = report
        with report.open("w") as out:
            self.process = lab.popen("client", "aoe-sancheck", "-v", stdout=out, stderr=subprocess.STDOUT)

    def lines(self) -> list[list[str]]:
        assert self.process.wait(30) == 0
        return [line.split() for line in self.report.read_text().splitlines()]


def test_aoeping_finds_our_target(bench: Bench) -> None:
    assert bench.ping(OURS) == Answer(0, "")
    status, output = bench.ping(OURS, "-v")
    mac = bench.lab.cables[0].a.mac
    assert status == 0
    assert f"found e2.1 with mac {mac.hex()}" in output.replace(format_mac(mac), mac.hex())


def test_aoeping_prints_our_identify_data(bench: Bench) -> None:
    status, output = bench.ping(OURS, "-i")
    title, *dump = output.splitlines()
    assert (status, title) == (0, "device identify response:")
    assert bytes.fromhex("".join(dump))[:512] == bench.lab.client(2, 1).identify()


def test_aoeping_prints_our_identity_strings(bench: Bench) -> None:
    status, output = bench.ping(OURS, "-I")
    fields = {
        name: value.strip() for name, _, value in (line.partition(": ") for line in output.splitlines())
    }
    identify = bench.lab.client(2, 1).identify()
    assert status == 0
    assert fields["serial_number"] == text_of(identify, 10, 10) == "SERIAL1"
    assert fields["firmware_rev"] == text_of(identify, 23, 4) != ""
    assert fields["model"] == text_of(identify, 27, 20) != ""


def test_aoeping_of_an_absent_address_times_out(bench: Bench) -> None:
    assert bench.ping(("2", "9", "v0")) == Answer(TIMED_OUT, "")


def test_aoecfg_verbs_on_our_target(bench: Bench) -> None:
    silence, stored = Answer(0, ""), Answer(0, "first\n")
    assert bench.cfg(OURS, "set", "first") == stored
    assert bench.cfg(OURS) == stored
    assert bench.cfg(OURS, "test", "first") == stored
    assert bench.cfg(OURS, "prefix", "fir") == stored
    assert bench.cfg(OURS, "set", "first") == stored
    assert bench.cfg(OURS, "set", "second") == Answer(0, "*badcfg*\n")
    with ThreadPoolExecutor(2) as pool:
        misses = [pool.submit(bench.cfg, OURS, verb, "irst") for verb in ("test", "prefix")]
    assert [miss.result() for miss in misses] == [silence, silence]
    assert bench.cfg(OURS, "fset", "second") == Answer(0, "second\n")
    assert bench.cfg(OURS) == Answer(0, "second\n")


def test_aoecfg_lists_every_export_behind_a_wildcard(bench: Bench) -> None:
    for slot in (1, 2):
        bench.lab.client(2, slot).config(ConfigCommand.FORCE_SET, b"string %d" % slot)
    status, output = bench.run("aoecfg", *CFG_S, "65535", "255", "v0")
    assert status == 0
    assert sorted(output.splitlines()) == ["2.1\tstring 1", "2.2\tstring 2"]


def test_which_commands_fail_with_vblade(bench: Bench) -> None:
    """All of them, while the config string is short; the silence is about length, not about vblade."""
    client = bench.lab.client(7, 3, interface="v1")
    client.config(ConfigCommand.FORCE_SET)
    with ThreadPoolExecutor(8) as pool:
        pings = [pool.submit(bench.ping, VBLADE, *options) for options in PINGS.values()]
        config = [pool.submit(bench.cfg, VBLADE, verb, "x") for verb in ("read", "test", "prefix", "set")]
    assert [ping.result() for ping in pings] == [Answer(TIMED_OUT, "")] * len(PINGS)
    assert [done.result() for done in config] == [Answer(0, "")] * len(config)
    assert client.config().text == b"x", "the set was done, only its reply was not seen"
    assert bench.cfg(VBLADE, "fset", "y") == Answer(0, "")
    assert client.config().text == b"y"


def test_a_long_config_string_makes_vblade_visible(bench: Bench) -> None:
    bench.lab.client(7, 3, interface="v1").config(ConfigCommand.FORCE_SET, LONG.encode())
    assert bench.ping(VBLADE) == Answer(0, "")
    assert bench.cfg(VBLADE) == Answer(0, f"{LONG}\n")
    assert bench.cfg(VBLADE, "set", "other") == Answer(0, "*badcfg*\n")


def test_sancheck_reports_both_servers(sancheck: Sancheck) -> None:
    lines = sancheck.lines()
    for row in (["v0", "UP", "1500"], ["v1", "UP", "1500"]):
        assert row in lines
    for device, interface in (("e2.1", "v0"), ("e2.2", "v0"), ("e7.3", "v1")):
        assert [device, "1", "1024", interface] in lines
    if not any(line[-3:] == ["socket", "rcvbuf", "size"] for line in lines):  # refused to ordinary users
        for device, cable in (("e2.1", 0), ("e2.2", 0), ("e7.3", 1)):
            assert [device, sancheck.lab.cables[cable].a.mac.hex(), "2"] in lines
    assert not any("MTU" in line[1:] and "not" in line for line in lines)
