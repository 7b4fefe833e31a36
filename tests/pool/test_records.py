"""Volumes as JSON, and what is none."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aoe import limits
from aoe.pool import records
from aoe.pool.records import BadRecord, Marker, dump, dump_marker, load, load_marker
from aoe.pool.requests import Clone, Cut
from aoe.pool.volume import Image, Parent, Snapshot, Volume
from tests.pool.standings import NOW, with_base

ids = st.uuids().map(lambda it: it.hex)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
more = st.dictionaries(st.sampled_from(["later", "tags"]), st.text(max_size=4) | st.integers() | st.none())
images = st.builds(
    Image,
    id=ids,
    size=st.integers(1, 1 << 30).map(lambda it: it * 512),
    format=st.sampled_from(["raw", "qcow2"]),
    base=st.none() | ids,
    more=more,
)
snapshots = st.builds(Snapshot, name=names, image=images, made=st.just(NOW), cause=names, more=more)
volumes = st.builds(
    Volume,
    uuid=ids,
    head=images,
    made=st.just(NOW),
    parent=st.none() | st.builds(Parent, ids, ids),
    snapshots=st.lists(snapshots, max_size=3, unique_by=lambda it: it.name.casefold()).map(tuple),
    dropped=st.lists(ids.map("{}.raw".format), max_size=2).map(tuple),
    resized_from=st.none() | st.just(512),
    more=more,
)


@given(volumes)
def test_what_is_dumped_is_loaded_as_it_was(volume: Volume) -> None:
    again = load(dump(volume))
    assert again == volume
    assert dump(again) == dump(volume)


def whole() -> dict[str, Any]:
    world = with_base()
    world.do(Cut("base", "a"), Clone("base", "a", "web"))
    said: dict[str, Any] = json.loads(dump(world.volumes["base"]))
    return {**said, "parent": {"volume": "1" * 32, "snapshot": "2" * 32}}


def changed(path: str, value: object) -> bytes:
    said: Any = whole()
    *outer, last = path.split(".")
    at = said
    for name in outer:
        at = at[int(name) if name.isdigit() else name]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return json.dumps(said).encode()


def test_the_record_that_is_changed_below_is_right() -> None:
    assert load(json.dumps(whole()).encode()).find("a")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", 0),
        ("version", "1"),
        ("version", True),
        ("uuid", None),
        ("uuid", "../../etc/passwd"),
        ("uuid", 7),
        ("made", "yesterday"),
        ("head", []),
        ("head.id", "../x"),
        ("head.id", "A" * 32),
        ("head.size", 0),
        ("head.size", 513),
        ("head.size", 1 << 70),
        ("head.size", 512.0),
        ("head.size", True),
        ("head.format", "exe"),
        ("head.base", "x"),
        ("parent", 3),
        ("parent.volume", "x"),
        ("snapshots", {}),
        ("snapshots.0.name", "a/b"),
        ("snapshots.0.image", None),
        ("snapshots.0.made", 3),
        ("dropped", ["../x.raw"]),
        ("dropped", "x"),
        ("resized_from", 5),
    ],
)
def test_what_is_no_record_is_refused(path: str, value: object) -> None:
    with pytest.raises(BadRecord, match="it is damaged") as caught:
        load(changed(path, value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"7", b"null", b'{"version": 1}', b"\xff", b"[" * 100_000, b"{}" + bytes(2 << 20)],
)
def test_what_is_no_json_of_ours_is_refused(text: bytes) -> None:
    for read in (load, load_marker):
        with pytest.raises(BadRecord, match="it is damaged"):
            read(text)


def test_a_later_release_is_named() -> None:
    with pytest.raises(BadRecord, match="a later release wrote it"):
        load(changed("version", 2))


def test_one_image_has_one_place_in_a_volume() -> None:
    volume = load(json.dumps(whole()).encode())
    kept = volume.snapshots[0]
    for wrong in (
        replace(volume, snapshots=(kept, replace(kept, name="b"))),
        replace(volume, snapshots=(kept, replace(kept, name="A", image=replace(kept.image, id="9" * 32)))),
        replace(volume, dropped=(volume.head.file,)),
    ):
        with pytest.raises(BadRecord, match="it is damaged"):
            load(dump(wrong))


def test_a_marker_is_kept_with_what_is_not_known() -> None:
    marker = Marker(uuid="1" * 32, kind="directory", more={"later": [1]})
    assert load_marker(dump_marker(marker)) == marker


def test_the_largest_record_is_read_again() -> None:
    image = Image(id="a" * 32, size=512)
    many = tuple(
        Snapshot(name=f"{'x' * 60}{number:04}", image=replace(image, id=f"{number:032x}"), made=NOW)
        for number in range(limits.POOL_SNAPSHOTS_MAX)
    )
    volume = Volume(uuid="b" * 32, head=image, made=NOW, snapshots=many)
    assert load(dump(volume)) == volume
    with pytest.raises(ValueError, match="delete snapshots"):
        dump(replace(volume, more={"later": "x" * limits.POOL_RECORD_BYTES_MAX}))


def test_files_are_named_by_ids_alone() -> None:
    assert records.is_image_file("a" * 32 + ".raw")
    for name in ("a.raw", "a" * 32, "a" * 32 + ".raw.new", "../" + "a" * 32 + ".raw", "a" * 32 + ".raw\n"):
        assert not records.is_image_file(name)
