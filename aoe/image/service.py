"""What has images served as a service of its own: for one opener after the other, over restarts of a target.

With each opener it has a pipe in common. The manager holds its other end for the target, as it does other
descriptors (`aoe.node.held`): also while that is restarted, and until it is stopped. So long the images of an
opener that has ended are kept, without their files, to which nothing can be written any more. The next opener
opens them again, and the same processes serve them.
"""

import os
import secrets
import signal
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from aoe import limits, timing
from aoe.disk.syscalls import close_all, readable_of
from aoe.errors import ConfigurationError
from aoe.image import carried
from aoe.image.keeper import Answer, Answering
from aoe.image.serving import Images


class _Life(NamedTuple):
    """Of a target: the number of its opener, and the pipe that ends with it."""

    opener: int
    pipe: int


class Service:
    """Of one process, whose only thread runs it."""

    def __init__(
        self,
        listener: socket.socket,
        images: Images,
        release: str,
        installed: Callable[[], str],
        facts: carried.Facts | None = None,
    ) -> None:
        """For openers of this `release` that connect to a listening socket. For one of another release what
        is `installed` goes on, with the `facts` of this one, whose `images` there are then."""
        self._listener = listener
        self._images = images
        self._answering = Answering(images, {"hello": self._hello})
        self._release = release
        self._installed = installed
        self._lives: list[_Life] = []
        if facts is not None:
            images.go_on_with(facts["images"])
            self._lives = [_Life(*it) for it in facts["lives"]]
        self._to: socket.socket | None = None
        self._shared = -1
        """The other end of a pipe, until it is sent."""
        self._ended, self._end = os.pipe()

    def run(self) -> None:
        """Until it is told to end (SIGTERM), or nothing is served and no opener asks; then all that ends."""
        signal.signal(signal.SIGTERM, lambda *_: os.write(self._end, b"."))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        try:
            while self._turn():
                self._images.forget()
        finally:
            self._images.close()

    def _turn(self) -> bool:
        """Whether there is another one."""
        to, listener = -1 if self._to is None else self._to.fileno(), self._listener.fileno()
        waited = (self._ended, listener, to, *(it.pipe for it in self._lives))
        ready = readable_of((it for it in waited if it >= 0), timing.IMAGE_FORGOTTEN_S)
        if self._ended in ready or not (ready or self._to or self._lives):
            return False
        if to in ready:
            self._hear()
        for life in [it for it in self._lives if it.pipe in ready]:
            self._let_go(life)
        if listener in ready:
            self._accept()
        return True

    def _accept(self) -> None:
        """The next opener. There is one at a time: the last one has no image any more."""
        connection, _ = self._listener.accept()
        self._part()
        self._to = connection
        self._images.opener += 1

    def _hear(self) -> None:
        assert self._to is not None, "it is heard"
        try:
            data = self._to.recv(limits.IMAGE_MESSAGE_BYTES_MAX)
            if data:
                self._answering.answer(self._to, data)
        except (BrokenPipeError, ConnectionResetError):
            data = b""
        finally:
            self._close_shared()
        if not data:
            self._part()

    def _close_shared(self) -> None:
        close_all([self._shared])
        self._shared = -1

    def _part(self) -> None:
        """From the opener, if there is one."""
        if self._to is None:
            return
        self._to.close()
        self._to = None
        self._images.part()
        if all(it.opener != self._images.opener for it in self._lives):
            self._images.end(self._images.opener)

    def _let_go(self, life: _Life) -> None:
        """The target has ended, or has what it wants through another opener."""
        self._lives.remove(life)
        os.close(life.pipe)
        if self._to is None or life.opener != self._images.opener:
            self._images.end(life.opener)

    def _hello(self, said: dict[str, Any]) -> Answer:
        """A new name for what it is given, which is held for the target from now on."""
        if said["release"] != self._release:
            self._be_another(str(said["release"]))
        pipe, self._shared = os.pipe()
        self._lives.append(_Life(self._images.opener, pipe))
        return {"ok": {"life": secrets.token_hex(limits.LIFE_NAME_BYTES)}}, [self._shared]

    def _be_another(self, wanted: str) -> None:
        """The opener comes back to that. ConfigurationError where there is none."""
        if self._installed() == self._release:
            raise ConfigurationError(
                f"what has images served is of version {self._release}, as what is installed, and the opener "
                f"of {wanted}: systemctl restart aoe-target.service"
            )
        assert self._to is not None, "it asks"
        close_all([self._ended, self._end, self._to.detach()])
        facts = {"lives": self._lives, "images": self._images.carried()}
        carried.execute(self._listener.fileno(), self._images.children, facts)
