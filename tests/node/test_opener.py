"""The opener as a process: what it opens for one that has no rights, what it refuses, and how it ends."""

import asyncio
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from aoe import limits, timing
from aoe.config.values import Config, ExportConfig, TargetConfig
from aoe.disk.locks import LifeLock
from aoe.disk.open import disk_of
from aoe.disk.syscalls import close_all
from aoe.disk.watch import Lost, NameWatch
from aoe.errors import AoeError, ConfigurationError
from aoe.link.packet import PacketLink
from aoe.node.opener import ByOpener
from aoe.node.opener_connection import Connection, OpenerLost
from aoe.node.opener_messages import Answer, Given
from aoe.node.opener_process import Desk, _send, fork
from aoe.target.address_locks import name_of
from tests.disk.helpers import filled, open_descriptors, read, sparse
from tests.support.labs.fault_disk import FuseDisk
from tests.support.labs.network import Lab, in_namespace
from tests.support.tools import need_namespaces, need_users
from tests.support.waiting import wait_for, wait_for_end

NOBODY = 65534


class Side:
    """A process's own end, and the opener's number."""

    def __init__(self, config: Callable[[], Config]) -> None:
        self.socket, self.pid = fork(partial(Desk, config, 0.0))
        self.to = Connection(self.socket)
        self.to.started()
        self.by = ByOpener(self.to)

    def close(self) -> None:
        self.to.close()
        os.waitpid(self.pid, 0)


@contextmanager
def opener(*exports: ExportConfig, target: TargetConfig = TargetConfig()) -> Iterator[Side]:  # noqa: B008
    side = Side(lambda: Config(target, exports))
    try:
        yield side
    finally:
        side.close()


def export(path: Path, **fields: object) -> ExportConfig:
    return ExportConfig(path=str(path), shelf=1, slot=0, **fields)  # type: ignore[arg-type]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return sparse(tmp_path / "disk", 64)


def refusal(call: Callable[[], object], kind: type[AoeError] = ConfigurationError) -> str:
    """One line, and no descriptor is left."""
    before = open_descriptors()
    with pytest.raises(kind) as caught:
        call()
    assert open_descriptors() <= before
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Stores


def test_a_store_is_opened_and_locked_until_it_is_released(tmp_path: Path) -> None:
    data = filled(tmp_path / "disk", 64)
    it = export(tmp_path / "disk")
    with opener(it) as side, opener(it) as another:
        other = another.by
        held = side.by.open_store(it)
        disk = disk_of(held.opened)
        assert read(disk, 3, 2) == data[3 * 512 : 5 * 512]
        assert (held.key.path, disk.trims) == (str(tmp_path / "disk"), True)
        assert side.by.find([it.place, "/etc/passwd"]) == {it.place: held.store}
        assert "is in use by" in refusal(lambda: other.open_store(it))
        side.by.release(held)
        disk.close()
        again = other.open_store(it)
        disk_of(again.opened).close()


def test_what_the_file_does_not_name_is_not_opened(disk: Path, tmp_path: Path) -> None:
    other = sparse(tmp_path / "other", 64)
    with opener(export(disk)) as side:
        assert "reads another file" in refusal(lambda: side.by.open_store(export(other)))
        assert "reads another file" in refusal(lambda: side.by.open_store(export(disk, shared=True)))
        elsewhere = ExportConfig(path=str(disk), shelf=2, slot=0)
        assert refusal(lambda: side.by.open_store(elsewhere)).startswith("e2.0 is not in the file")
        assert side.by.find([str(other), "/etc/shadow"]) == {}


