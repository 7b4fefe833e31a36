"""Stores that are opened for exports: one lock for all of one store, whatever its exports do with it."""

import os
from pathlib import Path
from typing import Any

import pytest

from aoe.config.values import ExportConfig
from aoe.disk.open import Opening, open_disk
from aoe.disk.opened import Beneath
from aoe.errors import ConfigurationError
from aoe.node.needs import Held
from aoe.node.opening import InProcess
from tests.disk.helpers import is_taken, sparse

SECTORS = 64


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return sparse(tmp_path / "image", SECTORS)


@pytest.fixture
def opener() -> InProcess:
    return InProcess(lock_wait_s=0)


def export(path: Path, slot: int = 0, **said: Any) -> ExportConfig:
    return ExportConfig(path=str(path), shelf=1, slot=slot, **said)


def done(opener: InProcess, *them: Held) -> None:
    """As when an export is removed."""
    for held in them:
        os.close(held.opened.store.fd)
        opener.release(held)


def test_only_what_is_there_is_found(opener: InProcess, image: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(image)
    names = [str(image), str(tmp_path / "link"), str(tmp_path / "none"), str(tmp_path), "/dev/null", "/a\0b"]
    found = opener.find(names)
    assert list(found) == names[:2]
    assert found[names[0]] == found[names[1]]


def test_a_store_is_found_as_it_was_opened(opener: InProcess, image: Path) -> None:
    held = opener.open_store(export(image))
    assert held.store == opener.find([str(image)])[str(image)]
    assert (held.key.path, held.opened.store.size) == (str(image), SECTORS * 512)
    done(opener, held)


def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The device numbers beneath which it is looked from now on."""
    numbers = list[int]()

    def beneath(number: int, _: object) -> Beneath:
        numbers.append(number)
        return Beneath(f"/sys/{len(numbers)}", 1)

    monkeypatch.setattr("aoe.disk.device.beneath", beneath)
    return numbers


def test_each_batch_looks_once_for_the_disk_beneath(
    opener: InProcess, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = [export(image), *(export(sparse(tmp_path / f"{it}", SECTORS), it) for it in range(1, 4))]
    numbers = looked_up(monkeypatch)
    for looks in (1, 2):
        held = [it for it in opener.open_stores(exports) if isinstance(it, Held)]
        assert len(held) == len(exports)
        assert {it.opened.beneath.node for it in held} == {f"/sys/{looks}"}
        assert numbers == [image.stat().st_dev] * looks
        done(opener, *held)


def test_what_is_opened_alone_looks_for_itself(
    opener: InProcess, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = looked_up(monkeypatch)
    held = [opener.open_store(export(image, it)) for it in range(2)]
    assert len(numbers) == len(held)
    done(opener, *held)


def test_a_store_changes_hands_with_its_lock(opener: InProcess, image: Path) -> None:
    first = opener.open_store(export(image))
    second = opener.open_store(export(image, 1))
    done(opener, first)
    assert is_taken(image)
    done(opener, second)
    assert not is_taken(image)


def test_each_has_a_descriptor_of_its_own(opener: InProcess, image: Path) -> None:
    """An error of a sync is told to each, and direct I/O of one is no matter to the other."""
    first = opener.open_store(export(image, length=8))
    second = opener.open_store(export(image, 1, offset=8, direct=True))
    os.lseek(first.opened.store.fd, 7, os.SEEK_SET)
    assert os.lseek(second.opened.store.fd, 0, os.SEEK_CUR) != 7
    assert (first.opened.store.direct, second.opened.store.direct) == (False, True)
    done(opener, first, second)


def test_what_has_another_name_by_now_is_still_the_one_that_is_locked(
    opener: InProcess, image: Path, tmp_path: Path
) -> None:
    first = opener.open_store(export(image))
    image.rename(tmp_path / "moved")
    second = opener.open_store(export(tmp_path / "moved", 1))
    other = opener.open_store(export(sparse(image, SECTORS), 2))
    assert first.store == second.store != other.store
    done(opener, first, second, other)


def test_one_that_was_only_read_is_locked_for_writing(opener: InProcess, image: Path) -> None:
    first = opener.open_store(export(image, read_only=True))
    assert not is_taken(image, read_only=True)
    second = opener.open_store(export(image))
    assert not second.opened.store.read_only
    assert is_taken(image, read_only=True)
    done(opener, first, second)


def test_what_another_program_reads_is_not_written(opener: InProcess, image: Path) -> None:
    held = opener.open_store(export(image, read_only=True))
    reader = open_disk(image, Opening(read_only=True, lock_wait_s=0))
    with pytest.raises(ConfigurationError, match="is read by another program"):
        opener.open_store(export(image))
    reader.close()
    done(opener, held)
    assert not is_taken(image)


def test_what_another_program_has_is_refused(opener: InProcess, image: Path) -> None:
    disk = open_disk(image)
    with pytest.raises(ConfigurationError, match="is in use by"):
        opener.open_store(export(image))
    disk.close()
    done(opener, opener.open_store(export(image)))


def test_a_shared_store_has_no_lock(opener: InProcess, image: Path) -> None:
    held = opener.open_store(export(image, shared=True))
    assert not is_taken(image)
    done(opener, held)


def test_errors_name_the_path_and_leave_nothing_open(opener: InProcess, image: Path) -> None:
    held = opener.open_store(export(image))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(ConfigurationError, match=f"^{image} has 64 sectors there, not --length 65"):
        opener.open_store(export(image, 1, length=65))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    done(opener, held)
