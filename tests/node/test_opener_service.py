"""The opener as a service of its own: killed, restarted, of another release, asked by too many, not there."""

import asyncio
import fcntl
import json
import logging
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop

from aoe import limits, timing
from aoe.cli.report import Report
from aoe.config.values import Config, ExportConfig, PoolConfig, TargetConfig
from aoe.disk.syscalls import close_all, leave_all_but
from aoe.errors import ConfigurationError, PoolError
from aoe.image.asking import Asked
from aoe.link.packet import only_interface
from aoe.node.chores import Facts
from aoe.node.held import name_of
from aoe.node.holds import kind_of
from aoe.node.meant import Meant
from aoe.node.needs import Held
from aoe.node.opener import ByOpener
from aoe.node.opener_connection import _GONE, Connection, OpenerLost, connected
from aoe.node.opener_service import Versioned, serve
from aoe.pool.asked import Wish, facts_of, request_of
from aoe.pool.requests import Create, Delete, Resize
from tests.disk.helpers import is_taken, sparse
from tests.image.daemons import daemon_of
from tests.image.unit import Unit
from tests.pool.pools import fresh, working
from tests.support.labs.network import Lab, in_namespace
from tests.support.tools import need_images, need_namespaces, tool
from tests.support.waiting import PATIENCE_S, wait_for, wait_for_end

OLD, NEW = "1.0", "2.0"
SECTORS = 64


class Service:
    """A socket that outlives the opener, which a manager starts when it is asked."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "opener"
        self.exports: list[ExportConfig] = []
        self.pools: list[PoolConfig] = []
        self.images: Path | None = None
        """Where what has images served listens."""
        self.installed = NEW
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(self.path))
        self._listener.listen(limits.OPENER_CONNECTIONS_MAX)
        self.pid = 0
        self._connections: list[Connection] = []

    def start(self, release: str = NEW) -> None:
        self.pid = os.fork()
        if not self.pid:
            with suppress(BaseException):
                signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as a manager starts it
                leave_all_but(self._listener.fileno())
                serve(self._listener, partial(self._desk, release))
            os._exit(1)

    def _desk(self, release: str) -> Versioned:
        def end() -> None:
            os.kill(service, signal.SIGTERM)
            os._exit(0)

        service, config = os.getppid(), Config(TargetConfig(), tuple(self.exports), tuple(self.pools))
        images = None if self.images is None else Asked(None, self.images)
        words = (lambda: config, 0.0, {}, images, heard)
        return Versioned(release, lambda: self.installed, end, *words)  # type: ignore[arg-type]

    def kill(self) -> None:
        """With all that it works for."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.pid = 0

    def hang_up(self) -> None:
        """A service that has no more to ask."""
        self._connections.pop().close()

    def unplug(self) -> None:
        """Nothing listens any more."""
        self._listener.close()

    def stop(self) -> None:
        while self._connections:
            self.hang_up()
        if self.pid:
            self.kill()
        self.unplug()

    def export(self, path: Path, slot: int = 0, **said: int) -> ExportConfig:
        made = ExportConfig(path=str(path), shelf=1, slot=slot, **said)  # type: ignore[arg-type]
        self.exports.append(made)
        return made

    def connect(self, release: str = NEW) -> ByOpener:
        made = Connection(greeted(self.path, release), partial(connected, self.path, release))
        made.started()
        self._connections.append(made)
        return ByOpener(made)


def greeted(path: Path, release: str) -> socket.socket:
    """Connected to an opener that is there."""
    return connected(path, release, lambda _: True)


