"""Which process may ask for what, by the user and the groups that the kernel says it has."""

from typing import NamedTuple

READING = frozenset({"status"})
"""Verbs that change nothing."""
SHARED = frozenset({"mask", "release", "drain", "resume"})
"""Verbs of the configured group: they name no store and no interface."""


class Peer(NamedTuple):
    """A process at the other end of a connection; `gids` are all of its groups."""

    pid: int
    uid: int
    gids: frozenset[int]

    def __str__(self) -> str:
        return f"uid {self.uid} (pid {self.pid})"


class Rights(NamedTuple):
    """`owner` (root, where root started the daemon) and root may do all, members of `group` what `SHARED`
    has, and look. With `all_read` every process may look. `changes` is the path at which the owner's changes
    beside the file are written down (`place.changes_of`)."""

    owner: int
    group: int | None = None
    all_read: bool = False
    changes: str = ""

    def rules(self, peer: Peer) -> bool:
        """Whether it may do all."""
        return peer.uid in (0, self.owner)

    def refusal(self, verb: str, peer: Peer) -> str:
        """Why it may not do that, with the remedy; empty if it may."""
        if self.rules(peer) or (verb in READING and self.all_read):
            return ""
        shared = verb in SHARED | READING
        if shared and self.group is not None and self.group in peer.gids:
            return ""
        if not shared:
            return f"{verb} is for the administrator alone, not for uid {peer.uid}; use sudo"
        return f"{verb} is not for uid {peer.uid}; use sudo, or join the control-group of the configuration"
