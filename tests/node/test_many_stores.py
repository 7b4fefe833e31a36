"""Many stores, addresses and files that one opener is asked for: in few messages, each as root's file says
when it is taken up."""

import asyncio
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aoe import limits, timing
from aoe.config.values import Config, ExportConfig
from aoe.disk.opened import Beneath
from aoe.disk.watch import Lost, NameWatch
from aoe.errors import AoeError, ConfigurationError
from aoe.node.desk import Desk, Texts
from aoe.node.needs import Held
from aoe.node.opener import ByOpener
from aoe.node.opener_connection import Connection
from aoe.node.opener_process import attend
from aoe.target.address_locks import name_of
from tests.disk.helpers import is_taken, sparse
from tests.support.waiting import wait_for

MANY = 2 * limits.OPENER_STORES_MAX + 7


class Counting(Connection):
    """Counts what is asked for."""

    asked: Counter[str]

    def ask(self, verb: str, *others: Any, **arguments: Any) -> tuple[dict[str, Any], list[int]]:
        self.asked[verb] += 1
        return super().ask(verb, *others, **arguments)


@contextmanager
def asked(
    config: Callable[[], Config], texts: Texts | None = None
) -> Iterator[tuple[ByOpener, Counter[str]]]:
    """An opener that is a thread of this process."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    thread = threading.Thread(target=attend, args=(its, Desk(config, 0.0, texts or {})))
    thread.start()
    to = Counting(ours)
    to.asked = Counter()
    yield ByOpener(to), to.asked
    to.close()
    thread.join()
    its.close()


@pytest.fixture
def exports(tmp_path: Path) -> list[ExportConfig]:
    return [
        ExportConfig(path=str(sparse(tmp_path / f"disk-{at}", 8)), shelf=1, slot=at) for at in range(MANY)
    ]


def close(*held: Held | AoeError) -> None:
    for it in held:
        if isinstance(it, Held):
            os.close(it.opened.store.fd)


def test_all_are_opened_in_few_messages_and_what_cannot_be_is_told(exports: list[ExportConfig]) -> None:
    missing = Path(exports[7].path)
    missing.unlink()
    with asked(lambda: Config(exports=tuple(exports))) as (by, verbs):
        held = list(by.open_stores(exports))
        assert verbs == {"stores": -(-MANY // limits.OPENER_STORES_MAX)}
        assert [it.key.path for it in held if isinstance(it, Held)] == [
            it.path for it in exports if it is not exports[7]
        ]
        assert str(missing) in str(held[7])
        assert is_taken(Path(exports[-1].path))
        close(*held)
        by.release(*(it for it in held if isinstance(it, Held)))
        assert not any(is_taken(Path(it.path)) for it in (exports[0], exports[-1]))


def test_the_disk_beneath_is_looked_for_once_in_a_message(
    exports: list[ExportConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = list[int]()

    def beneath(number: int, _: object) -> Beneath:
        numbers.append(number)
        return Beneath("/sys/one", 1)

    monkeypatch.setattr("aoe.disk.device.beneath", beneath)
    with asked(lambda: Config(exports=tuple(exports))) as (by, verbs):
        held = list(by.open_stores(exports))
        assert all(isinstance(it, Held) for it in held)
        assert len(numbers) == verbs["stores"] < len(exports)
        close(*held)


def test_each_is_what_the_file_says_by_then(exports: list[ExportConfig]) -> None:
    """It is read for each message, and is another one from the second on."""
    now = [Config(exports=tuple(exports))]
    with asked(lambda: now[0]) as (by, _):
        opening = by.open_stores(exports)
        first = next(opening)
        now[0] = Config(exports=tuple(exports[:-1]))
        rest = list(opening)
        assert isinstance(first, Held)
        assert "e1.126 is not in the file" in str(rest[-1])
        close(first, *rest)


@pytest.mark.parametrize("why", ["time", "room"])
def test_an_answer_is_bounded(why: str, exports: list[ExportConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    """By time, as each may wait for a lock, and by what is told of those with the longest paths."""
    few = exports[:12]
    if why == "time":
        monkeypatch.setattr(timing, "OPENER_TURN_S", -1.0)
    else:
        deep = Path(exports[0].path).parent.joinpath(*["\u0001" * 250] * 12)
        deep.mkdir(parents=True)
        few = [ExportConfig(path=str(sparse(deep / f"{at}", 8)), shelf=1, slot=at) for at in range(len(few))]
    with asked(lambda: Config(exports=tuple(few))) as (by, verbs):
        held = list(by.open_stores(few))
        assert all(isinstance(it, Held) for it in held), held
        assert verbs["stores"] == len(few) if why == "time" else verbs["stores"] > 2
        close(*held)


def test_addresses_are_locked_together_or_not_at_all(exports: list[ExportConfig]) -> None:
    names = [name_of(str(os.getpid()), it.key) for it in exports]
    with asked(lambda: Config(exports=tuple(exports))) as (by, verbs):
        locks = by.bound(*names)
        assert verbs == {"lock": -(-MANY // limits.OPENER_STORES_MAX)}
        assert None not in locks
        assert by.bound(names[0], names[-1]) == [None, None]
        for it in locks[1:]:
            assert it is not None
            it.close()
        with pytest.raises(AoeError, match=r"e9.9 is not in the file"):
            by.bound(names[-1], *names[1 : MANY - 2], name_of(str(os.getpid()), (9, 9)))
        (free,) = by.bound(names[-1])
        assert free is not None
        for last in (free, locks[0]):
            assert last is not None
            last.close()


def test_files_are_watched_together(exports: list[ExportConfig]) -> None:
    """One is forgotten before it is known whether it is watched, and its number is another's then."""

    async def scenario(by: ByOpener) -> list[str]:
        lost: list[Lost] = []
        watch = NameWatch(lost.append, by.add_watches)
        fds = [os.open(it.path, os.O_RDONLY) for it in exports]
        watch.watch(*fds)
        watch.forget(fds[3])
        os.close(fds[3])
        for at in (3, 5, MANY - 1):
            Path(exports[at].path).unlink()
        async with asyncio.timeout(30):
            while len(lost) < 2:
                await asyncio.sleep(0.01)
        watch.close()
        for fd in (*fds[:3], *fds[4:]):
            os.close(fd)
        return sorted(it.path for it in lost)

    with asked(lambda: Config(exports=tuple(exports))) as (by, verbs):
        lost = asyncio.run(scenario(by))
        assert lost == sorted(exports[at].path for at in (5, MANY - 1))
        assert verbs == {"watch": -(-MANY // limits.OPENER_STORES_MAX)}


def test_the_file_is_read_by_both_sides_at_a_time_and_its_faults_are_told_when_it_matters(
    exports: list[ExportConfig],
) -> None:
    reads: list[str] = []

    def config() -> Config:
        reads.append("read")
        raise ConfigurationError("the file is wrong")

    texts = dict.fromkeys(("changes", "file"), lambda: os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    with asked(config, texts) as (by, _):
        for _ in range(2):
            os.close(by.text("changes"))
        assert not reads
        os.close(by.text("file"))
        wait_for(lambda: reads, what="it is not read until something is asked")
        (refused,) = by.open_stores(exports[:1])
        assert str(refused) == "the file is wrong"
        assert len(reads) == 2
