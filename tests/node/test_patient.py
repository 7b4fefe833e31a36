"""Disks that do not answer, and what is asked of others meanwhile."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from aoe import limits, timing
from aoe.config.values import Config, ExportConfig, PoolConfig
from aoe.disk.locks import LifeLock
from aoe.disk.syscalls import close_all
from aoe.errors import ConfigurationError
from aoe.node.desk import Desk
from aoe.node.opener import ByOpener
from aoe.node.opener_connection import Connection
from aoe.node.opener_process import fork
from aoe.node.patient import Call, NoAnswer, Patient
from aoe.node.pool_desk import Hear
from aoe.pool.asked import Wish
from aoe.pool.requests import Create
from tests.disk.helpers import is_taken, sparse
from tests.node.hung import hung
from tests.pool.pools import MIB, fresh, working
from tests.support.waiting import wait_for

T = TypeVar("T")
LONG_S = 60.0
MARKED = "does not answer"


class Gate:
    """Calls that wait for it."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.begun = 0
        self.late: list[str] = []

    def call(self, which: str) -> Call[str]:
        return Call(which, f"disk {which}", lambda: self.wait(which), self.late.append)

    def wait(self, which: str) -> str:
        self.begun += 1
        assert self.opened.wait(LONG_S)
        return f"{which} answers"


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()


def quick(which: str) -> Call[str]:
    return Call(which, which, lambda: which)


def test_what_answers_is_answered_on_one_thread() -> None:
    patient, threads = Patient(), set[int]()
    for number in range(5):
        made = Call(number, "a disk", lambda number=number: threads.add(threading.get_ident()) or number)
        assert patient.ask(made, LONG_S) == number
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_what_is_raised_is_raised() -> None:
    def fails() -> None:
        raise FileNotFoundError("it is gone")

    with pytest.raises(FileNotFoundError, match="it is gone"):
        Patient().ask(Call("a", "a", fails), LONG_S)


def test_one_that_does_not_answer_is_asked_once_and_others_are_asked_on(gate: Gate) -> None:
    patient = Patient()
    for _ in range(3):
        with pytest.raises(NoAnswer, match=f"disk a {MARKED}"):
            patient.ask(gate.call("a"), 0.01)
        assert patient.ask(quick("b"), LONG_S) == "b"
    wait_for(lambda: gate.begun > 0)
    assert gate.begun == 1
    gate.opened.set()
    wait_for(lambda: gate.late == ["a answers"])
    wait_for(lambda: answers(patient, "a"))


def answers(patient: Patient, which: str) -> bool:
    try:
        return patient.ask(quick(which), LONG_S) == which
    except NoAnswer:
        return False


def test_of_many_each_has_its_own_result(gate: Gate) -> None:
    patient = Patient()

    def asked(which: str) -> str:
        if which == "wrong":
            raise ConfigurationError("it is wrong")
        return gate.wait(which) if which == "hung" else which

    def found() -> list[str]:
        """On a machine that has no time others may be late, too."""
        return [str(it) for it in patient.each(them, lambda it: f"disk {it}", asked, 0.3)]

    them = ["a", "hung", "wrong", "b"]
    hangs = str(NoAnswer("disk hung"))
    wait_for(lambda: found() == ["a", hangs, "it is wrong", "b"])
    assert gate.begun <= 2, "as one of all, and by itself"


