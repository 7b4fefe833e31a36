"""The images that one process has served, by their files: each by a daemon of its own, started again where
that ended."""

import logging
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from aoe import limits, timing
from aoe.disk.found import beneath_file
from aoe.disk.identity import file_name
from aoe.disk.syscalls import close_all
from aoe.errors import ConfigurationError
from aoe.image import mounts, processes, sound
from aoe.image.carried import Facts
from aoe.image.checking import Check
from aoe.image.daemon import Daemon, How
from aoe.image.files import Chain, open_chain
from aoe.image.messages import Checking, Told, Wanted
from aoe.image.nodes import Part
from aoe.image.qmp import Gone
from aoe.image.user import User

log = logging.getLogger("aoe.image")


@dataclass
class _One:
    """An image, its daemon, and its file as that serves it: below 0 where the `opener` left it that had it
    served last. `life` counts these files. `path` is that of what the daemon has, where it is not what is
    `wanted` yet."""

    wanted: Wanted
    path: str
    daemon: Daemon
    source: int
    fd: int
    opener: int
    users: int = 0
    life: int = 0
    died: bool = False
    """Whether a daemon of it did."""

    def carried(self) -> Facts:
        """For the next program of this process."""
        own = {it.name: getattr(self, it.name) for it in fields(self)}
        return {**own, "wanted": asdict(self.wanted), "daemon": self.daemon.carried()}

    def is_as(self, wanted: Wanted) -> bool:
        """Whether its daemon has what is wanted, as it is wanted."""
        return self.wanted == wanted and self.path == wanted.path and self.daemon.lives and self._is_there()

    def _is_there(self) -> bool:
        with suppress(OSError, ValueError):
            return os.path.samestat(Path(self.path).stat(), os.fstat(self.source))
        return False


@dataclass
class _Opening:
    """An image that is to be served once it is checked: since when, and when it was asked for last."""

    wanted: Wanted
    daemon: Daemon
    source: int
    doubtful: list[tuple[Part, str]]
    check: Check | None
    since_s: float
    asked_s: float

    def end(self) -> None:
        """Let go of it."""
        self._end_check()
        self.daemon.close(whole=False)

    def is_whole(self, wait_s: float) -> bool:
        """Whether its check is over. ConfigurationError for an image that is damaged."""
        if self.check is not None:
            if not self.check.is_over(wait_s):
                return False
            self._end_check()
            for part, _ in self.doubtful:
                sound.note(part)
        return True

    def _end_check(self) -> None:
        if self.check is not None:
            self.check.end()
            self.check = None


