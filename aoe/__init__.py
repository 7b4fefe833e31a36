"""ATA over Ethernet: a target, and an initiator.

async with aoe.serve(disk, link):
    ...
async with aoe.attach("e0.0", interface="eth0") as disk:
    await disk.write(0, b"data")
with aoe.open("e0.0", interface="eth0") as disk:
    disk.write(0, b"data")
"""

from aoe.initiator.blocking import open
from aoe.initiator.remote import attach
from aoe.target.serve import serve

__all__ = ["attach", "open", "serve"]
