"""What a program in a sandbox cannot do: tried from inside, as root and as an ordinary user."""

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aoe.errors import ConfigurationError
from aoe.sandbox import child, user
from aoe.sandbox.child import Done, Task, run
from tests.support.tools import need, need_users
from tests.support.waiting import wait_for

PYTHON = "/usr/bin/python3"
"""Debian's: its files are among the libraries of the system."""
NOBODY = 65534
SLEEPS = Task(
    words=(PYTHON, "-I", "-S", "-c", "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)"),
    remedy="python3",
    end_s=None,
)
"""It says its number first."""


def tried(code: str, **how: object) -> Done:
    """What becomes of a program in Python."""
    need(PYTHON)
    words = (PYTHON, "-I", "-S", "-c", f"import ctypes, os, socket, sys\n{code}")
    return run(Task(words=words, remedy="python3", **how))  # type: ignore[arg-type]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("a secret")
    file.chmod(0o644)
    return file


def test_it_says_what_a_program_prints_and_how_it_ends() -> None:
    heard: list[bytes] = []
    done = run(Task(words=("sh", "-c", "echo a; echo b"), remedy="dash"), heard.append)
    assert done == (0, "", "a\nb\n")
    assert b"".join(heard) == b"a\nb\n"
    done = run(Task(words=("sh", "-c", "echo wrong >&2; exit 3"), remedy="dash"))
    assert done == (3, "wrong", "")


CLONE = 56 if platform.machine() == "x86_64" else 220


def _call(words: str) -> str:
    """A system call by its number, which this kernel need not have."""
    called = f"it = ctypes.CDLL(None, use_errno=True); it.syscall({words})"
    return f"import ctypes; {called}; raise OSError(ctypes.get_errno(), 'refused')"


@pytest.mark.parametrize(
    "code",
    [
        "open({secret!r})",
        "open({secret!r}, 'w')",
        "os.truncate({secret!r}, 0)",
        "os.chmod({secret!r}, 0o777)",
        "os.utime({secret!r})",
        "os.unlink({secret!r})",
        "os.listdir({within!r})",
        "open({within!r} + '/new', 'w')",
        "socket.socket()",
        "socket.socket(socket.AF_UNIX)",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "os.kill({pid}, 0)",
        "os.execv('/bin/true', ['true'])",
        "os.unshare(0x10000000) if hasattr(os, 'unshare') else socket.socket()",
        *map(_call, ("463, -100, {secret!r}.encode(), 0, 0, 0, 0", "466, -100, {secret!r}.encode(), 0, 0")),
        _call("469, -100, {secret!r}.encode(), 0, 0, 0"),
        *(_call(f"{CLONE}, {flag | 17}, 0, 0, 0, 0") for flag in (0x10000000, 0x40000000, 0x10020000)),
    ],
)
def test_what_it_is_not_named_it_cannot_reach(code: str, secret: Path) -> None:
    said = code.format(secret=str(secret), within=str(secret.parent), pid=os.getpid())
    refused = f"try:\n    {said}\nexcept PermissionError:\n    sys.exit(7)"
    assert tried(refused).status == 7
    assert secret.read_text() == "a secret"


def test_what_it_is_named_it_opens_and_only_as_it_may(secret: Path) -> None:
    assert tried(f"print(open({str(secret)!r}).read())", reads=(secret,)).out == "a secret\n"
    with secret.open("r+b") as file:
        name = f"/proc/self/fd/{file.fileno()}"
        assert tried(f"print(open({name!r}).read())", reads=(file.fileno(),)).out == "a secret\n"
        write = f"open({name!r}, 'r+').write('A')"
        assert "PermissionError" in tried(write, reads=(file.fileno(),), file_bytes=100).problem
        assert tried(write, writes=(file.fileno(),), file_bytes=100).status == 0
    assert secret.read_text() == "A secret"


def test_a_directory_is_all_that_is_below_it(secret: Path) -> None:
    assert tried(f"print(open({str(secret)!r}).read())", reads=(secret.parent,)).out == "a secret\n"


def test_files_memory_and_time_are_bounded(secret: Path) -> None:
    grow = f"open({str(secret)!r}, 'r+').truncate(4096)"
    assert tried(grow, writes=(secret,), file_bytes=4096).status == 0
    grow = f"open({str(secret)!r}, 'r+').truncate(8192)"
    done = tried(f"import signal; signal.signal(25, 0); {grow}", writes=(secret,), file_bytes=100)
    assert done.problem == "it wrote more than it may"
    assert "MemoryError" in tried("x = bytearray(1 << 40)").problem
    assert tried("while True: pass", cpu_s=1).problem == "it needed more processor time than it may"
    assert tried("sys.stdin.close(); import time; time.sleep(600)", end_s=0.2).problem == (
        "it was ended after 0.2 s"
    )


