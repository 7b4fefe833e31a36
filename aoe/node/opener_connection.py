"""The connection of a process without rights to its opener, which may end and be another one then."""

import asyncio
import logging
import math
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from aoe import limits, timing
from aoe.disk.syscalls import close_all, is_readable
from aoe.disk.threads import aside
from aoe.errors import ConfigurationError
from aoe.node.opener_messages import Answer, Misunderstood, Request, decode_answer, encode

log = logging.getLogger("aoe.node")

_GONE = "the opener has ended: what is open is served on, and nothing more is opened until a restart"
_AGAIN = "the opener has ended: what is open is served on, and the next opener is asked"
_SILENT = "the opener does not answer: what is open is served on, and the rest waits; look at its disks"
_HEARD = "the opener answers"
_HEARD_AGAIN = "the opener answers again"
_OPENER = "aoe-target-opener"
_WAITS = "the start waits for the opener, which does not answer; look at its disks"
_ENDED = "the opener has ended before all was served that is wanted; start the target again"
_UNIT = f", and look at systemctl status {_OPENER}.service"


class OpenerLost(ConfigurationError):
    """The opener is not there any more, or is not understood. It may be there later."""

    exit = 1


class Asked(Protocol):
    """Asks what must not fail."""

    def __call__(self, verb: str, descriptors: Sequence[int] = (), **arguments: Any) -> None:
        """OpenerLost."""


Late = Callable[[Request, Answer, list[int]], None]
Answers = Callable[[socket.socket], bool]
"""Waits until there is something to read; false where that takes too long."""


