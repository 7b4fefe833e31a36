"""The process that asks a web server (RFC 9110): it writes to two files, and says how far it is.

It goes on where an earlier one was interrupted, if the server still has the same version (Range, If-Range).
"""

import ctypes
import encodings.idna  # noqa: F401 - what names a host is encoded when nothing can be loaded any more
import http.client
import json
import os
import re
import signal
import ssl
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import IO, Any
from urllib import error as web
from urllib import request
from urllib.parse import urlsplit

from aoe import limits
from aoe.errors import ConfigurationError, FetchFailed
from aoe.pool.download import Job, Note, load
from aoe.printable import one_line
from aoe.sandbox import user
from aoe.sandbox.bpf import gain_nothing

_PR_SET_PDEATHSIG = 1
_OK, _PART_OF_IT, _NO_SUCH_PART = 200, 206, 416
_RANGE = re.compile(r"bytes (?:([0-9]{1,19})-[0-9]{1,19}|\*)/([0-9]{1,19})")
_libc = ctypes.CDLL(None)

Say = Callable[..., None]


def main() -> None:
    """A program of its own, which reads what to do, and only says how it went."""
    job = Job(**json.load(sys.stdin))
    trusted = ssl.create_default_context()  # what SSL_CERT_FILE names may be for its owner alone
    user.become_other()
    gain_nothing()
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == job.parent:
        _tell(job, trusted, sys.stdout)


def _tell(job: Job, trusted: ssl.SSLContext, said: IO[str]) -> None:
    def say(**facts: Any) -> None:
        said.write(json.dumps(facts) + "\n")
        said.flush()

    try:
        fetch(job, trusted, say)
    except ConfigurationError as error:
        say(error=str(error), kind="usage")
    except FetchFailed as error:
        say(error=str(error), kind="web")
    except OSError as error:
        say(error=error.strerror or str(error), kind="store")


def fetch(job: Job, trusted: ssl.SSLContext, say: Say) -> None:
    """What comes behind the bytes that the file has, until all of it is there; `trusted` judges servers of
    https. ConfigurationError for what is too large, FetchFailed for what the server does, OSError of the
    store."""
    note = load(os.pread(job.note, limits.DOWNLOAD_NOTE_BYTES, 0), job.url)
    at = os.fstat(job.part).st_size
    watch = _Watch(job.stall_s)
    with _answer(job, trusted, at, note.version) as found:
        if found.status == _NO_SUCH_PART and _whole(found.headers) == at:
            say(have=at, total=at, done=True)
            return
        if found.status == _NO_SUCH_PART:
            raise FetchFailed("the server has less of it than before; do it again")
        _Copy(job, say, watch).run(found, at)


class _Watch:
    """Ends what gets too little in a time, whatever it waits for."""

    def __init__(self, stall_s: float) -> None:
        self.count = 0
        self._stall_s = stall_s
        self._seen = 0
        signal.signal(signal.SIGALRM, self._look)
        signal.setitimer(signal.ITIMER_REAL, stall_s, stall_s)

    def _look(self, *_: object) -> None:
        if self.count - self._seen < limits.DOWNLOAD_LEAST_BYTES:
            raise FetchFailed(
                f"nothing, or next to nothing, came for {self._stall_s:g} s; do it again to go on"
            )
        self._seen = self.count


class _Answer:
    """What a server answers, also where urllib calls that an error."""

    def __init__(self, status: int, headers: Mapping[str, str], body: http.client.HTTPResponse) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def __enter__(self) -> "_Answer":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self.body.close()


