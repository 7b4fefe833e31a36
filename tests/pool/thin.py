"""Pools in a volume group that only computes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aoe.errors import AoeError
from aoe.pool import store
from aoe.pool.lvm_seen import name_of
from aoe.pool.requests import Create
from aoe.pool.work import Request, Work
from tests.pool.fake_lvm import FakeLvm
from tests.pool.pools import SIZE, write


def fake(directory: Path, monkeypatch: pytest.MonkeyPatch) -> FakeLvm:
    directory.mkdir(exist_ok=True)
    lvm = FakeLvm(directory)
    monkeypatch.setattr("aoe.pool.lvm_marking.HERE", lvm.host)
    return lvm


def with_base(lvm: FakeLvm) -> FakeLvm:
    store.init(lvm.path, kind="lvm-thin", name="fast")
    with working(lvm) as work:
        work.do(Create("base", SIZE))
        write(work, "base", 1)
    return lvm


@contextmanager
def working(lvm: FakeLvm, reserve: int = 10, *, locked: bool = True) -> Iterator[Work]:
    work = Work(lvm.path, kind="lvm-thin", name="fast", reserve=reserve, patience_s=0, locked=locked)
    try:
        yield work
    finally:
        work.close()


def opened(lvm: FakeLvm) -> None:
    with working(lvm):
        pass


def refusal(work: Work, request: Request) -> str:
    with pytest.raises(AoeError) as caught:
        work.do(request)
    assert str(caught.value).isprintable()
    return str(caught.value)


def lv_of(work: Work, volume: str, snapshot: str = "") -> str:
    return name_of(work.image_of(volume, snapshot))
