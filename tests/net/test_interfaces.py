"""`aoe` where no interface is named: which ones it looks at."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.tools import need_namespaces, which
from tests.support.waiting import wait_for

ENGINES = ("c",)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A client with two interfaces, and at each a disk."""
    need_namespaces()
    with ExitStack() as stack:
        made = stack.enter_context(Lab(mtu=9000))
        made.cable("target", "client")
        for number in (0, 1):
            work = tmp_path / f"t{number}"
            work.mkdir()
            disk = image(work / "disk", 2048)
            stack.enter_context(AoeTarget(made, work, f"{disk}=1.{number}", interfaces=(f"v{number}",)))
        yield made


def aoe(lab: Lab, *words: str, environment: str = "") -> "subprocess.CompletedProcess[str]":
    named = ("env", f"AOE_INTERFACE={environment}") if environment else ()
    command = lab.command("client", *named, sys.executable, "-m", "aoe.cli.client", *words)
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def finds(lab: Lab, which: list[tuple[str, str]], *words: str, environment: str = "") -> bool:
    """These, and never another one: a target that had no processor is not heard."""

    def found() -> bool:
        done = aoe(lab, *words, "--json", environment=environment)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        them = [(line["address"], line["interface"]) for line in lines]
        assert set(them) <= set(which)
        return done.returncode == 0 and them == which

    return wait_for(found, what=f"{words} do not find {which}")


def test_discover_and_stat_look_at_all_that_are_up(lab: Lab) -> None:
    both = [("e1.0", "v0"), ("e1.1", "v1")]
    assert finds(lab, both, "discover")
    assert finds(lab, both, "stat")
    assert finds(lab, both[1:], "discover", "--interface", "v1")
    lab.set_mtu(lab.cables[0], 500)  # too small for a sector: of no use, and in nobody's way
    assert finds(lab, both[1:], "discover")
    lab.down(lab.cables[1].b)
    done = aoe(lab, "stat")
    assert done.returncode == 2
    assert "MTU" in done.stderr


@pytest.mark.parametrize("value", ["v1", " v1 ", "v1,", "v1 v0", "v0,v1"])
def test_the_environment_names_them(lab: Lab, value: str) -> None:
    expected = [("e1.0", "v0"), ("e1.1", "v1")] if "v0" in value else [("e1.1", "v1")]
    assert finds(lab, expected, "discover", environment=value)
    assert finds(lab, [("e1.0", "v0")], "discover", "--interface", "v0", environment=value)
    assert aoe(lab, "ping", "e1.1", "-c", "1", environment=value).returncode == 0


def test_what_uses_a_disk_wants_to_be_told_which(lab: Lab) -> None:
    done = aoe(lab, "identify", "e1.0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "several Ethernet interfaces are up (v0, v1); say --interface NAME" in done.stderr
    lab.down(lab.cables[1].b)
    assert aoe(lab, "identify", "e1.0").stdout.startswith("e1.0: ")


def remade(lab: Lab) -> None:
    """The cable goes, and comes back with equal numbers at both ends: the kernel notices its carrier up to a
    second late then, unless it is asked."""
    near, far = lab.cables[0].a, lab.cables[0].b
    lab.unplug(lab.cables[0])
    words = [
        ("name", end.interface, "netns", lab.namespace(end.side), "mtu", "9000", "index", "77")
        for end in (near, far)
    ]
    ip = which("ip") or "ip"
    subprocess.run([ip, "link", "add", *words[0], "type", "veth", "peer", *words[1]], check=True)
    for end in (near, far):
        lab.link(end, "up")


@pytest.mark.parametrize(
    "words",
    [
        ("discover",),
        ("stat",),
        ("identify", "e1.0"),
        ("config", "e1.0"),
        ("ping", "e1.0", "-c", "1"),
        ("read", "e1.0", "--sectors", "1"),
    ],
    ids=lambda words: words[0],
)
def test_a_link_that_came_up_just_now_is_used(words: tuple[str, ...], tmp_path: Path) -> None:
    """Catches what asks for the carrier before it watches it, and never hears that it is there."""
    need_namespaces()
    with Lab(mtu=9000) as lab, AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk', 2048)}=1.0"):
        for interface in ((), ("--interface", "v0")):
            remade(lab)
            done = aoe(lab, *words, *interface)
            assert done.returncode == 0, done
