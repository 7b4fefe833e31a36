"""Standard input, output and error of both commands.

What a command was asked for may stand on standard output: there an error is the command's (`checked`). A
service does not depend on what reads its output: it hands lines to a thread (`unblocked`).
"""

import errno
import io
import json
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO, cast

from aoe import timing
from aoe.errors import AoeError, ConfigurationError, NoThread
from aoe.limits import OUTLET_BYTES_MAX
from aoe.printable import one_line

_NAMES = ("standard input", "standard output", "standard error")
_FAILING = (os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)
"""How a closed one is opened: using it still fails, except that errors may be written and lost."""


class StreamFailed(AoeError):
    """Standard input or output cannot be used. `quiet`: the reader has seen enough."""

    quiet = False


def open_closed() -> None:
    """Open those of the descriptors 0 to 2 that are closed on /dev/null. Else what is opened next, a disk or
    the event loop, gets such a number, and is written to or closed as if it were a terminal."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            fd = os.open(os.devnull, _FAILING[number])
            assert fd == number, "the lowest that is free is taken, and those below are open"
    sys.stdin = sys.stdin or os.fdopen(0, "r", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", errors="backslashreplace", closefd=False)


def run(name: str, body: Callable[[], int]) -> int:
    """A command: opens what is closed, and says if standard input or output failed. Its exit status."""
    open_closed()
    try:
        with checked():
            return body()
    except StreamFailed as error:
        if not error.quiet:
            complain(name, error)
        return 1
    finally:
        _settle_errors()


def complain(name: str, problem: object) -> None:
    """One line on standard error, if that can be had."""
    text = reason(problem) if isinstance(problem, OSError) else str(problem)
    tell(f"{name}: {one_line(text)}")


def tell(text: str, end: str = "\n") -> None:
    """Text on standard error, if that can be had: what is only said there never fails for it."""
    try:
        print(text, end=end, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _silence(2)


def reason(error: OSError) -> str:
    """What went wrong, in words, and with the remedy where there is one."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{error.strerror}; raise the limit (ulimit -n, or LimitNOFILE= in a systemd unit)"
    return ": ".join(str(it) for it in (error.filename, error.strerror) if it) or str(error)


def _settle_errors() -> None:
    """What standard error did not take must not change the exit status when the interpreter ends."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        _silence(2)


def _silence(number: int) -> None:
    fd = os.open(os.devnull, os.O_WRONLY)
    os.dup2(fd, number)
    os.close(fd)


# Where errors are the command's


class _Checked(io.FileIO):
    """A standard stream whose errors are StreamFailed, and that waits where it is non-blocking."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w" if number else "r", closefd=False)

    def write(self, data: object) -> int:
        return self._patiently(lambda: super(_Checked, self).write(data), select.POLLOUT)  # type: ignore[arg-type]

    def readinto(self, buffer: object) -> int:
        return self._patiently(lambda: super(_Checked, self).readinto(buffer), select.POLLIN)  # type: ignore[arg-type]

    def _patiently(self, call: Callable[[], int | None], ready: int) -> int:
        try:
            while (done := call()) is None:
                poll = select.poll()
                poll.register(self.fileno(), ready)
                poll.poll()
        except OSError as error:
            failed = StreamFailed(f"{_NAMES[self.fileno()]}: {error.strerror}")
            failed.quiet = isinstance(error, BrokenPipeError)
            if self.fileno():
                _silence(self.fileno())  # the interpreter tries the rest again when it ends
            raise failed from error
        return done


@contextmanager
def checked() -> Iterator[None]:
    """Inside, standard input and output raise StreamFailed, and any text can be printed."""
    before = sys.stdin, sys.stdout
    if _stands_for(sys.stdin, 0):
        sys.stdin = io.TextIOWrapper(io.BufferedReader(_Checked(0)))
    if _stands_for(sys.stdout, 1):
        encoding, buffer = sys.stdout.encoding, io.BufferedWriter(_Checked(1))
        sys.stdout = io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=os.isatty(1))
    try:
        yield
        sys.stdout.flush()
    except SystemExit:
        sys.stdout.flush()
        raise
    except BaseException:
        with suppress(StreamFailed):
            sys.stdout.flush()
        raise
    finally:
        sys.stdin, sys.stdout = before


def _stands_for(stream: TextIO, number: int) -> bool:
    """Whether it is the interpreter's own, and not what a program around us put in its place."""
    try:
        return stream.fileno() == number
    except (AttributeError, OSError, ValueError):
        return False


# Where they are not


