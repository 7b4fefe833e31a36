"""What the service manager holds for the next life of the service, and what is said to it."""

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aoe import limits, timing
from aoe.limits import HELD_NAME_MAX
from aoe.node.held import Held, Kind, name_of
from aoe.node.notify import Notifier, given
from tests.node.manager import Manager
from tests.support.waiting import wait_for

HOLDING = Path(__file__).parent / "holding.py"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager([sys.executable, str(HOLDING)], tmp_path) as made:
        made.start()
        yield made


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    """Where a manager would hear."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(30)
        yield heard


def tell(manager: Manager, line: str) -> str:
    """What it answers."""
    assert manager.process is not None
    assert manager.process.stdin is not None
    manager.process.stdin.write(f"{line}\n".encode())
    manager.process.stdin.flush()
    began = f"did {line}: "
    wait_for(lambda: manager.said.get("STATUS", "").startswith(began.rstrip()))
    return manager.said["STATUS"].removeprefix(began)


def again(manager: Manager) -> None:
    """Its next life."""
    manager.kill()
    manager.start()


def test_the_next_life_takes_what_the_last_one_kept(manager: Manager) -> None:
    for key in ("/dev/md0", "/srv/a:b", "e1.1"):
        tell(manager, f"keep {key} text-of-{key}")
    again(manager)
    assert tell(manager, "take /srv/a:b") == "text-of-/srv/a:b"
    assert tell(manager, "take /dev/md0") == "text-of-/dev/md0"
    assert tell(manager, "take /dev/md1") == "nothing"
    again(manager)
    assert tell(manager, "take /dev/md0") == "text-of-/dev/md0", "taking it does not end that it is held"


def test_what_is_forgotten_or_not_asked_for_is_held_no_more(manager: Manager) -> None:
    for key in ("one", "two", "three"):
        tell(manager, f"keep {key} {key}")
    tell(manager, "forget one")
    again(manager)
    assert tell(manager, "take two") == "two"
    assert tell(manager, "leave") == "1 left"
    assert manager.names() == [name_of(Kind.STORE, "two")]


def test_what_another_version_kept_is_closed_and_named(manager: Manager) -> None:
    tell(manager, "alike one text")
    again(manager)
    assert tell(manager, "take one") == "nothing"
    assert tell(manager, "leave") == "1 left"
    assert manager.names() == []


def test_of_what_failed_starts_have_left_one_is_held_on(manager: Manager) -> None:
    for number in range(3):
        tell(manager, f"keep one text{number}")
    assert len(manager.names()) == 3
    again(manager)
    assert tell(manager, "take one").startswith("text")
    assert manager.names() == [name_of(Kind.STORE, "one")]


@pytest.mark.parametrize("kind", Kind)
def test_names_fit_into_the_environment(kind: Kind) -> None:
    names = {name_of(kind, key) for key in ("", "a" * 4096, ":", "\n", "\udcff", "\N{SNOWMAN}")}
    assert len(names) == 6
    assert all(name.isascii() and ":" not in name and len(name) <= HELD_NAME_MAX for name in names)


def test_as_many_are_held_as_the_unit_lets_the_manager_hold() -> None:
    """And all their names, the longest there are, fit into one string of the environment (execve(2))."""
    unit = Path(__file__).parents[2] / "debian/aoe-target.service"
    (said,) = re.findall(r"^FileDescriptorStoreMax=(\d+)$", unit.read_text(), re.MULTILINE)
    assert int(said) == limits.HELD_MAX
    names = ":".join([max((name_of(kind, "k") for kind in Kind), key=len)] * limits.HELD_MAX)
    environment = {"LISTEN_FDNAMES": names, "PATH": os.environ["PATH"]}
    subprocess.run(["true"], env=environment, check=True)


def test_beyond_that_there_is_room_for_sockets_of_interfaces_and_it_is_said_once(
    listening: socket.socket, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HELD_MAX", 6)
    monkeypatch.setattr(limits, "HELD_RESERVED", 2)
    asyncio.run(keep_more(listening))
    assert caplog.messages == [
        "the service manager holds 6 descriptors at most: a restart opens the others anew"
    ]


async def keep_more(listening: socket.socket) -> None:
    notifier = Notifier(listening.getsockname())
    held = Held(notifier, [(name_of(Kind.STORE, "of the last life"), os.open("/dev/null", os.O_RDONLY))])
    held.keep(Kind.LINK, "v0", 0)
    for number in range(4):
        held.keep(Kind.STORE, str(number), 0)
        held.keep(Kind.ADDRESS, str(number), 0)
    held.keep(Kind.LINK, "v1", 0)
    wanted = [(Kind.LINK, "v0"), (Kind.STORE, "0"), (Kind.ADDRESS, "0"), (Kind.LINK, "v1")]
    hearing = asyncio.get_running_loop().run_in_executor(None, lambda: hear(listening, 4))
    await asyncio.wait_for(held.settled(), 30)
    assert await hearing == [name_of(kind, key) for kind, key in wanted]
    for kind in (Kind.STORE, Kind.ADDRESS):
        held.forget(kind, "0")
    held.keep(Kind.STORE, "later", 0)
    await asyncio.wait_for(held.settled(), 30)
    assert [listening.recv(4096)[:15] for _ in range(2)] == [b"FDSTOREREMOVE=1"] * 2
    assert f"FDNAME={name_of(Kind.STORE, 'later')}".encode() in listening.recv(4096)
    held.leave()
    held.close()
    notifier.close()


def test_what_is_urgent_goes_first(listening: socket.socket) -> None:
    """READY finds room however much there is to be held."""
    asyncio.run(keep_later(listening))


async def keep_later(listening: socket.socket) -> None:
    notifier = Notifier(listening.getsockname())
    held = Held(notifier)
    held.pause()
    for number in range(50):
        held.keep(Kind.STORE, str(number), 0)
    notifier.ready()
    held.go_on()
    assert listening.recv(100) == b"READY=1"
    hearing = asyncio.get_running_loop().run_in_executor(None, lambda: hear(listening, 50))
    await asyncio.wait_for(held.settled(), 30)
    assert await hearing == [name_of(Kind.STORE, str(number)) for number in range(50)]
    held.close()
    notifier.close()


def test_any_thread_may_have_something_held(listening: socket.socket) -> None:
    asyncio.run(keep_from_a_thread(listening))


async def keep_from_a_thread(listening: socket.socket) -> None:
    notifier = Notifier(listening.getsockname())
    held = Held(notifier)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, lambda: held.keep(Kind.STORE, "one", 0))
    await asyncio.wait_for(held.settled(), 30)
    assert await loop.run_in_executor(None, lambda: hear(listening, 1)) == [name_of(Kind.STORE, "one")]
    held.close()
    notifier.close()


def test_what_another_version_kept_can_be_dropped_before_all_else(listening: socket.socket) -> None:
    """It may have the lock of what is to be opened."""
    asyncio.run(drop(listening))


async def drop(listening: socket.socket) -> None:
    notifier = Notifier(listening.getsockname())
    mine, other = (name_of(Kind.STORE, "mine"), os.memfd_create("a")), ("aoe9-store-x", os.memfd_create("b"))
    held = Held(notifier, [mine, other, ("unknown", os.memfd_create("c"))])
    held.pause()
    assert held.drop_unknown() == ["aoe9-store-x", "unknown"]
    assert [listening.recv(100).split(b"=")[-1] for _ in range(2)] == [b"aoe9-store-x", b"unknown"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(other[1])
    assert held.take_all(Kind.STORE) == [mine]
    os.close(mine[1])
    held.close()
    notifier.close()


def test_what_keeps_images_is_held_until_they_are_served_again(listening: socket.socket) -> None:
    """Also by a version with other names."""
    asyncio.run(let_go(listening))


async def let_go(listening: socket.socket) -> None:
    notifier, ours = Notifier(listening.getsockname()), name_of(Kind.IMAGES, "images:last")
    found = [(name, os.memfd_create("a")) for name in (ours, "aoe9-images-x")]
    held = Held(notifier, found)
    assert held.drop_unknown() == []
    held.keep(Kind.IMAGES, "images:next", found[0][1])
    held.let_go(Kind.IMAGES)
    assert held.leave() == []
    said = [listening.recv(100).split(b"=")[-1].decode() for _ in range(3)]
    assert said == [name_of(Kind.IMAGES, "images:next"), ours, "aoe9-images-x"]
    for _, fd in found:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    held.close()
    notifier.close()


def test_a_manager_that_does_not_listen_is_not_waited_for(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had no room for is told it as soon as there is some, in order."""
    monkeypatch.setattr(timing, "STORE_POLL_S", 1000)
    asyncio.run(keep_many(listening))


