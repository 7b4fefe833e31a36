"""Writers in a guest, each with a block of its own: past the page cache one writes a version after the other,
and reads it at once and before the next one. What comes back of an older one is seen."""

from pathlib import Path

from aoe.wire.protocol import SECTOR

PLACES = range(2)
"""Blocks of one file."""
FILE = "places"
_AT_PLACE = "bs=4k count=1 status=none"


def writer(place: int, on: str | Path, kept: str | Path) -> str:
    """One line of a shell, which goes on until there is `kept`/stop. `on` is a directory of the disk. In
    `kept`, which is of another, p.PLACE is the last version; what was read of an older one is in stale;
    where a write failed, there is failed; over.PLACE comes last."""
    file, last = f"{on}/{FILE}", f"{kept}/p.{place}"
    write = f"dd if={last} of={file} seek={place} conv=notrunc oflag=direct {_AT_PLACE}"
    read = f"dd if={file} skip={place} iflag=direct {_AT_PLACE} | cmp - {last}"
    return (
        f'v=0; while [ ! -e {kept}/stop ]; do v=$((v+1)); printf "%-4096s" "{place} $v" >{last};'
        f" {write} || touch {kept}/failed;"
        f" for s in 0 .2; do sleep $s; {read} || echo {place} $v >>{kept}/stale; done; done;"
        f" touch {kept}/over.{place}"
    )


def first_sector(place: int, version: int) -> bytes:
    """Of what is written there."""
    return f"{place} {version}".encode().ljust(SECTOR)