def _answer(job: Job, trusted: ssl.SSLContext, at: int, version: str) -> _Answer:
    asked = request.Request(job.url, headers={"Accept-Encoding": "identity", "User-Agent": "aoe-target"})
    if at:
        asked.add_header("Range", f"bytes={at}-")
        asked.add_header("If-Range", version)
    try:
        found = _opener(trusted).open(asked, timeout=job.stall_s)
    except web.HTTPError as error:
        if error.code == _NO_SUCH_PART and at:
            return _Answer(error.code, error.headers, error.fp)  # type: ignore[arg-type]
        raise FetchFailed(f"the server says {error.code} {one_line(str(error.reason))}") from error
    except web.URLError as error:
        raise FetchFailed(_reason(error.reason, job.stall_s)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FetchFailed(_reason(error, job.stall_s)) from error
    return _Answer(found.status, found.headers, found)


def _reason(error: object, stall_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {stall_s:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(str(error)) or type(error).__name__


def _opener(trusted: ssl.SSLContext) -> request.OpenerDirector:
    """HTTP and HTTPS, by a proxy where the environment names one, and nothing else."""
    made = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(context=trusted),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        made.add_handler(handler)
    return made


class _Redirects(request.HTTPRedirectHandler):
    """Only to another web server, and not from one that proves what it is to one that does not."""

    max_redirections = limits.DOWNLOAD_REDIRECTS_MAX

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https"):
            raise FetchFailed(f"the server sends on to {scheme}, which is neither http nor https")
        if scheme == "http" and req.type == "https":
            raise FetchFailed("the server sends on from https to http; name that URL if it is meant")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _whole(headers: Mapping[str, str]) -> int | None:
    """The length of all of it, by Content-Range."""
    match = _RANGE.fullmatch(headers.get("Content-Range", ""))
    return int(match[2]) if match else None


class _Copy:
    """An answer on its way into the file."""

    def __init__(self, job: Job, say: Say, watch: _Watch) -> None:
        self._job = job
        self._say = say
        self._watch = watch

    def run(self, found: _Answer, at: int) -> None:
        """From a place on, or from the beginning where the server has another version."""
        if found.headers.get("Content-Encoding", "identity") != "identity":
            raise FetchFailed("the server packs what it sends, although it was asked not to")
        total: int | None
        if found.status == _PART_OF_IT:
            total = _placed(found.headers, at)
        elif found.status == _OK:
            os.ftruncate(self._job.part, 0)
            at, total = 0, _length(found.headers)
        else:
            raise FetchFailed(f"the server says {found.status}, and not what was asked for")
        note = Note(self._job.url, _version(found.headers), total, at)
        self._check_room(total or at)
        self._keep(note)
        self._copy(found.body, note)

    def _copy(self, body: http.client.HTTPResponse, note: Note) -> None:
        at = kept = note.kept
        while piece := _read(body, self._job.stall_s):
            self._watch.count += len(piece)
            self._check_room(at + len(piece))
            _write(self._job.part, piece, at)
            at += len(piece)
            if at - kept >= limits.DOWNLOAD_SYNC_BYTES:
                kept = at
                self._keep(replace(note, kept=at))
            self._say(have=at, total=note.total, done=False)
        self._keep(replace(note, kept=at))
        if note.total not in (None, at):
            raise FetchFailed(f"the server ended after {at} of {note.total} bytes; do it again to go on")
        self._say(have=at, total=at, done=True)

    def _check_room(self, count: int) -> None:
        if count > self._job.most:
            raise ConfigurationError(f"it has {count} bytes or more, and {self._job.refusal}")

    def _keep(self, note: Note) -> None:
        os.fdatasync(self._job.part)
        os.pwrite(self._job.note, note.dump(), 0)


def _read(body: http.client.HTTPResponse, stall_s: float) -> bytes:
    try:
        return body.read1(limits.DOWNLOAD_CHUNK)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FetchFailed(f"{_reason(error, stall_s)}; do it again to go on") from error


def _write(fd: int, piece: bytes, at: int) -> None:
    view = memoryview(piece)
    while view:
        count = os.pwrite(fd, view, at)
        view, at = view[count:], at + count


def _placed(headers: Mapping[str, str], at: int) -> int:
    match = _RANGE.fullmatch(headers.get("Content-Range", ""))
    if match is None or match[1] is None or int(match[1]) != at:
        raise FetchFailed("the server answers with another part than it was asked for")
    return int(match[2])


def _length(headers: Mapping[str, str]) -> int | None:
    said = headers.get("Content-Length", "")
    return int(said) if re.fullmatch("[0-9]{1,19}", said) else None


def _version(headers: Mapping[str, str]) -> str:
    """What the server calls this version; empty where it does not say, or not for certain."""
    tag = headers.get("ETag", "")
    said = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")
    return said if len(said) <= limits.DOWNLOAD_VERSION_MAX and said.isprintable() else ""
