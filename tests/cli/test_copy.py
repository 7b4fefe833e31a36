"""`aoe copy`: what it leaves behind, however it ends."""

import asyncio
import contextlib
import io
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from aoe.cli.copying import Progress
from aoe.disk.memory import MemoryDisk
from aoe.disk.syscalls import is_memory
from tests.cli.client import command, over, refused, run, said
from tests.support.labs.served import SECTORS, Served, serving
from tests.support.tools import need, need_root, unavailable
from tests.support.waiting import PROMPT_S, wait_for

SIZE = SECTORS * 512
OLD = b"old tail" * 512


@contextmanager
def serving_image(tmp_path: Path, data: bytes, size: int) -> Iterator[Served]:
    image = tmp_path / "image"
    image.write_bytes(data)
    os.truncate(image, size)
    with serving(f"{image}=1.2", "--state-dir", tmp_path / "state") as target:
        yield target


# What is there already


@pytest.mark.parametrize("more", [len(OLD), 1, SIZE * 3])
def test_an_existing_file_that_is_larger_is_cut(
    served: Served, image: Path, tmp_path: Path, more: int
) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(bytes([7]) * (SIZE + more))
    inode = copy.stat().st_ino
    (done,) = said(served, "copy", "e1.2", copy, "--verify")
    assert (done["verified"], done["left_bytes"]) == (True, 0)
    assert copy.read_bytes() == image.read_bytes()
    assert copy.stat().st_ino == inode


@pytest.mark.parametrize("size", [0, 512, SIZE - 1])
def test_an_existing_file_that_is_smaller_grows(
    served: Served, image: Path, tmp_path: Path, size: int
) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(bytes([7]) * size)
    said(served, "copy", "e1.2", copy)
    assert copy.read_bytes() == image.read_bytes()


