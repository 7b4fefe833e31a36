"""The life of a qemu-storage-daemon that serves one image as a file: it is started, locks what it has, and
its file is opened once; then nothing is mounted any more, and the descriptor is all there is."""

import logging
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from aoe import limits, timing
from aoe.disk import locks, syscalls
from aoe.errors import ConfigurationError
from aoe.image import mounts, processes, qemu, sound
from aoe.image.carried import Facts, chain_facts, chain_of
from aoe.image.files import Chain
from aoe.image.graph import Graph
from aoe.image.nodes import EXPORT, SECRET, Part, export_of, nodes
from aoe.image.qmp import Gone, Qmp
from aoe.image.user import READ, SEARCH, WRITE, User, becoming, let
from aoe.sandbox.qemu_img import name_of

log = logging.getLogger("aoe.image")

_KEEPS_MEMORY = dict.fromkeys(
    ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(limits.IMAGE_MEMORY_KEPT)
)
"""As mallopt(3) has it: else QEMU gives the buffer of each larger request back to the kernel."""
_IN_USE = '" lock'
"""In what QEMU says where another program has an image."""


@dataclass(frozen=True, slots=True)
class How:
    """How an image is served. `secret` is what the key file has; `patience_s` is how long another program
    that has the image is waited for, in seconds."""

    read_only: bool = False
    direct: bool = False
    secret: bytes | None = None
    patience_s: float = timing.LOCK_WAIT_S