@pytest.mark.parametrize("wrong", ["missing", "directory", "pipe", "device"])
def test_what_is_no_disk_is_refused_as_by_this_process(wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "it"
    if wrong == "directory":
        path.mkdir()
    elif wrong == "pipe":
        os.mkfifo(path)
    elif wrong == "device":
        path = Path("/dev/null")
    with opener(export(path)) as side:
        assert str(path) in refusal(lambda: side.by.open_store(export(path)))


def test_the_file_is_read_each_time(disk: Path, tmp_path: Path) -> None:
    listing = tmp_path / "listing"
    listing.write_text("none")

    def config() -> Config:
        if listing.read_text() == "bad":
            raise ConfigurationError("listing:1: it cannot be read")
        return Config(exports=(export(disk),) if listing.read_text() == "one" else ())

    side = Side(config)
    try:
        assert "e1.0 is not in the file" in refusal(lambda: side.by.open_store(export(disk)))
        listing.write_text("bad")
        assert refusal(lambda: side.by.open_store(export(disk))) == "listing:1: it cannot be read"
        listing.write_text("one")
        os.close(side.by.open_store(export(disk)).opened.store.fd)
    finally:
        side.close()


def test_a_process_without_rights_serves_what_only_root_may_open(tmp_path: Path) -> None:
    need_users()
    data = filled(tmp_path / "disk", 64)
    (tmp_path / "disk").chmod(0o600)
    with opener(export(tmp_path / "disk")) as side:

        def tries() -> None:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with pytest.raises(PermissionError):
                os.open(tmp_path / "disk", os.O_RDONLY)
            fd = side.by.open_store(export(tmp_path / "disk")).opened.store.fd
            assert os.pread(fd, 512, 512) == data[512:1024]
            assert LifeLock(side.by.anew(fd)).take()

        assert in_child(tries) == 0


def in_child(work: Callable[[], None]) -> int:
    """The exit status of a process that does it."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# A store anew


def test_a_store_is_described_anew_with_no_more_rights(disk: Path) -> None:
    with opener(export(disk)) as side:
        for mode in (os.O_RDONLY, os.O_RDWR):
            fd = os.open(disk, mode)
            disk.rename(disk.with_name("moved"))
            anew = side.by.anew(fd)
            assert os.path.samestat(os.fstat(anew), os.fstat(fd))
            if mode == os.O_RDONLY:
                with pytest.raises(OSError, match="Bad file descriptor"):
                    os.write(anew, b"x")
            else:
                assert LifeLock(anew).take()
                assert not LifeLock(fd).take()
            os.close(fd)
            os.close(anew)
            disk.with_name("moved").rename(disk)


@pytest.mark.parametrize("what", ["/dev/null", "/proc/self", "/tmp"])
def test_only_a_store_is_described_anew(what: str, disk: Path) -> None:
    fd = os.open(what, os.O_RDONLY)
    with opener(export(disk)) as side:
        assert "only a store" in refusal(lambda: side.by.anew(fd))
    os.close(fd)


def test_it_outlives_the_server_of_a_file_that_it_hands_over(disk: Path, tmp_path: Path) -> None:
    """To close such a descriptor is an error, whoever has it."""
    with FuseDisk(tmp_path / "fuse") as served:
        copies = [os.open(served.path, os.O_RDONLY) for _ in range(2)]
        served.die()
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, its:
        _send(its, Answer(1, {}, 1), Given({}, copies[:1]))
        close_all(socket.recv_fds(ours, 100, 1)[1])
    with opener(export(disk)) as side:
        with pytest.raises(AoeError):
            side.by.anew(copies[1])
        close_all(copies[1:])
        assert side.by.find([str(disk)])[str(disk)]


def test_a_file_that_loses_its_name_is_noticed_through_the_opener(disk: Path) -> None:
    async def scenario(side: Side) -> None:
        lost: list[Lost] = []
        watch = NameWatch(lost.append, side.by.add_watches)
        fd = os.open(disk, os.O_RDONLY)
        watch.watch(fd)
        disk.rename(disk.with_name("moved"))
        async with asyncio.timeout(30):
            while not lost:
                await asyncio.sleep(0.01)
        watch.close()
        os.close(fd)
        assert lost == [Lost(fd, str(disk), removed=False)]

    with opener(export(disk)) as side:
        asyncio.run(scenario(side))


# Links and addresses


@pytest.fixture
def lab() -> Iterator[Lab]:
    need_namespaces()
    with Lab() as made:
        yield made


def test_an_interface_is_opened_with_more_buffer_than_a_user_has(lab: Lab, disk: Path) -> None:
    need_users()

    def inside() -> None:
        with opener(export(disk), target=TargetConfig(interfaces=("v*",))) as side:

            def tries() -> None:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                with pytest.raises(ConfigurationError, match="no permission"):
                    PacketLink("v0")
                link = side.by.open_link("v0")
                assert link.up
                assert link.receive_buffer > int(Path("/proc/sys/net/core/rmem_max").read_text())
                assert "lo is not in the file" in refusal(lambda: side.by.packet("lo"))
                late = side.by.packet("")
                side.by.bind("v0", late)
                assert late.getsockname()[0] == "v0"
                assert "lo is not in the file" in refusal(lambda: side.by.bind("lo", late))
                assert late.getsockname()[0] == "v0"
                late.close()
                link.close()

            assert in_child(tries) == 0

    in_namespace(lab.namespace("target"), inside)


def test_a_link_over_udp_is_opened_if_it_is_named(disk: Path) -> None:
    named = "udp:127.0.0.1:0"
    with opener(export(disk), target=TargetConfig(links=(named,))) as side:

        async def scenario() -> None:
            link = side.by.open_link(named)
            assert link.name.startswith("udp:127.0.0.1:")
            assert link.mac[0] == 2
            link.close()

        asyncio.run(scenario())
        assert "udp:127.0.0.1:7 is not in the file" in refusal(lambda: side.by.open_link("udp:127.0.0.1:7"))


def test_an_address_is_locked_if_it_is_named(disk: Path) -> None:
    name = name_of(str(os.getpid()), (1, 0))
    with opener(export(disk)) as side, opener(export(disk)) as another:
        other = another.by
        (lock,) = side.by.bound(name)
        assert lock is not None
        assert other.bound(name) == [None]
        assert "process" in other.holder(name)
        lock.close()
        (free,) = other.bound(name)
        assert free is not None
        free.close()
        assert "e2.0 is not in" in refusal(lambda: side.by.bound(name_of("1", (2, 0))))
        assert "told by its number" in refusal(lambda: side.by.bound(name_of("x", (1, 0))))


# Bad input


def exchanged(side: Side, data: bytes, descriptors: list[int] | None = None) -> dict[str, object]:
    socket.send_fds(side.socket, [data], descriptors or [])
    told: dict[str, object] = json.loads(side.socket.recv(1 << 17))
    return told


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"garbage", "the message is not JSON"),
        (b"{}", "version None"),
        (b'{"version":2,"id":1,"verb":"find","arguments":{}}', "version 2, and this side speaks 1"),
        (b'{"version":1,"id":1,"verb":"shell","arguments":{}}', "knows no 'shell'"),
        (b'{"version":1,"id":1,"verb":"find","arguments":{}}', "places are no names"),
        (b'{"version":1,"id":1,"verb":"find","arguments":{"places":[1]}}', "places are no names"),
        (b'{"version":1,"id":1,"verb":"lock","arguments":{"names":[{"address":"e1.0"}]}}', "is no address"),
        (b'{"version":1,"id":1,"verb":"lock","arguments":{"names":[7]}}', "not told one by one"),
        (b'{"version":1,"id":1,"verb":"stores","arguments":{"stores":7}}', "not told one by one"),
        (b'{"version":1,"id":1,"verb":"anew","arguments":{}}', "only a store"),
        (b'{"version":1,"id":1,"verb":"watch","arguments":{}}', "an inotify and files"),
        (b'{"version":1,"id":1,"verb":"packet","arguments":{"names":[]}}', "one name"),
        (b'{"version":1,"id":1,"verb":"bind","arguments":{"names":["lo","lo"]}}', "one name"),
        (b" " * (limits.OPENER_MESSAGE_BYTES_MAX + 100), "too long"),
    ],
)
def test_what_is_not_understood_is_refused_and_the_next_is_answered(
    data: bytes, says: str, disk: Path
) -> None:
    with opener(export(disk)) as side:
        assert says in str(exchanged(side, data)["error"])
        assert side.by.find([str(disk)])


def test_more_descriptors_than_may_be_are_closed(disk: Path) -> None:
    with opener(export(disk)) as side:
        fds = [os.open(disk, os.O_RDONLY) for _ in range(limits.OPENER_DESCRIPTORS_MAX + 3)]
        message = b'{"version":1,"id":1,"verb":"anew","arguments":{}}'
        assert "too many descriptors" in str(exchanged(side, message, fds)["error"])
        wait_for(lambda: len(list(Path(f"/proc/{side.pid}/fd").iterdir())) == 4, what="some are kept")
        for fd in fds:
            os.close(fd)


@contextmanager
def pretender(answer: bytes, descriptors: int = 0) -> Iterator[ByOpener]:
    """An opener of another make."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    nothing = os.open("/dev/null", os.O_RDONLY)
    socket.send_fds(its, [answer], [nothing] * descriptors)
    os.close(nothing)
    yield ByOpener(Connection(ours))
    ours.close()
    its.close()


@pytest.mark.parametrize(
    ("answer", "descriptors"),
    [
        (b"garbage", 1),
        (b'{"version":2,"id":1,"ok":{},"descriptors":1,"said":[]}', 1),
        (b'{"version":1,"id":9,"ok":{},"descriptors":1,"said":[]}', 1),
        (b'{"version":1,"id":1,"ok":{},"descriptors":1,"said":[]}', 0),
        (b'{"version":1,"id":1,"ok":{},"descriptors":0,"said":[]}', 0),
        (b'{"version":1,"id":1,"ok":{"stores":[{}]},"descriptors":0,"said":[]}', 0),
        (b'{"version":1,"id":1,"ok":{"stores":[7]},"descriptors":0,"said":[]}', 0),
        (b'{"version":1,"id":1,"ok":{"stores":[{"store":[]}]},"descriptors":1,"said":[]}', 1),
        (b'{"version":1,"id":1,"ok":{"stores":[{"error":"x"},{"error":"y"}]},"descriptors":0,"said":[]}', 0),
        (b'{"version":1,"id":1,"ok":{},"descriptors":2,"said":[]}', 2),
        (b'{"version":1,"id":1,"ok":{},"descriptors":1,"said":[]}', 1),
    ],
)
def test_an_opener_that_is_not_understood_is_not_asked_again(
    answer: bytes, descriptors: int, disk: Path
) -> None:
    with pretender(answer, descriptors) as by:
        said = refusal(lambda: by.open_store(export(disk)), OpenerLost)
        assert said.startswith("the opener is not understood: ")
        assert "the opener" in refusal(lambda: by.open_store(export(disk)), OpenerLost)


# Its end


def test_it_is_said_once_that_it_was_killed_and_what_is_open_stays(
    disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "aoe.node")
    with opener(export(disk)) as side:
        open_before = disk_of(side.by.open_store(export(disk)).opened)

        async def scenario() -> None:
            side.to.watch()
            await asyncio.sleep(0.05)
            assert not caplog.messages
            os.kill(side.pid, signal.SIGKILL)
            async with asyncio.timeout(30):
                while not caplog.messages:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)

        asyncio.run(scenario())
        (line,) = caplog.messages
        assert line.startswith("the opener has ended: what is open is served on")
        assert read(open_before, 0, 1) == bytes(512)
        assert refusal(lambda: side.by.open_store(export(disk)), OpenerLost) == line
        open_before.close()


