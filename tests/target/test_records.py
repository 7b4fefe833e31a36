"""What an export remembers over a restart."""

import contextlib
import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aoe.disk.base import StoreName
from aoe.errors import ConfigurationError
from aoe.limits import RECORD_ADDRESSES_MAX, RECORD_BYTES_MAX
from aoe.target.keys import StoreKey
from aoe.target.lasting import Puts
from aoe.target.records import Record, StateStore, default_directory
from aoe.target.state import AoeState

ONE = bytes.fromhex("020000000001")
TWO = bytes.fromhex("020000000002")
FULL = AoeState(bytes(range(256)) * 4, (ONE, TWO), (TWO,))


def opened(directory: Path, serial: str = "SERIAL", path: str = "/a", address: str = "e7.3") -> Record:
    record = StateStore(directory).record(serial, StoreKey(path))
    record.open(address)
    return record


def reopened(directory: Path, serial: str = "SERIAL") -> AoeState:
    return StateStore(directory).record(serial, StoreKey()).state


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


@pytest.mark.parametrize("state", [AoeState(), FULL, AoeState(reserve=(ONE,)), AoeState(b"\xff\x00")])
def test_what_was_saved_is_there_again(tmp_path: Path, state: AoeState) -> None:
    record = opened(tmp_path)
    record.save(state)
    assert record.state == state
    record.close()
    assert reopened(tmp_path) == state


def test_a_fresh_store_is_empty_and_creates_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "not" / "yet"
    record = StateStore(directory).record("SERIAL", StoreKey("/a"))
    assert (record.state, record.addresses) == (AoeState(), [])
    assert not directory.exists()
    record.open("e7.3")
    assert names(directory) == ["SERIAL.json", "SERIAL.lock"]


def test_each_serial_has_its_own(tmp_path: Path) -> None:
    for serial, state in (("A", FULL), ("B", AoeState(b"b"))):
        record = opened(tmp_path, serial)
        record.save(state)
        record.close()
    assert (reopened(tmp_path, "A"), reopened(tmp_path, "B")) == (FULL, AoeState(b"b"))
    assert reopened(tmp_path, "C") == AoeState()


@pytest.mark.parametrize("serial", ["a/b", "../up", ".", "..", "sp ace", "%2F", "x.json", "QM:0:1", "~"])
def test_any_serial_makes_a_name_inside_the_directory(tmp_path: Path, serial: str) -> None:
    directory = tmp_path / "state"
    record = opened(directory, serial)
    record.save(FULL)
    record.close()
    assert names(tmp_path) == ["state"]
    assert reopened(directory, serial) == FULL


def test_serials_do_not_share_a_name(tmp_path: Path) -> None:
    for serial in ("a/b", "a%2Fb", "a%2fb", "A/B"):
        opened(tmp_path, serial).close()
    assert len([name for name in names(tmp_path) if name.endswith(".json")]) == 4


# Atomic


class Killed(BaseException):
    pass


CALLS = ["os.fsync", "pathlib.Path.replace"]


