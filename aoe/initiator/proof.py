"""Whether a second server has the same disk as the owner.

Serial, size and equal blocks prove nothing, as two clones of one template have them; an instance says nothing
of the store; and a stamp would write to the user's disk. So:

Samples. A server that is to join is read beside the owner: the first and the last MiB, and 16 blocks between.
While a range is compared, it is closed to our writes. Where it differs, another host may just have written
there: it is read three times, and then the server is refused, with the LBA. A range that writes of ours hold
is tried again, three times, and then left out; so is one that cannot be read. What takes longer than a range
may be closed is read again in two halves: it may be that no large frame passes any more. Equal samples are
required, but the server is unproved.

Echo. An unproved server is proved by one write of ours: read through it before the write is sent, its range
had other bytes; then the owner acknowledged the write; read once more, the range has the new bytes; and it
was closed all the time. Only what is stored together does that: not a clone, a stale replica, a foreign page
cache or the other half of a split brain. Another host may write between: it takes 8 writes that are not seen,
and none that is, to refuse the server, with the LBA.

Which servers are asked. The owner is what the disk is. An unproved server carries nothing but this, unless
the owner is lost before the proof: then it takes over, and the others have to be proved against it. What was
refused is compared again from time to time, and stays refused until it passes.

Nothing is sent from here that waited for a range: a range that opens only notes what may go (`Pieces.ready`).
The core takes that afterwards, as it may be the next write to be looked for.

Nothing here holds up work: one write at a time waits for one read over a path that is idle, a range is closed
for PROOF_NS at most, and when the owner or the server is lost all of it is given up at once.

`samples` and `echo` are the two parts of this. csrc/initiator/proof.c does the same.
"""

from aoe.initiator.echo import Echo, Echoes
from aoe.initiator.look import Look
from aoe.initiator.path import Event, Path
from aoe.initiator.pieces import Pieces
from aoe.initiator.request import Piece
from aoe.initiator.samples import Sample, Samples
from aoe.initiator.session import Session


class Proof:
    """Of the servers of one disk."""

    def __init__(self, session: Session, pieces: Pieces) -> None:
        self._session = session
        self._samples = Samples(session, pieces)
        self._echoes = Echoes(session, pieces)
        self.news = -1
        """When it last looked at the paths."""
        self.works = False
        """Whether there is something to go on with."""
        self.wanted = False
        """Whether a write is wanted that can be looked for."""

    def step(self, now_ns: int) -> None:
        """Something happened, or time has passed."""
        self._echoes.step(now_ns)
        self._samples.step(now_ns)
        self.news = self._session.news
        self.wanted = self._echoes.wanted
        self.works = self._echoes.current is not None or self._samples.subject is not None

    def became(self, look: Look, event: Event, now_ns: int) -> None:
        """Of a read of ours."""
        if isinstance(look.of, Sample):
            self._samples.became(look, look.of, event, now_ns)
        elif isinstance(look.of, Echo):
            self._echoes.became(look, look.of, event, now_ns)

    def stand_still(self, gap_ns: int) -> None:
        """We did not run for so long, which was no server's silence."""
        self._samples.stand_still(gap_ns)
        self._echoes.stand_still(gap_ns)

    def takes(self, piece: Piece, data: bytes, now_ns: int) -> bool:
        """Whether a write waits until its range was read through a server that is to be proved."""
        taken = self._echoes.takes(piece, data, now_ns)
        self.works |= taken
        return taken

    def acknowledged(self, piece: Piece, path: Path, now_ns: int) -> None:
        """The write was answered by the server of a path, and all went well."""
        self._echoes.acknowledged(piece, path, now_ns)

    def given_up(self, piece: Piece, now_ns: int) -> None:
        """The write failed, or no caller waits for it any more."""
        self._echoes.given_up(piece, now_ns)
