"""Which record a disk gets: that of its store, or of the name it was given, never of a kernel's name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aoe.disk.base import StoreName
from aoe.drive.identify import StoreKind
from aoe.errors import ConfigurationError
from aoe.target.keys import VERSION, StoreKey, serial_of
from aoe.target.records import Record, StateStore
from aoe.target.state import AoeState

HOST = bytes.fromhex("020000000001")
MASKED = AoeState(mask=(HOST,))
RESERVED = AoeState(reserve=(HOST,))
LV = StoreName(StoreKind.DEVICE, "LVM-0Zc5hJc3oQq8N2T0m1vK7xPqYw3uRb9sLd4eFg6h")
LV2 = StoreName(StoreKind.DEVICE, "LVM-9Zc5hJc3oQq8N2T0m1vK7xPqYw3uRb9sLd4eFg6h")
IMAGE = StoreName(StoreKind.RBD, "a7f64266/2//10226b8b4567/-")


def serve(store: StateStore, key: StoreKey, state: AoeState | None = None, serial: str | None = None) -> str:
    """A run of the target with one disk: its serial."""
    record, _ = store.find(key, serial)
    record.open("e0.0")
    if state is not None:
        record.save(state)
    record.close()
    return record.serial


def found(directory: Path, key: StoreKey, serial: str | None = None) -> tuple[Record, str]:
    return StateStore(directory).find(key, serial)


def old(directory: Path, serial: str, path: str, **more: Any) -> None:
    """A record as version 1 wrote it."""
    known = {"path": path, "serial": serial, "addresses": ["e0.0"], "config": "61", "mask": [], "reserve": []}
    (directory / f"{serial}.json").write_text(json.dumps(known | more))


def refusal(directory: Path, key: StoreKey) -> str:
    with pytest.raises(ConfigurationError) as caught:
        found(directory, key)
    message = str(caught.value)
    assert ",serial=" in message
    assert key.path in message
    assert "\n" not in message
    return message


def link(directory: Path, name: str, target: str) -> str:
    """A stable name, set anew."""
    path = directory / name
    path.unlink(missing_ok=True)
    path.symlink_to(directory / target)
    return str(path)


def key_of(path: str, **more: Any) -> StoreKey:
    return StoreKey(path, device=str(Path(path).resolve()), **more)


# Names that stay, kernel names that do not


@pytest.mark.parametrize("state", [MASKED, RESERVED, AoeState(b"config")])
def test_two_links_whose_devices_swapped_numbers_keep_their_own_state(
    state: AoeState, tmp_path: Path
) -> None:
    store = tmp_path / "state"
    for name in ("loop0", "loop1"):
        (tmp_path / name).touch()
    names = [link(tmp_path, "a", "loop0"), link(tmp_path, "b", "loop1")]
    before = [serve(StateStore(store), key_of(names[0]), state), serve(StateStore(store), key_of(names[1]))]
    link(tmp_path, "a", "loop1")
    link(tmp_path, "b", "loop0")
    records = [found(store, key_of(name)) for name in names]
    assert [record.serial for record, _ in records] == before
    assert [record.state for record, _ in records] == [state, AoeState()]
    assert [note for _, note in records] == ["", ""]


@pytest.mark.parametrize("name", [LV, IMAGE, LV.part("@0+8")])
def test_a_store_with_an_id_keeps_its_state_under_any_name(name: StoreName, tmp_path: Path) -> None:
    serial = serve(StateStore(tmp_path), StoreKey("/dev/sda", name=name, device="/dev/sda"), MASKED)
    assert serial == serial_of(name.text)
    other = StoreKey("/dev/sdb", name=LV2, device="/dev/sdb")
    assert serve(StateStore(tmp_path), other) == serial_of(LV2.text)
    # the kernel names them the other way round
    record, _ = found(tmp_path, StoreKey("/dev/sdb", name=name, device="/dev/sdb"))
    assert (record.serial, record.state) == (serial, MASKED)
    record, _ = found(tmp_path, StoreKey("/dev/sda", name=LV2, device="/dev/sda"))
    assert (record.serial, record.state) == (serial_of(LV2.text), AoeState())


def test_another_disk_under_a_known_name_is_another_disk(tmp_path: Path) -> None:
    serve(StateStore(tmp_path), StoreKey("/dev/sda", name=LV), MASKED)
    record, _ = found(tmp_path, StoreKey("/dev/sda", name=LV2))
    assert (record.serial, record.state) == (serial_of(LV2.text), AoeState())


def test_a_part_is_another_disk(tmp_path: Path) -> None:
    whole = serve(StateStore(tmp_path), StoreKey("/a"), MASKED)
    parts = [serve(StateStore(tmp_path), StoreKey("/a", part)) for part in ("@0+8", "@8+8", "@8+")]
    assert len({whole, *parts}) == 4
    assert found(tmp_path, StoreKey("/a", "@8+8"))[0].serial == parts[1]
    assert found(tmp_path, StoreKey("/a@8+8"))[0].serial not in parts


def test_an_id_that_is_gone_is_asked_for(tmp_path: Path) -> None:
    serial = serve(StateStore(tmp_path), StoreKey("/dev/sda", name=LV))
    assert serial in refusal(tmp_path, StoreKey("/dev/sda"))
    assert LV.text in refusal(tmp_path, StoreKey("/dev/sda"))
    assert found(tmp_path, StoreKey("/dev/sda"), serial)[0].serial == serial


def test_an_id_that_was_not_seen_before_is_taken_up(tmp_path: Path) -> None:
    serial = serve(StateStore(tmp_path), StoreKey("/dev/md0"), MASKED)
    assert serve(StateStore(tmp_path), StoreKey("/dev/md0", name=LV)) == serial
    assert found(tmp_path, StoreKey("/dev/md/root", name=LV))[0].serial == serial


# Files


def file_key(path: Path, name: str = "u/1") -> StoreKey:
    return key_of(str(path), name=StoreName(StoreKind.FILE, name))


def test_a_file_that_was_moved_keeps_its_state(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    store = tmp_path / "state"
    serial = serve(StateStore(store), file_key(tmp_path / "a"), MASKED)
    (tmp_path / "a").rename(tmp_path / "b")
    record, note = found(store, file_key(tmp_path / "b"))
    assert (record.serial, record.state) == (serial, MASKED)
    assert str(tmp_path / "a") in note
    assert serve(StateStore(store), file_key(tmp_path / "b")) == serial
    assert found(store, file_key(tmp_path / "b"))[1] == ""


def test_a_file_that_took_the_place_of_another_keeps_the_state_of_the_name(tmp_path: Path) -> None:
    """An image that is restored or deployed anew. The mask stays with what the administrator named."""
    (tmp_path / "a").touch()
    store = tmp_path / "state"
    serial = serve(StateStore(store), file_key(tmp_path / "a"), MASKED)
    record, note = found(store, file_key(tmp_path / "a", "u/2"))
    assert (record.serial, record.state) == (serial, MASKED)
    assert "another file" in note


def test_a_copy_of_a_filesystem_does_not_take_the_state_of_the_original(tmp_path: Path) -> None:
    for name in ("a", "clone"):
        (tmp_path / name).touch()
    serial = serve(StateStore(tmp_path / "state"), file_key(tmp_path / "a"), MASKED)
    record, _ = found(tmp_path / "state", file_key(tmp_path / "clone"))
    assert record.serial != serial
    assert record.state == AoeState()


# Another name for what a record knows


@pytest.mark.parametrize("state", [MASKED, RESERVED])
def test_a_masked_disk_under_another_name_is_refused(state: AoeState, tmp_path: Path) -> None:
    (tmp_path / "loop0").touch()
    store = tmp_path / "state"
    serial = serve(StateStore(store), key_of(link(tmp_path, "a", "loop0")), state)
    kernel = key_of(str(tmp_path / "loop0"))
    assert serial in refusal(store, kernel)
    (tmp_path / "a").rename(tmp_path / "b")  # the record's name is gone: its device is known
    assert serial in refusal(store, kernel)
    assert serial in refusal(store, key_of(str(tmp_path / "b")))
    assert found(store, kernel, serial)[0].state == state
    record, note = found(store, kernel, "NEW")
    assert record.state == AoeState()
    assert serial in note


def test_without_a_mask_it_gets_a_new_serial_and_a_line(tmp_path: Path) -> None:
    (tmp_path / "loop0").touch()
    serial = serve(StateStore(tmp_path / "s"), key_of(link(tmp_path, "a", "loop0")), AoeState(b"c"))
    record, note = found(tmp_path / "s", key_of(str(tmp_path / "loop0")))
    assert record.serial != serial
    assert f",serial={serial}" in note


def test_a_name_that_leads_elsewhere_now_knows_nothing_of_a_device(tmp_path: Path) -> None:
    for name in ("loop0", "loop1"):
        (tmp_path / name).touch()
    serve(StateStore(tmp_path / "s"), key_of(link(tmp_path, "a", "loop0")), MASKED)
    link(tmp_path, "a", "loop1")
    record, note = found(tmp_path / "s", key_of(str(tmp_path / "loop0")))
    assert (record.state, note) == (AoeState(), "")


# Records of version 1


def test_an_old_record_is_taken_over_once_with_a_line(tmp_path: Path) -> None:
    for name in ("loop0", "loop7"):
        (tmp_path / name).touch()
    old(tmp_path, "OLD", str(tmp_path / "loop0"), mask=["02:00:00:00:00:01"])
    key = key_of(link(tmp_path, "mine", "loop0"))
    record, note = found(tmp_path, key)
    assert (record.serial, record.state) == ("OLD", AoeState(b"a", (HOST,)))
    assert str(tmp_path / "loop0") in note
    assert "OLD" in note
    assert serve(StateStore(tmp_path), key) == "OLD"
    assert found(tmp_path, key)[1] == ""
    # after a reboot the kernel's name is another's
    assert found(tmp_path, key_of(link(tmp_path, "mine", "loop7")))[0].serial == "OLD"
    other, note = found(tmp_path, key_of(link(tmp_path, "other", "loop0")))
    assert (other.serial != "OLD", other.state, note) == (True, AoeState(), "")


def test_two_old_records_are_asked_for(tmp_path: Path) -> None:
    old(tmp_path, "ONE", "/dev/loop0")
    old(tmp_path, "TWO", "/dev/loop0")
    message = refusal(tmp_path, StoreKey("/dev/disk/mine", device="/dev/loop0"))
    assert ",serial=ONE or ,serial=TWO" in message
    assert found(tmp_path, StoreKey("/dev/disk/mine", device="/dev/loop0"), "TWO")[0].serial == "TWO"


def test_two_records_of_one_name_are_asked_for(tmp_path: Path) -> None:
    for serial in ("ONE", "TWO"):
        serve(StateStore(tmp_path), StoreKey("/a"), serial=serial)
    assert ",serial=ONE or ,serial=TWO" in refusal(tmp_path, StoreKey("/a"))


def test_an_old_record_of_a_part_is_that_parts(tmp_path: Path) -> None:
    old(tmp_path, "PART", "/dev/loop0@8+16")
    assert found(tmp_path, StoreKey("/x", "@8+16", device="/dev/loop0"))[0].serial == "PART"
    assert found(tmp_path, StoreKey("/x", device="/dev/loop0"))[0].serial != "PART"


@pytest.mark.parametrize(
    ("name", "shown"), [(LV, LV.text), (StoreName(StoreKind.DEVICE, "WD-WCC4N0KDJ5S2"), "WD-WCC4N0KDJ5S2")]
)
def test_a_disk_whose_id_was_its_serial_keeps_it_wherever_it_was(
    name: StoreName, shown: str, tmp_path: Path
) -> None:
    old(tmp_path, serial_of(shown), "/dev/sda")
    record, _ = found(tmp_path, StoreKey("/dev/sdb", name=name, device="/dev/sdb", shown=shown))
    assert record.serial == serial_of(shown)
    assert record.state.config == b"a"


def test_a_disk_with_a_record_keeps_a_serial_that_many_share(tmp_path: Path) -> None:
    old(tmp_path, "QM00001", "/dev/sda")
    key = StoreKey("/dev/sda", device="/dev/sda", shown="QM00001")
    assert serve(StateStore(tmp_path), key) == "QM00001"
    assert found(tmp_path, key)[0].serial == "QM00001"


def test_a_disk_without_a_record_gets_none_that_many_share(tmp_path: Path) -> None:
    key = StoreKey("/dev/sda", device="/dev/sda", shown="QM00001")
    assert found(tmp_path, key)[0].serial != "QM00001"
    old(tmp_path, "QM00001", "/dev/sdb")
    record, note = found(tmp_path, key)
    assert record.serial != "QM00001"
    assert ",serial=QM00001" in note
    old(tmp_path, "QM00001", "/dev/sdb", mask=["02:00:00:00:00:01"])
    assert "QM00001" in refusal(tmp_path, key)


def test_disks_that_say_little_but_not_the_same_are_told_apart(tmp_path: Path) -> None:
    """Two disks of a virtual machine, by the kernel's names, which change places at a boot."""
    names = [StoreKey("/dev/sda", device="/dev/sda", shown="QM00001"), StoreKey("/dev/sdb", shown="QM00002")]
    serials = [serve(StateStore(tmp_path), names[0], MASKED), serve(StateStore(tmp_path), names[1])]
    assert len({*serials, "QM00001", "QM00002"}) == 4
    swapped = [names[0]._replace(shown="QM00002"), names[1]._replace(shown="QM00001")]
    assert serials[0] in refusal(tmp_path, swapped[1])
    record, note = found(tmp_path, swapped[0])
    assert (record.serial in serials, record.state) == (False, AoeState())
    assert f",serial={serials[1]}" in note
    assert [found(tmp_path, name)[0].serial for name in names] == serials