class Images:
    """Those of one process, for one opener at a time."""

    def __init__(self, user: User, within: Path | None = None) -> None:
        """What an earlier process left of its mounts is removed."""
        self.opener = 0
        """Counts openers."""
        self._user = user
        self._within = within or mounts.home()
        self._them: dict[str, _One] = {}
        self._lost: set[str] = set()
        """Those of which the next opener is to know that what was written may be lost."""
        self._openings: dict[str, _Opening] = {}
        for name in mounts.clean(self._within):
            log.warning("%s: an earlier process left an image mounted there; it was unmounted", name)

    def open(self, wanted: Wanted) -> tuple[Told, int]:
        """Serve an image for one more user: facts and a descriptor, which is this object's.
        ConfigurationError; Checking while it is looked at: ask again."""
        key = wanted.name or _key(wanted.path)
        if key in self._them and not self._them[key].users:
            self._take_over(key, wanted)
        one = self._them.get(key)
        if one is None:
            one = self._them[key] = self._begun(key, wanted)
        elif one.wanted != wanted:
            raise ConfigurationError(f"{wanted.path} is served already, in another way; say the same of both")
        one.users += 1
        lost = key in self._lost
        self._lost.discard(key)
        return replace(self._told(key, one), lost=lost), one.fd

    def _take_over(self, key: str, wanted: Wanted) -> None:
        """What an earlier opener left is this one's, as another file. What it wants otherwise ends."""
        one = self._them[key]
        if one.is_as(wanted):
            try:
                one.fd, one.opener, one.life = one.daemon.serve(), self.opener, one.life + 1
            except (ConfigurationError, OSError) as error:
                log.warning("%s; it is started again", error)
            else:
                return
        self._note_loss(key, one)
        del self._them[key]
        self._end(one)

    def _note_loss(self, key: str, one: _One) -> None:
        """Its daemon may have ended by itself, and with what it had not written."""
        if not one.daemon.lives:
            self._lost.add(key)

    def _begun(self, key: str, wanted: Wanted) -> _One:
        """Once more where its process was killed meanwhile: nothing tries that again soon."""
        try:
            return self._begin(key, wanted)
        except Gone as error:
            log.warning("%s; it is started again", error)
            return self._begin(key, wanted)

    def _begin(self, key: str, wanted: Wanted) -> _One:
        opening = self._openings.pop(key, None)
        if opening is not None and opening.wanted != wanted:
            opening.end()
            opening = None
        opening = opening or self._looked_at(wanted)
        try:
            if not opening.is_whole(timing.IMAGE_TURN_S):
                opening.asked_s = time.monotonic()
                self._openings[key] = opening
                raise Checking(opening.asked_s - opening.since_s)
            fd = opening.daemon.serve()
            if _is_volume(wanted):
                opening.daemon.keep()
        except Checking:
            raise
        except BaseException:
            opening.end()
            raise
        return _One(wanted, wanted.path, opening.daemon, opening.source, fd, self.opener)

    def _looked_at(self, wanted: Wanted) -> _Opening:
        """Locked, and its check under way where it needs one."""
        secret = _read_key(wanted.key_file)
        chain = open_chain(Path(wanted.path), wanted.format, self._user, read_only=wanted.read_only)
        how = How(
            read_only=wanted.read_only, direct=wanted.direct, secret=secret, patience_s=wanted.patience_s
        )
        daemon = Daemon(chain, how, self._user, self._within)
        try:
            _check_keyed(chain, keyed=secret is not None)
            daemon.start()
            if _is_volume(wanted):
                daemon.check_kept()
            doubtful = daemon.doubtful()
            check = Check(doubtful) if doubtful else None
        except BaseException:
            daemon.close(whole=False)
            raise
        now_s = time.monotonic()
        return _Opening(wanted, daemon, chain.parts[0].fd, doubtful, check, now_s, now_s)

    def forget(self) -> None:
        """Let go of what was looked at and is not asked for any more, and of processes that have ended."""
        processes.reap()
        before_s = time.monotonic() - timing.IMAGE_FORGOTTEN_S
        for key, opening in list(self._openings.items()):
            if opening.asked_s < before_s:
                del self._openings[key]
                opening.end()

    def _told(self, key: str, one: _One) -> Told:
        name, beneath = file_name(one.source), beneath_file(one.source)
        return Told(
            image=f"{key}:{os.getpid()}.{one.life}",
            name_kind=int(name.kind),
            name_text=name.text,
            node=beneath.node,
            room=beneath.room,
        )

    def has(self, image: str) -> bool:
        """Whether it is one of these, now or before its daemon ended."""
        return image.rpartition(":")[0] in self._them

    def again(self, image: str) -> tuple[Told, int]:
        """As `open`, of an image that it `has`, for a user that found its daemon dead. ConfigurationError
        where there cannot be another one yet."""
        key = image.rpartition(":")[0]
        one = self._them[key]
        if self._told(key, one).image == image:
            one.daemon.kill()
            if one.path != one.wanted.path:
                self._switch(one)
            one.daemon.start()
            fd = one.daemon.serve()
            close_all([one.fd])  # a dead one says so once more
            one.fd, one.life, one.died = fd, one.life + 1, True
            log.warning("%s: what served it had ended; it is served again", one.wanted.path)
        return self._told(key, one), one.fd

    def switch(self, key: str, path: str) -> None:
        """Let the disk of an image go on in another one, an empty overlay of it. ConfigurationError."""
        one = self._them.get(key)
        if one is None or one.wanted.path == path:
            return
        one.wanted = replace(one.wanted, path=path)
        try:
            self._switch(one)
        except (ConfigurationError, OSError):
            one.daemon.stop()  # what was kept must not be written any more
            raise

    def _switch(self, one: _One) -> None:
        chain = open_chain(Path(one.wanted.path), one.wanted.format, self._user, read_only=False)
        one.path, one.source = one.wanted.path, chain.parts[0].fd
        one.daemon.switch(chain)

    def check(self, key: str) -> None:
        """That what serves an image answers, unless it has ended. ConfigurationError."""
        one = self._them.get(key)
        if one is not None:
            one.daemon.check()

    def grow(self, key: str, size: int) -> None:
        """Let the disk of an image have so many bytes from now on, while clients use it.
        ConfigurationError."""
        one = self._them.get(key)
        if one is None or one.path != one.wanted.path:
            raise ConfigurationError("what serves it has ended, or was changed; try again")
        one.daemon.grow(size)

    def merge(self, path: str, base: str) -> float | None:
        """Let the image in a file take what it needs of those below it, down to the one in the file `base`,
        or (empty) of all: how much of that is done, 0 to 1, to be called again until it is 1; None where none
        of these has it. ConfigurationError, OSError."""
        file = Path(path).stat()
        them = [it.daemon for it in self._them.values() if it.daemon.has(file)]
        if len(them) > 1:
            raise ConfigurationError(f"{path} is read by {len(them)} exports; it is merged once one is left")
        return them[0].merge(file, Path(base).stat() if base else None) if them else None

    def release(self, key: str) -> None:
        """One user less; with the last the daemon ends, and another program may have the image."""
        one = self._them.get(key)
        if one is None:
            return
        one.users -= 1
        if not one.users:
            del self._them[key]
            self._end(one)

    def part(self) -> None:
        """The opener has ended. What it had served is written no more, and kept until the next one opens it,
        or the `end` of what that opener had."""
        for key, one in self._them.items():
            if one.users:
                close_all([one.fd])
                one.fd, one.users = -1, 0
                one.daemon.withdraw()
                self._note_loss(key, one)

    def end(self, opener: int) -> None:
        """What an opener left, and no other one has taken over."""
        for key, one in list(self._them.items()):
            if one.opener == opener and not one.users:
                del self._them[key]
                self._end(one)

    def carried(self) -> Facts:
        """What the next program of this process goes on with (`go_on_with`), where all is left. What is only
        looked at has to be asked for again."""
        self._end_openings()
        them = {key: one.carried() for key, one in self._them.items() if one.daemon.lives}
        return {"opener": self.opener, "them": them, "lost": list(self._lost)}

    def go_on_with(self, facts: Facts) -> None:
        """What the last one had."""
        self.opener, self._lost = facts["opener"], set(facts["lost"])
        for key, one in facts["them"].items():
            daemon = Daemon.of(one["daemon"], self._user, self._within)
            self._them[key] = _One(**{**one, "wanted": Wanted(**one["wanted"]), "daemon": daemon})

    @property
    def children(self) -> list[int]:
        """The numbers of the daemons."""
        return [it.daemon.process for it in self._them.values() if it.daemon.lives]

    def close(self) -> None:
        """End all daemons."""
        self._end_openings()
        for one in self._them.values():
            self._end(one)
        self._them.clear()

    def _end_openings(self) -> None:
        for opening in self._openings.values():
            opening.end()
        self._openings.clear()

    def _end(self, one: _One) -> None:
        close_all([one.fd])
        one.daemon.close(whole=not one.died)


