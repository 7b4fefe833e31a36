"""The process that has images served: a child from before the target gave up its rights, which starts their
daemons, and starts them again where they ended. It ends once no process can ask it any more."""

import logging
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from aoe import limits, timing
from aoe.disk import child
from aoe.disk.syscalls import is_readable
from aoe.errors import AoeError
from aoe.image.messages import Checking, Wanted, decode, encode, facts
from aoe.image.serving import Images
from aoe.image.user import reader

Answer = tuple[dict[str, Any], list[int]]
_NONE: Mapping[str, Callable[[dict[str, Any]], Answer]] = {}
_OTHER = (
    "what has images served is of another release than what asks it, and does not know that; stop the "
    "target, and start it again"
)


class _Heard(logging.Handler):
    """Keeps what is said, for the process that asked to say."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.lines) < limits.IMAGE_LINES_MAX:
            self.lines.append(record.getMessage()[: limits.IMAGE_SAID_BYTES])


def fork() -> socket.socket:
    """Start it, before the first thread of this process: what to ask it through, with `asking.Asked`."""
    return child.fork(socket.SOCK_SEQPACKET, attend, "aoe-images")


def attend(connection: socket.socket) -> None:
    """Do what is asked there until no process can ask any more; then end what is served."""
    images = Images(reader())
    answering = Answering(images)
    try:
        while data := _next(connection, images):
            answering.answer(connection, data)
    except (BrokenPipeError, ConnectionResetError):
        pass
    finally:
        images.close()


def _next(connection: socket.socket, images: Images) -> bytes:
    """The next message; empty: no process can ask any more."""
    while True:
        images.forget()
        if is_readable(connection, timing.IMAGE_FORGOTTEN_S):
            return connection.recv(limits.IMAGE_MESSAGE_BYTES_MAX)


class Answering:
    """What is asked of some images is done, and what was said about them meanwhile goes with the answer."""

    def __init__(
        self, images: Images, more: Mapping[str, Callable[[dict[str, Any]], Answer]] = _NONE
    ) -> None:
        """`more` verbs than are asked of images."""
        self._verbs = {verb: partial(call, images) for verb, call in _VERBS.items()} | dict(more)
        self._heard = _Heard()
        logging.getLogger("aoe").addHandler(self._heard)

    def answer(self, to: socket.socket, data: bytes) -> None:
        """A message. BrokenPipeError, ConnectionResetError."""
        said, descriptors = self.answered(data)
        said["said"] = self._heard.lines[:]
        self._heard.lines.clear()
        socket.send_fds(to, [encode(said)], descriptors)

    def answered(self, data: bytes) -> Answer:
        """What comes of a message, without what was said."""
        try:
            said = decode(data)
            return self._verbs[str(said.get("verb"))](said)
        except AoeError as error:
            return {"error": str(error)}, []
        except OSError as error:
            return {"error": error.strerror or str(error)}, []
        except (TypeError, KeyError):
            return {"error": _OTHER}, []


def _open(images: Images, said: dict[str, Any]) -> Answer:
    try:
        told, fd = images.open(Wanted(**said["wanted"]))
    except Checking as error:
        return {"ok": {"checking_s": error.for_s}}, []
    return {"ok": facts(told)}, [fd]


def _again(images: Images, said: dict[str, Any]) -> Answer:
    image = str(said["image"])
    if not images.has(image):
        return {"error": "the image is not served here", "unknown": True}, []
    told, fd = images.again(image)
    return {"ok": facts(told)}, [fd]


def _switch(images: Images, said: dict[str, Any]) -> Answer:
    images.switch(str(said["key"]), str(said["path"]))
    return {"ok": {}}, []


def _check(images: Images, said: dict[str, Any]) -> Answer:
    images.check(str(said["key"]))
    return {"ok": {}}, []


def _grow(images: Images, said: dict[str, Any]) -> Answer:
    images.grow(str(said["key"]), int(said["size"]))
    return {"ok": {}}, []


def _merge(images: Images, said: dict[str, Any]) -> Answer:
    return {"ok": {"part": images.merge(str(said["path"]), str(said["base"]))}}, []


def _release(images: Images, said: dict[str, Any]) -> Answer:
    images.release(str(said["key"]))
    return {"ok": {}}, []


_VERBS: dict[str, Callable[[Images, dict[str, Any]], Answer]] = {
    "open": _open,
    "again": _again,
    "switch": _switch,
    "check": _check,
    "grow": _grow,
    "merge": _merge,
    "release": _release,
}