class Outlet(io.TextIOBase):
    """Text to a descriptor, line by line, on a thread: writing never waits and never fails.

    Of what cannot be kept, or written, the number of lines is said as soon as it works again, in the words of
    `missing`. Until `start` everything is kept, so that no thread is there before privileges are given up.
    """

    def __init__(self, number: int, encoding: str, missing: Callable[[int], str]) -> None:
        self.missing = missing
        self._number = number
        self._encoding = encoding
        self._text = ""
        self._kept: deque[tuple[int, bytes]] = deque()
        """Lines, and how many are missing before each."""
        self._kept_bytes = 0
        self._lost = 0
        self._torn = False
        self._busy = False
        self._started = False
        self._news = threading.Condition()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._news:
            *lines, self._text = (self._text + text).split("\n")
            for line in lines:
                self._keep(f"{line}\n".encode(self._encoding, "backslashreplace"))
            self._news.notify_all()
        return len(text)

    def _keep(self, line: bytes) -> None:
        if self._kept_bytes + len(line) > OUTLET_BYTES_MAX:
            self._lost += 1
            return
        self._kept.append((self._lost, line))
        self._kept_bytes += len(line)
        self._lost = 0

    def start(self) -> None:
        """Write from now on. ConfigurationError if there can be no thread for that."""
        if self._started:
            return
        from aoe.disk.threads import begin  # noqa: PLC0415 - --help waits for no thread

        try:
            begin(self._run, f"outlet-{self._number}")
        except NoThread as error:
            raise ConfigurationError(str(error)) from error
        self._started = True

    def finish(self, deadline: float, turns: int = timing.OUTLET_TURNS) -> int:
        """Wait until everything is written, but not after the deadline (time.monotonic), nor for more than so
        many turns in which nothing is. How many of them are left."""
        if self._text:
            self.write("\n")
        try:
            self.start()
        except (ConfigurationError, ImportError):
            self._write_what_fits()
            return turns
        with self._news:
            while turns > 0 and (left_s := deadline - time.monotonic()) > 0:
                before = self._kept_bytes
                if self._news.wait_for(self._is_idle, min(left_s, timing.OUTLET_TURN_S)):
                    break
                turns -= self._kept_bytes == before
        return turns

    def _write_what_fits(self) -> None:
        """Without a thread, and without waiting."""
        poll = select.poll()
        poll.register(self._number, select.POLLOUT)
        while self._kept and poll.poll(0):
            self._put(self._kept.popleft()[1])

    def _is_idle(self) -> bool:
        return not (self._kept or self._busy or self._lost)

    # On the thread

    def _run(self) -> None:
        missing = 0
        while True:
            lost, line = self._next()
            missing += lost
            if missing and not self._put(
                f"{self.missing(missing)}\n".encode(self._encoding, "backslashreplace")
            ):
                missing += bool(line)
                continue
            missing = 0 if not line or self._put(line) else 1

    def _next(self) -> tuple[int, bytes]:
        with self._news:
            self._busy = False
            self._news.notify_all()
            self._news.wait_for(lambda: self._kept or self._lost)
            self._busy = True
            if self._kept:
                lost, line = self._kept.popleft()
                self._kept_bytes -= len(line)
                return lost, line
            lost, self._lost = self._lost, 0
            return lost, b""

    def _put(self, data: bytes) -> bool:
        """Write it all, however long that takes; false if it cannot be written."""
        rest = memoryview(b"\n" + data if self._torn else data)
        while rest:
            try:
                rest = rest[os.write(self._number, rest) :]
                self._torn = True
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._number, select.POLLOUT)
                poll.poll()
            except OSError:
                return False
        self._torn = False
        return True


@contextmanager
def unblocked(name: str, as_json: bool) -> Iterator[None]:
    """Inside, standard output and error are outlets, which `start` starts. When the block is left, it
    waits for what is not yet written, for as long as that is read."""
    before = sys.stdout, sys.stderr

    def in_words(count: int) -> str:
        return f"{name}: {count} lines are missing here: they were not read in time"

    def in_json(count: int) -> str:
        return json.dumps({"event": "missing", "lines": count})

    if _stands_for(sys.stderr, 2):
        sys.stderr = cast(TextIO, Outlet(2, sys.stderr.encoding, in_words))
    if _stands_for(sys.stdout, 1):
        one_file = os.path.samestat(os.fstat(1), os.fstat(2)) and isinstance(sys.stderr, Outlet)
        alone = Outlet(1, sys.stdout.encoding, in_json if as_json else in_words)
        sys.stdout = sys.stderr if one_file else cast(TextIO, alone)  # lines keep their order in one file
    used = _outlets()
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before  # first: what goes wrong from here on is said there
        deadline, turns = time.monotonic() + timing.OUTLET_FLUSH_S, timing.OUTLET_TURNS
        for outlet in used:
            turns = outlet.finish(deadline, turns)


def start() -> None:
    """Let the outlets write. After privileges are given up: threads keep what they began with."""
    for outlet in _outlets():
        outlet.start()


def _outlets() -> list[Outlet]:
    return [stream for stream in (sys.stderr, sys.stdout) if isinstance(stream, Outlet)]