class Connection:
    """To the opener. Calls block, so they are none for an event loop that serves; any thread may make them,
    one at a time. One that is not answered in time is given up; others are not made until it is."""

    def __init__(
        self, connection: socket.socket | None, again: Callable[[Answers], socket.socket] | None = None
    ) -> None:
        """`again` connects to the next opener, where there can be one, and to the first if there is no
        connection yet, when something is asked. OpenerLost while there is none."""
        self._socket = connection or socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(timing.OPENER_ANSWER_S)
        self._again = again
        self.joined: Callable[[Asked], None] = lambda _: None
        """Tells the next opener what the last one knew."""
        self.late: Late = lambda _, __, received: close_all(received)
        """Takes an answer for which no caller waits any more."""
        self.answers: Callable[[], None] = lambda: None
        """Called in the event loop when what could not be asked for can be."""
        self._patience_s = math.inf
        """Without end until all is served that was to be at the start: a manager, or a signal, ends that."""
        self._owed: Request | None = None
        """What was given up; its answer is still to come."""
        self._silent = False
        """Whether it was said that it does not answer."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watched: _Watched | None = None
        self._returning: asyncio.Task[None] | None = None
        self._parted = connection is None
        self._asking = threading.Lock()
        self._number = 0

    def ask(
        self, verb: str, descriptors: Sequence[int] = (), **arguments: Any
    ) -> tuple[dict[str, Any], list[int]]:
        """Facts and descriptors. ConfigurationError with the opener's words; OpenerLost."""
        with self._asking:
            self._join()
            self._number += 1
            request = Request(self._number, verb, arguments)
            try:
                answer, received = self._exchange(request, descriptors)
            except OpenerLost:
                if self._again is None or not self._ended:
                    raise
                self._join()  # of what the last one did for this, nothing is left
                answer, received = self._exchange(request, descriptors)
            self._heard()
        for line in answer.said:
            log.warning("%s", line)
        if answer.error:
            raise ConfigurationError(answer.error)
        return answer.ok, received

    def started(self) -> None:
        """What was to be served at the start is. From now on an answer has its time."""
        self._patience_s = timing.OPENER_ANSWER_S

    def hurry(self) -> None:
        """Wait no longer than at the end."""
        self._patience_s = timing.OPENER_LEAVE_S

    def _exchange(self, request: Request, descriptors: Sequence[int]) -> tuple[Answer, list[int]]:
        self._ended = False
        try:
            send(self._socket, request, descriptors)
            if not self._is_answered(self._socket):
                self._give_up(request)
                raise OpenerLost(_SILENT)
            return received_for(self._socket, request)
        except KeyboardInterrupt:
            self._owed = request
            raise
        except (OSError, Misunderstood) as error:
            self._part()  # what it says next would be taken for an answer to something else
            self._ended = not isinstance(error, Misunderstood | TimeoutError)
            raise self._lost(error) from error

    def _is_answered(self, to: socket.socket) -> bool:
        began_s = time.monotonic()
        while not is_readable(to, timing.OPENER_LOOK_S):
            waited_s = time.monotonic() - began_s
            if waited_s > timing.OPENER_SILENT_S:
                self._say_silent()
            if waited_s > self._patience_s:
                return False
        return True

    def _give_up(self, request: Request) -> None:
        """Where there can be another opener, that is asked from now on."""
        if self._again is None:
            self._owed = request
        else:
            self._part()

    def _say_silent(self) -> None:
        if not self._silent:
            self._silent = True
            log.error("%s", f"{_WAITS}{self._unit}" if self._is_starting else _SILENT)

    def _heard(self) -> None:
        if self._silent:
            self._silent = False
            log.info("%s", _HEARD if self._is_starting else _HEARD_AGAIN)
            self._tell()

    def _tell(self) -> None:
        """In the event loop that what waits can go on."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(self.answers)

    def _catch_up(self) -> None:
        """Take the answer that is owed. OpenerLost while there is none."""
        request = self._owed
        if request is None:
            return
        if not is_readable(self._socket):
            raise OpenerLost(_SILENT)
        self._owed = None
        try:
            self.late(request, *received_for(self._socket, request))
        except (OSError, Misunderstood) as error:
            self._part()
            raise self._lost(error) from error
        self._heard()

    def misunderstood(self, error: Misunderstood) -> OpenerLost:
        """To be raised: nothing more is asked of it."""
        self._part()
        return self._lost(error)

    def _lost(self, error: Exception) -> OpenerLost:
        if isinstance(error, Misunderstood):
            return OpenerLost(f"the opener is not understood: {error}; restart the target")
        return OpenerLost(_SILENT if isinstance(error, TimeoutError) else self._gone)

    @property
    def _is_starting(self) -> bool:
        return self._patience_s == math.inf

    @property
    def _unit(self) -> str:
        """What tells more, where it is a service of its own."""
        return "" if self._again is None else _UNIT

    @property
    def _gone(self) -> str:
        if self._is_starting:
            return f"{_ENDED}{self._unit}"
        return _GONE if self._again is None else _AGAIN

    def _part(self) -> None:
        self._parted = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    # The next opener

    def _join(self) -> None:
        """Be connected, to the next opener if the last one is lost. OpenerLost."""
        self._catch_up()
        if not self._parted or self._again is None:
            return
        joined = self._again(self._is_answered)
        joined.settimeout(timing.OPENER_ANSWER_S)
        watched = self._watched
        if watched is None or self._socket is not watched.socket:
            self._socket.close()
        self._socket, self._parted = joined, False
        self.joined(self._ask_now)

    def _ask_now(self, verb: str, descriptors: Sequence[int] = (), **arguments: Any) -> None:
        """While it is this caller's turn."""
        self._number += 1
        answer, received = self._exchange(Request(self._number, verb, arguments), descriptors)
        close_all(received)
        if answer.error:
            raise self.misunderstood(Misunderstood(answer.error))

    def watch(self) -> None:
        """Say it once if it ends, inside the running event loop; then come to the next one."""
        self._loop = asyncio.get_running_loop()
        self._watched = _Watched(self._socket, self._look)

    def _look(self) -> None:
        assert self._watched is not None
        watched = self._watched.socket
        unasked, was_left = b"", self._parted and self._silent
        if watched is self._socket and not self._parted:
            if not self._asking.acquire(blocking=False):
                return  # what comes is an answer
            try:
                if not is_readable(watched):
                    return  # it was an answer
                if self._owed is not None:
                    self._catch_up()
                    return
                unasked = watched.recv(1, socket.MSG_PEEK)
            except (OSError, OpenerLost):
                pass
            finally:
                self._asking.release()
            self._part()
        self._leave()
        if unasked:
            log.error("%s", self._lost(Misunderstood("it speaks unasked")))
        elif not was_left:
            log.error("%s", self._gone)
        if self._again is not None:
            self._returning = asyncio.get_running_loop().create_task(self._return())

    def _leave(self) -> None:
        """Watch it no more."""
        if self._watched is None:
            return
        self._watched.close()
        if self._watched.socket is not self._socket:
            self._watched.socket.close()
        self._watched = None

    async def _return(self) -> None:
        said = ""
        while (problem := await aside(self._tried)) is not None:
            if problem not in (said, _SILENT):  # that it is silent was said when it was noticed
                log.error("%s", problem)
            said = problem
            await asyncio.sleep(timing.OPENER_AGAIN_S)
        if self._silent:
            self._heard()
        else:
            log.info("the opener is there again")
            self._tell()
        self.watch()

    def _tried(self) -> str | None:
        """What keeps it from the next opener; None if nothing does."""
        try:
            with self._asking:
                self._join()
        except OpenerLost as error:
            return str(error)
        return None

    def finish(self) -> None:
        """Ask for nothing more, and wait a while for the end of the opener, which has things to do before.
        One that owes an answer was waited for."""
        if self._owed is not None:
            return
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(timing.OPENER_LEAVE_S)
            while self._socket.recv(1):
                pass

    def close(self) -> None:
        """The opener ends with it, or with the last of those that it opens for, and lets go of its locks."""
        if self._returning is not None:
            self._returning.cancel()
        self._leave()
        self._socket.close()