@pytest.mark.parametrize("call", CALLS)
def test_a_process_that_dies_while_saving_leaves_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    record = opened(tmp_path)
    record.save(FULL)

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(call, die)
        with pytest.raises(Killed):
            record.save(AoeState(b"new"))
    record.close()
    assert record.state == FULL
    assert reopened(tmp_path) == FULL


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced, and which file takes which name."""
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(fd: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{fd}').readlink().name}")
        fsync(fd)

    def note_replace(file: Path, to: Path) -> Path:
        done.append(f"{file.name} -> {to.name}")
        return replace(file, to)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    return done


def test_the_new_file_is_synced_before_it_takes_the_name_and_the_name_after(
    tmp_path: Path, done: list[str]
) -> None:
    record = opened(tmp_path)
    done.clear()
    record.save(FULL)
    assert done == ["sync SERIAL.new", "SERIAL.new -> SERIAL.json", f"sync {tmp_path.name}"]


def test_of_many_the_names_are_synced_once_after_all(tmp_path: Path, done: list[str]) -> None:
    puts = Puts()
    for name in "ABC":
        StateStore(tmp_path).record(name, StoreKey(f"/{name}")).open("e7.3", puts.put)
    each = [it for name in "ABC" for it in (f"sync {name}.new", f"{name}.new -> {name}.json")]
    assert done == each
    puts.sync()
    assert done == [*each, f"sync {tmp_path.name}"]
    puts.sync()
    assert len(done) == 7


def test_an_error_while_saving_keeps_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = opened(tmp_path)
    record.save(FULL)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space"):
            record.save(AoeState(b"new"))
    assert record.state == FULL
    assert reopened(tmp_path) == FULL
    record.save(AoeState(b"newer"))
    assert reopened(tmp_path) == AoeState(b"newer")


@pytest.mark.parametrize("garbage", [b"", b"{", b"\xff" * 100_000])
def test_what_a_dead_process_left_is_no_matter(tmp_path: Path, garbage: bytes) -> None:
    record = opened(tmp_path)
    record.save(FULL)
    record.close()
    (tmp_path / "SERIAL.new").write_bytes(garbage)
    (tmp_path / "OTHER.new").write_bytes(garbage)
    (tmp_path / "OTHER.lock").write_bytes(garbage)
    assert reopened(tmp_path) == FULL
    again = opened(tmp_path)
    again.save(AoeState(b"new"))
    assert reopened(tmp_path) == AoeState(b"new")


# Damaged files


def good() -> dict[str, Any]:
    return {"path": "/a", "serial": "SERIAL", "addresses": [], "config": "", "mask": [], "reserve": []}


def refused(directory: Path, content: bytes) -> str:
    (directory / "SERIAL.json").write_bytes(content)
    with pytest.raises(ConfigurationError) as found:
        StateStore(directory).record("SERIAL", StoreKey("/a"))
    with pytest.raises(ConfigurationError):
        Record(directory, "SERIAL", StoreKey("/a")).open("e0.0")
    assert str(directory / "SERIAL.json") in str(found.value)
    return str(found.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"{}", b"null garbage", b'{"serial": "SERIAL"}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    assert "repair or remove" in refused(tmp_path, content)


@pytest.mark.parametrize("missing", ["path", "serial", "addresses", "config", "mask", "reserve"])
def test_a_missing_entry_is_named(tmp_path: Path, missing: str) -> None:
    content = good()
    del content[missing]
    assert missing in refused(tmp_path, json.dumps(content).encode())


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("config", "xyz"),
        ("config", "abc"),
        ("mask", ["02:00"]),
        ("reserve", ["eth0"]),
        ("mask", "020000000001"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, entry: str, value: object) -> None:
    refused(tmp_path, json.dumps(good() | {entry: value}).encode())


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"null",
        b"5",
        b'"text"',
        json.dumps(good() | {"config": 5}).encode(),
        json.dumps(good() | {"mask": None}).encode(),
        json.dumps(good() | {"reserve": [5]}).encode(),
        json.dumps(good() | {"addresses": 7}).encode(),
        json.dumps(good() | {"serial": 7}).encode(),
        b"[" * 100_000,
    ],
    ids=["list", "null", "number", "text", "config", "mask", "reserve", "addresses", "serial", "deep"],
)
def test_json_of_another_shape_is_named(tmp_path: Path, content: bytes) -> None:
    refused(tmp_path, content)


@pytest.mark.parametrize(
    "wrong",
    [
        {"config": "00" * 1025},
        {"mask": [f"02:00:00:00:{n // 256:02x}:{n % 256:02x}" for n in range(256)]},
        {"reserve": [f"02:00:00:00:{n // 256:02x}:{n % 256:02x}" for n in range(256)]},
    ],
    ids=["config", "mask", "reserve"],
)
def test_more_than_a_reply_can_say_is_damage(tmp_path: Path, wrong: dict[str, Any]) -> None:
    refused(tmp_path, json.dumps(good() | wrong).encode())


@pytest.mark.parametrize("mac", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "33:33:00:00:00:01"])
@pytest.mark.parametrize("entry", ["mask", "reserve"])
def test_a_list_that_names_no_host_is_damage(tmp_path: Path, entry: str, mac: str) -> None:
    assert mac in refused(tmp_path, json.dumps(good() | {entry: ["02:00:00:00:00:01", mac]}).encode())


@pytest.mark.parametrize("serial", ["OTHER", "", " SERIAL", "x" * 21, "\u00e4", "a\nb"])
def test_a_file_of_another_serial_is_damage(tmp_path: Path, serial: str) -> None:
    refused(tmp_path, json.dumps(good() | {"serial": serial}).encode())


def test_a_file_larger_than_any_record_is_damage(tmp_path: Path) -> None:
    refused(tmp_path, json.dumps(good()).encode() + b" " * RECORD_BYTES_MAX)


def test_the_largest_record_is_read_again(tmp_path: Path) -> None:
    macs = tuple(b"\x02\0\0\0" + n.to_bytes(2, "big") for n in range(255))
    full = AoeState(b"c" * 1024, macs, macs)
    path = "/" + "\udcff" * 4094
    for number in range(RECORD_ADDRESSES_MAX + 9):
        record = StateStore(tmp_path).record("SERIAL", StoreKey(path, "@1+2", StoreName(), path))
        record.open(f"e{60000 + number}.254")
        if not number:
            record.save(full)
        record.close()
    again = StateStore(tmp_path)
    record, _ = again.find(StoreKey(path, "@1+2"))
    assert (record.serial, record.state) == ("SERIAL", full)
    assert len(record.addresses) == RECORD_ADDRESSES_MAX


DAMAGE = [b"", b"{", b"\xff\xfe", b'{"serial": "BROKEN"}', json.dumps(good()).encode(), b"[" * 100_000]


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_file_of_another_disk_is_no_matter(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "BROKEN.json").write_bytes(content)
    store = StateStore(tmp_path)
    assert list(store.damaged) == [tmp_path / "BROKEN.json"]
    store.find(StoreKey("/b"))[0].open("e1.0")
    assert (tmp_path / "BROKEN.json").read_bytes() == content


def test_a_disk_does_not_lose_its_mask_because_its_record_is_damaged(tmp_path: Path) -> None:
    """A new serial would have a new record, without the mask."""
    content = json.dumps(good() | {"path": "/x/ä", "serial": "OLD"}).encode()
    (tmp_path / "OLD.json").write_bytes(content[:-1])
    with pytest.raises(ConfigurationError, match=r"OLD\.json"):
        StateStore(tmp_path).find(StoreKey("/x/link", device="/x/ä"))
    assert StateStore(tmp_path).find(StoreKey("/x", device="/x"))[0].serial != "OLD"


# What others put into the directory


def linked(directory: Path, name: str, target: Path) -> None:
    directory.mkdir()
    (directory / name).symlink_to(target)


def test_a_symlink_at_the_temporary_name_gives_way(tmp_path: Path) -> None:
    directory, victim = tmp_path / "state", tmp_path / "victim"
    victim.write_bytes(b"precious")
    linked(directory, "SERIAL.new", victim)
    opened(directory).save(FULL)
    assert reopened(directory) == FULL
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["SERIAL.lock", "SERIAL.json"])
def test_a_symlink_is_not_followed(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text(json.dumps(good()))
    linked(tmp_path / "state", name, victim)
    with pytest.raises(ConfigurationError, match="not a regular file"):
        opened(tmp_path / "state")
    assert victim.read_text() == json.dumps(good())


@pytest.mark.parametrize("name", ["SERIAL.new", "SERIAL.lock"])
def test_a_dangling_symlink_makes_no_file(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "state"
    linked(directory, name, tmp_path / "made")
    with contextlib.suppress(ConfigurationError):
        opened(directory)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["SERIAL.json", "SERIAL.lock", "SERIAL.new", "OTHER.json"])
def test_a_fifo_hangs_nothing(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    if name in ("SERIAL.json", "SERIAL.lock"):
        with pytest.raises(ConfigurationError, match="not a regular file"):
            opened(tmp_path)
    else:
        opened(tmp_path).save(FULL)
        assert reopened(tmp_path) == FULL


@pytest.mark.parametrize("name", ["SERIAL.new", "SERIAL.lock", "SERIAL.json"])
def test_a_directory_in_the_way_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigurationError, match=tmp_path.name):
        opened(tmp_path)


def test_what_is_kept_is_for_its_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "state"
    before = os.umask(0)
    try:
        opened(directory).save(FULL)
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()} == {0o600}


def test_a_record_that_all_could_read_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "SERIAL.json").write_text(json.dumps(good()))
    (tmp_path / "SERIAL.json").chmod(0o644)
    opened(tmp_path)
    assert stat.S_IMODE((tmp_path / "SERIAL.json").stat().st_mode) == 0o600


# One process at a time


def test_a_record_in_use_is_refused_with_the_remedy(tmp_path: Path) -> None:
    first = opened(tmp_path)
    with pytest.raises(ConfigurationError, match=r"SERIAL .* in use by another process.*--state-dir"):
        opened(tmp_path)
    first.close()
    opened(tmp_path).close()


def test_a_record_in_use_is_refused_to_another_process(tmp_path: Path) -> None:
    record = opened(tmp_path)
    code = (
        "import sys; from pathlib import Path; from aoe.target.records import StateStore\n"
        "from aoe.target.keys import StoreKey\n"
        "StateStore(Path(sys.argv[1])).record('SERIAL', StoreKey('/a')).open('e7.3')"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert b"in use" in subprocess.run(command, capture_output=True, check=False, timeout=30).stderr
    record.close()
    assert subprocess.run(command, check=False, timeout=30).returncode == 0


def test_records_of_other_serials_are_free(tmp_path: Path) -> None:
    first = opened(tmp_path, "A")
    opened(tmp_path, "B").close()
    first.close()


def test_closing_twice_or_unopened_is_harmless(tmp_path: Path) -> None:
    record = opened(tmp_path)
    record.close()
    record.close()
    StateStore(tmp_path).record("OTHER", StoreKey("/b")).close()


def test_what_the_last_process_acknowledged_is_not_overwritten(tmp_path: Path) -> None:
    """A restart reads the directory, then waits for the disk while the old process still serves."""
    old = opened(tmp_path)
    new = StateStore(tmp_path).record("SERIAL", StoreKey("/a"))
    old.save(FULL)
    old.close()
    try:
        new.open("e7.3")
    except ConfigurationError:
        return
    new.close()
    assert reopened(tmp_path) == FULL


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot keep state in .*file.*--state-dir"):
        opened(blocked / "state")
    with pytest.raises(ConfigurationError, match=r"cannot keep state in .*file.*--state-dir"):
        opened(blocked)


def test_a_restart_that_changes_nothing_needs_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def restarted(path: str = "/disk", address: str = "e0.0") -> AoeState:
        record = StateStore(tmp_path).record("S", StoreKey(path=path, device="/dev/sda", shown="ID"))
        try:
            record.open(address)
        finally:
            record.close()
        return record.state

    restarted()
    record = StateStore(tmp_path).record("S", StoreKey(path="/disk", device="/dev/sda", shown="ID"))
    record.open("e0.0")
    record.save(AoeState(mask=(b"\x02\0\0\0\0\x01",)))
    record.close()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert restarted().mask
        for other in ({"address": "e0.1"}, {"path": "/other"}):
            with pytest.raises(ConfigurationError, match="No space left"):
                restarted(**other)
    assert restarted("/other", "e0.1").mask


def test_a_directory_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ConfigurationError, match=tmp_path.name):
        StateStore(tmp_path)


# Addresses and serials


def test_addresses_are_remembered_each_once_the_last_one_last(tmp_path: Path) -> None:
    for address in ("e7.3", "e1.1", "e7.3"):
        opened(tmp_path, address=address).close()
    assert StateStore(tmp_path).record("SERIAL", StoreKey()).addresses == ["e1.1", "e7.3"]


def test_a_path_keeps_its_serial(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    record, _ = store.find(StoreKey("/a"))
    record.open("e7.3")
    record.close()
    assert StateStore(tmp_path).find(StoreKey("/a"))[0].serial == record.serial
    assert StateStore(tmp_path).find(StoreKey("/b"))[0].serial != record.serial


def test_new_serials_fit_and_differ(tmp_path: Path) -> None:
    serials = {StateStore(tmp_path).find(StoreKey("/a"))[0].serial for _ in range(20)}
    assert len(serials) == 20
    assert all(len(serial) == 16 and serial.isalnum() for serial in serials)


def test_files_of_others_in_the_directory_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "sub").mkdir()
    opened(tmp_path).close()
    assert {"notes.txt", "sub"} < set(names(tmp_path))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"STATE_DIRECTORY": "/s/one:/s/two", "XDG_STATE_HOME": "/x"}, "/s/one"),
        ({"XDG_STATE_HOME": "/x"}, "/x/aoe-target"),
        ({"HOME": "/h"}, "/h/.local/state/aoe-target"),
    ],
)
def test_default_directory(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_directory() == Path(expected)


def test_a_user_without_a_home_is_told_what_to_say() -> None:
    """As in a container that knows no user of that number."""
    code = "from aoe.target.records import default_directory; default_directory()"
    hidden = f"import os; os.geteuid = os.getuid = lambda: 54321; {code}"
    command = [sys.executable, "-c", hidden]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={}, timeout=30)
    assert done.stderr.splitlines()[-1].endswith("give --state-dir")


def test_default_directory_of_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_directory() == Path("/var/lib/aoe-target")
