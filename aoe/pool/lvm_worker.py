"""Commands of LVM for a process that may run none: under systemd the opener asks a service for them.

On a stream, a request is a line of JSON, the words of a command, with a descriptor that becomes its standard
input; the answer is a line, too.
"""

import json
import os
import re
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from aoe import limits
from aoe.disk import child
from aoe.errors import AoeError, ConfigurationError, PoolError
from aoe.pool import lvm_run

SOCKET = Path("/run/aoe-target-lvm")
_STATUS = Path("/proc/self/status")
_SYS_ADMIN = 1 << 21
"""Of the capabilities in linux/capability.h."""
_COMMANDS = frozenset({"lvs", "lvcreate", "lvchange", "lvremove", "lvresize", "dmsetup", "thin_ls"})
_OPTIONS = frozenset(
    f"--{name}"
    for name in [
        "activate",
        "addtag",
        "binary",
        "deltag",
        "errorwhenfull",
        "force",
        "format",
        "ignoreactivationskip",
        "metadata-snap",
        "name",
        "no-headers",
        "nosuffix",
        "options",
        "permission",
        "reportformat",
        "select",
        "setactivationskip",
        "size",
        "thinpool",
        "type",
        "units",
        "virtualsize",
        "wipesignatures",
        "yes",
        "zero",
    ]
)
_PLAIN = re.compile(r"[A-Za-z0-9_+./=!:&#,][A-Za-z0-9_+./=!:&#,-]{0,1100}", re.ASCII)
_THIN_POOL = re.compile(r"(/[A-Za-z0-9_.-]+)*/mapper/[A-Za-z0-9_+.-]+-tpool", re.ASCII)
_MESSAGES = ("reserve_metadata_snap", "release_metadata_snap")


def is_needed(status: Path = _STATUS) -> bool:
    """Whether this process is root's, and lacks the right to change devices (CAP_SYS_ADMIN)."""
    with suppress(OSError, ValueError, LookupError):
        said = dict(line.split(":", 1) for line in status.read_text().splitlines())
        user, held = said["Uid"].split()[1], int(said["CapEff"], 16)
        return user == "0" and not held & _SYS_ADMIN
    return False


class Worker:
    """Asks the service, on a connection that is given, or else begins with the first command. Any thread may
    call it."""

    def __init__(self, at: Path = SOCKET, to: socket.socket | None = None) -> None:
        self._at = at
        self._turn = threading.Lock()
        self._to = to

    def run(self, words: Sequence[str], stdin: int | None = None) -> str:
        """As `lvm_run.run`; PoolError, too, where the service has ended meanwhile."""
        with self._turn:
            try:
                answer = self._asked(words, stdin)
            except BaseException as error:
                self.close()  # its answer may come yet
                if isinstance(error, OSError | ValueError) and not isinstance(error, AoeError):
                    raise PoolError(f"{words[0]}: {self._at}: {error}") from error
                raise
        if "wrong" in answer:
            raise ConfigurationError(str(answer["wrong"]))
        if "failed" in answer:
            raise PoolError(str(answer["failed"]))
        return str(answer["out"])

    def close(self) -> None:
        """The next command begins anew."""
        if self._to is not None:
            self._to.close()
            self._to = None

    def _asked(self, words: Sequence[str], stdin: int | None) -> dict[str, Any]:
        if self._to is None:
            self._to = self._connected()
        given = os.open(os.devnull, os.O_RDONLY) if stdin is None else os.dup(stdin)
        try:
            line = json.dumps(list(words)).encode() + b"\n"
            sent = socket.send_fds(self._to, [line], [given])
            self._to.sendall(line[sent:])
        finally:
            os.close(given)
        with self._to.makefile("rb") as file:
            said = file.readline()
        if not said:
            raise ConnectionResetError("it has ended; try again")
        answer: dict[str, Any] = json.loads(said)
        return answer

    def _connected(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.connect(str(self._at))
        except OSError as error:
            made.close()
            raise ConfigurationError(
                f"{self._at}: {error.strerror}; systemctl start aoe-target-lvm.socket"
            ) from error
        return made


# The service


def fork() -> socket.socket:
    """Start one as a child, before the first thread of this process: what `Worker` is given."""
    return child.fork(socket.SOCK_STREAM, attend, "aoe-lvm")


def attend(connection: socket.socket, run: lvm_run.Run = lvm_run.run) -> None:
    """Run what one process asks for until it has gone, or asks for something else."""
    data, given = b"", []
    try:
        while True:
            while b"\n" not in data:
                more, fds, _, _ = socket.recv_fds(connection, 65536, 1)
                given += fds
                if not more or len(data) > limits.POOL_RECORD_BYTES_MAX:
                    return
                data += more
            line, _, data = data.partition(b"\n")
            connection.sendall(json.dumps(_answer(line, given, run)).encode() + b"\n")
            _close(given)
    except OSError:
        pass  # it has gone
    finally:
        _close(given)
        connection.close()


def _close(given: list[int]) -> None:
    while given:
        os.close(given.pop())


def _answer(line: bytes, given: Sequence[int], run: lvm_run.Run) -> dict[str, str]:
    try:
        words = checked(json.loads(line))
        return {"out": run(words, next(iter(given), None))}
    except ConfigurationError as error:
        return {"wrong": str(error)}
    except PoolError as error:
        return {"failed": str(error)}
    except ValueError:
        return {"failed": "that is no command of a pool"}


def checked(words: object) -> list[str]:
    """The words of a command that pools need; ValueError for any other."""
    if not isinstance(words, list) or not words or not all(isinstance(it, str) for it in words):
        raise ValueError("it has no words")
    name, *rest = words
    if name not in _COMMANDS or not all(it in _OPTIONS or _is_plain(it) for it in rest):
        raise ValueError("it is not one of a pool")
    if name == "dmsetup" and not _is_message(rest):
        raise ValueError("it is no message to a thin pool that pools send")
    return words


def _is_message(words: Sequence[str]) -> bool:
    """To the device of a thin pool, and no other: a message to another one, or one of other words, could
    remove what it has."""
    match words:
        case ["message", device, "0", message]:
            return _THIN_POOL.fullmatch(device) is not None and message in _MESSAGES
    return False


def _is_plain(word: str) -> bool:
    """A name, number or tag, or what the device mapper is told of a pool."""
    return _PLAIN.fullmatch(word) is not None