async def keep_many(listening: socket.socket) -> None:
    notifier = Notifier(listening.getsockname())
    held = Held(notifier)
    with Path("/dev/null").open() as file:
        for number in range(2000):
            held.keep(Kind.STORE, str(number), file.fileno())
    heard = await asyncio.get_running_loop().run_in_executor(None, lambda: hear(listening, 2000))
    await asyncio.wait_for(held.settled(), 30)
    assert heard == [name_of(Kind.STORE, str(number)) for number in range(2000)]
    held.close()
    notifier.close()


def hear(listening: socket.socket, count: int) -> list[str]:
    """The names of so many descriptors."""
    names = []
    for _ in range(count):
        text, descriptors, _, _ = socket.recv_fds(listening, 4096, 4)
        assert len(descriptors) == 1
        os.close(descriptors[0])
        words = dict(line.split("=") for line in text.decode().splitlines())
        assert (words["FDSTORE"], words["FDPOLL"]) == ("1", "0")
        names.append(words["FDNAME"])
    return names


def test_without_a_manager_nothing_is_held() -> None:
    held = Held(Notifier())
    before = list(Path("/proc/self/fd").iterdir())
    held.keep(Kind.LINK, "v0", 0)
    held.forget(Kind.LINK, "v0")
    asyncio.run(held.settled())
    assert list(Path("/proc/self/fd").iterdir()) == before