class Daemon:
    """A process that serves an image, from `start` to `stop`."""

    def __init__(self, chain: Chain, how: How, user: User, within: Path) -> None:
        self._chain = chain
        self._how = how
        self._user = user
        self._within = within
        self._process: subprocess.Popen[bytes] | processes.Forked | None = None
        self._said = -1
        """Where its last words are read."""
        self._asked: Qmp | None = None
        self._inside = chain.directory
        """The directory of the image, as its process has it."""
        self._graph = Graph(self._do)
        self._written: tuple[str, ...] = ()
        """What its process may write."""

    def carried(self) -> Facts:
        """What the next program of this process goes on with, `of` it."""
        assert self._asked is not None, "it lives"
        return {
            "chain": chain_facts(self._chain),
            "how": {**asdict(self._how), "secret": _text(self._how.secret)},
            "process": self.process,
            "said": self._said,
            "asked": self._asked.carried(),
            "inside": self._inside,
            "graph": self._graph.carried(),
            "written": self._written,
        }

    @classmethod
    def of(cls, facts: Facts, user: User, within: Path) -> Self:
        """The same."""
        how = facts["how"]
        daemon = cls(chain_of(facts["chain"]), How(**{**how, "secret": _secret(how["secret"])}), user, within)
        daemon._process = processes.Forked(facts["process"])
        daemon._said, daemon._inside = facts["said"], facts["inside"]
        daemon._asked = daemon._qmp(socket.socket(fileno=facts["asked"]["fd"]))
        daemon._asked.go_on_with(facts["asked"])
        daemon._graph.go_on_with(facts["graph"])
        daemon._written = tuple(facts["written"])
        return daemon

    @property
    def process(self) -> int:
        """Its number; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    @property
    def lives(self) -> bool:
        """Whether it serves."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Have the image: no other program writes to it then. ConfigurationError; Gone where the process has
        ended."""
        with self._or_none():
            left = processes.left_with(self._chain.places)
            if left:
                raise ConfigurationError(
                    f"{self._place}: process {left}, which served it, was killed and has not ended, as a "
                    "disk keeps it; look at that disk"
                )
            self._begin()
            self._open_nodes()

    def doubtful(self) -> list[tuple[Part, str]]:
        """The layers that are to be checked before it serves, and what they are called."""
        return [(part, place) for part, place in self._layers if sound.needs_check(part)]

    def check_kept(self) -> None:
        """ConfigurationError where what is below the top was changed since it was last served so."""
        sound.check_kept(self._layers)

    def keep(self) -> None:
        """What is below the top is not to be changed from now on."""
        sound.keep(self._layers)

    @property
    def _layers(self) -> list[tuple[Part, str]]:
        return list(zip(self._chain.parts, self._chain.places, strict=True))

    def serve(self) -> int:
        """A descriptor of the image as a file, which is whole. ConfigurationError, OSError; Gone as above."""
        with self._or_none():
            if not self._how.read_only:
                sound.forget(self._chain.parts[0].fd)
            return self._file()

    def withdraw(self) -> None:
        """Serve it no more, and have it still. What is under way is done then, and what comes later fails. It
        is ended where it does not do so."""
        if self._asked is None or not self.lives:
            return
        try:
            self._asked.do("block-export-del", within_s=timing.IMAGE_READY_S, id=EXPORT, mode="hard")
            until_s = time.monotonic() + timing.IMAGE_READY_S
            while self._asked.do("query-block-exports", within_s=timing.IMAGE_READY_S):
                if time.monotonic() > until_s:
                    raise Gone("what it serves has no end")
                time.sleep(timing.IMAGE_WITHDRAWN_LOOK_S)
        except ConfigurationError as error:
            log.warning("%s: %s; what serves it is ended", self._place, error)
            self.stop()

    @contextmanager
    def _or_none(self) -> Iterator[None]:
        """There is no process any more where this fails."""
        try:
            yield
        except (ConfigurationError, OSError) as error:
            has_ended = isinstance(error, Gone) or self._ends()
            said = self._last_words() if has_ended else ""
            self.kill()
            if has_ended:
                raise Gone(f"{self._place}: {qemu.PROGRAM}: {said or error}") from error
            raise
        except BaseException:
            self.kill()
            raise

    @property
    def _place(self) -> str:
        return self._chain.places[0]

    def switch(self, chain: Chain) -> None:
        """Go on in another image from now on, an empty overlay of the one that is served. That is not written
        any more. Where it cannot be, the process ends, and the next one has the other image."""
        old, self._chain = self._chain, chain
        try:
            if self.lives:
                self._switch(Path(chain.places[0]).name)
        except (ConfigurationError, OSError) as error:
            log.warning("%s: %s; what serves it is started again", self._place, error)
            self.stop()
        finally:
            old.close()

    def _switch(self, file: str) -> None:
        self._let_in()
        self._written += (self._place,)
        self._graph.go_on(self._inside, file)
        self._written = (self._place,)

    def check(self) -> None:
        """That it answers, unless it has ended: then the next one does. ConfigurationError."""
        if self._asked is None or not self.lives:
            return
        try:
            self._asked.do("query-jobs", within_s=timing.IMAGE_READY_S)
        except Gone as error:
            raise ConfigurationError(
                f"{self._place}: {qemu.PROGRAM}: {error}; look at the disk that it is on, then try again"
            ) from error

    def grow(self, size: int) -> None:
        """Let its disk have so many bytes from now on. ConfigurationError where it cannot be."""
        if not self.lives:
            raise ConfigurationError(f"{self._place}: what serves it has ended; try again")
        top = self._chain.parts[0].fd
        let(top, self._user, READ | WRITE)
        sound.forget(top)
        try:
            self._graph.grow(size)
        except Gone as error:
            self.stop()
            raise ConfigurationError(f"{self._place}: {qemu.PROGRAM}: {error}; try again") from error
        except ConfigurationError as error:
            raise ConfigurationError(f"{self._place}: {error}") from error

    def has(self, file: os.stat_result) -> bool:
        """Whether a file is a layer of the image."""
        return self._place_of(file) is not None

    def _place_of(self, file: os.stat_result) -> int | None:
        found = (n for n, it in enumerate(self._chain.parts) if os.path.samestat(os.fstat(it.fd), file))
        return next(found, None)

    def merge(self, file: os.stat_result, base: os.stat_result | None) -> float:
        """Let the layer in a file, which is only read, take what it needs of those below it, down to the one
        in the file `base`, or of all. How much of that is done, 0 to 1: to be called again until it is 1.
        ConfigurationError where it cannot be."""
        at = self._place_of(file)
        end = len(self._chain.parts) if base is None else self._place_of(base)
        if at is None or end is None or end <= at or not self.lives:
            raise ConfigurationError(f"{self._place}: what serves it has ended, or was changed; try again")
        if end == at + 1:
            return 1.0
        if at == 0 and not self._how.read_only:  # up to QEMU 10.0 no job may copy into what FUSE may write
            raise ConfigurationError(
                f"{self._place} is what clients write; cut it, or take it out of service"
            )
        try:
            return self._merge(at, end)
        except Gone:
            self.stop()  # what it answers later would be taken for the answer to something else
            raise
        except OSError as error:
            raise ConfigurationError(f"{self._chain.places[at]}: {error.strerror}") from error

    def _merge(self, at: int, end: int) -> float:
        parts, places = self._chain.parts, self._chain.places
        let(parts[at].fd, self._user, READ | WRITE)
        sound.forget(parts[at].fd, merged=True)
        try:
            part = self._graph.merge(at, end, Path(places[end]).name if end < len(places) else "")
        except Gone:
            raise
        except ConfigurationError as error:
            raise ConfigurationError(f"{places[at]}: {error}") from error
        if part == 1:
            gone = parts[at + 1 : end]
            self._chain = self._chain._replace(
                parts=(*parts[: at + 1], *parts[end:]), places=(*places[: at + 1], *places[end:])
            )
            syscalls.close_all([fd for it in gone for fd in it.descriptors])
        return part

    def _let_in(self) -> None:
        """Let the user of images open files of the directory by their names."""
        fd = os.open(name_of(self._chain.directory), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            let(fd, self._user, SEARCH)
        finally:
            os.close(fd)

    def _begin(self) -> None:
        self._graph, self._inside = Graph(self._do), self._chain.directory
        self._written = () if self._how.read_only else (self._place,)
        try:
            mounts.let_mount(self._user)
        except OSError as error:
            refused = isinstance(error, PermissionError)
            remedy = "let this user use it, or run as root" if refused else "load it: modprobe fuse"
            raise ConfigurationError(f"/dev/fuse: {error.strerror}; {remedy}") from error
        ours, its = socket.socketpair()
        key = _key_file(self._how.secret)
        passed = [*self._chain.descriptors, self._inside, its.fileno(), *([key] if key >= 0 else [])]
        self._said, said = os.pipe()
        os.set_blocking(said, False)  # or what it says would have it wait for a reader
        try:
            with its:  # which is that process's alone then, so that its end is seen
                self._process = _started(passed, its.fileno(), said, becoming(self._user))
            self._asked = self._qmp(ours)
            self._asked.begin()
            if key >= 0:
                self._do("object-add", **{"qom-type": "secret", "id": SECRET, "file": name_of(key)})
        except FileNotFoundError as error:
            ours.close()
            raise ConfigurationError(qemu.MISSING.format(qemu.PROGRAM)) from error
        except subprocess.SubprocessError as error:
            ours.close()
            raise ConfigurationError(qemu.NO_USER) from error
        finally:
            syscalls.close_all([said, *([key] if key >= 0 else [])])

    def _qmp(self, connected: socket.socket) -> Qmp:
        return Qmp(connected, lambda: processes.is_at_work(self.process))

    def _do(self, verb: str, **arguments: Any) -> Any:
        assert self._asked is not None, "it was begun"
        return self._asked.do(verb, **arguments)

    def _open_nodes(self) -> None:
        how, until_s = self._how, time.monotonic() + self._how.patience_s
        keyed = how.secret is not None
        for node in nodes(self._chain.parts, read_only=how.read_only, direct=how.direct, keyed=keyed):
            while (problem := self._refused(node)) is not None:
                if _IN_USE not in problem or time.monotonic() > until_s:
                    raise ConfigurationError(self._sentence(problem))
                time.sleep(timing.IMAGE_LOOK_S)

    def _refused(self, node: dict[str, Any]) -> str | None:
        """Why it cannot be opened; None if it is."""
        try:
            self._graph.add(node)
        except Gone:
            raise
        except ConfigurationError as error:
            return str(error)
        return None

    def _sentence(self, problem: str) -> str:
        if _IN_USE in problem:
            names = (locks.holder(it) for it in self._chain.descriptors)
            holder = next(filter(None, names), "") or "another program, such as QEMU"
            return f"{self._place} is in use by {holder}; stop it"
        for number, part in enumerate(self._chain.parts):
            problem = problem.replace(name_of(part.fd), self._chain.places[number])
        if self._how.secret is not None and self._how.secret.endswith(b"\n") and "assword" in problem:
            problem += "; the key file ends with a newline, which counts: write it without (printf %s)"
        return f"{self._place}: {problem}"

    def _file(self) -> int:
        """Not with O_DIRECT, with which several writes are under way at a time: up to QEMU 10.0 one's bytes
        then come to be another's. Else the kernel sends one after the other."""
        with mounts.mountpoint(self._user, self._within) as file:
            self._do(
                "block-export-add", **export_of(self._graph.top, str(file), read_only=self._how.read_only)
            )
            flags = os.O_RDONLY if self._how.read_only else os.O_RDWR
            fd = mounts.opened_as(self._user, file, flags)
        assert self._asked is not None, "it was begun"
        self._asked.idle_s = timing.IMAGE_IDLE_S
        return fd

    def _ends(self) -> bool:
        """Whether its process has ended, or does at this moment."""
        if self._process is None:
            return False
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timing.IMAGE_LOOK_S)
        return not self.lives

    def _last_words(self) -> str:
        """Of a process that ended at once."""
        if not self._ends():
            return ""
        lines = os.read(self._said, limits.IMAGE_SAID_BYTES).decode(errors="backslashreplace").splitlines()
        return lines[-1].removeprefix(f"{qemu.PROGRAM}: ") if lines else ""

    def stop(self) -> bool:
        """End it, with all that it has written on the way to its files, and whether it did that. It is killed
        if it does not end."""
        status: int | None = None
        if self._asked is not None and self._asked.answers and self._process is not None and self.lives:
            with suppress(ConfigurationError):
                self._do("quit")
            with suppress(subprocess.TimeoutExpired):
                status = self._process.wait(timing.IMAGE_END_S)
        self.kill()
        return status == 0

    def close(self, *, whole: bool) -> None:
        """End it, and let go of the files of its image, which was served (`whole`) or only looked at."""
        if self.stop() and whole:
            for part in self._chain.parts:
                sound.note(part)
        self._chain.close()

    def kill(self) -> None:
        """End it at once. What it has locked is free once its last request in io_uring is over; where a disk
        keeps it, it ends later."""
        if self._asked is not None:
            self._asked.close()
            self._asked = None
        if self._process is not None:
            processes.end(self._process, self._written)
            self._process = None
        if self._said >= 0:
            os.close(self._said)
            self._said = -1


def _started(
    passed: Sequence[int], asked: int, said: int, become: Callable[[], None]
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [qemu.PROGRAM, "--chardev", f"socket,id=asked,fd={asked}", "--monitor", "chardev=asked"],
        pass_fds=passed,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
        env=qemu.environment() | _KEEPS_MEMORY,
        preexec_fn=become,  # noqa: PLW1509  this process has one thread
    )


def _text(secret: bytes | None) -> str | None:
    return None if secret is None else secret.decode("latin-1")


def _secret(text: str | None) -> bytes | None:
    return None if text is None else text.encode("latin-1")


def _key_file(secret: bytes | None) -> int:
    """A file in memory with it; below 0 without one."""
    if secret is None:
        return -1
    fd = os.memfd_create("key", os.MFD_CLOEXEC)
    os.write(fd, secret)
    return fd
