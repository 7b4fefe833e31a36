"""An image from a web server, into a file beside a pool that is resumed when it was interrupted.

scratch/KEY.part   what is there of it; KEY is made of the URL
scratch/KEY.json   the URL, what the server calls this version of it, and how many bytes are on stable storage

Another process asks the server, under root as another user: what the server says is read by a process
that may do no more than write to these two files.
"""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from aoe import limits, timing
from aoe.disk.syscalls import is_readable
from aoe.errors import AoeError, ConfigurationError, FetchFailed, PoolError
from aoe.pool import handles
from aoe.printable import plain

SCRATCH = "scratch"
_PART, _NOTE = ".part", ".json"


@dataclass(frozen=True, slots=True)
class Note:
    """What is known of a download: `version` is the server's word (ETag or Last-Modified), empty where it has
    none, and then nothing is resumed; the first `kept` bytes are on stable storage."""

    url: str
    version: str = ""
    total: int | None = None
    kept: int = 0

    def dump(self) -> bytes:
        """As text of one length, so that a newer one covers it."""
        said = {"url": self.url, "version": self.version, "total": self.total, "kept": self.kept}
        return json.dumps(said).encode().ljust(limits.DOWNLOAD_NOTE_BYTES)


def load(text: bytes, url: str) -> Note:
    """What `dump` wrote of a URL; one without a version for anything else."""
    try:
        said = json.loads(text)
        note = Note(said["url"], str(said["version"]), said["total"], int(said["kept"]))
    except (ValueError, KeyError, TypeError):
        return Note(url)
    whole = note.total is None or (type(note.total) is int and note.total >= note.kept)
    return note if note.url == url and note.kept >= 0 and whole else Note(url)


class Scratch(NamedTuple):
    """Where a pool keeps what is fetched: `scratch/` in the directory at `path`, which has room for `spare`
    bytes. One that is `apart` from the pool is made where it is not there."""

    path: str
    spare: int
    apart: bool = False

    def refusal(self, most: int) -> str:
        """Why no more than so many bytes are fetched, with the remedy."""
        if self.apart:
            return f"{self.path} has room for {most}; give it more, or fetch it yourself and import the file"
        return (
            f"the pool has room for {most} above its reserve; delete volumes or snapshots, or give it more "
            "room"
        )


class Waiting(NamedTuple):
    """A download that was interrupted."""

    file: str
    url: str
    bytes: int
    changed: float
    """When, in seconds since 1970."""


def is_url(text: str) -> bool:
    """Whether a text names something on a web server, and no file."""
    return text.lower().startswith(("http://", "https://"))


def name_of(url: str) -> str:
    """What a file would be called."""
    return urlsplit(url).path.rpartition("/")[2]


def check_url(url: str) -> str:
    """The same; ConfigurationError for what is not asked for."""
    try:
        parts = urlsplit(url)
        is_right = bool(parts.hostname) and parts.port != 0 and url.isprintable() and " " not in url
    except ValueError:
        parts, is_right = None, False
    if parts is None or not is_right or len(url) > limits.DOWNLOAD_URL_MAX:
        shown = plain(url[: limits.CONFIG_SHOWN_MAX])
        raise ConfigurationError(f"{shown} is no URL; write it as https://HOST/FILE")
    if parts.username is not None:
        raise ConfigurationError(
            f"the URL of {parts.hostname} names a user, and every process sees that; fetch the file yourself"
        )
    return url


def waiting(path: str) -> Iterator[Waiting]:
    """What the directory of a `Scratch` has of downloads that were interrupted, and are not under way."""
    with suppress(OSError), ExitStack() as held:
        within = handles.open_directory(str(Path(path) / SCRATCH))
        held.callback(os.close, within)
        for file, found in sorted(handles.listed(within).items()):
            if file.endswith(_PART) and not _is_held(within, file):
                note = _note(within, file.removesuffix(_PART) + _NOTE)
                yield Waiting(f"{SCRATCH}/{file}", note.url, found.st_size, found.st_mtime)


def _is_held(within: int, file: str) -> bool:
    with handles.opened(within, file, os.O_RDONLY) as fd:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _note(within: int, file: str) -> Note:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return Note(json.loads(handles.read(within, file, limits.DOWNLOAD_NOTE_BYTES))["url"])
    return Note("an image")


# Fetching


class Fetched:
    """A file that is whole, open as `fd`. It goes when it is used up."""

    def __init__(self, within: int, key: str, fd: int) -> None:
        self._within = within
        self._key = key
        self.fd = fd

    def forget(self) -> None:
        """Nothing of it is left."""
        for file in (self._key + _NOTE, self._key + _PART):
            with suppress(OSError):
                handles.remove(self._within, file)


Told = Callable[[int, int | None], object]
"""Gets how many bytes are there, and of how many, where that is known."""