def test_what_is_said(listening: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": listening.getsockname(), "WATCHDOG_USEC": "3000000", "OTHER": "1"}
    notifier = Notifier.of(environment)
    assert environment == {"OTHER": "1"}
    assert notifier.watchdog_s == 1.5
    for say in (notifier.ready, notifier.alive, notifier.stopping, lambda: notifier.status("a\nb")):
        say()
    said = [listening.recv(100).decode() for _ in range(4)]
    assert said == ["READY=1", "WATCHDOG=1", "STOPPING=1", "STATUS=a b"]
    listening.close()
    notifier.ready()  # to one that is gone
    notifier.close()


def test_words_for_another_process_are_not_meant() -> None:
    other = str(os.getpid() + 1)
    assert Notifier.of({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": other}).watchdog_s == 0
    assert given({"LISTEN_FDS": "3", "LISTEN_PID": other}) == []
    assert given({"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())}) == []


def test_what_a_socket_unit_gives_is_not_what_was_held(listening: socket.socket) -> None:
    """It is no arrangement of another version, and the manager is told nothing about it."""
    one, other = socket.socketpair()
    notifier = Notifier(listening.getsockname())
    held = Held(notifier, [("metrics", one.fileno()), (name_of(Kind.NAME, "a"), 99)])
    assert held.given("metrics") == [one.fileno()]
    assert held.given("metrics") == []
    assert held.drop_unknown() == []
    one.send(b"open")
    assert other.recv(4) == b"open"
    listening.setblocking(False)
    with pytest.raises(BlockingIOError):
        listening.recv(1)
    for it in (one, other, notifier):
        it.close()
