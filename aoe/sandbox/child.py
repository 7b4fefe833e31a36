"""A program of others, run so that what it reads cannot make it harm anything.

A thread gives up its rights for good, and starts the program: it opens what it is named (landlock(7)), has no
network and reaches no other process (seccomp(2)), gains no privileges, and its memory, processor time and
files are bounded (prlimit(1)). Under root it is the user 65534 (setpriv(1)), or where that may not be, as in
an opener, root without its rights; either has the one right to open those files of any owner. It ends when
this process does. All of that but the user an ordinary user can do as well.
"""

import math
import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

from aoe import limits, timing
from aoe.errors import ConfigurationError, NoThread
from aoe.sandbox import user
from aoe.sandbox.bpf import gain_nothing
from aoe.sandbox.landlock import ASKING, OVERWRITING, RUNNING, Place, restrict_files
from aoe.sandbox.refused import refuse_calls

_PATH = "/usr/local/bin:/usr/bin:/bin"
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/etc/ld.so.cache")
_UTILITIES = "apt-get install util-linux"
_WHY: dict[int, str] = {
    signal.SIGXCPU: "it needed more processor time than it may",
    signal.SIGXFSZ: "it wrote more than it may",
    signal.SIGKILL: "it was killed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A program with its words, the `remedy` where it is missing, and what it may open: paths, or
    descriptors, which it gets under the same numbers; of a directory, that is all below it. `cpu_s` is
    processor time, `end_s` is waited for at most, both in seconds; no file becomes longer than `file_bytes`.
    """

    words: Sequence[str]
    remedy: str
    reads: tuple[Place, ...] = ()
    writes: tuple[Place, ...] = ()
    cpu_s: int = limits.SANDBOX_CPU_S
    end_s: float | None = timing.SANDBOX_END_S
    file_bytes: int = 0


class Done(NamedTuple):
    """How a program ended: its status, why it is not 0, and what it printed."""

    status: int
    problem: str
    out: str


def run(task: Task, heard: Callable[[bytes], object] = lambda _: None) -> Done:
    """Run it to its end; `heard` gets what it prints as that comes, and an empty piece a few times a second.
    Any exception, such as KeyboardInterrupt or one of `heard`, ends it first. ConfigurationError where a
    tool, or a part of the kernel, is missing."""
    child = _Child(task)
    thread = threading.Thread(target=child.run, name="sandbox", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise NoThread from error
    try:
        child.is_late = not child.follow(heard)
    finally:
        child.end()
        thread.join()
    if child.failure is not None:
        raise child.failure
    return child.done


class _Child:
    """The program, and the thread that it ends with."""

    failure: BaseException | None = None
    is_late = False
    done: Done

    def __init__(self, task: Task) -> None:
        self._task = task
        self._said: SimpleQueue[bytes] = SimpleQueue()
        """What it prints; an empty piece is the end."""
        self._command = _command(task)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._unwanted = False

    def follow(self, heard: Callable[[bytes], object]) -> bool:
        """Until it is over, and true; or false, when it took too long."""
        deadline = math.inf if self._task.end_s is None else time.monotonic() + self._task.end_s
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                piece = self._said.get(timeout=min(left_s, timing.SANDBOX_LOOK_S))
            except Empty:
                heard(b"")
                continue
            if not piece:
                return True
            heard(piece)
        return False

    def end(self) -> None:
        """At once, where it has not; from another thread than its own, which may send no signals."""
        with self._lock:
            self._unwanted = True
            if self._process is not None:
                self._process.kill()

    def run(self) -> None:
        """On a thread of its own, which has no rights afterwards."""
        try:
            with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - while it may
                _give_up(self._task, Path(self._command[-len(self._task.words)]))
                process = self._started(nothing.fileno())
            if process is None:
                self.done = Done(-signal.SIGKILL, self._problem(-signal.SIGKILL, ""), "")
                return
            with process:
                self.done = self._followed(process)
        except BaseException as error:
            self.failure = error
        finally:
            self._said.put(b"")

    def _started(self, nothing: int) -> "subprocess.Popen[bytes] | None":
        """None where it is ended already: later this thread could not do that."""
        with self._lock:
            if self._unwanted:
                return None
            self._process = subprocess.Popen(
                self._command,
                pass_fds=[it for it in (*self._task.reads, *self._task.writes) if isinstance(it, int)],
                stdin=nothing,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env={"PATH": _PATH, "LC_ALL": "C"},
            )
            return self._process

    def _followed(self, process: "subprocess.Popen[bytes]") -> Done:
        out, err = self._printed(process)
        status = process.wait()
        return Done(status, self._problem(status, err) if status else "", out)

    def _problem(self, status: int, err: str) -> str:
        if self.is_late:
            return f"it was ended after {self._task.end_s:g} s"
        if status < 0:
            return _WHY.get(-status, f"it ended by signal {-status}")
        return "; ".join(err.split("\n")).strip("; ") or f"it ended with {status}"

    def _printed(self, process: "subprocess.Popen[bytes]") -> tuple[str, str]:
        """What it prints until it closes both."""
        pieces: dict[int, list[bytes]] = {}
        with selectors.DefaultSelector() as open_ones:
            streams = [it.fileno() for it in (process.stdout, process.stderr) if it is not None]
            for fd in streams:
                open_ones.register(fd, selectors.EVENT_READ)
                pieces[fd] = []
            while open_ones.get_map():
                for key, _ in open_ones.select():
                    if not self._took(key.fd, pieces[key.fd], is_out=key.fd == streams[0]):
                        open_ones.unregister(key.fd)
        out, err = (b"".join(pieces[fd]).decode(errors="backslashreplace") for fd in streams)
        return out, err

    def _took(self, fd: int, pieces: list[bytes], *, is_out: bool) -> bool:
        """One piece of it; false at the end. What is too much to be kept is not."""
        piece = os.read(fd, limits.SANDBOX_SAID_CHUNK)
        if is_out and piece:
            self._said.put(piece)
        if sum(map(len, pieces)) < limits.SANDBOX_SAID_BYTES_MAX:
            pieces.append(piece)
        return bool(piece)


def _give_up(task: Task, program: Path) -> None:
    """For good, of this thread alone. ConfigurationError where it cannot be: then nothing is run."""
    gain_nothing()
    if not user.may_change():
        user.keep_only(user.DAC_OVERRIDE)
    tools = (Path(it) for it in (program, _tool("prlimit", _UTILITIES), _tool("setpriv", _UTILITIES)))
    below: dict[Place, int] = dict.fromkeys((*map(Path, _LIBRARIES), *tools), RUNNING)
    below[Path(os.devnull)] = OVERWRITING  # where QEMU tries which locks there are
    below |= dict.fromkeys(task.reads, ASKING)
    below |= dict.fromkeys(task.writes, OVERWRITING)
    for problem in (restrict_files(below, alone=True), refuse_calls()):
        if problem:
            raise ConfigurationError(
                f"{program.name} is not run on files of others: {problem}; use a kernel with landlock "
                "(5.13 or later, with landlock in /sys/kernel/security/lsm)"
            )


def _command(task: Task) -> list[str]:
    program, *words = task.words
    found = _tool(program, task.remedy)
    bounds = [
        f"--as={limits.SANDBOX_MEMORY_BYTES}",
        f"--cpu={task.cpu_s}:{task.cpu_s + 1}",
        f"--fsize={task.file_bytes}",
    ]
    limited = [_tool("prlimit", _UTILITIES), *bounds, "--core=0", "--"]
    given_up = [_tool("setpriv", _UTILITIES), "--pdeathsig=KILL", *_user(), "--"]
    return [*limited, *given_up, found, *words]


def _tool(name: str, remedy: str) -> str:
    """Its path. ConfigurationError."""
    found = shutil.which(name, path=os.environ.get("PATH", _PATH))
    if found is None:
        raise ConfigurationError(f"{name} is missing: {remedy}")
    return found


def _user() -> list[str]:
    """Words of setpriv for a user of its own, where this process may choose one."""
    if not user.may_change():
        return []
    kept = "-all,+dac_override" if user.rights() & user.DAC_OVERRIDE else "-all"
    other = [f"--reuid={user.OTHER}", f"--regid={user.OTHER}", "--clear-groups"]
    return [*other, f"--inh-caps={kept}", f"--ambient-caps={kept}"]
