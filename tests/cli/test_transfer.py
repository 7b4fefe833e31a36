"""`aoe read` and `aoe write`: what does not fit is said before anything is moved, or what was moved is."""

import subprocess
from pathlib import Path

import pytest

from tests.cli.client import command, over, refused, run
from tests.support.labs.served import SECTORS, Served

SIZE = SECTORS * 512


def write_file(
    served: Served, path: Path, *words: str, skip: int = 0
) -> "subprocess.CompletedProcess[bytes]":
    with path.open("rb") as file:
        file.seek(skip)
        line = command("write", "e1.2", *words, *over(served))
        return subprocess.run(line, stdin=file, capture_output=True, check=False, timeout=30)


@pytest.mark.parametrize(
    ("size", "lba"), [(SIZE + 512, 0), (4 << 20, 0), (1024, SECTORS - 1), (1000, 0), (SIZE - 1, 0)]
)
def test_a_file_that_does_not_fit_is_not_written_at_all(
    served: Served, image: Path, tmp_path: Path, size: int, lba: int
) -> None:
    before = image.read_bytes()
    source = tmp_path / "source"
    source.write_bytes(b"n" * size)
    done = write_file(served, source, "--lba", str(lba))
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert "standard input does not end at a sector" in line
    assert "were written" not in line
    assert image.read_bytes() == before


def test_a_file_is_measured_from_where_it_is_read(served: Served, image: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"s" * 4096 + b"n" * SIZE)
    assert write_file(served, source, skip=4096).returncode == 0
    assert image.read_bytes() == b"n" * SIZE
    assert write_file(served, source, skip=SIZE + 4096).returncode == 0, "there is nothing to write"


@pytest.mark.parametrize("more", [512, 100, 1 << 20])
def test_of_a_pipe_it_is_said_what_was_written(served: Served, image: Path, more: int) -> None:
    said = refused(served, "write", "e1.2", status=1, stdin=b"n" * (SIZE + more))
    assert said.endswith(f"; {SIZE} bytes from --lba 0 on were written")
    assert image.read_bytes() == b"n" * SIZE


@pytest.mark.parametrize(("lba", "sectors"), [(0, SECTORS + 1), (SECTORS - 1, 2), (5, SECTORS)])
def test_read_past_the_end(served: Served, lba: int, sectors: int) -> None:
    done = run(served, "read", "e1.2", "--lba", str(lba), "--sectors", str(sectors))
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"goes past the end" in done.stderr
    last = run(served, "read", "e1.2", "--lba", str(SECTORS - 1), "--sectors", "1")
    assert (last.returncode, len(last.stdout)) == (0, 512)


def test_standard_output_that_is_full_or_that_nobody_reads(served: Served) -> None:
    words = command("read", "e1.2", *over(served))
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, check=False, timeout=30)
    assert done.returncode == 1
    assert done.stderr == b"aoe: standard output: No space left on device\n"
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(512)
        process.stdout.close()
        assert process.wait(30) == 1
        assert process.stderr.read() == b""
