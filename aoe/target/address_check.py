"""Does another target already answer for our addresses? Asked before the first answer of ours."""

from collections.abc import Collection, Mapping

from aoe.drive import identify
from aoe.limits import RIVALS_MAX
from aoe.wire import ata, config, frame
from aoe.wire.ata import AtaRequest
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import BROADCAST, FLAG_ERROR, FLAG_RESPONSE, Command, Fault, Header
from aoe.wire.opcodes import IDENTIFY_DEVICE
from aoe.wire.protocol import SECTOR, USER_TAG

Key = tuple[int, int]


class AddressCheck:
    """Collects which targets answer for our addresses. `keys` are our (shelf, slot), `own` the MACs whose
    answers are ours.

    `answers` maps each key to the MACs that answered for it and the serial of the disk they serve, None
    while, or if, that does not become known.
    """

    def __init__(self, keys: Collection[Key], own: Collection[bytes]) -> None:
        self.answers: dict[Key, dict[bytes, str | None]] = {}
        self._keys = frozenset(keys)
        self._own = frozenset(own)

    def covers(self, keys: Collection[Key]) -> bool:
        """Whether it asks for all these."""
        return self._keys.issuperset(keys)

    @property
    def waiting(self) -> bool:
        """Whether a rival has not yet said which disk it serves."""
        return any(None in found.values() for found in self.answers.values())

    def queries(self, mac: bytes) -> list[bytes]:
        """A config query for each of our addresses, from `mac` to everyone."""
        body = config.encode(Config(ConfigCommand.READ))
        return [frame.encode(self._header(BROADCAST, mac, key, Command.CONFIG), body) for key in self._keys]

    def receive(self, mac: bytes, raw: bytes) -> list[bytes]:
        """A frame came in at the interface `mac`; the frames to send because of it."""
        header = frame.decode(raw)
        if isinstance(header, Fault) or not header.flags & FLAG_RESPONSE or header.src in self._own:
            return []
        key = header.shelf, header.slot
        if key not in self._keys:
            return []
        found = self.answers.setdefault(key, {})
        if header.src not in found and len(found) >= RIVALS_MAX:
            return []
        found.setdefault(header.src, None)
        if header.command == Command.CONFIG:
            ask = AtaRequest(0, 0, 1, IDENTIFY_DEVICE, 0xA0 << 24)
            return [frame.encode(self._header(header.src, mac, key, Command.ATA), ata.encode(ask))]
        if (header.command, header.tag) != (Command.ATA, USER_TAG):
            return []
        reply = ata.decode_reply(raw)
        if not isinstance(reply, Fault) and not header.flags & FLAG_ERROR and len(reply.data) >= SECTOR:
            found[header.src] = identify.serial_of(reply.data[:SECTOR])
        return []

    def _header(self, dst: bytes, mac: bytes, key: Key, command: Command) -> Header:
        return Header(dst, mac, frame.VERSION, 0, 0, *key, command, USER_TAG)


def siblings_only(found: Mapping[bytes, str | None], serial: str) -> bool:
    """Whether all targets that answered serve our disk: the other primary, not a mistake."""
    return all(other == serial for other in found.values())
