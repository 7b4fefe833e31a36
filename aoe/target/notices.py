"""What a server logs. What peers, disks and interfaces cause is told now and then, with a count."""

import logging

from aoe.disk.watch import Lost
from aoe.errors import DiskError, NoThread
from aoe.link.base import Link
from aoe.printable import plain
from aoe.target.effects import Conflict, Forged, Met
from aoe.target.export import Change, Export, Job
from aoe.target.repeated import Repeated
from aoe.wire import protocol

log = logging.getLogger("aoe.target")


class Peer(str):
    """The MAC of a host in the words of a message: a log that has fields has it in one of its own."""


class Notices:
    """The messages of one server, inside a running event loop."""

    def __init__(self) -> None:
        self._repeated = Repeated(log)
        self._down: set[Link] = set()

    def finish(self) -> None:
        """Say what is still to be said."""
        self._repeated.finish()

    def failed(self, job: Job, error: DiskError) -> None:
        """The disk could not do it."""
        if isinstance(error, NoThread):
            said = "%s: %s; until then requests are dropped, and clients ask again"
            self._repeated.say((job.export, "thread"), logging.ERROR, said, job.export.address, error)
            return
        kind = job.export, job.operation.kind, error.errno
        sector = error.offset // protocol.SECTOR
        self._repeated.say(kind, logging.ERROR, "%s: %s at sector %d", job.export.address, str(error), sector)

    def size_unknown(self, export: Export, error: DiskError) -> None:
        """The disk does not say how large it is."""
        self._repeated.say((export, "size"), logging.ERROR, "%s: %s", export.address, error)

    def not_saved(self, change: Change, error: OSError | NoThread) -> None:
        """A change of the AoE state was refused for that."""
        kind = change.export, "state", error.errno
        self._repeated.say(kind, logging.ERROR, "%s: state not saved: %s", change.export.address, str(error))

    def still_failed(self, export: Export, since: str) -> None:
        """It failed in an earlier life of the service."""
        said = "%s: a sync failed%s, and the disk stays failed: repair it, then reopen it"
        log.error(said, export.address, f" on {since}" if since else "")

    def failed_with(self, export: Export, other: Export) -> None:
        """Another part of its store failed."""
        said = "%s: the sync of %s failed, which is a part of the same store: repair it, then reopen both"
        log.error(said, export.address, other.address)

    def not_marked(self, export: Export, problem: str) -> None:
        """That its sync failed is not on stable storage."""
        said = (
            "%s: a sync failed, which a restart would forget: it cannot be written to the state directory: %s"
        )
        self._repeated.say((export, "mark"), logging.ERROR, said, export.address, problem)

    def mark_stays(self, export: Export, error: OSError | NoThread) -> None:
        """It is trusted again until the next restart."""
        said = "%s: it failed, and after a restart it will have again: the state directory keeps that: %s"
        log.error(said, export.address, str(error))

    def conflict(self, by: Conflict) -> None:
        """Another target answers for the address of an export."""
        said = "%s: %s answers for this address too: clients will mix the two disks"
        kind = by.export, "conflict"
        self._repeated.say(kind, logging.ERROR, said, by.export.address, Peer(by.mac.hex(":")))

    def met(self, client: Met) -> None:
        """A host asked for a disk for the first time."""
        said = "%s: first contact of %s on %s"
        kind = client.export, "client"
        address, mac = client.export.address, Peer(client.mac.hex(":"))
        self._repeated.say(kind, logging.INFO, said, address, mac, client.port.name)

    def forged(self, flush: Forged) -> None:
        """A client's writes were dropped for a while because of it."""
        said = (
            "%s: a FLUSH in the name of %s ended its writes, and was not its own; it goes on with others: "
            "look for a second host with this MAC, or for an attack"
        )
        kind = flush.export, "forged"
        self._repeated.say(kind, logging.WARNING, said, flush.export.address, Peer(flush.mac.hex(":")))

    def link(self, link: Link) -> None:
        """How an interface is, if it was lost or is there again."""
        log.debug("%s: MTU %d, MAC %s", link.name, link.mtu, link.mac.hex(":"))
        if link.up == (link in self._down):
            self._down ^= {link}
            lost = "is down, gone or part of a bridge; it is served again once it is back"
            state = "is there again" if link.up else lost
            said = "%s: the interface %s"
            self._repeated.say((link.name, "state"), logging.WARNING, said, link.name, state)
        if not protocol.sectors_per_frame(link.mtu):
            said = "%s: MTU %d is too small to serve over"
            self._repeated.say((link.name, "MTU"), logging.WARNING, said, link.name, link.mtu)

    def defect(self, error: BaseException) -> None:
        """Something here is wrong."""
        said = "defect: a request was not finished: %s"
        self._repeated.say("defect", logging.CRITICAL, said, repr(error), exc_info=error)


def words_of_lost(export: Export, file: Lost) -> str:
    """What clients write will not be found where the administrator looks for it."""
    address, path = export.address, plain(file.path)
    if file.removed:
        fate = "what is written is lost when the target ends; before that, copy it: aoe copy"
        return f"{path} was removed or replaced; {fate} {address} FILE"
    return f"{path} was renamed; it will not be found there at a restart"


def file_lost(export: Export, words: str) -> None:
    """Once."""
    log.error("%s: %s", export.address, words)


def not_closed(export: Export, error: DiskError) -> None:
    """The disk failed as it was closed."""
    log.error("%s: %s; what was not flushed may be lost", export.address, error)
