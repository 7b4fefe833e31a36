"""The commands do not depend on their terminal: streams that are closed, full, broken, or not read."""

import contextlib
import fcntl
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from aoe.cli import stdio
from aoe.cli.stdio import Outlet
from aoe.limits import OUTLET_BYTES_MAX
from aoe.wire.config import ConfigCommand
from tests.support.labs.ports import UdpPort, own_address
from tests.support.labs.raw_client import AtaFailed, Client, NoAnswer
from tests.support.labs.served import SECTORS, Served, serving
from tests.support.waiting import PATIENCE_S, PROMPT_S

SIZE = SECTORS * 512
TARGET = (sys.executable, "-m", "aoe.cli.target")
AOE = (sys.executable, "-m", "aoe.cli.client")


# An outlet alone


def words(count: int) -> str:
    return f"[{count} missing]"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.005)


def all_of(end: int) -> str:
    """What is read until there is nothing more for a while."""
    os.set_blocking(end, False)
    found, quiet = b"", 0
    while quiet < 20:
        try:
            found += os.read(end, 1 << 20)
            quiet = 0
        except BlockingIOError:
            quiet += 1
            time.sleep(0.01)
    return found.decode()


def finished(outlet: Outlet, seconds: float = PATIENCE_S) -> None:
    outlet.finish(time.monotonic() + seconds)


def test_lines_arrive_in_their_order(pipe: tuple[int, int]) -> None:
    outlet = Outlet(pipe[1], "utf-8", words)
    for number in range(1000):
        print("line", number, file=outlet, flush=True)
    print("no end", end="", file=outlet)
    finished(outlet)
    assert all_of(pipe[0]).splitlines() == [*(f"line {number}" for number in range(1000)), "no end"]


def test_nothing_is_written_before_it_starts(pipe: tuple[int, int]) -> None:
    """Its thread would keep the privileges that the process gives up."""
    outlet = Outlet(pipe[1], "utf-8", words)
    before = {*threading.enumerate()}
    print("first", file=outlet)
    assert not {*threading.enumerate()} - before
    assert all_of(pipe[0]) == ""
    outlet.start()
    outlet.start()
    assert len({*threading.enumerate()} - before) == 1
    finished(outlet)
    assert all_of(pipe[0]) == "first\n"


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", r"\xe4\udcff"), ("utf-8", r"ä\udcff")])
def test_any_text_can_be_written(pipe: tuple[int, int], encoding: str, shown: str) -> None:
    outlet = Outlet(pipe[1], encoding, words)
    print("ä\udcff", file=outlet)
    finished(outlet)
    assert all_of(pipe[0]) == f"{shown}\n"


def test_whoever_writes_never_waits_and_what_is_missing_is_counted(pipe: tuple[int, int]) -> None:
    outlet = Outlet(pipe[1], "utf-8", words)
    outlet.start()
    count = 2 * OUTLET_BYTES_MAX // 1000
    started = time.monotonic()
    for number in range(count):
        print(f"{number:<999}", file=outlet)
    finished(outlet, 0.1)
    assert time.monotonic() - started < PROMPT_S
    said, found = "", list[str]()

    def all_accounted_for() -> bool:
        nonlocal said, found
        said += all_of(pipe[0])
        found = said.rpartition("\n")[0].splitlines()  # the rest of the last line may be late
        kept = [line for line in found if line[0] != "["]
        missing = [int(line[1:].split()[0]) for line in found if line[0] == "["]
        return len(kept) + sum(missing) == count and sum(missing) > count // 4

    soon(all_accounted_for)
    numbers = [int(line) for line in found if line[0] != "["]
    assert numbers == sorted(numbers)
    assert numbers[:1000] == list(range(1000))
    print("again", file=outlet)
    finished(outlet)
    assert all_of(pipe[0]) == "again\n"


@pytest.mark.parametrize("blocking", [True, False])
def test_a_line_longer_than_a_pipe_arrives_whole(pipe: tuple[int, int], blocking: bool) -> None:
    os.set_blocking(pipe[1], blocking)
    outlet = Outlet(pipe[1], "utf-8", words)
    print("x" * 300_000, file=outlet)
    outlet.start()
    found = ""

    def all_there() -> bool:
        nonlocal found
        found += all_of(pipe[0])
        return len(found) > 300_000

    soon(all_there)
    assert found == "x" * 300_000 + "\n"