def test_a_device_that_shows_its_id_at_last_is_still_itself(tmp_path: Path) -> None:
    serial = serve(StateStore(tmp_path), StoreKey("/dev/md0"), MASKED)
    assert serve(StateStore(tmp_path), StoreKey("/dev/md0", name=LV, shown=LV.text)) == serial
    other = StoreKey("/dev/md0", name=LV2, shown=LV2.text)
    assert serve(StateStore(tmp_path), other) == serial_of(LV2.text)


def test_an_id_that_the_old_version_did_not_see_does_not_cost_the_serial(tmp_path: Path) -> None:
    old(tmp_path, "RANDOM", "/dev/rbd0", mask=["02:00:00:00:00:01"])
    key = StoreKey("/dev/rbd/pool/image", name=IMAGE, device="/dev/rbd0")
    assert serve(StateStore(tmp_path), key) == "RANDOM"
    record, _ = found(tmp_path, key._replace(path="/dev/rbd1", device="/dev/rbd1"))
    assert (record.serial, record.state.mask) == ("RANDOM", (HOST,))


# Versions


def newer(directory: Path, serial: str, version: object = VERSION + 1, **more: Any) -> bytes:
    serve(StateStore(directory), StoreKey("/a"), MASKED, serial)
    file = directory / f"{serial}.json"
    known = json.loads(file.read_text())
    assert known["version"] == VERSION
    file.write_text(json.dumps(known | {"version": version} | more))
    return file.read_bytes()


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.find(StoreKey("/a")),
        lambda store: store.find(StoreKey("/b"), "NEW"),
        lambda store: store.record("NEW", StoreKey("/b")),
        lambda store: store.find(StoreKey("/b", name=IMAGE)),
    ],
)
def test_a_record_of_a_newer_version_is_refused(ask: Callable[[StateStore], object], tmp_path: Path) -> None:
    content = newer(tmp_path, "NEW", store={"kind": 2, "id": IMAGE.text, "more": []})
    with pytest.raises(ConfigurationError, match=rf"NEW\.json is of version {VERSION + 1}"):
        ask(StateStore(tmp_path))
    with pytest.raises(ConfigurationError, match=rf"version {VERSION + 1}"):
        Record(tmp_path, "NEW", StoreKey("/a")).open("e0.0")
    assert (tmp_path / "NEW.json").read_bytes() == content


