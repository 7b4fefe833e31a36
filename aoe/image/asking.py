"""How a process has images served: it asks the process that does, and gets descriptors and facts."""

import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aoe
from aoe import limits, timing
from aoe.disk.base import StoreName
from aoe.disk.open import Opening, store_on
from aoe.disk.opened import Beneath, Opened
from aoe.disk.syscalls import close_all
from aoe.drive.identify import StoreKind
from aoe.errors import ConfigurationError
from aoe.image.formats import check_key
from aoe.image.messages import Told, Wanted, decode, encode
from aoe.image.qemu import MISSING, PROGRAM, environment
from aoe.printable import plain

log = logging.getLogger("aoe.image")

_CLUSTER = 4096
"""What QEMU can write to a file without reading first, bytes."""
_SILENT = (
    "what has images served does not answer: look at the disks that they are on, then start the target again"
)
_GONE = "what has images served has ended; start the target again"


class Unknown(ConfigurationError):
    """What is asked now does not have that image: it is another process than the last one."""


class StillChecked(ConfigurationError):
    """An image is being checked, and is served after that. To be asked for again."""


class _Silent(ConfigurationError):
    """It does not answer."""


class _Ended(ConfigurationError):
    """It has."""


class Asked:
    """Asks it, from any thread, one at a time. Calls block."""

    def __init__(self, connected: socket.socket | None, at: Path | None = None) -> None:
        """None: there is no such process, unless one is to be had `at` a path."""
        self._socket = connected
        self._at = at
        self._turn = threading.Lock()
        self.lasts: Callable[[str, int], None] = lambda _, __: None
        """Is called with each process that is had `at` the path: a name, and a descriptor. While a copy of
        that is held, the process keeps what it serves for the next one that asks."""
        self._told_s: dict[str, float] = {}
        """How long each check had taken when that was said."""

    def fileno(self) -> int:
        """Of what it is asked through; below 0 where there is no such process."""
        return -1 if self._socket is None else self._socket.fileno()

    def open(self, path: Path, how: Opening, name: str = "") -> Opened:
        """An image as a store. `name` tells it from others, without one its file does. ConfigurationError;
        StillChecked while a check goes on that takes long."""
        place = plain(str(path))
        if how.shared:
            raise ConfigurationError(f"{place}: an image is served by one host alone; leave --shared out")
        check_key(place, how.format, how.key_file)
        wanted = Wanted(
            path=str(path.absolute()),
            format=how.format,
            name=name,
            key_file=how.key_file,
            read_only=how.read_only,
            direct=bool(how.direct),
            patience_s=how.lock_wait_s,
        )
        told, fd = self._checked(place, {"verb": "open", "wanted": asdict(wanted)})
        try:
            return _opened(fd, path, how, told)
        except BaseException:
            close_all([fd])
            self.release(token_of(told.image))
            raise

    def again(self, image: str) -> tuple[str, int]:
        """Of an image whose descriptor is dead: what tells it now, and another one. ConfigurationError,
        Unknown."""
        told, fd = self._served({"verb": "again", "image": image})
        return told.image, fd

    def switch(self, key: str, path: Path) -> None:
        """Let the disk of an image go on in another one, an empty overlay of it. ConfigurationError."""
        self._ask({"verb": "switch", "key": key, "path": str(path)})

    def check(self, key: str) -> None:
        """That what serves an image answers. ConfigurationError."""
        self._ask({"verb": "check", "key": key})

    def grow(self, key: str, size: int) -> None:
        """Let the disk of an image have so many bytes from now on. ConfigurationError."""
        self._ask({"verb": "grow", "key": key, "size": size})

    def merge(self, path: str, base: str, told: Callable[[float], object]) -> bool:
        """Let an image, if one that is served is made of it, take what it needs of those below it, down to
        another one, or (empty) of all. Blocks until that is done. ConfigurationError."""
        if self._socket is None:
            return False
        while True:
            facts, _ = self._ask({"verb": "merge", "path": path, "base": base})
            if facts["part"] is None:
                return False
            told(facts["part"])
            if facts["part"] == 1:
                return True
            time.sleep(timing.IMAGE_MERGED_LOOK_S)

    def release(self, key: str) -> None:
        """A user of an image less. The descriptor is closed by its disk."""
        self._ask({"verb": "release", "key": key})

    def close(self) -> None:
        """Ask no more: it ends."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _part(self) -> None:
        """The next one is asked, where there can be one."""
        if self._at is not None:
            self.close()

    def _checked(self, place: str, said: dict[str, Any]) -> tuple[Told, int]:
        """What is said to have it opened is said again, until it is checked."""
        while True:
            facts, descriptors = self._ask(said)
            if "checking_s" not in facts:
                self._told_s.pop(place, None)
                return _one(facts, descriptors)
            close_all(descriptors)
            for_s = float(facts["checking_s"])
            self._tell(place, for_s)
            if for_s > timing.IMAGE_CHECK_S:
                raise StillChecked(
                    f"{place} is being checked (qemu-img check), and is served after that; wait"
                )
            time.sleep(timing.IMAGE_LOOK_S)

    def _tell(self, place: str, for_s: float) -> None:
        if for_s >= self._told_s.get(place, 0.0) + timing.IMAGE_CHECK_TOLD_S:
            self._told_s[place] = for_s
            log.warning("%s is being checked for %d s now, and is served after that", place, for_s)

    def _served(self, said: dict[str, Any]) -> tuple[Told, int]:
        return _one(*self._ask(said))

    def _joined(self) -> socket.socket:
        """To one that may go on as a program of this release first."""
        for _ in range(limits.OPENER_TRIES):
            to = _connected(self._at)
            try:
                facts, descriptors = _exchange(to, {"verb": "hello", "release": aoe.__version__})
            except _Ended:
                to.close()
                continue
            except BaseException:
                to.close()
                raise
            self.lasts(facts["life"], *descriptors)
            close_all(descriptors)
            return to
        raise ConfigurationError(_GONE)

    def _ask(self, said: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        with self._turn:
            if self._socket is None:
                self._socket = self._joined()
            try:
                return _exchange(self._socket, said)
            except _Silent:
                self.close()  # what it says later would be taken for the answer to something else
                raise
            except _Ended:
                self._part()
                raise


def _exchange(to: socket.socket, said: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """ConfigurationError for what is refused; _Silent, _Ended."""
    try:
        to.settimeout(timing.IMAGE_ASKED_S)
        to.send(encode(said))
        data, descriptors, _, _ = socket.recv_fds(to, limits.IMAGE_MESSAGE_BYTES_MAX, 1)
    except TimeoutError as error:
        raise _Silent(_SILENT) from error
    except OSError as error:
        raise _Ended(_GONE) from error
    if not data:
        raise _Ended(_GONE)
    for fd in descriptors:
        os.set_inheritable(fd, False)
    return _understood(data), descriptors


def _one(facts: dict[str, Any], descriptors: list[int]) -> tuple[Told, int]:
    if len(descriptors) != 1:
        close_all(descriptors)
        raise ConfigurationError("what has images served is not understood; start the target again")
    return Told(**facts), descriptors[0]


def _connected(at: Path | None) -> socket.socket:
    if at is None or not is_installed():
        raise ConfigurationError(_missing())
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connected.connect(str(at))
    except OSError as error:
        connected.close()
        raise ConfigurationError(
            f"images cannot be served: {at}: {error.strerror}; systemctl start aoe-target-images.socket"
        ) from error
    return connected


def _missing() -> str:
    if not is_installed():
        return MISSING.format(PROGRAM)
    return "nothing was started that has images served; stop the target, and start it again"


def is_installed() -> bool:
    """Whether this host has what serves images."""
    return shutil.which(PROGRAM, path=environment()["PATH"]) is not None


def _understood(data: bytes) -> dict[str, Any]:
    answer = decode(data)
    for line in answer.get("said", ()):
        log.warning("%s", line)
    if answer.get("unknown"):
        raise Unknown(str(answer["error"]))
    if "error" in answer:
        raise ConfigurationError(str(answer["error"]))
    return dict(answer["ok"])


def token_of(image: str) -> str:
    """What tells the file of an image from others."""
    return image.rpartition(":")[0]


def _opened(fd: int, path: Path, how: Opening, told: Told) -> Opened:
    store = store_on(fd, path, how, is_block=False, direct=False)
    name = StoreName(StoreKind(told.name_kind), told.name_text)
    return Opened(
        store,
        Beneath(told.node, told.room),
        physical_block=_CLUSTER,
        trims=not how.read_only,
        remote=True,
        image=told.image,
        lost=told.lost and not how.read_only,
        store_name=name.part(how.part),
    )
