"""That a sync failed is on stable storage before it is answered; what is in force of it, and what is over."""

import asyncio
import errno
import json
import os
import threading
from pathlib import Path

import pytest

from aoe.disk.base import StoreName
from aoe.disk.memory import MemoryDisk
from aoe.drive.identify import StoreKind
from aoe.errors import DiskFailed
from aoe.link.memory import Network
from aoe.target.keys import StoreKey
from aoe.target.marks import Marks, name_of
from aoe.target.offer import Offer
from aoe.target.records import StateStore
from aoe.target.target import Target
from tests.serve.initiator import AtaFailed, Initiator, NoAnswer, mac
from tests.support.waiting import PATIENCE_S

KEY = StoreKey("/disk")
SINCE_S = 1_700_000_000.0
SILENT_S = 0.2


class SickDisk(MemoryDisk):
    """Of which no sync succeeds, and that knows it."""

    async def flush(self) -> None:
        self.distrust()
        raise DiskFailed("sync: it is sick", 0, errno.EIO)


class SlowMarks(Marks):
    """Has them written when it is let; `refused` is why they cannot be."""

    def __init__(self, directory: Path, life: str) -> None:
        super().__init__(directory, life)
        self.lets = threading.Event()
        self.begun = threading.Event()
        self.refused: OSError | None = None

    def put(self, key: StoreKey, since_s: float) -> None:
        self.begun.set()
        assert self.lets.wait(30)
        if self.refused is not None:
            raise self.refused
        super().put(key, since_s)


def served(directory: Path, network: Network, marks: Marks) -> tuple[Target, Offer]:
    record = StateStore(directory).record("SERIAL", KEY)
    target = Target.open([network.attach(mac(1))], marks=marks)
    return target, Offer(SickDisk(1 << 20), 1, 0, "SERIAL", True, record)


def test_the_mark_is_there_before_the_error_is_answered(tmp_path: Path) -> None:
    async def run() -> None:
        network, marks = Network(), SlowMarks(tmp_path, "life")
        target, offer = served(tmp_path, network, marks)
        (export,) = await target.add(offer, check=False)
        host = Initiator(network.attach(mac(2)), 1, 0, retransmit_s=SILENT_S, patience_s=SILENT_S)
        assert target.failure(export) is None
        with pytest.raises(NoAnswer):
            await host.flush()
        assert await asyncio.to_thread(marks.begun.wait, PATIENCE_S)
        assert not Marks(tmp_path, "life").found
        marks.lets.set()
        host.retransmit_s = host.patience_s = PATIENCE_S
        with pytest.raises(AtaFailed):
            await host.flush()
        assert list(Marks(tmp_path, "life").found) == [name_of(KEY)]
        assert await target.stop()

    asyncio.run(run())


def test_where_it_cannot_be_written_the_error_is_answered_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        network, marks = Network(), SlowMarks(tmp_path, "life")
        marks.refused = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        marks.lets.set()
        target, offer = served(tmp_path, network, marks)
        (export,) = await target.add(offer, check=False)
        host = Initiator(network.attach(mac(2)), 1, 0, retransmit_s=1, patience_s=30)
        with pytest.raises(AtaFailed):
            await host.flush()
        failure = target.failure(export)
        assert failure is not None
        assert failure.problem == "No space left on device"
        assert await target.stop()

    asyncio.run(run())
    assert [it for it in caplog.messages if "which a restart would forget" in it]


def test_one_that_was_marked_is_not_served_as_well(tmp_path: Path) -> None:
    Marks(tmp_path, "life").put(KEY, SINCE_S)

    async def run() -> None:
        target, offer = served(tmp_path, Network(), Marks(tmp_path, "life"))
        (export,) = await target.add(offer, check=False)
        failure = target.failure(export)
        assert failure is not None
        assert failure.since == "2023-11-14 22:13:20 UTC"
        assert await target.stop()

    asyncio.run(run())


def test_the_marks_of_another_life_are_over(tmp_path: Path) -> None:
    Marks(tmp_path, "one").put(KEY, SINCE_S)
    assert Marks(tmp_path, "one").found == {name_of(KEY): SINCE_S}
    assert not Marks(tmp_path, "other").found
    assert not Marks(tmp_path, "one").found


def test_a_mark_is_of_the_store_and_not_of_its_serial_or_path() -> None:
    store = StoreName(StoreKind.DEVICE, "wwn-1")
    assert name_of(StoreKey("/a", name=store)) == name_of(StoreKey("/b", name=store))
    names = {name_of(it) for it in (KEY, StoreKey("/disk", "@0+8"), StoreKey("/other"), StoreKey("/\udcff"))}
    assert len(names) == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"life": "one"}',
        '{"life": "one", "since": "soon"}',
        "[" * 10000,
        "x" * (1 << 20),
    ],
)
def test_one_that_cannot_be_read_may_be_in_force(tmp_path: Path, text: str) -> None:
    file = tmp_path / f"{name_of(KEY)}.failed"
    file.write_text(text)
    assert Marks(tmp_path, "one").found == {name_of(KEY): 0.0}
    Marks(tmp_path, "one").remove(KEY)
    assert not file.exists()


@pytest.mark.parametrize("since", [-1.0, float("nan"), float("inf"), 1e300, 0])
def test_a_time_that_has_no_date_is_not_known(tmp_path: Path, since: float) -> None:
    (tmp_path / f"{name_of(KEY)}.failed").write_text(json.dumps({"life": "one", "since": since}))
    assert Marks(tmp_path, "one").found == {name_of(KEY): 0.0}


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f"{name_of(KEY)}.failed").symlink_to(victim)
    marks = Marks(tmp_path, "one")
    assert marks.found
    marks.put(KEY, SINCE_S)
    assert victim.read_text() == "precious"
    assert Marks(tmp_path, "one").found == {name_of(KEY): SINCE_S}
