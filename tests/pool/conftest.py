"""File systems with and without reflink, each mounted once for a file of tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pool.fake_lvm import FakeLvm
from tests.pool.pools import fresh
from tests.pool.thin import fake, with_base
from tests.support.labs.fault_disk import small_filesystem

_SIZES = {"xfs": 400 << 20, "btrfs": 160 << 20, "ext4": 64 << 20}


def mounted(kind: str, factory: pytest.TempPathFactory) -> Iterator[Path]:
    with small_filesystem(kind, factory.mktemp(kind) / "store", _SIZES[kind]) as store:
        yield store


@pytest.fixture(scope="module")
def xfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from mounted("xfs", tmp_path_factory)


@pytest.fixture(scope="module")
def btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from mounted("btrfs", tmp_path_factory)


@pytest.fixture(scope="module")
def ext4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from mounted("ext4", tmp_path_factory)


@pytest.fixture
def pool(xfs: Path) -> Path:
    """A pool on XFS."""
    return fresh(xfs)


@pytest.fixture
def slow_pool(ext4: Path) -> Path:
    """A pool on ext4, which has no reflink."""
    return fresh(ext4)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeLvm:
    """A thin pool that is not marked."""
    return fake(tmp_path, monkeypatch)


@pytest.fixture
def lvm(bare: FakeLvm) -> FakeLvm:
    """One with a volume `base`, which begins with ones."""
    return with_base(bare)