def test_a_loop_that_wakes_for_an_answer_that_was_taken_does_not_wait(disk: Path) -> None:
    """Another thread asked, and had its answer before the loop came to look."""

    async def scenario(side: Side) -> None:
        side.to.watch()
        side.to._look()
        assert side.by.find([str(disk)])

    with opener(export(disk)) as side:
        began_s = time.monotonic()
        asyncio.run(scenario(side))
        assert time.monotonic() - began_s < timing.OPENER_ANSWER_S / 2


@pytest.mark.parametrize("what", ["pair", "file", "none"])
def test_only_a_packet_socket_is_bound(what: str, disk: Path) -> None:
    near, far = socket.socketpair()
    with near, far, disk.open("rb") as file:
        given = {"pair": [near.fileno()], "file": [file.fileno()], "none": []}[what]
        with opener(export(disk), target=TargetConfig(interfaces=("lo",))) as side:
            said = refusal(lambda: side.to.ask("bind", given, names=["lo"]))
            assert said == ("only a packet socket is bound" if what == "pair" else "a socket is bound")


def test_it_ends_with_its_process_and_lets_go_of_all_locks(disk: Path) -> None:
    reader, writer = os.pipe()

    def serves() -> None:
        side = Side(lambda: Config(exports=(export(disk),)))
        side.by.open_store(export(disk))
        os.write(writer, str(side.pid).encode())
        signal.pause()

    child = os.fork()
    if not child:
        with suppress(BaseException):
            serves()
        os._exit(1)
    pid = os.read(reader, 20).decode()
    os.close(reader)
    os.close(writer)
    with opener(export(disk)) as another:
        other = another.by
        assert "is in use" in refusal(lambda: other.open_store(export(disk)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        wait_for_end(int(pid))
        os.close(other.open_store(export(disk)).opened.store.fd)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_what_ends_the_whole_group_does_not_end_it_before_its_process(number: int, disk: Path) -> None:
    with opener(export(disk)) as side:
        assert side.by.find([str(disk)])
        os.kill(side.pid, number)
        assert side.by.find([str(disk)])