@contextmanager
def fetched(scratch: Scratch, url: str, sha256: str | None, told: Told) -> Iterator[Fetched]:
    """What is at a URL, as a file. What is there of it already is not asked for again. ConfigurationError,
    FetchFailed, PoolError: what there is of it is kept, unless it is wrong. So is any exception of `told`,
    which is called a few times a second at least."""
    key = hashlib.sha256(check_url(url).encode()).hexdigest()[: limits.DOWNLOAD_KEY_CHARACTERS]
    said = plain(url)
    try:
        with ExitStack() as held:
            within = _opened(scratch)
            held.callback(os.close, within)
            part = held.enter_context(handles.opened(within, key + _PART, os.O_CREAT | os.O_RDWR))
            _lock(part, said)
            note = held.enter_context(handles.opened(within, key + _NOTE, os.O_CREAT | os.O_RDWR))
            file = Fetched(within, key, part)
            most = scratch.spare + os.fstat(part).st_blocks * 512
            how = most, scratch.refusal(most), timing.DOWNLOAD_STALL_S, os.getpid()
            known = load(os.pread(note, limits.DOWNLOAD_NOTE_BYTES, 0), url)
            os.ftruncate(part, min(known.kept, os.fstat(part).st_size) if known.version else 0)
            try:
                _ask(Job(url, part, note, *how), told)
            except ConfigurationError:  # it has no room here
                file.forget()
                raise
            except BaseException:
                _end(file, note, url)
                raise
            if sha256 is not None:
                _check(file, sha256, said)
            yield file
    except OSError as error:
        raise PoolError(f"{scratch.path}: fetching {said}: {error.strerror or error}") from error


def _opened(scratch: Scratch) -> int:
    if scratch.apart:
        Path(scratch.path).mkdir(0o755, parents=True, exist_ok=True)
    top = handles.open_directory(scratch.path)
    try:
        with suppress(FileExistsError):
            os.mkdir(SCRATCH, 0o700, dir_fd=top)
        return handles.open_directory(SCRATCH, top)
    finally:
        os.close(top)


def _lock(part: int, said: str) -> None:
    try:
        fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PoolError(f"{said} is being fetched by another process; wait for it, or end it") from error


def _end(file: Fetched, note: int, url: str) -> None:
    """Keep what the next one can go on with, on stable storage; remove what none can."""
    with suppress(OSError):
        known = load(os.pread(note, limits.DOWNLOAD_NOTE_BYTES, 0), url)
        count = os.fstat(file.fd).st_size
        if not (known.version and count):
            file.forget()
            return
        os.fdatasync(file.fd)
        os.pwrite(note, replace(known, kept=count).dump(), 0)


def _check(file: Fetched, sha256: str, said: str) -> None:
    found = hashed(file.fd)
    if found != sha256:
        file.forget()
        raise FetchFailed(f"{said} has the SHA-256 {found}, not {sha256}; it was removed")


def hashed(fd: int) -> str:
    """The SHA-256 of a file."""
    found, at = hashlib.sha256(), 0
    while piece := os.pread(fd, limits.DOWNLOAD_CHUNK, at):
        found.update(piece)
        at += len(piece)
    return found.hexdigest()


class Job(NamedTuple):
    """What is asked for, where it goes, and why not more than so many bytes. A server may be silent for
    `stall_s` seconds. The process that does it ends with its `parent`."""

    url: str
    part: int
    note: int
    most: int
    refusal: str
    stall_s: float
    parent: int


def _ask(job: Job, told: Told) -> None:
    """By another program: this one may have threads, and then a fork of it could wait for ever for what one
    of them had locked. A signal of the terminal reaches this process alone, which ends the other."""
    words = sys.executable, "-I", "-S", "-c", _CHILD, str(Path(__file__).parents[2])
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=(job.part, job.note),
        start_new_session=True,
    ) as child:
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            with suppress(BrokenPipeError), child.stdin as asked:
                asked.write(json.dumps(job._asdict()).encode())
            _hear(job.url, child.stdout.fileno(), told)
        finally:
            child.kill()


_CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from aoe.pool.asking import main; main()"


def _hear(url: str, said: int, told: Told) -> None:
    """Until the child says how it ended. What is told may end it, so it is told while nothing comes, too."""
    have: tuple[int, int | None] = (0, None)
    for line in _lines(said):
        if line:
            word = json.loads(line)
            if "error" in word:
                raise _KINDS[word["kind"]](f"{plain(url)}: {plain(word['error'])}")
            have = word["have"], word["total"]
        told(*have)
        if line and word["done"]:
            return
    raise FetchFailed(f"{plain(url)}: the process that fetched it was ended; do it again to go on")


def _lines(said: int) -> Iterator[bytes]:
    """What comes; an empty one where nothing does for a moment."""
    left = b""
    while True:
        if not is_readable(said, timing.SANDBOX_LOOK_S):
            yield b""
            continue
        piece = os.read(said, limits.DOWNLOAD_NOTE_BYTES)
        if not piece:
            return
        *lines, left = (left + piece).split(b"\n")
        yield from lines


_KINDS: dict[str, type[AoeError]] = {"usage": ConfigurationError, "store": PoolError, "web": FetchFailed}
