"""A disk behind AoE for clients that speak NBD: nbdkit with a plugin of ours (csrc/nbd/)."""

from aoe.initiator.options import Options

DEFAULTS = Options(timeout_s=None)
"""A client of a block device expects that it waits."""