def test_one_that_is_ended_before_it_begins_is_never_begun() -> None:
    for end_s in (0, 0.001, 0.01):
        assert run(replace(SLEEPS, end_s=end_s)).problem == f"it was ended after {end_s:g} s"


def test_what_it_prints_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child.limits, "SANDBOX_SAID_BYTES_MAX", 1 << 16)
    assert len(tried("print('x' * (1 << 20))").out) <= 1 << 17


def test_it_gets_no_other_descriptors_nor_words_of_the_environment(secret: Path) -> None:
    with secret.open() as file:
        os.set_inheritable(file.fileno(), True)
        found = json.loads(tried("print([int(it) for it in (0, 1, 2)])").out)
        assert found == [0, 1, 2]
        assert "OSError" in tried(f"os.fstat({file.fileno()})").problem
    assert tried("print(sorted(os.environ))").out in (
        "['LC_ALL', 'PATH']\n",
        "['LC_ALL', 'LC_CTYPE', 'PATH']\n",
    )


def test_under_root_it_is_another_user_that_may_open_what_it_is_named(secret: Path) -> None:
    need_users()
    secret.chmod(0o600)
    code = f"print(os.getuid(), os.getgid(), os.getgroups(), open({str(secret)!r}).read())"
    assert tried(code, reads=(secret,)).out == f"{NOBODY} {NOBODY} [] a secret\n"
    code = "print([it for it in open('/proc/self/status') if it[:4] in ('CapP', 'CapE', 'NoNe')])"
    said = tried(code, reads=(Path("/proc"),)).out
    assert said.count("0000000000000002") == 2
    assert "NoNewPrivs:\\t1" in said


def test_an_ordinary_user_can_have_it_too() -> None:
    need_users()
    read_end, write_end = os.pipe()
    user = os.fork()
    if user == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            done = [
                run(Task(words=("sh", "-c", it), remedy="dash")) for it in ("echo a", "read x </etc/passwd")
            ]
            os.write(write_end, json.dumps(done).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as said:
        who, reads = json.load(said)
    os.waitpid(user, 0)
    assert who == [0, "", "a\n"]
    assert "Permission denied" in reads[1]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_call_that_is_interrupted_ends_it() -> None:
    pids: list[int] = []

    def heard(text: bytes) -> None:
        pids.append(int(text))
        other = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT))
        other.start()
        other.join()

    with pytest.raises(KeyboardInterrupt):
        run(SLEEPS, heard)
    wait_for(lambda: not alive(pids[0]), what="it goes on")


@pytest.fixture
def parent() -> Iterator["subprocess.Popen[str]"]:
    code = (
        "from aoe.sandbox.child import run\n"
        "from tests.sandbox.test_child import SLEEPS\n"
        "run(SLEEPS, lambda it: print(int(it), flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_it_ends_with_a_process_that_is_killed(parent: "subprocess.Popen[str]") -> None:
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    wait_for(lambda: not alive(pid), what="it goes on")


def test_nothing_is_run_where_the_kernel_lacks_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "restrict_files", lambda *_, **__: "files are not restricted: no landlock")
    with pytest.raises(ConfigurationError, match="true is not run on files of others: files are not restr"):
        run(Task(words=("true",), remedy="coreutils"))
    monkeypatch.undo()
    monkeypatch.setattr("platform.machine", lambda: "s390x")
    with pytest.raises(ConfigurationError, match="their numbers on s390x are not known; use a kernel"):
        run(Task(words=("true",), remedy="coreutils"))


def test_a_missing_tool_is_named_with_its_package() -> None:
    with pytest.raises(ConfigurationError, match="qemu-sandwich is missing: apt-get install qemu-utils"):
        run(Task(words=("qemu-sandwich",), remedy="apt-get install qemu-utils"))


def test_this_thread_keeps_its_rights(secret: Path) -> None:
    assert run(Task(words=("true",), remedy="coreutils")).status == 0
    assert secret.read_text() == "a secret"
    socket.socket().close()


def test_root_that_may_be_no_other_user_keeps_one_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an opener: what it starts as root gets the others back nowhere."""
    need_users()
    monkeypatch.setattr(user, "may_change", lambda: False)
    held = "room = ctypes.create_string_buffer(24); head = struct.pack('Ii', 0x20080522, 0)"
    asked = "ctypes.CDLL(None).capget(head, room); print(os.getuid(), *struct.unpack('6I', room.raw))"
    own = tried(f"import ctypes, struct; {held}; {asked}").out
    assert own == f"0 {user.DAC_OVERRIDE} {user.DAC_OVERRIDE} 0 0 0 0\n"
    assert user.rights() & user.SETUID, "it was that thread alone"