class Manager:
    """Keeps what is to be kept for the next life."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}

    def keep(self, key: str, fd: int) -> None:
        self.kept[name_of(kind_of(key), key)] = os.dup(fd)

    def forget(self, key: str) -> None:
        os.close(self.kept.pop(name_of(kind_of(key), key)))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return sparse(tmp_path / "image", SECTORS)


def close(held: Held) -> None:
    os.close(held.opened.store.fd)


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(OpenerLost) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_next_opener_goes_on_where_one_was_killed(service: Service, image: Path) -> None:
    """It has the locks of the stores, lets go of them, and opens another part of one."""
    halves = [service.export(image, slot, offset=slot * 32, length=32) for slot in (0, 1)]
    service.start()
    manager, by = Manager(), service.connect()
    by.adopt(manager, [])
    first = by.open_store(halves[0])
    service.kill()
    service.start()
    second = by.open_store(halves[1])
    assert (first.store, len(manager.kept)) == (second.store, 1)
    by.release(first)
    close(first)
    assert is_taken(image)
    service.kill()
    service.start()
    by.release(second)
    close(second)
    assert not manager.kept
    wait_for(lambda: not is_taken(image), what="what was killed has not ended")
    by.close()


def test_the_next_opener_has_the_pools_and_goes_on_with_their_exports(
    service: Service, tmp_path: Path
) -> None:
    directory = fresh(tmp_path)
    with working(directory, reserve=0) as work:
        work.do(Create("web1", 1 << 20, "raw"))
    service.pools.append(PoolConfig(name="fast", path=str(directory), reserve=0))
    it = service.export(Path("fast/web1"))
    service.start()
    manager, by = Manager(), service.connect()
    by.adopt(manager, [])
    held = by.open_store(it)
    service.kill()
    wait_for(lambda: has_it(directory), what="its processes have ended")
    service.start()
    by.rest([])
    assert not has_it(directory)
    grown = done(by, Resize("web1", 2 << 20))
    assert (grown["touches"], grown["live"]) == ([held.opened.store_name.text], True)
    with pytest.raises(ConfigurationError, match="is in use by"):
        done(by, Delete("web1"))
    (told,) = by.volumes("fast", "")["volumes"]
    assert (told["volume"], told["bytes"]) == ("fast/web1", 2 << 20)
    assert [it["name"] for it in by.rooms()] == ["fast"]
    close(held)
    by.release(held)
    done(by, Delete("web1"))
    assert by.volumes("fast", "")["volumes"] == []
    by.close()


def test_the_next_life_has_what_the_last_one_had_served(service: Service, tmp_path: Path) -> None:
    """An image, and by the same process; not the next opener of the same life, which is asked for it anew."""
    need_images()
    path = tmp_path / "d.qcow2"
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M")
    with Unit(tmp_path / "images") as unit:
        service.images = tmp_path / "images"
        it = service.export(path)
        service.start()
        before, by = Manager(), service.connect()
        by.adopt(before, [])
        held = by.open_store(it)
        os.pwrite(held.opened.store.fd, b"data", 0)
        close(held)
        serves = daemon_of(path)
        by.close()
        service.hang_up()
        after, by = Manager(), service.connect()
        by.adopt(after, [])
        held = by.open_store(it)
        assert os.pread(held.opened.store.fd, 4, 0) == b"data"
        drop(before)
        service.kill()
        service.start()
        assert len(after.kept) == 1
        by.rest([])
        assert not after.kept
        wait_for_end(serves)
        close_all([held.opened.store.fd])
        image, fd = by.image_again(it.key, held.opened.image)
        assert (image != held.opened.image, os.pread(fd, 4, 0), len(after.kept)) == (True, b"data", 1)
        os.close(fd)
        drop(after)
        by.close()
        service.hang_up()
        wait_for(lambda: not daemon_of(path))
        assert len(unit.started) == 1


def drop(manager: Manager) -> None:
    """A stop empties what is held."""
    while manager.kept:
        os.close(manager.kept.popitem()[1])


def heard(shown: int) -> tuple[str, Wish]:
    """What is asked for there."""
    return "fast", request_of(json.loads(os.read(shown, 4096)))


def done(by: ByOpener, wish: Wish) -> Facts:
    """A verb that a person asked for."""
    shown, asks = os.pipe()
    os.write(asks, json.dumps(facts_of(wish)).encode())
    assert by.hear(shown) == ""
    close_all([shown, asks])
    return by.volume("fast", wish, only_plan=False)


def has_it(pool: Path) -> bool:
    """Whether this process may work on a pool."""
    with suppress(PoolError), working(pool):
        return True
    return False


def test_what_an_earlier_life_had_is_known_to_the_next_opener_too(service: Service, image: Path) -> None:
    it = service.export(image)
    service.start()
    manager, by = Manager(), service.connect()
    by.adopt(manager, [])
    close(by.open_store(it))
    found = [(name, os.dup(fd)) for name, fd in manager.kept.items()]
    by.close()
    service.hang_up()
    after = service.connect()
    assert after.adopt(manager, found) == []
    held = after.open_store(it)
    service.kill()
    service.start()
    assert after.rest([]) == (frozenset(), 0)
    assert is_taken(image), "it is used"
    after.release(held)
    close(held)
    wait_for(lambda: not is_taken(image), what="what was killed has not ended")
    after.close()


def test_it_is_said_once_that_it_was_killed_and_once_that_it_is_back(
    service: Service, image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aoe.node")
    service.export(image)
    service.start()
    to = Connection(greeted(service.path, NEW), partial(connected, service.path, NEW))
    to.started()

    async def scenario() -> None:
        to.watch()
        for _ in range(2):
            caplog.clear()
            service.kill()
            service.start()
            async with asyncio.timeout(20):
                while "the opener is there again" not in caplog.messages:
                    await asyncio.sleep(0.01)
            assert len(caplog.messages) == 2
            assert caplog.messages[0].startswith("the opener has ended: what is open is served on")
        to.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("comes_again", [False, True], ids=["for good", "comes again"])
def test_one_that_ends_before_it_read_a_question_is_said_though_the_loop_sees_it_first(
    run: Callable[[Coroutine[Any, Any, None]], None],
    comes_again: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The end is an error of the socket then, until the thread that asked comes to receive."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    seen = threading.Event()

    def late(*of: Any) -> Any:
        assert seen.wait(PATIENCE_S)
        return received(*of)

    def again(_: object) -> socket.socket:
        raise OpenerLost("there is none")

    async def scenario() -> None:
        to.watch()
        asked = asyncio.create_task(asyncio.to_thread(refusal, lambda: to.ask("find", places=[])))
        await asyncio.to_thread(wait_for, lambda: ended(its))
        asyncio.get_running_loop().call_later(0.05, seen.set)  # it has looked by then
        assert (await asked) in ("there is none", _GONE)
        async with asyncio.timeout(PATIENCE_S):
            while not caplog.messages:
                await asyncio.sleep(0.01)
        to.close()

    received = socket.recv_fds
    monkeypatch.setattr(socket, "recv_fds", late)
    to = Connection(ours, again if comes_again else None)
    to.started()
    run(scenario())
    assert caplog.messages[0].startswith("the opener has ended: what is open is served on")


def ended(its: socket.socket) -> bool:
    """With a question that it did not read, once there is one."""
    if not select.select([its], [], [], 0)[0]:
        return False
    its.close()
    return True


def test_without_an_opener_it_is_said_how_to_start_one(service: Service, image: Path) -> None:
    it = service.export(image)
    service.start()
    by = service.connect()
    service.kill()
    service.unplug()
    for _ in range(2):
        said = refusal(lambda: by.open_store(it))
        assert said.startswith(f"no opener at {service.path}: ")
        assert said.endswith("; systemctl restart aoe-target-opener.socket")


def test_a_start_waits_for_one_that_is_late_to_greet(
    service: Service, image: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its manager has much to do: longer than an answer may take while others are served."""
    for name, value_s in (("LOOK", 0.01), ("SILENT", 0.05), ("ANSWER", 0.01)):
        monkeypatch.setattr(timing, f"OPENER_{name}_S", value_s)
    caplog.set_level(logging.INFO, "aoe.node")
    to = Connection(None, partial(connected, service.path, NEW))
    service.export(image)
    found: list[object] = []
    start = threading.Thread(target=lambda: found.append(ByOpener(to).find([str(image)])))
    start.start()
    wait_for(lambda: bool(caplog.messages), what="it is not said")
    monkeypatch.setattr(timing, "OPENER_ANSWER_S", PATIENCE_S)
    service.start()
    start.join(PATIENCE_S)
    assert found, "it was not waited for"
    to.close()
    why = "does not answer; look at its disks, and look at systemctl status aoe-target-opener.service"
    assert caplog.messages == [f"the start waits for the opener, which {why}", "the opener answers"]


