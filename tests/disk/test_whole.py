"""Files that are whole, or are not there."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aoe.disk import whole


def no_room(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def make(file: Path, dress: Callable[[int], None] = lambda _: None) -> None:
    whole.make(file, b"new", dress=dress)


def replace(file: Path, dress: Callable[[int], None] = lambda _: None) -> None:
    whole.replace(file, b"new", file.with_suffix(".new"), dress)


def mode(file: Path) -> int:
    return file.stat().st_mode & 0o7777


def test_one_that_is_there_is_replaced_or_not_made(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    before = file.stat().st_ino
    with pytest.raises(FileExistsError):
        make(file)
    assert file.read_bytes() == b"old"
    replace(file)
    assert (file.read_bytes(), mode(file)) == (b"new", 0o600)
    assert file.stat().st_ino != before
    file.unlink()
    make(file)
    assert (file.read_bytes(), mode(file)) == (b"new", 0o600)
    assert [it.name for it in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("left", ["file", "link"])
def test_what_a_dead_process_left_or_another_put_there_is_no_matter(tmp_path: Path, left: str) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    other.write_bytes(b"theirs")
    if left == "link":
        file.with_suffix(".new").symlink_to(other)
    else:
        file.with_suffix(".new").write_bytes(b"half")
    replace(file)
    assert (file.read_bytes(), other.read_bytes()) == (b"new", b"theirs")
    assert not file.is_symlink()


def test_a_link_under_its_name_is_not_followed(tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    other.write_bytes(b"theirs")
    file.symlink_to(other)
    with pytest.raises(FileExistsError):
        make(file)
    replace(file)
    assert (file.read_bytes(), other.read_bytes(), file.is_symlink()) == (b"new", b"theirs", False)


@pytest.mark.parametrize("put", [make, replace])
def test_after_a_failure_nothing_has_changed(tmp_path: Path, put: Callable[..., None]) -> None:
    file = tmp_path / "file"
    with pytest.raises(OSError, match="No space left"):
        put(file, no_room)
    assert list(tmp_path.iterdir()) == []
    file.mkdir()
    with pytest.raises(OSError):  # noqa: PT011 - which one it is differs
        put(file)
    assert [it.name for it in tmp_path.iterdir()] == ["file"]


def test_its_dress_is_on_before_there_is_something_in_it(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def dress(fd: int) -> None:
        seen.append((os.fstat(fd).st_size, os.fstat(fd).st_mode & 0o777))
        os.fchmod(fd, 0o644)

    replace(tmp_path / "file", dress)
    assert (seen, mode(tmp_path / "file")) == ([(0, 0o600)], 0o644)


@pytest.mark.parametrize(("lasting", "synced"), [(True, 2), (False, 0)])
def test_what_is_to_last_is_synced_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasting: bool, synced: int
) -> None:
    calls: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(fd), real(fd)))
    file = tmp_path / "file"
    whole.replace(file, b"new", file.with_suffix(".new"), lasting=lasting)
    assert (len(calls), file.read_bytes()) == (synced, b"new")
