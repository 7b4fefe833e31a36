"""A file that is served and loses its name."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aoe.disk.watch import Lost, NameWatch


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"x" * 4096)
    return path


def noticed(*files: Path, do: Callable[[], object], again: Callable[[], object] = lambda: None) -> list[Lost]:
    fds = [os.open(file, os.O_RDWR) for file in files]

    async def run() -> list[Lost]:
        lost: list[Lost] = []
        watch = NameWatch(lost.append)
        for fd in fds:
            watch.watch(fd)
        do()
        await asyncio.sleep(0.02)
        again()
        await asyncio.sleep(0.02)
        watch.close()
        return [it._replace(fd=fds.index(it.fd)) for it in lost]

    try:
        return asyncio.run(run())
    finally:
        for fd in fds:
            os.close(fd)


def test_a_file_that_was_removed(file: Path) -> None:
    assert noticed(file, do=file.unlink) == [Lost(0, str(file), True)]


def test_a_file_that_was_replaced(file: Path, tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"y")
    assert noticed(file, do=lambda: (tmp_path / "new").replace(file)) == [Lost(0, str(file), True)]


def test_a_file_that_was_renamed(file: Path, tmp_path: Path) -> None:
    assert noticed(file, do=lambda: file.rename(tmp_path / "old")) == [Lost(0, str(file), False)]


def test_a_file_that_has_another_name_left(file: Path, tmp_path: Path) -> None:
    os.link(file, tmp_path / "other")
    assert noticed(file, do=file.unlink) == [Lost(0, str(file), False)]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_was_removed_before_it_is_watched(file: Path, replaced: bool) -> None:
    """As while another target is waited for."""
    fd = os.open(file, os.O_RDWR)
    file.unlink()
    if replaced:
        file.touch()

    async def run() -> list[Lost]:
        lost: list[Lost] = []
        watch = NameWatch(lost.append)
        watch.watch(fd)
        watch.close()
        return lost

    try:
        assert asyncio.run(run()) == [Lost(fd, str(file), True)]
    finally:
        os.close(fd)


def test_it_is_said_once(file: Path, tmp_path: Path) -> None:
    os.link(file, tmp_path / "other")
    assert len(noticed(file, do=file.unlink, again=(tmp_path / "other").unlink)) == 1


def test_of_one_file_that_is_served_twice_both_are_told(file: Path) -> None:
    assert [it.fd for it in noticed(file, file, do=file.unlink)] == [0, 1]


def test_only_the_one_that_is_gone_is_told(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"z")
    assert [it.fd for it in noticed(other, file, do=file.unlink)] == [1]


def test_what_happens_to_the_content_or_the_mode_is_no_matter(file: Path) -> None:
    def use() -> None:
        file.write_bytes(b"other")
        file.chmod(0o600)
        os.truncate(file, 10)
        os.utime(file)

    assert noticed(file, do=use) == []


def test_what_is_no_file_is_not_watched() -> None:
    assert noticed(Path("/dev/null"), do=lambda: None) == []


def test_what_is_not_served_any_more_is_no_matter(file: Path) -> None:
    async def run() -> list[Lost]:
        lost: list[Lost] = []
        watch = NameWatch(lost.append)
        with file.open("rb") as once, file.open("rb") as again:
            for opened in (once, again):
                watch.watch(opened.fileno())
            watch.forget(once.fileno())
            watch.forget(once.fileno())
            file.unlink()
            await asyncio.sleep(0.02)
            found = [it.fd == again.fileno() for it in lost]
            watch.forget(again.fileno())
        watch.close()
        return found

    assert asyncio.run(run()) == [True]


def test_where_nothing_can_be_watched_nothing_is_said(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aoe.disk.watch._libc.inotify_init1", lambda _: -1)
    assert noticed(file, do=file.unlink) == []
