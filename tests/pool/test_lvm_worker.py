"""Commands of LVM by way of a service: what it runs, and what becomes of the rest."""

import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from aoe.cli.lvm import Lvm
from aoe.cli.report import Report
from aoe.errors import ConfigurationError, PoolError
from aoe.pool import lvm_run
from aoe.pool.lvm_run import Run
from aoe.pool.lvm_worker import Worker, attend, checked, fork, is_needed
from aoe.pool.requests import Clone, Create, Cut, Delete, Resize
from tests.pool.fake_lvm import FakeLvm
from tests.pool.pools import SIZE, is_whole
from tests.pool.thin import working
from tests.support.waiting import PATIENCE_S


class Service(NamedTuple):
    """Where it listens, and the connections that it has had."""

    at: Path
    connections: list[socket.socket]


@contextmanager
def service(at: Path, run: Run) -> Iterator[Service]:
    """One as its units make it: for each connection one that runs commands."""
    had: list[socket.socket] = []
    threads = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(at))
        listener.listen()

        def accept() -> None:
            while True:
                try:
                    had.append(listener.accept()[0])
                except OSError:
                    return
                threads.append(threading.Thread(target=attend, args=(had[-1], run)))
                threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield Service(at, had)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(PATIENCE_S)
    for it in threads:
        it.join(PATIENCE_S)
        assert not it.is_alive()


def test_verbs_are_done_by_way_of_it(lvm: FakeLvm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with service(tmp_path / "socket", lvm.run) as there:
        worker = Worker(there.at)
        monkeypatch.setattr("aoe.pool.lvm_marking.HERE", lvm.host._replace(run=worker.run))
        with working(lvm) as work:
            for request in (Cut("base", "a"), Clone("base", "a", "web"), Create("b", SIZE)):
                work.do(request)
            work.do(Resize("b", SIZE // 2, shrink=True))
            assert work.usage("web")[0].own
            work.do(Delete("b"))
            assert is_whole(work)
        assert len(there.connections) == 1
        worker.close()


def test_a_command_gets_the_lock_that_was_given(tmp_path: Path) -> None:
    held = tmp_path / "lock"
    held.touch()
    seen = []

    def run(words: Sequence[str], stdin: int | None = None) -> str:
        assert stdin is not None
        seen.append((words[0], os.path.samestat(os.fstat(stdin), held.stat())))
        return "said"

    with service(tmp_path / "socket", run) as there, held.open() as file:
        worker = Worker(there.at)
        assert worker.run(("lvs",)) == "said"
        assert worker.run(("lvchange",), file.fileno()) == "said"
        worker.close()
    assert seen == [("lvs", False), ("lvchange", True)]


def test_what_fails_is_said_as_without_it(tmp_path: Path) -> None:
    def run(words: Sequence[str], stdin: int | None = None) -> str:
        del stdin
        raise (PoolError if words[0] == "lvs" else ConfigurationError)(f"{words[0]}: no")

    with service(tmp_path / "socket", run) as there:
        worker = Worker(there.at)
        with pytest.raises(PoolError, match=r"^lvs: no$"):
            worker.run(("lvs",))
        with pytest.raises(ConfigurationError, match=r"^lvchange: no$"):
            worker.run(("lvchange",))
        with pytest.raises(PoolError, match=r"^that is no command of a pool$"):
            worker.run(("vgremove", "vg"))
        worker.close()


def test_without_it_the_remedy_is_named_and_one_that_ended_is_asked_again(tmp_path: Path) -> None:
    worker = Worker(tmp_path / "socket")
    with pytest.raises(ConfigurationError, match=r"systemctl start aoe-target-lvm\.socket"):
        worker.run(("lvs",))
    with service(tmp_path / "socket", lambda *_: "said") as there:
        assert worker.run(("lvs",)) == "said"
        there.connections[0].shutdown(socket.SHUT_RDWR)
        with pytest.raises(PoolError, match=r"^lvs: .*socket: "):
            worker.run(("lvs",))
        assert worker.run(("lvs",)) == "said"
        worker.close()
    assert len(there.connections) == 2


def test_an_answer_that_was_not_waited_for_is_no_other_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with service(tmp_path / "socket", lambda words, _=None: words[0]) as there:
        worker = Worker(there.at)
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "makefile", ended)
            with pytest.raises(KeyboardInterrupt):
                worker.run(("lvs",))
        assert worker.run(("lvremove",)) == "lvremove"
        worker.close()


def ended(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_child_runs_commands_until_it_is_not_asked_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lvm").write_text('#!/bin/sh\necho "$1"; cat\n')
    (tmp_path / "lvm").chmod(0o755)
    (tmp_path / "given").write_text("given")
    monkeypatch.setitem(lvm_run._ENVIRONMENT, "PATH", f"{tmp_path}:/usr/bin:/bin")
    children: list[int] = []
    forking = os.fork

    def forked() -> int:
        children.append(forking())
        return children[-1]

    monkeypatch.setattr(os, "fork", forked)
    worker = Worker(to=fork())
    with (tmp_path / "given").open() as file:
        assert worker.run(("lvs",), file.fileno()) == "lvs\ngiven"
    with pytest.raises(PoolError, match="is no command of a pool"):
        worker.run(("cat",))
    assert worker.run(("lvs",)) == "lvs\n"
    worker.close()
    _, status = os.waitpid(children[0], 0)
    assert status == 0


@pytest.mark.parametrize(
    "words",
    [
        None,
        [],
        {},
        "lvs",
        [1],
        ["vgremove", "vg"],
        ["lvchange", "--config", "x"],
        ["lvchange", "--config=x"],
        ["lvremove", "-f", "vg"],
        ["lvs", "a b"],
        ["lvs", "a\n"],
        ["lvs", ""],
        ["lvs", "x" * 2000],
        ["dmsetup", "remove", "--force", "vg-root"],
        ["dmsetup", "message", "/dev/mapper/vg-pool-tpool", "0", "delete"],
        ["dmsetup", "message", "/dev/mapper/vg-pool-tpool", "0", "delete", "7"],
        ["dmsetup", "message", "/dev/mapper/vg-cache", "0", "reserve_metadata_snap"],
        ["dmsetup", "message", "--force", "/dev/mapper/vg-pool-tpool", "0", "reserve_metadata_snap"],
        ["dmsetup", "message", "/dev/mapper/vg-pool-tpool", "8", "reserve_metadata_snap"],
        ["dmsetup", "load", "vg-root"],
        ["dmsetup"],
    ],
)
def test_nothing_else_is_run(words: object) -> None:
    with pytest.raises(ValueError, match="it "):
        checked(words)


def test_what_a_thin_pool_is_told_is_run() -> None:
    for message in ("reserve_metadata_snap", "release_metadata_snap"):
        words = ["dmsetup", "message", "/dev/mapper/vg--0-thin--pool-tpool", "0", message]
        assert checked(words) == words


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n", False),
        ("Uid:\t0\t0\t0\t0\nCapEff:\t0000000000003406\n", True),
        ("Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n", False),
        ("Uid:\n", False),
        ("", False),
    ],
)
def test_root_that_lacks_the_right_asks_it(tmp_path: Path, text: str, needed: bool) -> None:
    (tmp_path / "status").write_text(text)
    assert is_needed(tmp_path / "status") is needed
    assert not is_needed(tmp_path / "nothing")


def test_the_command_is_started_by_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    with pytest.raises(ConfigurationError, match=r"systemctl start aoe-target-lvm\.socket"):
        Lvm().run(Report("aoe-target", as_json=False))