def _is_volume(wanted: Wanted) -> bool:
    """Whether it is told by something else than its file: in a pool verbs alone change what is below it."""
    return wanted.name not in ("", _key(wanted.path))


def _key(path: str) -> str:
    """What tells a file from others. ConfigurationError."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no name of a file"
        raise ConfigurationError(f"{path}: {reason}; name an image") from error
    return f"{found.st_dev}:{found.st_ino}"


def _check_keyed(chain: Chain, *, keyed: bool) -> None:
    """ConfigurationError for what has a key, and none is said; and for what is not as secret as it seems."""
    encrypted = [place for part, place in zip(chain.parts, chain.places, strict=True) if part.layer.encrypted]
    if encrypted and not keyed:
        raise ConfigurationError(f"{encrypted[0]} is encrypted; name the file with its key (key-file)")
    if keyed and not encrypted:
        raise ConfigurationError(
            f"{chain.places[0]} is not encrypted, and needs no key; leave the key file out, or encrypt it: "
            "qemu-img convert"
        )


def _read_key(file: str | None) -> bytes | None:
    if file is None:
        return None
    try:
        with Path(file).open("rb") as opened:
            key = opened.read(limits.IMAGE_KEY_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}; name the file with the key") from error
    if not 0 < len(key) <= limits.IMAGE_KEY_BYTES_MAX:
        raise ConfigurationError(f"{file}: a key has 1 to {limits.IMAGE_KEY_BYTES_MAX} bytes")
    return key