class _Watched:
    """A socket that the running event loop watches. uvloop gives a descriptor up for good once it reports an
    error, as a socket does whose other end leaves something unread; so the loop watches one that has none."""

    def __init__(self, it: socket.socket, ready: Callable[[], None]) -> None:
        self.socket = it
        self._loop = asyncio.get_running_loop()
        self._events = select.epoll()
        self._events.register(it, select.EPOLLIN)
        self._loop.add_reader(self._events, ready)

    def close(self) -> None:
        """Watch it no more."""
        self._loop.remove_reader(self._events)
        self._events.close()


def send(to: socket.socket, request: Request, descriptors: Sequence[int] = ()) -> None:
    """ConfigurationError for what cannot be asked, OSError."""
    try:
        message = encode(request)
    except Misunderstood as error:
        raise ConfigurationError(f"it cannot be asked for: {error}") from error
    socket.send_fds(to, [message], descriptors)


def received_for(to: socket.socket, request: Request) -> tuple[Answer, list[int]]:
    """The answer to a request, and its descriptors. OSError, Misunderstood."""
    received: list[int] = []
    try:
        data, received, _, _ = socket.recv_fds(
            to, limits.OPENER_MESSAGE_BYTES_MAX + 1, limits.OPENER_DESCRIPTORS_MAX
        )
        return _checked(request, data, received), received
    except BaseException:
        close_all(received)
        raise


def _checked(request: Request, data: bytes, received: Sequence[int]) -> Answer:
    """The answer to a request, if it is one."""
    if not data:
        raise ConnectionResetError
    answer = decode_answer(data)
    if (answer.id, answer.descriptors) != (request.id, len(received)):
        raise Misunderstood("it answers something else")
    return answer


# An opener that is a service of its own


def connected(path: Path, release: str, answers: Answers) -> socket.socket:
    """To the opener that listens at `path`, and is of this release. One that ends, as one does of another
    release than what is installed, is followed by the next; a manager may have to start that first.
    OpenerLost."""
    for _ in range(limits.OPENER_TRIES):
        opened = _connected(path)
        try:
            found = _greeted(opened, release, answers)
        except TimeoutError as error:
            opened.close()
            raise OpenerLost(_SILENT) from error
        except OSError:
            opened.close()
            time.sleep(timing.OPENER_AGAIN_S / 4)
            continue
        except Misunderstood as error:
            opened.close()
            raise OpenerLost(
                f"the opener at {path} is of another version: {error}; systemctl restart {_OPENER}.service"
            ) from error
        if found == release:
            return opened
        opened.close()
        raise OpenerLost(
            f"the opener is of version {found}, as what is installed, and this service of {release}: "
            "systemctl restart aoe-target.service"
        )
    raise OpenerLost(f"the opener at {path} ends at once; look at systemctl status {_OPENER}.service")


def _connected(path: Path) -> socket.socket:
    to = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    to.settimeout(timing.OPENER_ANSWER_S)
    try:
        to.connect(str(path))
    except BlockingIOError as error:  # so many wait for it
        to.close()
        raise OpenerLost(_SILENT) from error
    except OSError as error:
        to.close()
        raise OpenerLost(
            f"no opener at {path}: {error.strerror or error}; systemctl restart {_OPENER}.socket"
        ) from error
    return to


def _greeted(to: socket.socket, release: str, answers: Answers) -> str:
    """The release of the opener."""
    hello = Request(0, "hello", {"release": release})
    send(to, hello)
    if not answers(to):
        raise TimeoutError
    answer, received = received_for(to, hello)
    close_all(received)
    found = answer.ok.get("release")
    if not isinstance(found, str):
        raise Misunderstood(answer.error or "it does not say which release it is")
    return found
