"""Several addresses: what is no path to the disk is said, and what is there is shown all the same."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.client import over, run, said, surveyed
from tests.cli.mute import mute
from tests.support.labs.served import SECTORS, Served, serving
from tests.support.waiting import PROMPT_S

SIZE = SECTORS * 512


class Two:
    """Two targets behind one link."""

    def __init__(self, one: Served, other: Served) -> None:
        self.one, self.other = one, other

    @property
    def link(self) -> tuple[str, str]:
        host, port = self.other.remote
        return ("--link", f"{over(self.one)[1]},peer={host}:{port}")


def two(tmp_path: Path, *serials: str) -> Iterator[Two]:
    images = []
    for number, serial in enumerate(serials):
        images.append(tmp_path / f"{number}.img")
        images[-1].write_bytes(random.Random(serial).randbytes(SIZE))
    one, other = (f"{images[n]}={n}.0,serial={serial}" for n, serial in enumerate(serials))
    with (
        serving(one, "--state-dir", tmp_path / "s1") as first,
        serving(other, "--state-dir", tmp_path / "s2") as second,
    ):
        yield Two(first, second)


@pytest.fixture
def different(tmp_path: Path) -> Iterator[Two]:
    yield from two(tmp_path, "S0", "S1")


@pytest.fixture
def alike(tmp_path: Path) -> Iterator[Two]:
    yield from two(tmp_path, "S0", "S0")


@pytest.mark.parametrize("words", ["identify", "config", "mask", "reserve"])
def test_each_address_has_a_line_and_another_disk_is_a_failure(different: Two, words: str) -> None:
    done = run(None, words, "e0.0", "e7.7", "e1.0", *different.link)
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.decode().splitlines()] == ["e0.0:", "e1.0:"]
    reasons = done.stderr.decode().splitlines()
    assert len(reasons) == 2
    assert "e7.7 does not answer on udp:" in reasons[0]
    assert reasons[1] == "aoe: e1.0 is not the same disk as e0.0: its serial is S1, not S0"


def test_nothing_is_changed_where_one_address_is_another_disk(different: Two) -> None:
    for words in (("config", "--set", "x"), ("reserve", "--set"), ("mask", "--add", "02:00:00:00:00:01")):
        done = run(None, words[0], "e0.0", "e1.0", *words[1:], *different.link)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.decode().splitlines()[-1] == "aoe: nothing was changed"
    for target, address in ((different.one, "e0.0"), (different.other, "e1.0")):
        assert said(target, "config", address)[0]["config"] == ""
        assert said(target, "reserve", address)[0]["macs"] == []


@pytest.mark.parametrize("words", ["ping", "read", "write", "bench"])
def test_what_uses_one_disk_does_not_use_two(different: Two, words: str) -> None:
    done = run(None, words, "e0.0", "e1.0", *different.link)
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = done.stderr.decode().splitlines()
    assert "another disk" in line


def test_each_address_of_one_disk_has_its_own_config_string(alike: Two) -> None:
    said(alike.one, "config", "e0.0", "--set", "first")
    said(alike.other, "config", "e1.0", "--set", "second")
    done = run(None, "config", "e0.0", "e1.0", *alike.link)
    assert done.stdout.decode().splitlines() == ["e0.0: first", "e1.0: second"]
    assert done.returncode == 0
    done = run(None, "config", "e0.0", "e1.0", "--set", "first", *alike.link)
    assert (done.returncode, done.stdout.decode()) == (1, "e0.0: first\n")
    assert "e1.0 refused: there is another config string" in done.stderr.decode()


def test_one_that_does_not_answer_is_said_and_the_disk_is_used(alike: Two) -> None:
    done = run(None, "read", "e0.0", "e7.7", "--sectors", "1", *alike.link)
    assert (done.returncode, len(done.stdout)) == (0, 512)
    assert done.stderr.decode() == "aoe: e7.7 does not answer; going on without it\n"


# Whoever is there


@pytest.mark.parametrize("words", ["discover", "stat"])
def test_one_target_that_only_answers_queries_does_not_hide_the_others(served: Served, words: str) -> None:
    """It is listed before and behind others."""
    with mute((0, 1), (5, 0)) as silent:
        link = ("--link", f"{over(served)[1]},peer={silent.remote[0]}:{silent.remote[1]}")
        started = time.monotonic()
        done = run(None, words, *link)
        assert time.monotonic() - started < PROMPT_S
    assert done.returncode == 1
    assert "e1.2" in done.stdout.decode()
    told = done.stderr.decode() if words == "discover" else done.stdout.decode()
    for address in ("e0.1", "e5.0"):
        (line,) = (it for it in told.splitlines() if address in it)
        asked = "checking for " in line and "IDENTIFY is not answered" in line
        assert asked or line.endswith(": silent"), line  # a busy machine looks later


@pytest.mark.parametrize("words", ["discover", "stat"])
def test_nothing_answers(words: str) -> None:
    done = run(None, words, "--link", "udp:127.0.0.1:0,peer=127.0.0.1:9")
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = done.stderr.decode().splitlines()
    assert "nothing answers on udp:127.0.0.1:" in line


def test_many_exports_are_looked_at_together(tmp_path: Path) -> None:
    """One after the other took 50 ms for each."""
    count = 200
    image = tmp_path / "image"
    image.write_bytes(bytes(512))
    paths = []
    for number in range(count):
        (tmp_path / f"i{number}").write_bytes(bytes(512))
        paths.append(tmp_path / f"i{number}")
    with serving(*paths, "--state-dir", tmp_path / "state") as target:

        def is_quick() -> bool:
            started = time.monotonic()
            found = surveyed(target, "discover", count)
            took = time.monotonic() - started
            assert [it["address"] for it in found] == [f"e0.{number}" for number in range(count)]
            return took < 8

        assert any(is_quick() for _ in range(3)), "a busy machine is not so each time"


# Masks


def test_a_mac_that_is_not_in_the_list_is_said(served: Served) -> None:
    done = run(served, "mask", "e1.2", "--delete", "02:00:00:00:00:77")
    assert (done.returncode, done.stdout) == (1, b"all\n")
    assert done.stderr.decode() == "aoe: e1.2: not in the mask list: 02:00:00:00:00:77\n"


def test_many_addresses_are_asked_side_by_side(tmp_path: Path) -> None:
    """A target whose string is another one is silent, which takes a second to tell."""
    count = 24
    for number in range(count):
        (tmp_path / f"{number}.img").write_bytes(bytes(512))
    disks = [f"{tmp_path}/{number}.img=0.{number}" for number in range(count)]
    with serving(*disks, "--state-dir", tmp_path / "state") as target:
        began = time.monotonic()
        done = run(target, "config", *(f"e0.{number}" for number in range(count)), "--test", "x")
        assert time.monotonic() - began < 0.75 * count
    assert (done.returncode, done.stdout) == (1, b"")
    said = [line for line in done.stderr.decode().splitlines() if "config string" in line]
    assert said == [f"aoe: e0.{number}: the config string is not 'x'" for number in range(count)]


def test_a_config_string_has_no_power_over_a_terminal(alike: Two) -> None:
    """Any host of the network may have set it."""
    said(alike.one, "config", "e0.0", "--set", "rack\x1b[2J\n3")
    done = run(alike.one, "config", "e0.0")
    assert done.stdout == rb"rack\u001b[2J\u000a3" + b"\n"
    assert said(alike.one, "config", "e0.0")[0]["config"] == "rack\x1b[2J\n3"