def test_what_could_not_be_written_is_said_when_it_works_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file, Path("/dev/full").open("wb") as full:
        outlet = Outlet(file.fileno(), "utf-8", words)
        kept = os.dup(file.fileno())
        os.dup2(full.fileno(), file.fileno())
        for number in range(5):
            print(number, file=outlet)
        finished(outlet)
        os.dup2(kept, file.fileno())
        os.close(kept)
        print("back", file=outlet)
        finished(outlet)
    assert log.read_text() == "[5 missing]\nback\n"


LAST = """
import os, sys
from aoe.cli import stdio

with stdio.unblocked("it", False):
    stdio.start()
    for number in range(100):
        print(number, "x" * 30_000)
    os.write(2, b"ends")
"""


@pytest.mark.parametrize("how", ["stopped", "read slowly"])
def test_the_last_lines_arrive_though_a_second_is_over(how: str) -> None:
    """In which it had no processor, or in which not all of them were read."""
    with subprocess.Popen([sys.executable, "-c", LAST], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as it:
        assert it.stdout is not None
        assert it.stderr is not None
        assert it.stderr.read(4) == b"ends"
        if how == "stopped":
            time.sleep(0.1)  # it waits for them by now
            it.send_signal(signal.SIGSTOP)
            time.sleep(1.5)
            it.send_signal(signal.SIGCONT)
        lines = []
        for line in it.stdout:
            lines.append(line)
            time.sleep(0.02 if how == "read slowly" else 0)
    assert [int(line.split()[0]) for line in lines] == [*range(100)]
    assert it.returncode == 0


def test_a_reader_that_is_gone_harms_nobody(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    outlet = Outlet(pipe[1], "utf-8", words)
    for _ in range(100):
        print("nobody hears it", file=outlet)
    finished(outlet)
    assert outlet._is_idle()


def test_streams_of_a_program_around_us_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = io.StringIO()
    monkeypatch.setattr(sys, "stdout", mine)
    monkeypatch.setattr(sys, "stderr", mine)
    with stdio.checked(), stdio.unblocked("name", False):
        print("mine")
        print("too", file=sys.stderr)
    assert mine.getvalue() == "mine\ntoo\n"


# The target as a process


def stuffed_pipe() -> tuple[int, int]:
    """With no room in it."""
    ends = os.pipe()
    os.write(ends[1], bytes(fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)))
    return ends


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return path


def redirected(command: Sequence[str | Path], how: str) -> list[str]:
    """`how` is what a shell calls it."""
    return ["sh", "-c", f'exec "$@" {how}', "sh", *map(str, command)]


class Running:
    """A target that says nothing to the test, which therefore chooses its address."""

    def __init__(
        self, *arguments: str | Path, how: str = "", launcher: Sequence[str] = TARGET, **streams: Any
    ) -> None:
        self.remote = own_address()
        state = Path(arguments[0]).parent / "state"
        where = ["--state-dir", state, "--link", f"udp:{':'.join(map(str, self.remote))}"]
        serve = [*launcher, "serve", "--engine", "python", *arguments, *where]
        self.process = subprocess.Popen(redirected(serve, how), **streams)

    def client(self, slot: int = 0) -> Client:
        return Client(UdpPort(self.remote, b"\x02\0\0\0\0\x01"), 0, slot)

    def is_served(self, slot: int = 0) -> bool:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with self.client(slot) as client, contextlib.suppress(NoAnswer):
                client.retries = 0
                client.read(0)
                return True
        return False

    def status(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        with self.process:
            pass


CLOSED = ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-", ">&- 2>&-"]
FULL = [">/dev/full", "2>/dev/full", ">/dev/full 2>&1", "2>/dev/full >&-", ">/dev/full 2>&-"]


@pytest.mark.parametrize("how", CLOSED + FULL)
def test_a_target_serves_whatever_its_streams_are(image: Path, how: str) -> None:
    before = image.read_bytes()
    with Running(image, "-v", "--json", how=how) as target:
        assert target.is_served()
        target.process.send_signal(signal.SIGUSR1)
        target.process.send_signal(signal.SIGHUP)
        assert target.is_served()
        assert target.status() == 0
    assert image.read_bytes() == before


@pytest.mark.parametrize("streams", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_a_target_serves_though_its_reader_is_gone(
    image: Path, pipe: tuple[int, int], streams: tuple[str, ...]
) -> None:
    os.close(pipe[0])
    with Running(image, "-v", **dict.fromkeys(streams, pipe[1])) as target:
        assert target.is_served()
        target.process.send_signal(signal.SIGUSR1)
        assert target.is_served()
        assert target.status() == 0


@pytest.mark.parametrize("name", [b"\xff\xfe.img", "ä.img".encode(), b"a\nb.img", b"a=b\\.img"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1:strict"])
def test_a_file_name_is_no_reason_to_stop(image: Path, name: bytes, encoding: str) -> None:
    odd = Path(os.fsdecode(os.fsencode(image.parent) + b"/" + name))
    image.rename(odd)
    with Running(odd, env=os.environ | {"PYTHONIOENCODING": encoding}, stdout=subprocess.PIPE) as target:
        assert target.is_served()
        assert target.status() == 0
        assert target.process.stdout is not None
        said = target.process.stdout.read()
    (line, _) = said.splitlines()
    assert line.startswith(b"e0.0: ")
    assert b"bytes, on udp" in line


@pytest.mark.parametrize("how", [*CLOSED, *FULL])
def test_a_target_that_cannot_start_says_2_whatever_its_streams_are(image: Path, how: str) -> None:
    command = [*TARGET, "serve", str(image), "--shelf", "4095", "--link", "udp:127.0.0.1:0"]
    assert subprocess.run(redirected(command, how), check=False, timeout=30).returncode == 2


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_target_that_cannot_start_waits_for_no_reader(image: Path, stream: str) -> None:
    read, write = stuffed_pipe()
    command = [*TARGET, "serve", str(image), "--shelf", "4095", "--link", "udp:127.0.0.1:0"]
    assert subprocess.run(command, check=False, timeout=30, **{stream: write}).returncode == 2
    os.close(read)
    os.close(write)


def test_ctrl_c_while_it_waits_for_the_disk_is_one_line(image: Path) -> None:
    with image.open("rb+") as held, Running(image, stderr=subprocess.PIPE) as target:
        fcntl.flock(held, fcntl.LOCK_EX)
        opened = f"/proc/{target.process.pid}/fd"
        soon(lambda: any(it.resolve() == image for it in Path(opened).iterdir() if it.exists()))
        target.process.send_signal(signal.SIGINT)
        assert target.process.wait(30) == 130
        assert target.process.stderr is not None
        (line,) = target.process.stderr.read().splitlines()
    assert line == b"aoe-target: interrupted before it served anything"


BAD = """
import os, sys
from aoe import timing
timing.MESSAGE_INTERVAL_S = 600.0
from aoe.cli.target import main
from aoe.disk.file import FileDisk
from aoe.errors import DiskError

def fails(self, offset, length):
    raise DiskError("read: Input/output error", offset, 5)

good = FileDisk._read, FileDisk.try_read
FileDisk._read = lambda self, at, n: (fails if at else good[0])(self, at, n)
FileDisk.try_read = lambda self, at, n: None if at else good[1](self, at, n)
sys.exit(main())
"""


def flood(target: Running, count: int) -> None:
    """Ask for a bad sector that often."""
    with target.client() as client:
        client.timeout = PATIENCE_S  # or it would ask again where a busy machine is late
        for _ in range(count):
            with pytest.raises(AtaFailed):
                client.read(8)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("stuffed", [False, True], ids=["empty", "full-from-the-start"])
def test_a_log_that_nobody_reads_stops_nothing(image: Path, stream: str, stuffed: bool) -> None:
    """Not the disk, not another one, not the signals; and the end takes a second, no more."""
    other = image.with_name("other.img")
    other.write_bytes(bytes(SIZE))
    read, write = stuffed_pipe()
    if not stuffed:
        os.read(read, 4096)
    launcher = (sys.executable, "-c", BAD)
    with Running(image, other, "-v", launcher=launcher, **{stream: write}) as target:
        assert target.is_served()
        flood(target, 300)
        for _ in range(100):
            target.process.send_signal(signal.SIGUSR1)
        assert target.is_served(slot=1)
        began = time.monotonic()
        assert target.status() == 0
        assert time.monotonic() - began < PROMPT_S
    os.close(read)
    os.close(write)


# What a target says


def said_by(target: Running) -> list[str]:
    """On standard error, once it has ended well."""
    assert target.status() == 0
    assert target.process.stderr is not None
    return target.process.stderr.read().decode().splitlines()


def test_bad_sectors_are_two_lines_however_often_they_are_asked_for(image: Path) -> None:
    launcher = (sys.executable, "-c", BAD)
    with Running(image, launcher=launcher, stderr=subprocess.PIPE) as target:
        assert target.is_served()
        flood(target, 100)
        lines = said_by(target)
    assert [line for line in lines if "first contact" not in line] == [
        "aoe-target: e0.0: read: Input/output error at sector 8",
        "aoe-target: e0.0: read: Input/output error at sector 8 (and 98 more like it)",
    ]


def test_a_client_and_the_end_of_its_disk_are_a_line_each(image: Path) -> None:
    with Running(image, stderr=subprocess.PIPE) as target:
        assert target.is_served()
        with target.client() as client:
            client.identify()
            image.unlink()
            client.identify()
            client.read(0)
        contact, removed = said_by(target)
    assert contact.startswith("aoe-target: e0.0: first contact of 02:00:00:00:00:01 on udp:127.")
    assert f"{image} was removed or replaced" in removed


def test_datagrams_are_served_by_python_which_is_no_fault(image: Path) -> None:
    with Running(image, "--engine", "auto", stderr=subprocess.PIPE) as target:
        assert target.is_served()
        assert said_by(target) == []


LAST_CALL = """
import errno, fcntl, os, sys
from aoe.cli.target import main
close = os.close

def fails(fd):
    name = os.readlink(f"/proc/self/fd/{fd}")
    is_open = not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH  # else no disk is asked
    close(fd)
    if is_open and name.endswith(".img"):
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

os.close = fails
sys.exit(main())
"""


def test_a_disk_that_fails_as_it_is_closed_is_a_line_and_no_traceback(image: Path) -> None:
    with Running(image, launcher=(sys.executable, "-c", LAST_CALL), stderr=subprocess.PIPE) as target:
        assert target.is_served()
        (line,) = said_by(target)
    assert line.startswith("aoe-target: e0.0: close: Transport endpoint is not connected")


# The commands of `aoe`


@pytest.fixture
def served(image: Path, tmp_path: Path) -> Iterator[Served]:
    with serving(f"{image}=1.2,serial=S1", "--state-dir", tmp_path / "state") as target:
        yield target


def aoe(served: Served, how: str, *words: str | Path, **options: Any) -> "subprocess.CompletedProcess[bytes]":
    host, port = served.remote
    over = ("--link", f"udp:127.0.0.1:0,peer={host}:{port},mtu=9000")
    command = redirected([*AOE, *map(str, words), *over], how)
    return subprocess.run(command, capture_output=True, timeout=30, check=False, **options)


PRINTS = [
    ["discover"],
    ["stat"],
    ["identify", "e1.2"],
    ["ping", "e1.2", "-c", "2", "-i", "0.01"],
    ["read", "e1.2"],
    ["config", "e1.2"],
    ["mask", "e1.2"],
    ["reserve", "e1.2"],
    ["bench", "e1.2", "--runtime", "0.1"],
]


@pytest.mark.parametrize("how", [">/dev/full", ">&-"])
@pytest.mark.parametrize("words", PRINTS, ids=lambda words: words[0])
def test_a_result_that_cannot_be_said_is_one_line_and_status_1(
    served: Served, words: list[str], how: str
) -> None:
    done = aoe(served, how, *words)
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("aoe: standard output: ")


@pytest.mark.parametrize("words", PRINTS, ids=lambda words: words[0])
def test_a_reader_that_has_seen_enough_is_told_nothing(served: Served, words: list[str]) -> None:
    done = aoe(served, "| exec true", *words)  # the status is that of `true`
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_reader_that_has_seen_enough_makes_status_1(served: Served, pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    command = [*AOE, "identify", "e1.2", "--link", "udp:127.0.0.1:0,peer={}:{}".format(*served.remote)]
    done = subprocess.run(command, stdout=pipe[1], stderr=subprocess.PIPE, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("how", ["2>/dev/full", "2>&-", "<&- 2>&-", "2>/dev/full >&-"])
@pytest.mark.parametrize(
    ("words", "status"), [(["identify", "e1.x"], 2), (["read", "e1.2", "--lba", "9999"], 1)]
)
def test_an_error_that_cannot_be_said_has_its_status(
    served: Served, words: list[str], status: int, how: str
) -> None:
    assert aoe(served, how, *words).returncode == status


def test_standard_input_that_is_closed_is_one_line(served: Served, image: Path) -> None:
    before = image.read_bytes()
    done = aoe(served, "<&-", "write", "e1.2")
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("aoe: standard input: ")
    assert image.read_bytes() == before


@pytest.mark.parametrize("how", ["2>&-", "<&- 2>&-", "<&- >/dev/null 2>&-"])
def test_a_copy_is_whole_whatever_is_closed(served: Served, image: Path, tmp_path: Path, how: str) -> None:
    done = aoe(served, how, "copy", "e1.2", tmp_path / "copy", "--verify")
    assert done.returncode == 0
    assert (tmp_path / "copy").read_bytes() == image.read_bytes()


@pytest.mark.parametrize("how", [">/dev/full", ">&-"])
@pytest.mark.parametrize("command", [AOE, TARGET])
def test_help_that_nobody_sees_is_a_failure(command: Sequence[str], how: str) -> None:
    done = subprocess.run(redirected([*command, "--help"], how), capture_output=True, check=False, timeout=30)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_output_that_does_not_wait_is_waited_for(served: Served, image: Path, pipe: tuple[int, int]) -> None:
    """A terminal is often left non-blocking by another program."""
    os.set_blocking(pipe[1], False)
    command = [*AOE, "read", "e1.2", "--link", "udp:127.0.0.1:0,peer={}:{}".format(*served.remote)]
    with subprocess.Popen(command, stdout=pipe[1], stderr=subprocess.PIPE) as reading:
        time.sleep(1)  # until the pipe is full
        os.close(pipe[1])
        with os.fdopen(os.dup(pipe[0]), "rb") as end:
            assert end.read() == image.read_bytes()
        assert reading.wait(30) == 0


@pytest.mark.parametrize("command", [AOE, TARGET])
def test_a_library_user_keeps_the_descriptors_as_they_are(command: Sequence[str]) -> None:
    code = f"import os, aoe, {command[2]}\ntry: os.fstat(0)\nexcept OSError: print('closed')"
    done = subprocess.run(redirected([sys.executable, "-c", code], "<&-"), capture_output=True, check=False)
    assert done.stdout == b"closed\n"


# Too few descriptors


def with_descriptors(count: int, *words: str | Path) -> "subprocess.CompletedProcess[str]":
    command = ["sh", "-c", f'ulimit -n {count} && exec "$@"', "sh", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize("count", [5, 8, 10, 12, 16, 20, 24])
def test_too_few_descriptors_are_one_line(image: Path, count: int) -> None:
    file = image.with_suffix(".toml")
    table = f"[[export]]\npath = {json.dumps(str(image))}\nshelf = 1\nslot = 0\n"
    file.write_text(f'[target]\nlinks = ["udp:127.0.0.1:0"]\nstate-dir = "{image}.s"\n{table}')
    serve = [*TARGET, "serve", image, "--state-dir", image.parent / "s", "--link", "udp:127.0.0.1:0"]
    run = [*TARGET, "run", "--config", file, "--socket", image.with_suffix(".socket")]
    ask = [*AOE, "identify", "e0.0", "--link", "udp:127.0.0.1:0,peer=127.0.0.1:9"]
    for command in (serve, run, ask):
        done = with_descriptors(count, *command)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert f"and {count} are allowed" in line


def test_a_limit_that_may_be_raised_is_raised() -> None:
    """Shells and units have two: what is in force, and how far a process may raise that itself."""
    code = (
        "import resource, sys\nfrom aoe.cli.privilege import allow_descriptors\n"
        "allow_descriptors(int(sys.argv[1]))\nprint(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    for needed, soft in (("60", 80), ("30", 40)):
        command = [
            "sh",
            "-c",
            'ulimit -Sn 40 && ulimit -Hn 80 && exec "$@"',
            "sh",
            sys.executable,
            "-c",
            code,
        ]
        done = subprocess.run([*command, needed], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout == f"{soft} 80\n"


def test_as_many_descriptors_as_are_said_to_be_needed_suffice(image: Path) -> None:
    """Also for what happens later: a change of the state is written down."""
    serve = [*TARGET, "serve", image, "--engine", "python", "--state-dir", image.parent / "s"]
    asked = with_descriptors(5, *serve, "--link", "udp:127.0.0.1:0").stderr
    needed = int(asked.split(" open files")[0].split()[-1])
    with Running(image, launcher=("sh", "-c", f'ulimit -n {needed} && exec "$@"', "sh", *TARGET)) as target:
        assert target.is_served()
        with target.client() as client:
            assert client.config(ConfigCommand.SET, b"kept").text == b"kept"
            client.write(0, b"x" * 512)
        assert target.status() == 0


NO_THREADS = """
import sys, threading
def start(self): raise RuntimeError("can't start new thread")
threading.Thread.start = start
from aoe.cli.target import main
sys.exit(main())
"""


def test_without_a_thread_for_what_it_says_it_is_one_line(image: Path) -> None:
    """As where a unit has TasksMax=1, or a user all the processes that are allowed (RLIMIT_NPROC)."""
    words = ["serve", str(image), "--link", "udp:127.0.0.1:0", "--state-dir", f"{image}.state"]
    done = subprocess.run(
        [sys.executable, "-c", NO_THREADS, *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    said = "no thread can be started; raise the limit (ulimit -u, or TasksMax= in a systemd unit)"
    assert done.stderr == f"aoe-target: {said}\n"
