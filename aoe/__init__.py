"""ATA over Ethernet: a target, and a library to talk to one.

async with aoe.serve(disk, link):
    ...
"""

from aoe.target.serve import serve

__all__ = ["serve"]
