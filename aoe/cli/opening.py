"""How `serve` opens what was typed: by itself, or through an opener, and what rights it keeps after that."""

import logging
import os
import pwd
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from aoe.cli.links import check_distinct, open_links
from aoe.cli.paths import Wanted
from aoe.cli.privilege import drop_privileges, hand_over, keep_openers
from aoe.cli.serving import Serve
from aoe.config.values import BY_TAG, Config, ExportConfig, TargetConfig, as_format
from aoe.disk.file import FileDisk
from aoe.disk.open import Opening, disk_of, open_disk
from aoe.image import keeper
from aoe.image.asking import Asked, StillChecked
from aoe.image.formats import RAW, format_of, key_of
from aoe.link.base import Link
from aoe.link.packet import only_interface
from aoe.node.desk import Desk
from aoe.node.opener import ByOpener
from aoe.node.opener_connection import Connection
from aoe.node.opener_process import Forked, fork
from aoe.node.sandbox import confine
from aoe.node.seccomp import Sockets
from aoe.target.records import default_directory
from aoe.target.system import System

T = TypeVar("T")
log = logging.getLogger("aoe")

USER = "aoe-target"
"""Whom a target that root starts becomes, on a host that knows that user."""


class Hands(Protocol):
    """What opens for `serve`."""

    system: System
    """What the server asks while it serves."""

    def disk(self, one: Wanted, how: Opening) -> FileDisk:
        """ConfigurationError."""

    def links(self) -> list[Link]:
        """All that were named, or the only interface. ConfigurationError."""

    def confine(self) -> None:
        """Keep no right but to serve what is open, and to write down what is changed."""

    def serving(self, again: Callable[[], None]) -> None:
        """It serves, inside the running event loop. `again` is called when what could not be asked of an
        opener can be."""

    def close(self) -> None:
        """It served."""


def hands_of(command: Serve) -> Hands:
    """Those of root, where there is a user to become, are an opener's."""
    user, images = user_to_become(), _images(command)
    if user is None:
        return Own(command, images)
    config = _config(command)
    desk = partial(Desk, lambda: config, command.opening.lock_wait_s, images=images)
    opener = fork(desk, keep_openers, kept=[fd for fd in [images.fileno()] if fd >= 0])
    images.close()  # they are the opener's to ask for
    return Apart(command, user, opener)


def _images(command: Serve) -> Asked:
    """What has images served, which nothing is started for where there are none."""
    none = all(_opening(one, command.opening).format == RAW for one in command.wanted)
    return Asked(None if none else keeper.fork())


def _opening(one: Wanted, how: Opening) -> Opening:
    """How one is opened, in the format that its name says where none was, and with the key if it has one."""
    path = str(one.path)
    return how._replace(format=format_of(path, how.format), key_file=key_of(path, how.format, how.key_file))


def user_to_become() -> pwd.struct_passwd | None:
    """Whom root's process becomes; None where this is no process of root's, or there is no such user."""
    try:
        return pwd.getpwnam(USER) if os.geteuid() == 0 else None
    except KeyError:
        return None


def _state(command: Serve) -> Path:
    return command.state_dir or default_directory()


class _WithImages(System):
    """Of a process that has images served itself."""

    def __init__(self, images: Asked) -> None:
        super().__init__()
        self._images = images

    def image_again(self, key: tuple[int, int], image: str) -> tuple[str, int]:
        return self._images.again(image)


class Own:
    """This process opens. Started as root it stays user 0, without any capability."""

    def __init__(self, command: Serve, images: Asked) -> None:
        self._command = command
        self._images = images
        self.system: System = _WithImages(images)

    def disk(self, one: Wanted, how: Opening) -> FileDisk:
        chosen = _opening(one, how)
        if chosen.format != RAW:
            return disk_of(_once_checked(lambda: self._images.open(one.path, chosen)))
        return open_disk(one.path, chosen)

    def links(self) -> list[Link]:
        return open_links(self._command.interfaces, self._command.links)

    def confine(self) -> None:
        if os.geteuid() == 0:
            log.debug("there is no user %s: the process stays user 0, without any capability", USER)
        drop_privileges()
        confine(_state(self._command), Sockets.ANY)

    def serving(self, again: Callable[[], None]) -> None:
        """Nothing more is needed."""

    def close(self) -> None:
        self._images.close()


class Apart:
    """An opener opens; this process becomes another user."""

    def __init__(self, command: Serve, user: pwd.struct_passwd, opener: Forked) -> None:
        self._command = command
        self._user = user
        self._to = Connection(opener.socket)
        self._by = ByOpener(self._to)
        self.system: System = self._by

    def disk(self, one: Wanted, how: Opening) -> FileDisk:
        held = _once_checked(lambda: self._by.open_store(_export(one, how)))
        if not held.opened.image:
            self._by.release(held)  # the disk's own descriptor has its locks
        return disk_of(held.opened)

    def links(self) -> list[Link]:
        command = self._command
        names = [*command.interfaces, *command.links] or [only_interface()]
        check_distinct(names, "interface")
        opened: list[Link] = []
        try:
            opened += (self._by.open_link(name) for name in names)
        except BaseException:
            for link in opened:
                link.close()
            raise
        return opened

    def confine(self) -> None:
        state = _state(self._command)  # another user's would be elsewhere
        hand_over(state, self._user)
        drop_privileges(self._user)
        confine(state, Sockets.NONE)

    def serving(self, again: Callable[[], None]) -> None:
        self._by.when_answering(again)
        self._to.watch()
        self._to.started()

    def close(self) -> None:
        self._to.close()  # the opener ends with that


def _once_checked(call: Callable[[], T]) -> T:
    """What it returns, when an image is checked that it needs."""
    while True:
        with suppress(StillChecked):
            return call()


def _config(command: Serve) -> Config:
    """What was typed, as a file would say it."""
    target = TargetConfig(interfaces=tuple(command.interfaces), links=tuple(command.links))
    return Config(target, tuple(_export(one, command.opening) for one in command.wanted))


def _export(one: Wanted, said: Opening) -> ExportConfig:
    typed, how = str(one.path), _opening(one, said)
    is_tag = typed.partition("=")[0] in BY_TAG
    return ExportConfig(
        path=f"./{typed}" if is_tag else typed,
        shelf=one.shelf,
        slot=one.slot,
        offset=how.offset,
        length=how.length,
        direct=how.direct,
        shared=how.shared,
        read_only=how.read_only,
        format=as_format(how.format),
        key_file=how.key_file,
    )
