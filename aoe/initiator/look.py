"""What the proof looks at: a range, read through one server and no other; and which processes servers are."""

from aoe.initiator.exchange import Kind
from aoe.initiator.path import Answered, Operation, Path
from aoe.wire import ata, protocol
from aoe.wire.ata import AFLAG_EXTENDED, AtaRequest
from aoe.wire.opcodes import READ_SECTORS_EXT


class Look:
    """A read of `sectors` from `lba` on, for `of`: a sample or an echo."""

    __slots__ = ("data", "of", "operation", "sectors")

    def __init__(self, of: object, path: Path, lba: int, sectors: int) -> None:
        self.of = of
        self.sectors = sectors
        self.data: bytes | None = None
        """None until it is answered, empty if that was an error."""
        body = ata.encode(AtaRequest(AFLAG_EXTENDED, 0, sectors, READ_SECTORS_EXT, lba))
        least = protocol.ATA_HEADER + sectors * protocol.SECTOR
        self.operation = Operation(
            body, kind=Kind.READS, reply_min=least, only=path, sectors=sectors, user=self
        )

    def answered(self, event: Answered) -> None:
        """By the server."""
        end = protocol.ATA_HEADER + self.sectors * protocol.SECTOR
        self.data = event.raw[protocol.ATA_HEADER : end] if event.good else b""


def lives(owner: Path, path: Path) -> tuple[int | None, int | None]:
    """Which processes of the two servers are compared."""
    assert owner.facts is not None, "it was chosen"
    assert path.facts is not None, "it was looked at"
    return owner.facts.instance, path.facts.instance
