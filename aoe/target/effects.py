"""What a target wants done, in this order: the responder returns these instead of doing it."""

from collections.abc import Hashable
from typing import NamedTuple

from aoe.drive.command import Operation
from aoe.target.export import Arrival, Change, Entry, Export, Job, Port
from aoe.target.order import Ticket
from aoe.wire.ata import AtaRequest

EVERYONE: Hashable = None
"""Origin of a frame that no host asked for: it goes to all peers of a link."""


class Send(NamedTuple):
    """Put a frame on the wire, towards where the request came from."""

    port: Port
    origin: Hashable
    frame: bytes


class Submit(NamedTuple):
    """Let the disk do an operation, then call `complete`."""

    job: Job


class Delay(NamedTuple):
    """A limit lets an operation begin at `until_ns` (CLOCK_BOOTTIME): call `due` then. Without a ticket it is
    what can wait for others that rests."""

    export: Export
    ticket: Ticket[Entry] | None
    until_ns: int


class Peek(NamedTuple):
    """A READ that nothing is in the way of: call `peeked` at once, with the data if they can be had without
    waiting."""

    export: Export
    arrival: Arrival
    request: AtaRequest
    operation: Operation


class Persist(NamedTuple):
    """Store the changed state and sync it, fence what else serves the export, then call `persisted`."""

    change: Change


class Conflict(NamedTuple):
    """Another target answers for one of our exports."""

    export: Export
    mac: bytes


class Met(NamedTuple):
    """A host asks an export for the first time which disk it is."""

    export: Export
    port: Port
    mac: bytes


class Forged(NamedTuple):
    """Another host sent a FLUSH in a client's name, so the client's writes were dropped (order rule T9)."""

    export: Export
    mac: bytes


Effect = Send | Submit | Delay | Peek | Persist | Conflict | Met | Forged
