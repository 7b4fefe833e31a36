"""What is known of whether a server has the disk of the owner. csrc/initiator/trial.c has the same."""

from dataclasses import dataclass

from aoe.initiator.facts import Facts, Reason
from aoe.initiator.path import Path


@dataclass(slots=True)
class Trial:
    """Of one life of a server, as `aoe.initiator.proof` finds it out. All ways to the server share it."""

    sampled: bool = False
    """Whether its samples were equal to the owner's."""
    proved: bool = False
    """Whether a write of ours that another server acknowledged was seen there, or it is what the disk is."""
    condemned: Reason = Reason.NONE
    """Why it has another disk."""
    lba: int = 0
    """Where that was seen last."""
    misses: int = 0
    """How many writes were not seen there."""
    again_ns: int = 0
    """When the next write may be looked for there."""

    def reopen(self) -> None:
        """What it was compared with is no more."""
        self.sampled = self.proved = False
        self.condemned = Reason.NONE
        self.misses = 0


def same_server(path: Path, facts: Facts | None, other: Path, other_facts: Facts | None) -> bool:
    """Whether two ways lead to one life of one server: by its MAC, or, where it has several network cards, by
    its instance: 64 bits that a target of ours draws when it starts. One address is one export of it."""
    if facts is None or other_facts is None or facts.instance != other_facts.instance:
        return False
    one_card = path.peer.mac == other.peer.mac
    return path.peer[2:] == other.peer[2:] and (one_card or facts.instance is not None)


def other_store(facts: Facts, other: Facts) -> bool:
    """Whether two servers say of the same kind of id that their stores are not one."""
    return facts.store.kind == other.store.kind != 0 and facts.store != other.store