def test_a_file_that_was_enlarged_for_nothing_is_as_before(tmp_path: Path, served: Served) -> None:
    """Nothing can be read."""
    program = (
        "import sys, aoe.initiator.remote as r\n"
        "from aoe.errors import DiskError\n"
        "async def fail(self, at, buffer):\n"
        "    raise DiskError('a bad sector', at)\n"
        "r.RemoteDisk.read_into = fail\n"
        "from aoe.cli.client import main\n"
        "sys.exit(main())\n"
    )
    copied = tmp_path / "copy"
    copied.write_bytes(OLD)
    words = command("copy", "e1.2", copied, *over(served))
    words[1:3] = ["-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (1, "aoe: a bad sector\n")
    assert copied.read_bytes() == OLD


def test_a_larger_disk_is_said_to_be(served: Served, image: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(OLD)
    before = image.read_bytes()
    done = run(served, "copy", source, "e1.2")
    assert done.returncode == 0
    assert f"e1.2 is larger, its last {SIZE - len(OLD)} bytes are as before" in done.stdout.decode()
    assert image.read_bytes() == OLD + before[len(OLD) :]


def test_a_file_in_use_is_left_alone(served: Served, image: Path) -> None:
    before = image.read_bytes()
    assert "in use" in refused(served, "copy", "e1.2", image, status=2)
    assert image.read_bytes() == before


def test_a_link_to_a_file_stays_one(served: Served, image: Path, tmp_path: Path) -> None:
    there, link = tmp_path / "there", tmp_path / "link"
    there.write_bytes(OLD)
    link.symlink_to(there)
    said(served, "copy", "e1.2", link)
    assert link.is_symlink()
    assert there.read_bytes() == image.read_bytes()


# Beside others


@pytest.mark.parametrize(
    ("words", "background"),
    [
        (["copy", "e1.2", "copied"], True),
        (["copy", "e1.2", "copied", "--full-speed"], False),
        (["copy", "e1.2", "-"], True),
        (["read", "e1.2"], False),
    ],
)
def test_a_copy_lets_others_go_first_unless_it_is_told_not_to(
    served: Served, tmp_path: Path, words: list[str], background: bool
) -> None:
    program = (
        "import sys, aoe.cli.where as where\n"
        "attach = where.attach\n"
        "def told(*names, **how):\n"
        "    print(how['background'], file=sys.stderr)\n"
        "    return attach(*names, **how)\n"
        "where.attach = told\n"
        "from aoe.cli.client import main\n"
        "sys.exit(main())\n"
    )
    how = command(*words, *over(served))
    how[1:3] = ["-c", program]
    done = subprocess.run(how, cwd=tmp_path, capture_output=True, check=True, timeout=60)
    assert done.stderr.decode().split() == [str(background)]


# What cannot be meant


@pytest.mark.parametrize(
    ("destination", "says"),
    [
        ("/dev/typo", "/dev/typo: there is no such device"),
        ("/dev/disk/by-id/typo", "/dev/disk/by-id"),
        ("/dev/../dev/typo", "there is no such device"),
        ("/dev/null", "is not a file or block device"),
        ("/tmp", "is not a file or block device"),
        ("e1,1", "write it as e1.1, or as './e1,1'"),
        ("E1.1", "write it as e1.1,"),
        ("1.1", "write it as e1.1,"),
        ("e1:1", "write it as e1.1,"),
        ("e 1.1", "write it as e1.1,"),
        ("e1", "is not an address"),
        ("e1.1.1", "is not an address"),
        ("e1.1,", "is not an address"),
        ("e1.1,E1.2", "is not an address"),
        ("e1.1, e1.2", "is not an address"),
        ("e1.1,copy.img", "is not an address"),
        ("e1.255", "is not an address"),
        ("e65535.1", "is not an address"),
        ("file", "neither"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_asked(
    destination: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nowhere = ("--link", "udp:127.0.0.1:0,peer=127.0.0.1:9")
    source = "other" if destination == "file" else "e1.2"
    assert says in refused(None, "copy", source, destination, *nowhere, status=2)
    assert not list(tmp_path.iterdir())
    assert not Path("/dev/typo").exists()


@pytest.mark.parametrize("source", ["E1.2", "1.2", "e1,2", "e1;2"])
def test_a_source_that_is_nearly_an_address(source: str, tmp_path: Path) -> None:
    said_so = refused(None, "copy", source, tmp_path / "copy", "--link", "udp:127.0.0.1:0", status=2)
    assert "write it as e1.2" in said_so


def test_a_file_named_like_an_address_can_be_named(served: Served, image: Path, tmp_path: Path) -> None:
    said(served, "copy", "e1.2", tmp_path / "E1.1")
    assert (tmp_path / "E1.1").read_bytes() == image.read_bytes()


def test_a_disk_is_not_copied_onto_itself(served: Served) -> None:
    done = run(None, "copy", "e1.2", "e1.2", "--interface", "none")
    assert (done.returncode, b"another disk" in done.stderr) == (2, True)


def test_nor_by_way_of_its_other_address(tmp_path: Path) -> None:
    """Two primaries, as over two interfaces: a UDP link may not lead to both ends of a copy."""
    from aoe.cli.copying import _check_different
    from aoe.cli.ends import End
    from aoe.errors import RequestError
    from aoe.testing import Lab

    async def scenario() -> None:
        lab, one, other = Lab(seed=1), MemoryDisk(1 << 20), MemoryDisk(1 << 20)
        async with (
            lab.serve(one, "e0.0"),
            lab.serve(one, "e1.0"),
            lab.serve(other, "e2.0"),
            lab.attach("e0.0") as first,
            lab.attach("e1.0") as again,
            lab.attach("e2.0") as different,
        ):
            with pytest.raises(RequestError, match="are one disk"):
                _check_different(End("e0.0", first), End("e1.0", again))
            _check_different(End("e0.0", first), End("e2.0", different))

    asyncio.run(scenario())


def test_dangling_links_and_missing_directories_are_named(served: Served, tmp_path: Path) -> None:
    link, place = tmp_path / "link", tmp_path / "gone" / "copy"
    link.symlink_to("nowhere")
    assert f"{link} is a link to nowhere" in refused(served, "copy", "e1.2", link, status=2)
    assert str(place) in refused(served, "copy", "e1.2", place, status=2)
    assert not (tmp_path / "nowhere").exists()


# Standard input and output


def test_minus_is_standard_output(
    served: Served, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(served, "copy", "e1.2", "-").stdout == image.read_bytes()
    told = run(served, "copy", "e1.2", "-", "--json")
    assert told.stdout == image.read_bytes()
    assert f'"bytes": {SIZE}' in told.stderr.decode()
    assert not Path("-").exists()


def test_minus_is_standard_input(served: Served, image: Path) -> None:
    before = image.read_bytes()
    assert run(served, "copy", "-", "e1.2", stdin=OLD).returncode == 0
    assert image.read_bytes() == OLD + before[len(OLD) :]


@pytest.mark.parametrize("ends", [("-", "e1.2"), ("e1.2", "-")])
def test_standard_streams_cannot_be_verified(served: Served, ends: tuple[str, str]) -> None:
    assert "--verify" in refused(served, "copy", *ends, "--verify", status=2, stdin=OLD)


# A new file


def test_a_new_file_appears_whole_and_with_the_usual_mode(served: Served, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    said(served, "copy", "e1.2", home / "copy")
    (only,) = home.iterdir()
    mask = os.umask(0o22)
    os.umask(mask)
    assert (only.name, stat.S_IMODE(only.stat().st_mode)) == ("copy", 0o666 & ~mask)


def test_a_partial_file_of_somebody_else_is_left_alone(served: Served, tmp_path: Path) -> None:
    partial = tmp_path / "copy.partial"
    partial.write_bytes(b"mine")
    assert str(partial) in refused(served, "copy", "e1.2", tmp_path / "copy", status=2)
    assert partial.read_bytes() == b"mine"
    assert not (tmp_path / "copy").exists()


def limited(size: int, words: list[str]) -> list[str]:
    """A file system that is full, as a process sees it: no file grows beyond so many bytes."""
    return ["sh", "-c", f'ulimit -f {size // 512}; exec "$@"', "sh", *words]


@pytest.mark.parametrize("exists", [False, True])
def test_a_file_that_cannot_take_it_all_is_named(served: Served, tmp_path: Path, exists: bool) -> None:
    home = tmp_path / "home"
    home.mkdir()
    copy = home / "copy"
    if exists:
        copy.write_bytes(OLD)
    done = subprocess.run(
        limited(SIZE // 2, command("copy", "e1.2", copy, *over(served))),
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    assert str(copy) in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1
    assert [it.name for it in home.iterdir()] == ["copy"] * exists
    assert not exists or copy.read_bytes() == OLD


def test_a_full_file_system_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    need_root()
    need("unshare", "mount")
    small = tmp_path / "small"
    small.mkdir()
    data = random.Random(3).randbytes(4 << 20)
    script = f'mount -t tmpfs -o size=2m none {small} && {{ touch {small}/old; "$@"; }}'
    with serving_image(tmp_path, data, len(data)) as served:
        for name, left in (("new", "old"), ("old", "old")):
            words = command("copy", "e1.2", small / name, *over(served))
            inside = ["unshare", "--mount", "sh", "-c", f"{script}; s=$?; ls {small}; exit $s", "sh", *words]
            done = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=30)
            assert done.returncode == 1, done
            (line,) = done.stderr.splitlines()
            assert f"{small / name}: write: No space left on device" in line
            assert ("is now partly new" in line) is (name == "old")
            assert done.stdout.split() == [left]


# Holes


@pytest.mark.parametrize("existing", [False, True])
def test_holes_stay_holes(tmp_path: Path, existing: bool) -> None:
    """One block in every 64 KiB has data."""
    size, block = 16 << 20, 4096
    data = b"".join(b"x" * block + bytes(65536 - block) for _ in range(size // 65536))
    copied = tmp_path / "copy"
    if existing:
        copied.write_bytes(b"o" * size)
    with serving_image(tmp_path, data, size) as served:
        said(served, "copy", "e1.2", copied, *(["--sparse"] if existing else []), "--verify")
    assert copied.read_bytes() == data
    assert copied.stat().st_blocks * 512 < size // 4


def test_without_being_asked_an_older_copy_keeps_its_room(
    served: Served, image: Path, tmp_path: Path
) -> None:
    os.truncate(image, 0)
    os.truncate(image, SIZE)
    copied = tmp_path / "copy"
    copied.write_bytes(b"o" * SIZE)
    said(served, "copy", "e1.2", copied)
    assert copied.read_bytes() == bytes(SIZE)
    assert copied.stat().st_blocks * 512 >= SIZE


def test_zeroes_over_a_disk_become_holes_of_its_file(served: Served, image: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(SIZE))
    said(served, "copy", source, "e1.2", "--sparse", "--verify")
    assert image.read_bytes() == bytes(SIZE)
    assert image.stat().st_blocks == 0


# Verification


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A directory whose files are not in memory."""
    with TemporaryDirectory(dir="/var/tmp") as home:
        directory = os.open(home, os.O_RDONLY)
        in_memory = is_memory(directory)
        os.close(directory)
        if in_memory:
            unavailable("/var/tmp is in memory")
        yield Path(home)


def test_what_is_verified_was_read_from_the_store(served: Served, on_disk: Path) -> None:
    """The kernel counts what it read from a device for a process (proc(5), read_bytes)."""
    program = (
        "import sys; from aoe.cli.client import main; status = main(); "
        "print(open('/proc/self/io').read(), file=sys.stderr); sys.exit(status)"
    )
    read = []
    for more in ([], ["--verify"]):
        words = command("copy", "e1.2", on_disk / f"copy{len(more)}", *more, *over(served))
        words[1:3] = ["-c", program]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30)
        (line,) = (it for it in done.stderr.splitlines() if it.startswith("read_bytes"))
        read.append(int(line.split()[1]))
    assert read[1] - read[0] >= SIZE * 0.9


def test_a_difference_is_told_and_a_new_file_is_not_kept(served: Served, tmp_path: Path) -> None:
    """The store takes one byte wrong."""
    program = (
        "import sys, aoe.disk.file as f\n"
        "right = f.FileDisk._write_from\n"
        "def wrong(self, buffer, offset, durable):\n"
        "    buffer = bytearray(buffer)\n"
        "    buffer[-1] ^= 1\n"
        "    right(self, memoryview(buffer), offset, durable)\n"
        "f.FileDisk._write_from = wrong\n"
        "from aoe.cli.client import main\n"
        "sys.exit(main())\n"
    )
    old = tmp_path / "old"
    old.write_bytes(b"o" * (SIZE + 512))
    for copied, kept in ((tmp_path / "copy", False), (old, True)):
        words = [command()[0], "-c", program, "copy", "e1.2", str(copied), "--verify", *over(served)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 1, done
        assert f"{copied} differs from e1.2 at byte" in done.stderr
        assert copied.exists() is kept
        assert (f"{copied} is now partly new" in done.stderr) is kept
    assert old.stat().st_size == SIZE + 512, "it was cut before it was verified"


# Interrupted


@contextmanager
def slowly(served: Served, *words: str | Path) -> Iterator["subprocess.Popen[str]"]:
    """Only 1 MiB in 0.2 s is read from the disk."""
    program = (
        "import sys, asyncio, aoe.initiator.remote as r\n"
        "quick = r.RemoteDisk.read_into\n"
        "async def slow(self, at, buffer):\n"
        "    await quick(self, at, buffer)\n"
        "    await asyncio.sleep(0.2 * at / (1 << 20))\n"
        "r.RemoteDisk.read_into = slow\n"
        "from aoe.cli.client import main\n"
        "sys.exit(main())\n"
    )
    line = [command()[0], "-c", program, *map(str, words), *over(served)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    with subprocess.Popen(line, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("exists", [False, True])
def test_a_signal_leaves_nothing_half_made(tmp_path: Path, number: signal.Signals, exists: bool) -> None:
    home = tmp_path / "home"
    home.mkdir()
    copied = home / "copy"
    size = 64 << 20
    if exists:
        copied.write_bytes(b"o" * (size + 512))
    written = copied if exists else home / "copy.partial"
    with (
        serving_image(tmp_path, b"new" * 512 * 1024, size) as served,
        slowly(served, "copy", "e1.2", copied) as process,
    ):
        wait_for(lambda: written.exists() and beginning(written) == b"new")
        started = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert time.monotonic() - started < PROMPT_S
    assert process.returncode == 128 + number
    (line,) = err.splitlines()
    assert line.startswith("aoe: ")
    assert (f"{copied} is now partly new" in line) is exists
    assert [it.name for it in home.iterdir()] == ["copy"] * exists
    assert not exists or copied.stat().st_size == size + 512


def test_progress_off_a_terminal_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from aoe.cli import copying

    now = [100.0]
    monkeypatch.setattr(copying.time, "monotonic", lambda: now[0])
    with copying.Progress("copied", 100, shown=True) as progress:
        for _ in range(50):
            now[0] += 1
            progress.add(2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("aoe:  22% copied")


@pytest.mark.parametrize("how", ["2>/dev/full", "2>&-"])
def test_progress_that_nobody_can_see_does_not_end_a_copy(
    served: Served, image: Path, tmp_path: Path, how: str
) -> None:
    """A line is told at every step, as one is now and then of a copy that takes long."""
    code = (
        "import sys, aoe.cli.copying as copying; copying._TELL_S = -1; from aoe.cli.client import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    words = [
        sys.executable,
        "-c",
        code,
        *command("copy", "e1.2", tmp_path / "copy", "--verify")[3:],
        *over(served),
    ]
    done = subprocess.run(["sh", "-c", f'exec "$@" {how}', "sh", *words], check=False, timeout=30)
    assert done.returncode == 0
    assert (tmp_path / "copy").read_bytes() == image.read_bytes()


class Terminal(io.StringIO):
    """Shows a bar."""

    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    with Progress("copied", 100, True) as progress:
        progress.add(50)
        progress.add(50)
    assert "\r" + "#" * 30 + " 100% copied" in shown.getvalue()
    assert shown.getvalue().endswith("\n")


def test_a_copy_does_not_wait_for_who_reads_of_it(served: Served, image: Path, tmp_path: Path) -> None:
    """Standard error is a full pipe, and progress is told at each step."""
    program = (
        "import sys\n"
        "from aoe.cli import copying\n"
        "copying._TELL_S = 0\n"
        "from aoe.cli.client import main\n"
        "sys.exit(main())\n"
    )
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    words = command("copy", "e1.2", tmp_path / "copy", *over(served))
    words[1:3] = ["-c", program]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=writing, check=False, timeout=30)
    finally:
        os.close(reading)
        os.close(writing)
    assert done.returncode == 0
    assert (tmp_path / "copy").read_bytes() == image.read_bytes()