def test_a_start_does_not_wait_for_openers_that_end_before_they_answer(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def gone(_: object = None) -> socket.socket:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        its.close()
        return ours

    to = Connection(gone(), gone)
    report = Report("aoe-target", as_json=False)
    assert report.outcome(lambda: len(to.ask("find", places=[]))) == 1, "it is tried again"
    why = "start the target again, and look at systemctl status aoe-target-opener.service"
    said = "aoe-target: the opener has ended before all was served that is wanted; "
    assert capfd.readouterr().err == f"{said}{why}\n"
    to.close()


def test_an_opener_of_an_earlier_release_ends_for_the_one_that_is_installed(service: Service) -> None:
    service.start(OLD)
    old = service.pid
    service.installed = NEW
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aoe.timing.OPENER_AGAIN_S", 0.1)
        patch.setattr("aoe.node.opener_connection.time", Starting(service))
        greeted(service.path, NEW).close()
    assert service.pid != old


class Starting:
    """Instead of a pause, the manager starts the next one."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._started = 1

    def sleep(self, _: float) -> None:
        wait_for(self._has_ended, what=self._how_it_is)
        self._service.start(NEW)
        self._started += 1

    def _has_ended(self) -> bool:
        return os.waitpid(self._service.pid, os.WNOHANG)[0] != 0

    def _how_it_is(self) -> str:
        """It goes on: the process of the connection ended alone, or the service does not hear SIGTERM."""
        status = Path(f"/proc/{self._service.pid}/status").read_text()
        signals = [line for line in status.splitlines() if line.startswith("Sig")]
        return f"opener {self._started} goes on where its connection ended: {signals}"


def test_a_service_of_an_earlier_release_is_told_to_restart(service: Service) -> None:
    service.start(NEW)
    said = refusal(partial(greeted, service.path, OLD))
    assert said == (
        f"the opener is of version {NEW}, as what is installed, and this service of {OLD}: "
        "systemctl restart aoe-target.service"
    )
    assert os.waitpid(service.pid, os.WNOHANG) == (0, 0), "it goes on for others"
    service.connect()


def test_who_does_not_say_its_release_is_not_served(service: Service, image: Path) -> None:
    it = service.export(image)
    service.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as plain:
        plain.connect(str(service.path))
        by = ByOpener(Connection(plain))
        with pytest.raises(Exception, match="a service of this release says hello first"):
            by.open_store(it)


def test_so_many_are_served_at_a_time(service: Service, image: Path) -> None:
    it = service.export(image)
    service.start()
    first = service.connect()
    others = [greeted(service.path, NEW) for _ in range(limits.OPENER_CONNECTIONS_MAX - 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aoe.timing.OPENER_AGAIN_S", 0.001)
        said = refusal(partial(greeted, service.path, NEW))
    assert (
        said
        == f"the opener at {service.path} ends at once; look at systemctl status aoe-target-opener.service"
    )
    held = first.open_store(it)
    close(held)
    first.release(held)
    for other in others:
        other.close()
    wait_for(lambda: connects(service), what="there is no room again")
    first.close()


def connects(service: Service) -> bool:
    with suppress(OpenerLost):
        service.connect()
        return True
    return False


@pytest.mark.parametrize("data", [b"garbage", b"[]", b'{"version": 1}', b"\xff" * 4096])
def test_garbage_ends_no_other_connection(service: Service, image: Path, data: bytes) -> None:
    it = service.export(image)
    service.start()
    by = service.connect()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.connect(str(service.path))
        other.send(data)
        assert b"error" in other.recv(1 << 16)
    close(by.open_store(it))
    by.close()


def test_one_that_hangs_is_left_and_the_next_is_asked_once_it_answers(
    service: Service, image: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all that it works for: connecting succeeds, and no greeting comes."""
    caplog.set_level(logging.INFO, "aoe.node")
    it = service.export(image)
    service.start()
    by = service.connect()
    close(by.open_store(it))
    for name, value_s in (("LOOK", 0.01), ("SILENT", 0.05), ("AGAIN", 0.05)):
        monkeypatch.setattr(timing, f"OPENER_{name}_S", value_s)
    monkeypatch.setattr(service._connections[-1], "_patience_s", 0.2)
    hangs = [service.pid, *children(service.pid)]
    for pid in hangs:
        os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(2):
            assert refusal(lambda: by.find([it.place])).startswith("the opener does not answer")
    finally:
        for pid in hangs:
            os.kill(pid, signal.SIGCONT)

    def answers() -> bool:
        with suppress(OpenerLost):
            return it.place in by.find([it.place])
        return False

    monkeypatch.setattr(service._connections[-1], "_patience_s", 30.0)
    wait_for(answers, what="it is not asked again")
    assert [line.partition(":")[0] for line in caplog.messages] == [
        "the opener does not answer",
        "the opener answers again",
    ]


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


# Which interface is meant where the file names none


@pytest.fixture
def lab() -> Iterator[Lab]:
    need_namespaces()
    with Lab() as made:
        yield made


def test_the_next_opener_knows_which_interface_is_meant(service: Service, lab: Lab) -> None:
    """Others came up since; these are no more open to the service than before."""

    def inside() -> None:
        service.start()
        by = service.connect()
        assert by.only() == "v0"
        late = by.packet("")
        lab.cable("target", "client")
        with pytest.raises(ConfigurationError, match="several Ethernet interfaces"):
            only_interface()
        service.kill()
        service.start()
        by.bind("v0", late)
        assert late.getsockname()[0] == "v0"
        by.packet("v0").close()
        assert by.only() == "v0"
        for ask in (lambda: by.bind("v1", late), lambda: by.packet("v1")):
            with pytest.raises(ConfigurationError, match="v1 is not in the file"):
                ask()
        late.close()
        by.close()

    in_namespace(lab.namespace("target"), inside)


@pytest.mark.parametrize("how", ["file", "socket", "unsealed", "changeable"])
def test_only_an_openers_word_says_what_is_meant(how: str, image: Path) -> None:
    near, far = socket.socketpair()
    made = os.memfd_create("it", os.MFD_ALLOW_SEALING)
    os.write(made, b"v1")
    if how == "changeable":
        fcntl.fcntl(made, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    with near, far, image.open("rb") as file:
        given = {"file": file.fileno(), "socket": near.fileno()}.get(how, made)
        meant = Meant(lambda: "v0")
        with pytest.raises(ConfigurationError, match="no opener has said"):
            meant.go_on_with(given)
        assert meant() == "v0"
    told = Meant(lambda: "v0").told()
    with pytest.raises(OSError, match="not permitted"):
        os.write(told, b"v1")
    later = Meant(lambda: "v1")
    later.go_on_with(told)
    assert later() == "v0"
    os.close(told)
    os.close(made)