def test_a_newer_record_of_another_disk_is_no_matter(tmp_path: Path) -> None:
    content = newer(tmp_path, "NEW")
    store = StateStore(tmp_path)
    assert list(store.damaged) == [tmp_path / "NEW.json"]
    serve(store, StoreKey("/b"))
    assert (tmp_path / "NEW.json").read_bytes() == content


@pytest.mark.parametrize("version", [0, -1, "2", None, 1.5, []])
def test_a_version_that_none_has_is_damage(version: object, tmp_path: Path) -> None:
    newer(tmp_path, "BAD", version)
    with pytest.raises(ConfigurationError, match=r"BAD\.json is damaged"):
        StateStore(tmp_path).find(StoreKey("/a"))


def test_a_serial_of_another_record_is_not_taken_for_an_id(tmp_path: Path) -> None:
    serial = serial_of(LV.text)
    serve(StateStore(tmp_path), StoreKey("/a"), MASKED, serial)
    assert "/a" in refusal(tmp_path, StoreKey("/b", name=LV))


def test_what_a_record_says_of_its_disk_is_there_again(tmp_path: Path) -> None:
    key = StoreKey("/a", "@8+8", StoreName(StoreKind.FILE, "u/1@8+8"), "/b", "QM00001")
    serial = serve(StateStore(tmp_path), key)
    record, _ = found(tmp_path, key)
    assert (record.serial, record.key, record.version) == (serial, key, VERSION)
