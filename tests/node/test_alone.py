"""One daemon for a file: which file is locked, and that only files are."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aoe import limits
from aoe.errors import ConfigurationError
from aoe.node.alone import Alone


def wait_for_ever(file: Path) -> None:
    os.mkfifo(file)


def everything(file: Path) -> None:
    file.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [wait_for_ever, everything, Path.mkdir])
def test_what_is_no_file_is_refused_and_the_lock_stays_where_it_was(
    make: Callable[[Path], object], tmp_path: Path
) -> None:
    file, before = tmp_path / "f.toml", tmp_path / "before.toml"
    file.write_text("a")
    with Alone() as one, Alone() as other:
        assert one.read(file) == b"a"
        file.rename(before)
        make(file)
        with pytest.raises(ConfigurationError, match=r"f\.toml is not a file; name a configuration file"):
            one.read(file)
        with pytest.raises(ConfigurationError, match="is used by"):
            other.read(before)


def test_another_file_of_the_name_is_ours_and_the_last_one_is_free(tmp_path: Path) -> None:
    file, before = tmp_path / "f.toml", tmp_path / "before.toml"
    file.write_text("a")
    with Alone() as one, Alone() as other:
        one.read(file)
        file.rename(before)
        file.write_text("b")
        assert one.read(file) == b"b"
        assert other.read(before) == b"a"


def test_no_more_is_read_than_tells_that_it_is_too_much(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_bytes(bytes(2 * limits.CONFIG_BYTES_MAX))
    with Alone() as one:
        assert len(one.read(file)) == limits.CONFIG_BYTES_MAX + 1
