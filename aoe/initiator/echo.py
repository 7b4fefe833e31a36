"""A write of ours is looked for in what another server shows; `aoe.initiator.proof` has the rules.

csrc/initiator/echo.c does the same.
"""

import enum

from aoe import limits
from aoe.initiator.exchange import Kind
from aoe.initiator.facts import Reason
from aoe.initiator.life import State
from aoe.initiator.look import Look, lives
from aoe.initiator.path import Answered, Event, Path, TooLarge
from aoe.initiator.pieces import Pieces
from aoe.initiator.request import Piece
from aoe.initiator.session import Session
from aoe.wire import protocol


class Stage(enum.IntEnum):
    """Of an echo."""

    BEFORE = 0
    WRITING = 1
    AFTER = 2


class Echo:
    """A write that is looked for: `owner` acknowledges it, `path` has to show it."""

    def __init__(self, owner: Path, path: Path, piece: Piece, data: bytes, now_ns: int) -> None:
        self.owner = owner
        self.path = path
        self.lives = lives(owner, path)
        self.piece = piece
        self.data = data
        self.stage = Stage.BEFORE
        self.since_ns = now_ns
        self.look: Look | None = None

    @property
    def sectors(self) -> int:
        """How many are compared."""
        return len(self.data) // protocol.SECTOR


class Echoes:
    """One at a time, `current`."""

    def __init__(self, session: Session, pieces: Pieces) -> None:
        self._session = session
        self._pieces = pieces
        self.current: Echo | None = None

    @property
    def wanted(self) -> bool:
        """Whether there is a server that is to show one."""
        return any(self._is_doubtful(path) for path in self._session.paths)

    def step(self, now_ns: int) -> None:
        """Something happened, or time has passed."""
        if self.current is not None:
            self._watch(self.current, now_ns)

    def became(self, look: Look, echo: Echo, event: Event, now_ns: int) -> None:
        """Of a read for an echo."""
        if self.current is not echo or echo.look is not look:
            return
        if isinstance(event, TooLarge):  # not so much passes there any more
            self._end(echo, self._session.timing.proof_again_ns, now_ns)
        elif isinstance(event, Answered):
            look.answered(event)
            self._looked(echo, look, now_ns)

    def stand_still(self, gap_ns: int) -> None:
        """We did not run for so long, which was no server's silence."""
        if self.current is not None:
            self.current.since_ns += gap_ns

    def _is_doubtful(self, path: Path) -> bool:
        """Whether a server is to show a write of ours."""
        trial, owner = path.trial, self._session.owner
        if owner is None or trial.proved or self._session.leads_to_owner(path):
            return False
        if trial.condemned is Reason.NOT_SEEN:
            return path.state is State.REFUSED and path.vouched
        return path.state is State.USABLE and trial.sampled

    def takes(self, piece: Piece, data: bytes, now_ns: int) -> bool:
        """Whether a write waits until its range was read through a server that is to be proved."""
        if self.current is not None:
            return False
        for path in self._session.paths:
            idle = not path.channel.load and now_ns >= path.trial.again_ns
            if idle and self._is_doubtful(path):
                self._begin(path, piece, data, now_ns)
                return True
        return False

    def _begin(self, path: Path, piece: Piece, data: bytes, now_ns: int) -> None:
        owner = self._session.owner
        assert owner is not None, "without, no server is doubtful"
        piece.echo = True
        data = data[: path.most(Kind.READS) * protocol.SECTOR]
        self.current = Echo(owner, path, piece, data, now_ns)
        self._look_through(self.current, now_ns)

    def _look_through(self, echo: Echo, now_ns: int) -> None:
        echo.since_ns = now_ns
        echo.look = Look(echo, echo.path, echo.piece.first, echo.sectors)
        self._session.start(echo.look.operation, now_ns)

    def _looked(self, echo: Echo, look: Look, now_ns: int) -> None:
        if not look.data:
            self._end(echo, self._session.timing.recheck_ns, now_ns)
        elif echo.stage is Stage.AFTER:
            self._judge(echo, look.data == echo.data, now_ns)
        elif look.data == echo.data:  # it would show nothing
            self._end(echo, self._session.timing.proof_again_ns, now_ns)
        else:
            echo.stage = Stage.WRITING
            self._pieces.write(echo.piece, now_ns)

    def _judge(self, echo: Echo, seen: bool, now_ns: int) -> None:
        path, lba = echo.path, echo.piece.first
        self._end(echo, self._session.timing.proof_again_ns, now_ns)
        if seen:
            self._session.prove(path, now_ns)
            return
        path.trial.misses += 1
        if path.trial.condemned is not Reason.NONE or path.trial.misses >= limits.ECHOES_MAX:
            self._session.condemn(path, Reason.NOT_SEEN, lba, now_ns)

    def acknowledged(self, piece: Piece, path: Path, now_ns: int) -> None:
        """The write was answered by the server of a path, and all went well."""
        echo = self.current
        if echo is None or echo.piece is not piece:
            return
        if path is echo.owner and self._session.owner is path:
            echo.stage = Stage.AFTER
            self._look_through(echo, now_ns)
        else:
            self._end(echo, self._session.timing.proof_again_ns, now_ns)

    def given_up(self, piece: Piece, now_ns: int) -> None:
        """The write failed, or no caller waits for it any more."""
        if self.current is not None and self.current.piece is piece:
            self._end(self.current, self._session.timing.proof_again_ns, now_ns)

    def _watch(self, echo: Echo, now_ns: int) -> None:
        path, session = echo.path, self._session
        goes_on = path in session.paths and session.owner is echo.owner and self._is_doubtful(path)
        fits = echo.sectors <= path.most(Kind.READS)
        if not goes_on or not fits or lives(echo.owner, path) != echo.lives:
            self._end(echo, self._session.timing.proof_again_ns, now_ns)
        elif echo.stage is not Stage.WRITING and now_ns - echo.since_ns >= self._session.timing.proof_ns:
            self._end(echo, self._session.timing.recheck_ns, now_ns)
            session.look(path, now_ns)

    def _end(self, echo: Echo, wait_ns: int, now_ns: int) -> None:
        self.current = None
        echo.path.trial.again_ns = now_ns + wait_ns
        echo.piece.echo = False
        if echo.look is not None and echo.look.operation.open:
            self._session.abandon(echo.look.operation, now_ns)
        if echo.stage is Stage.BEFORE:
            self._pieces.write(echo.piece, now_ns)
        else:
            self._pieces.rest(echo.piece)
