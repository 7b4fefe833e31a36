"""Descriptors that hold stores for the next life of the service, and the I/O of each life apart from them."""

import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from aoe.config.values import Config, ExportConfig, TargetConfig
from aoe.disk import locks
from aoe.disk.locks import LifeLock, flock_is_of_bytes
from aoe.node.desk import Desk
from aoe.node.held import Kind, name_of
from aoe.node.holds import Busy
from aoe.node.needs import Held
from aoe.node.opener import ByOpener
from aoe.node.opener_connection import Connection
from aoe.node.opener_process import fork
from aoe.node.opening import InProcess
from tests.disk.helpers import is_taken, sparse
from tests.node.manager import one_file
from tests.support.labs.fault_disk import loop_device

SECTORS = 64
Either = InProcess | ByOpener


class Manager:
    """Keeps descriptors by name, as the service manager does."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}

    def keep(self, key: str, fd: int) -> None:
        assert name_of(Kind.STORE, key) not in self.kept
        self.kept[name_of(Kind.STORE, key)] = os.dup(fd)

    def forget(self, key: str) -> None:
        os.close(self.kept.pop(name_of(Kind.STORE, key)))

    def found(self) -> list[tuple[str, int]]:
        """Copies, as a process is given."""
        return [(name, os.dup(fd)) for name, fd in self.kept.items()]

    def stop(self) -> None:
        while self.kept:
            os.close(self.kept.popitem()[1])


class Service:
    """Some lives of a service; each has an opener."""

    def __init__(self, apart: bool) -> None:
        self.manager = Manager()
        self.exports: list[ExportConfig] = []
        self.unknown: list[str] = []
        self._apart = apart

    @contextmanager
    def life(self) -> Iterator[Either]:
        with ExitStack() as stack:
            opener = self._forked(stack) if self._apart else InProcess(lock_wait_s=0)
            stack.callback(opener.close)
            self.unknown = opener.adopt(self.manager, self.manager.found())
            yield opener

    def _forked(self, stack: ExitStack) -> ByOpener:
        connection, process = fork(lambda: Desk(lambda: Config(TargetConfig(), tuple(self.exports)), 0.0))
        to = Connection(connection)
        stack.callback(os.waitpid, process, 0)
        stack.callback(to.close)
        return ByOpener(to)

    def export(self, path: Path, slot: int = 0, **said: Any) -> ExportConfig:
        made = ExportConfig(path=str(path), shelf=1, slot=slot, **said)
        self.exports.append(made)
        return made


@pytest.fixture(params=["in process", "by opener"])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    made = Service(request.param == "by opener")
    yield made
    made.manager.stop()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return sparse(tmp_path / "image", SECTORS)


def close(*them: Held) -> None:
    """The I/O of a life is over."""
    for held in them:
        os.close(held.opened.store.fd)


def test_the_next_life_has_the_lock_and_does_its_io_on_another_description(
    service: Service, image: Path
) -> None:
    it = service.export(image)
    with service.life() as first:
        held = first.open_store(it)
        (kept,) = service.manager.kept.values()
        assert not one_file(kept, held.opened.store.fd)
        close(held)
    assert is_taken(image)
    assert len(service.manager.kept) == 1
    with service.life() as second:
        again = second.open_store(it)
        assert (service.unknown, again.store, again.key) == ([], held.store, held.key)
        assert not one_file(kept, again.opened.store.fd)
        close(again)
        second.release(again)
        assert not service.manager.kept
        assert not is_taken(image)


def test_it_is_not_opened_while_an_earlier_life_may_change_it_and_others_are(
    service: Service, image: Path, tmp_path: Path
) -> None:
    it, other = service.export(image), service.export(sparse(tmp_path / "other", SECTORS), 1)
    with service.life() as first:
        old = [first.open_store(it), first.open_store(other)]
    close(old[1])
    with service.life() as second:
        with pytest.raises(Busy, match=f"^writes of an earlier process to {image} have not ended"):
            second.open_store(it)
        fine = second.open_store(other)
        wanted = {old[0].store}
        assert second.rest(wanted) == (frozenset(), 1)
        assert second.rest(set()) == (frozenset(), 1)
        assert is_taken(image)
        close(old[0])
        assert second.rest(wanted) == (frozenset(wanted), 0)
        now = second.open_store(it)
        close(fine, now)


def test_what_only_reads_does_not_wait(service: Service, image: Path) -> None:
    it = service.export(image)
    with service.life() as first:
        old = first.open_store(it)
    service.exports.clear()
    it = service.export(image, read_only=True)
    with service.life() as second:
        close(second.open_store(it))
    close(old)


def test_parts_of_a_store_share_the_lock_and_each_keeps_the_next_life_out(
    service: Service, image: Path
) -> None:
    parts = [service.export(image, length=8), service.export(image, 1, offset=8, direct=False)]
    with service.life() as first:
        old = [first.open_store(it) for it in parts]
    assert len(service.manager.kept) == 1
    with service.life() as second:
        for one in old:
            with pytest.raises(Busy):
                second.open_store(parts[0])
            close(one)
        close(*(second.open_store(it) for it in parts))


def test_another_file_of_that_name_is_opened_and_the_one_before_let_go_when_nothing_changes_it(
    service: Service, image: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    it = service.export(image)
    with service.life() as first:
        old = first.open_store(it)
    image.rename(tmp_path / "before")
    sparse(image, SECTORS)
    with service.life() as second:
        new = second.open_store(it)
        assert new.store != old.store
        assert second.rest(set()) == (frozenset(), 1)
        assert is_taken(tmp_path / "before")
        assert not caplog.messages
        close(old)
        assert second.rest(set()) == (frozenset(), 0)
        (said,) = caplog.messages
        assert said.startswith(f"{tmp_path}/before was held for an earlier life of the service")
        assert not is_taken(tmp_path / "before")
        assert len(service.manager.kept) == 1
        close(new)


def test_a_disk_that_has_grown_is_opened_with_its_size(service: Service, image: Path) -> None:
    it = service.export(image)
    with service.life() as first:
        close(first.open_store(it))
    os.truncate(image, 2 * SECTORS * 512)
    with service.life() as second:
        now = second.open_store(it)
        assert now.opened.store.size == 2 * SECTORS * 512
        close(now)


def test_what_is_not_what_it_is_called_is_closed(service: Service, image: Path) -> None:
    it = service.export(image)
    for name in ("aoe1-store-nonsense", name_of(Kind.STORE, "1 2")):
        service.manager.kept[name] = os.open(image, os.O_RDWR)
    with service.life() as life:
        assert sorted(service.unknown) == sorted(service.manager.kept)
        service.manager.stop()
        close(life.open_store(it))
        assert len(service.manager.kept) == 1


def test_more_are_kept_than_fit_beside_one_answer(service: Service, tmp_path: Path) -> None:
    them = [service.export(sparse(tmp_path / str(slot), SECTORS), slot) for slot in range(40)]
    with service.life() as first:
        close(*(first.open_store(it) for it in them))
    assert len(service.manager.kept) == 40
    with service.life() as second:
        assert service.unknown == []
        close(second.open_store(them[7]))
        assert second.rest(set()) == (frozenset(), 0)
        assert len(service.manager.kept) == 1


def test_a_shared_store_has_no_lock_but_its_lives_follow_one_another(service: Service, image: Path) -> None:
    it = service.export(image, shared=True)
    with service.life() as first:
        old = first.open_store(it)
    assert not is_taken(image, shared=True)
    with service.life() as second:
        with pytest.raises(Busy):
            second.open_store(it)
        close(old)
        close(second.open_store(it))


def test_a_store_that_other_hosts_share_no_more_waits_for_what_it_was_then(
    service: Service, image: Path
) -> None:
    it = service.export(image, shared=True)
    with service.life() as first:
        old = first.open_store(it)
    service.exports.clear()
    it = service.export(image)
    with service.life() as second:
        with pytest.raises(Busy):
            second.open_store(it)
        close(old)
        assert second.rest(set()).waits == 0
        close(second.open_store(it))


def test_a_command_without_a_manager_waits_for_it_too(service: Service, image: Path) -> None:
    """The service was stopped, which drops what is held, and its last write has not ended."""
    it = service.export(image)
    with service.life() as first:
        old = first.open_store(it)
    service.manager.stop()
    assert is_taken(image)
    assert not is_taken(image, read_only=True)
    close(old)
    assert not is_taken(image)


def test_a_block_device_is_held_and_opened_again(service: Service, tmp_path: Path) -> None:
    with loop_device(sparse(tmp_path / "behind", 2048)) as device:
        it = service.export(device)
        with service.life() as first:
            old = first.open_store(it)
        with pytest.raises(OSError, match="busy"):
            os.open(device, os.O_RDWR | os.O_EXCL)
        with service.life() as second:
            with pytest.raises(Busy):
                second.open_store(it)
            close(old)
            now = second.open_store(it)
            with pytest.raises(OSError, match="busy"):
                os.open(device, os.O_RDWR | os.O_EXCL)
            close(now)
        service.manager.stop()


def test_where_no_lock_tells_of_lives_one_description_does_both(
    image: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(_: LifeLock) -> bool:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(LifeLock, "is_free", none)
    service = Service(apart=False)
    with service.life() as life:
        held = life.open_store(service.export(image))
        assert service.manager.kept == {}
        assert is_taken(image)
        close(held)
    assert "No locks available" in caplog.text
    assert not is_taken(image)


# Where flock(2) is a lock of bytes


@pytest.mark.parametrize("magic", [0x6969, 0x517B, 0xFF534D42, 0xFE534D42, 0x01021997])
def test_flock_is_of_bytes_on_nfs_smb_and_9p(magic: int) -> None:
    assert flock_is_of_bytes(magic)


@pytest.mark.parametrize("magic", [0, 0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x65735546, 0x00C36400])
def test_it_is_not_elsewhere(magic: int) -> None:
    """Where nothing is known, ext4, XFS, Btrfs, tmpfs, FUSE, Ceph."""
    assert not flock_is_of_bytes(magic)


@pytest.fixture
def like_nfs(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """flock(2) is a lock of all bytes; to be called: and it is known."""

    def flock(fd: int, how: int) -> None:
        kind = fcntl.F_RDLCK if how & fcntl.LOCK_SH else fcntl.F_WRLCK
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0))

    monkeypatch.setattr(fcntl, "flock", flock)
    return lambda: monkeypatch.setattr(locks, "flock_is_of_bytes", lambda _: True)


@pytest.mark.usefixtures("like_nfs")
def test_our_own_descriptions_would_exclude_each_other_there(image: Path) -> None:
    service = Service(apart=False)
    with service.life() as life, pytest.raises(Busy):
        life.open_store(service.export(image))
    service.manager.stop()


def test_so_a_byte_is_locked_instead(like_nfs: Callable[[], None], image: Path) -> None:
    like_nfs()
    service = Service(apart=False)
    it = service.export(image)
    with service.life() as first:
        old = first.open_store(it)
        assert is_taken(image)
        assert is_taken(image, read_only=True)
    with service.life() as second:
        with pytest.raises(Busy):
            second.open_store(it)
        close(old)
        now = second.open_store(it)
        assert is_taken(image)
        close(now)
    service.manager.stop()
    assert not is_taken(image)


def test_readers_there_exclude_writers_only(like_nfs: Callable[[], None], image: Path) -> None:
    like_nfs()
    service = Service(apart=False)
    with service.life() as life:
        held = life.open_store(service.export(image, read_only=True))
        assert is_taken(image)
        assert not is_taken(image, read_only=True)
        close(held)
    service.manager.stop()


def test_a_device_that_is_let_go_is_named_as_it_is_here(
    image: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another process opened it, with a /dev of its own."""
    service, readlink = Service(apart=False), os.readlink

    def half(path: Any, **how: Any) -> Any:
        said = readlink(path, **how)
        return said.removeprefix("/dev") if str(path).startswith("/proc/self/fd") else said

    with loop_device(image) as device:
        it = service.export(device)
        with service.life() as first:
            close(first.open_store(it))
        monkeypatch.setattr(os, "readlink", half)
        with service.life() as second:
            assert second.rest(set()).waits == 0
    assert f"{device} was held for an earlier life" in caplog.text
