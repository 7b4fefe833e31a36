"""Which process may ask for what, by the user and the groups that the kernel says it has."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from aoe.printable import plain
from aoe.target.rates import LIMITS

READING = frozenset({"status", "volumes"})
"""Verbs that change nothing."""
SHARED = frozenset({"mask", "release", "drain", "resume"})
"""Verbs of the configured group: they name no store and no interface."""
LENT = frozenset({"mask", *(name.replace("_", "-") for name in LIMITS)})
"""Keys of an export that it may `set`, too."""


VOLUME = "volume"
"""The verb of the administrators of a pool."""


class Peer(NamedTuple):
    """A process at the other end of a connection; `gids` are all of its groups."""

    pid: int
    uid: int
    gids: frozenset[int]

    def __str__(self) -> str:
        return f"uid {self.uid} (pid {self.pid})"


class Rights(NamedTuple):
    """`owner` (root, where root started the daemon) and root may do all, members of `group` what `SHARED`
    has, and `set` what `LENT` has, and look. With `all_read` every process may look. `changes` is the path
    at which the owner's changes beside the file are written down (`place.changes_of`). Members of the group
    in `admins` of a pool may do all with its volumes."""

    owner: int
    group: int | None = None
    all_read: bool = False
    changes: str = ""
    admins: Mapping[str, int] = {}

    def rules(self, peer: Peer) -> bool:
        """Whether it may do all."""
        return peer.uid in (0, self.owner)

    def refusal(self, verb: str, peer: Peer, keys: Collection[str] = (), pool: str = "") -> str:
        """Why it may not do that, about these keys of an export or in this pool, with the remedy; empty if it
        may."""
        if self.rules(peer) or (verb in READING and self._reads(peer)):
            return ""
        if verb == VOLUME:
            return self._refusal_of_pool(pool, peer)
        shared = verb in SHARED | READING or (verb == "set" and keys and LENT.issuperset(keys))
        if shared and self.group is not None and self.group in peer.gids:
            return ""
        if not shared:
            what = f"set of more than {', '.join(sorted(LENT))}" if verb == "set" else verb
            return f"{what} is for the administrator alone, not for uid {peer.uid}; use sudo"
        return f"{verb} is not for uid {peer.uid}; use sudo, or join the control-group of the configuration"

    def _reads(self, peer: Peer) -> bool:
        """Whether it may look, whatever group it is of: those that change pools may."""
        return self.all_read or not peer.gids.isdisjoint(self.admins.values())

    def _refusal_of_pool(self, pool: str, peer: Peer) -> str:
        if self.admins.get(pool) in peer.gids:
            return ""
        return f"volumes of pool {plain(pool)} are not for uid {peer.uid}; use sudo, or join its admins"
