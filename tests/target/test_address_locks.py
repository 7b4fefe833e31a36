"""One process of a host for each interface and address: locks that are gone with their process."""

import asyncio
import itertools
import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import aoe
from aoe import timing
from aoe.disk.memory import MemoryDisk
from aoe.errors import ConfigurationError
from aoe.link.memory import MemoryLink, Network
from aoe.target.address_locks import AddressLocks, Taken
from tests.disk.helpers import open_descriptors
from tests.support.waiting import PROMPT_S

_numbers = itertools.count(1)


class Wire(MemoryLink):
    """A link that other processes can be on, too."""

    place = ""

    @property
    def segment(self) -> str:
        return self.place


def wire(place: str) -> Wire:
    network = Network()
    made = Wire(network, b"\2\0\0\0\0\1", 1500)
    made.place = place
    network._links.append(made)
    return made


@pytest.fixture
def place() -> str:
    """An interface number that no test and no kernel uses."""
    return f"test{os.getpid()}-{next(_numbers)}"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "LOCK_WAIT_S", 0.2)


def take(locks: AddressLocks, *keys: tuple[int, int], force: bool = False) -> None:
    asyncio.run(locks.take(keys, force=force))


def test_all_that_others_have_are_named(place: str) -> None:
    other, ours = AddressLocks([wire(place)]), AddressLocks([wire(place), wire(place + "b")])
    take(other, (1, 2), (1, 3))
    with pytest.raises(Taken) as error:
        take(ours, (1, 1), (1, 2), (1, 3), (1, 4))
    assert sorted(error.value.why) == [(1, 2), (1, 3)]
    assert all(f"e1.{key[1]} is served on" in it for key, it in error.value.why.items())
    assert "and 1 more" in str(error.value)
    take(other, (1, 4))
    other.close()
    take(ours, (1, 2))
    ours.close()


def follow(locks: AddressLocks, link: Wire) -> None:
    async def scenario() -> None:
        locks.follow(link)
        await locks.followed()

    asyncio.run(scenario())


def refused(locks: AddressLocks, *keys: tuple[int, int]) -> str:
    before = open_descriptors()
    with pytest.raises(ConfigurationError) as caught:
        take(locks, *keys)
    assert open_descriptors() <= before
    return str(caught.value)


def test_an_address_on_an_interface_is_one_processes(place: str) -> None:
    one, two = AddressLocks([wire(place)]), AddressLocks([wire(place)])
    take(one, (7, 0), (7, 1))
    began = time.monotonic()
    message = refused(two, (8, 0), (7, 1))
    assert 0.2 <= time.monotonic() - began < PROMPT_S
    assert f"e7.1 is served on {wire(place).name} by" in message
    assert f"(process {os.getpid()})" in message
    assert "--force" in message
    take(two, (7, 2), (8, 0))
    one.free([(7, 1)])
    take(two, (7, 1))
    assert "e7.1" in refused(one, (7, 1))
    for locks in (one, two):
        locks.close()
    take(one, (7, 1), (7, 2), (8, 0))
    one.close()


def test_other_interfaces_and_links_that_guard_themselves_are_free(place: str) -> None:
    held = [AddressLocks([wire(name)]) for name in (place, f"{place}0", "", "")]
    for locks in held:
        take(locks, (7, 0))
    for locks in held:
        locks.close()


def test_all_interfaces_are_taken_or_none(place: str) -> None:
    one, two = AddressLocks([wire(f"{place}b")]), AddressLocks([wire(f"{place}a"), wire(f"{place}b")])
    take(one, (7, 0))
    refused(two, (7, 0))
    three = AddressLocks([wire(f"{place}a")])
    take(three, (7, 0))
    one.close()
    three.close()


def test_one_that_ends_meanwhile_is_waited_for(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "LOCK_WAIT_S", 2 * PROMPT_S)
    one, two = AddressLocks([wire(place)]), AddressLocks([wire(place)])

    async def scenario() -> None:
        await one.take([(7, 0)], force=False)
        asyncio.get_running_loop().call_later(0.2, one.close)
        await two.take([(7, 0)], force=False)

    began = time.monotonic()
    asyncio.run(scenario())
    assert 0.2 <= time.monotonic() - began < PROMPT_S
    two.close()


@contextmanager
def another_process(place: str) -> Iterator["subprocess.Popen[bytes]"]:
    code = (
        "import socket, sys, time\n"
        "lock = socket.socket(socket.AF_UNIX)\n"
        "lock.bind('\\0aoe-target/' + sys.argv[1] + '/7.0')\n"
        "lock.listen(1)\n"
        "print(flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-S", "-c", code, place]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_a_process_that_is_killed_holds_nothing(place: str) -> None:
    locks = AddressLocks([wire(place)])
    with another_process(place) as process:
        assert f"(process {process.pid})" in refused(locks, (7, 0))
    take(locks, (7, 0))
    locks.close()


def test_whoever_asks_too_often_is_not_told_but_still_refused(place: str) -> None:
    locks = AddressLocks([wire(place)])
    with another_process(place):
        said = [refused(locks, (7, 0)) for _ in range(4)]
    assert "another process" in said[-1]


def test_force_goes_on_with_a_warning(place: str, caplog: pytest.LogCaptureFixture) -> None:
    one, two = AddressLocks([wire(place)]), AddressLocks([wire(place)])
    take(one, (7, 0))
    with caplog.at_level(logging.WARNING):
        take(two, (7, 0), force=True)
    assert "e7.0 is served" in caplog.text
    assert "mix" in caplog.text
    two.close()
    one.close()


def test_an_interface_that_comes_back_with_another_number_is_taken_anew(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    link = wire(place)
    locks, old, new = AddressLocks([link]), AddressLocks([wire(place)]), AddressLocks([wire(f"{place}new")])
    take(locks, (7, 0), (7, 1))
    link.place = ""  # it is away
    follow(locks, link)
    refused(old, (7, 0))
    link.place = f"{place}new"
    follow(locks, link)
    take(old, (7, 0))
    refused(new, (7, 0))
    old.close()
    locks.close()
    take(new, (7, 1))
    link.place = place
    take(locks, (7, 0), (7, 1))
    link.place = f"{place}new"
    with caplog.at_level(logging.ERROR):
        follow(locks, link)
    (line,) = caplog.messages
    assert "e7.1 is served" in line
    locks.close()
    new.close()


def test_without_descriptors_it_says_so(place: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    locks = AddressLocks([wire(place)])

    async def scenario() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            await locks.take([(7, 0)], force=False)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    with pytest.raises(ConfigurationError, match="ulimit -n"):
        asyncio.run(scenario())


@pytest.mark.parametrize("check", [True, False])
def test_a_served_disk_has_its_seat_until_it_is_not_served_any_more(check: bool, place: str) -> None:
    async def scenario() -> list[str]:
        said = []
        async with aoe.serve(MemoryDisk(4096), wire(place), shelf=7, check=check):
            try:
                async with aoe.serve(MemoryDisk(4096), wire(place), shelf=7, check=check):
                    said.append("served twice")
            except ConfigurationError as error:
                said.append(str(error))
            async with aoe.serve(MemoryDisk(4096), wire(place), shelf=8, check=False):
                said.append("another address")
        async with aoe.serve(MemoryDisk(4096), wire(place), shelf=7, check=check):
            said.append("again")
        return said

    refusal, *others = asyncio.run(scenario())
    assert "e7.0 is served" in refusal
    assert others == ["another address", "again"]
