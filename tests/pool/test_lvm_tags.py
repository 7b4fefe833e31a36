"""Records of volumes in tags of LVM."""

import base64
import re
import zlib
from dataclasses import replace

import pytest

from aoe import limits
from aoe.pool import lvm_tags
from aoe.pool.lvm_tags import of_record, record
from aoe.pool.records import BadRecord
from aoe.pool.requests import Clone, Cut, Resize, Rollback
from aoe.pool.volume import SIZE_MOST, Image, Parent, Snapshot, Volume
from tests.pool.standings import GIB, NOW, World, ids, with_base

TAG = re.compile(r"(?!-)[A-Za-z0-9_+./=!:&#-]{1,1024}", re.ASCII)
"""What lvm2 takes (lvm(8)); tests/vm/test_lvm.py asks it."""


def worlds() -> World:
    """Volumes with all that there may be."""
    world = with_base()
    world.do(Cut("base", "a"), Clone("base", "a", "web"), Clone("base", "", "db"), Rollback("base", "a"))
    world.do(Resize("db", 20 * GIB))
    volume = world.volumes["web"]
    world.volumes["web"] = replace(
        volume, dropped=(f"{7:032x}.raw",), resized_from=512, more={"later": ["\u00e9", {"a,b": None}]}
    )
    return world


def test_a_record_is_read_as_it_was_written() -> None:
    for name, volume in worlds().volumes.items():
        tags = of_record(name, 7, volume)
        assert all(TAG.fullmatch(tag) for tag in tags)
        assert record({*tags, "mine", lvm_tags.NEW}) == (name, 7, volume)
        assert record(lvm_tags.hidden(tags)) == ("", 7, volume)
        assert lvm_tags.serial(tags) == 7
        assert lvm_tags.names_of(tags) == [name]
    assert record({"mine", lvm_tags.NEW}) is None


def test_a_clone_takes_little() -> None:
    """The metadata of a volume group have some 500 KB for all, and each volume takes as much for itself."""
    volume = worlds().volumes["db"]
    assert sum(map(len, of_record("db", 1, volume))) < 300


def largest() -> Volume:
    fresh = ids()
    kept = tuple(
        Snapshot(
            name=f"{number:0{limits.POOL_NAME_MAX}}",
            image=Image(id=next(fresh)[::-1], size=SIZE_MOST - 512 * number),
            made=NOW,
        )
        for number in range(limits.POOL_SNAPSHOTS_MAX)
    )
    parent = Parent(next(fresh), next(fresh))
    return Volume(
        uuid=next(fresh), head=Image(id=next(fresh), size=512), made=NOW, parent=parent, snapshots=kept
    )


def test_the_largest_record_is_in_several_tags() -> None:
    volume, name = largest(), "n" * limits.POOL_NAME_MAX
    tags = of_record(name, 10**17, volume)
    assert len(tags) > 10
    assert all(TAG.fullmatch(tag) for tag in tags)
    assert record(tags) == (name, 10**17, volume)
    for tag in sorted(tags):
        with pytest.raises(BadRecord, match="it is damaged"):
            record(tags - {tag})


def test_what_is_too_large_to_be_read_again_is_not_written() -> None:
    volume = replace(largest(), more={"later": "x" * limits.POOL_RECORD_BYTES_MAX})
    with pytest.raises(ValueError, match="a record of more than"):
        of_record("a", 1, volume)


def test_a_text_without_end_is_not_unpacked() -> None:
    packer = zlib.compressobj(9, zdict=lvm_tags._USUAL)
    packed = packer.compress(bytes(100 * limits.POOL_RECORD_BYTES_MAX)) + packer.flush()
    text = base64.urlsafe_b64encode(packed).decode()
    size = limits.POOL_TAG_PIECE_MAX
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    tags = {f"aoe.record=1.{len(pieces)}.{at}.{piece}" for at, piece in enumerate(pieces)}
    with pytest.raises(BadRecord, match="it has no end"):
        record({"aoe.volume=a", *tags})


def test_a_pool_is_marked() -> None:
    uuid = "1" * 32
    assert lvm_tags.marker({lvm_tags.of_pool(uuid), "mine"}) == uuid
    assert lvm_tags.marker({"mine"}) is None
    assert TAG.fullmatch(lvm_tags.of_pool(uuid))
    with pytest.raises(BadRecord, match="it is damaged"):
        lvm_tags.marker({lvm_tags.of_pool(uuid), lvm_tags.of_pool("2" * 32)})