def test_they_are_bounded(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LATE_MAX", 1)
    patient = Patient()
    with pytest.raises(NoAnswer):
        patient.ask(gate.call("a"), 0.01)
    with pytest.raises(ConfigurationError, match="1 disks do not answer; no more is asked of any"):
        patient.ask(quick("b"), LONG_S)


# The opener


class Side:
    """A process's own end of an opener that has a pool which hangs, and one that does not."""

    def __init__(self, config: Config) -> None:
        hear: Hear = lambda _: ("fast", WISH)  # noqa: E731 - a person who may
        forked = fork(partial(Desk, lambda: config, 0.0, hear=hear))
        self._pid = forked.process
        self._to = Connection(forked.socket)
        self.by = ByOpener(self._to)

    def does(self, wish: Wish) -> str:
        self.by.hear(0)
        return str(self.by.volume("fast", wish, only_plan=False)["done"])

    def close(self) -> None:
        self._to.close()
        os.waitpid(self._pid, 0)


WISH = Create("new", MIB, "raw")


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[tuple[Side, Path]]:
    """The opener, and what may hang."""
    disk, hangs = sparse(tmp_path / "disk", 64), tmp_path / "hangs"
    hangs.mkdir()
    sparse(hangs / "disk", 64)
    both = []
    for name, place in (("slow", hangs), ("fast", tmp_path)):
        made = fresh(place)
        with working(made, reserve=0) as work:
            work.do(Create("web1", MIB, "raw"))
        both.append(PoolConfig(name=name, path=str(made), reserve=0))
    paths = ["slow/web1", str(hangs / "disk"), "fast/web1", str(disk)]
    exports = tuple(ExportConfig(path=it, shelf=1, slot=slot) for slot, it in enumerate(paths))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "OPENER_PATIENCE_S", 1.0)
        side = Side(Config(exports=exports, pools=tuple(both)))
        yield side, hangs
        side.close()


def places(side: Side, hangs: Path) -> tuple[list[str], list[str]]:
    """What is there, and what does not answer."""
    wanted = ["slow/web1", str(hangs / "disk"), "fast/web1", str(hangs.parent / "disk")]
    found = side.by.find(wanted)
    return list(found), [it for it in wanted if MARKED in found.why.get(it, "")]


def export(side: Side, slot: int, path: str) -> ExportConfig:
    return ExportConfig(path=path, shelf=1, slot=slot)


def answered(call: Callable[[], T]) -> T:
    """On a machine that has no time a disk may seem to hang that does not."""
    until_s = time.monotonic() + LONG_S
    while True:
        try:
            return call()
        except ConfigurationError as error:
            if MARKED not in str(error) or time.monotonic() > until_s:
                raise


@pytest.mark.parametrize("when", ["from the start", "later"])
def test_one_disk_that_hangs_keeps_no_other_waiting(when: str, disks: tuple[Side, Path]) -> None:
    """Its pool, and its export."""
    side, hangs = disks
    good = ["fast/web1", str(hangs.parent / "disk")]
    bad = ["slow/web1", str(hangs / "disk")]
    if when == "later":
        wait_for(lambda: sorted(places(side, hangs)[0]) == sorted(bad + good))
    with hung(hangs) as it:
        wait_for(lambda: sorted(places(side, hangs)[0]) == sorted(good))
        wait_for(lambda: places(side, hangs)[1] == bad)
        for slot, path in enumerate(bad):
            with pytest.raises(ConfigurationError, match=MARKED):
                side.by.open_store(export(side, slot, path))
        for slot, path in enumerate(good, 2):
            held = answered(partial(side.by.open_store, export(side, slot, path)))
            anew = answered(partial(side.by.anew, held.opened.store.fd))
            assert LifeLock(anew).take()
            close_all([anew, held.opened.store.fd])
            side.by.release(held)
        assert answered(lambda: side.does(WISH)) == "fast/new: 1048576 bytes, raw"
        with pytest.raises(ConfigurationError, match=f"pool slow .*{MARKED}"):
            side.by.volumes("slow", "")
        listed = answered(lambda: side.by.volumes("fast", ""))["volumes"]
        assert [it["volume"] for it in listed] == ["fast/new", "fast/web1"]
        wait_for(lambda: ["figures" in it for it in side.by.rooms()] == [False, True])
        (slow, _) = side.by.rooms()
        assert f"pool slow ({slow['path']}) {MARKED}" in slow["problem"]
        it.end()
        wait_for(lambda: sorted(places(side, hangs)[0]) == sorted(bad + good))
    for slot, path in enumerate(bad):  # what was opened too late has no lock
        answered(partial(side.by.open_store, export(side, slot, path)))
    assert is_taken(hangs / "disk")
