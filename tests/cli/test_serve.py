"""The command as a process: what it prints, its signals, what it remembers, what it gives up."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aoe.drive.identify import StoreId, StoreKind, vendor_of
from aoe.wire.config import ConfigCommand
from aoe.wire.mask import Directive, DirectiveCommand
from aoe.wire.reserve import ReserveCommand
from tests.support.labs.fault_disk import loop_device, protected
from tests.support.labs.raw_client import Client, NoAnswer, Refused, sectors_of, text_of
from tests.support.labs.served import FRIEND, SECTORS, Served, serving
from tests.support.waiting import PATIENCE_S, statuses, wait_for

STRANGER = b"\x02\0\0\0\0\x02"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(SECTORS * 512))
    return path


def ended(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """A target that does not come to serve."""
    words = ("serve", "--engine", "python", *map(str, arguments), "--link", "udp:127.0.0.1:0,mtu=9000")
    command = [sys.executable, "-m", "aoe.cli.target", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_says_what_it_serves(disk: Path, tmp_path: Path) -> None:
    with serving(f"{disk}=3.4,serial=ONE", "--state-dir", tmp_path / "s") as target:
        facts = target.facts
        assert facts["address"] == "e3.4"
        assert facts["bytes"] == SECTORS * 512
        assert facts["serial"] == "ONE"
        assert facts["durability"] == "write-through"
        assert facts["direct"] is False
        assert facts["interfaces"][0]["mtu"] == 9000
        assert facts["interfaces"][0]["payload"] == 8192


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "an empty PATH; name a file or block device"),
        ("=1.0", "=1.0: No such file"),
        (",serial=A", ",serial=A: No such file"),
        ("/", "/ is not a disk"),
    ],
)
def test_what_names_no_disk_is_one_line(path: str, says: str, tmp_path: Path) -> None:
    (line,) = cannot_start(path, "--state-dir", tmp_path / "s")
    assert line.startswith(f"aoe-target: {says}")


def test_a_user_without_a_home_is_told_what_to_say(disk: Path) -> None:
    """As in a container that knows no user of that number."""
    nobody = (
        "import os; os.geteuid = os.getuid = lambda: 54321; from aoe.cli.target import main; exit(main())"
    )
    (line,) = cannot_start(disk, launcher=("-c", nobody), env={})
    assert line.startswith("aoe-target: ")
    assert line.endswith("give --state-dir")


def cannot_start(
    *arguments: str | Path,
    launcher: Sequence[str] = ("-m", "aoe.cli.target"),
    env: dict[str, str] | None = None,
) -> list[str]:
    """The lines of a start that fails."""
    words = [sys.executable, *launcher, "serve", *map(str, arguments), "--link", "udp:127.0.0.1:0"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("length", "options", "served", "remedy"),
    [
        (241_059, [], 240_640, "append 93 bytes"),
        (241_059, ["--direct"], None, "bytes in direct I/O"),
        (4096 * 3 + 1, ["--offset", "1"], 4096 * 3 - 512, "append 511 bytes"),
    ],
)
def test_what_is_not_served_is_said(
    length: int, options: list[str], served: int | None, remedy: str, disk: Path, tmp_path: Path
) -> None:
    disk.write_bytes(bytes(length))
    with serving(disk, "--state-dir", tmp_path / "s", *options) as target:
        left = length - target.facts["bytes"] - 512 * (options[:1] == ["--offset"])
        assert target.facts["bytes"] == (served or target.facts["bytes"])
        assert target.facts["unserved_bytes"] == left > 0
        _, _, err = target.stop()
        (line,) = err.splitlines()
        assert f"the last {left} bytes are not served" in line
        assert remedy in line


def test_counters_on_sigusr1_and_at_stop(disk: Path, tmp_path: Path) -> None:
    with serving(disk, "--state-dir", tmp_path / "s") as target, target.client() as client:
        client.timeout = PATIENCE_S  # or it would ask again where a busy machine is late
        client.write(0, b"x" * 512)
        client.read(0)
        target.tell(signal.SIGUSR1)
        counters = json.loads(target.line())
        assert (counters["event"], counters["writes"], counters["reads"]) == ("counters", 1, 1)
        client.read(0)
        status, out, err = target.stop()
        assert (status, err) == (0, "")
        assert json.loads(out)["reads"] == 2


def test_growth_is_picked_up_on_sighup(disk: Path, tmp_path: Path) -> None:
    with serving(disk, "--state-dir", tmp_path / "s") as target, target.client() as client:
        os.truncate(disk, 2 * SECTORS * 512)
        assert sectors_of(client.identify()) == SECTORS
        target.tell(signal.SIGHUP)
        size = {"event": "size", "address": "e0.0", "bytes": 2 * SECTORS * 512, "unserved_bytes": 0}
        assert json.loads(target.line()) == size
        assert sectors_of(client.identify()) == 2 * SECTORS
        client.write(2 * SECTORS - 1, b"y" * 512)
        os.truncate(disk, 3 * SECTORS * 512 + 5)
        target.tell(signal.SIGHUP)
        assert json.loads(target.line()) == size | {"bytes": 3 * SECTORS * 512, "unserved_bytes": 5}
        _, _, err = target.stop()
        assert "e0.0: the last 5 bytes are not served" in err


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_signals_before_it_serves_do_not_end_it(number: int, disk: Path, tmp_path: Path) -> None:
    """As `systemctl reload` sends one right after a start; what grew meanwhile is looked at."""
    command = [sys.executable, "-m", "aoe.cli.target", "serve", str(disk), "--json"]
    command += ["--link", "udp:127.0.0.1:0", "--state-dir", str(tmp_path / "s")]
    with disk.open("r+b") as used:
        fcntl.flock(used, fcntl.LOCK_EX)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                wait_for(lambda: str(disk) in links_of(process.pid))
                for _ in range(100):
                    process.send_signal(number)
                fcntl.flock(used, fcntl.LOCK_UN)
                target = Served(process)
                for _ in range(100):
                    process.send_signal(number)
                assert target.stop()[0] == 0
            finally:
                process.kill()


def links_of(pid: int) -> set[str]:
    """What a process has open."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").glob("*"):
        with suppress(FileNotFoundError):
            found.add(str(entry.readlink()))
    return found


def test_serial_is_kept_and_is_neither_slot_nor_host(disk: Path, tmp_path: Path) -> None:
    seen = set()
    for address in ("0.0", "5.6"):
        with serving(f"{disk}={address}", "--state-dir", tmp_path / "s") as target:
            seen.add(target.facts["serial"])
    assert len(seen) == 1
    with serving(disk, "--state-dir", tmp_path / "other") as target:
        assert target.facts["serial"] not in seen
        with target.client() as client:
            assert text_of(client.identify(), 10, 10) == target.facts["serial"]


def test_a_part_of_a_disk_is_another_disk(disk: Path, tmp_path: Path) -> None:
    with serving(disk, "--state-dir", tmp_path / "s") as target:
        whole = target.facts["serial"]
    part = ["--offset", "8", "--length", "16"]
    with serving(disk, "--state-dir", tmp_path / "s", *part) as target, target.client() as client:
        assert target.facts["serial"] != whole
        assert sectors_of(client.identify()) == 16
        client.write(0, b"z" * 512)
    assert disk.read_bytes()[8 * 512 : 9 * 512] == b"z" * 512


def test_state_survives_kill_9_and_reset_forgets_it(disk: Path, tmp_path: Path) -> None:
    state = ["--state-dir", tmp_path / "s"]
    with serving(disk, *state) as target, target.client() as client:
        client.config(ConfigCommand.SET, b"mine")
        client.mask(Directive(DirectiveCommand.ADD, FRIEND))
        client.reserve(ReserveCommand.SET, FRIEND)
        target.process.kill()
    with serving(disk, *state) as target, target.client() as client:
        assert client.config().text == b"mine"
        assert [it.mac for it in client.mask().directives] == [FRIEND]
        assert client.reserve().macs == (FRIEND,)
    with serving(disk, *state, "--reset-state") as target, target.client(STRANGER) as client:
        assert client.config().text == b""
        assert client.mask().directives == ()
        assert client.reserve().macs == ()


def test_mask_on_the_command_line_wins_and_says_so(disk: Path, tmp_path: Path) -> None:
    state = ["--state-dir", tmp_path / "s"]
    with serving(disk, *state) as target, target.client() as client:
        client.mask(Directive(DirectiveCommand.ADD, FRIEND))
    with serving(disk, *state, "--mask", STRANGER.hex(":")) as target:
        with target.client() as friend, pytest.raises(NoAnswer):
            friend.retries = 0
            friend.config()
        with target.client(STRANGER) as stranger:
            stranger.config()
        _, _, err = target.stop()
        assert "--mask replaces the persisted list" in err


def test_no_remote_admin_refuses_every_change(disk: Path, tmp_path: Path) -> None:
    arguments = [disk, "--state-dir", tmp_path / "s", "--no-remote-admin"]
    with serving(*arguments) as target, target.client() as client:
        with pytest.raises(Refused):
            client.config(ConfigCommand.FORCE_SET, b"x")
        assert client.mask(Directive(DirectiveCommand.ADD, STRANGER)).merror
        with pytest.raises(Refused):
            client.reserve(ReserveCommand.FORCE_SET, STRANGER)
        assert client.config().text == b""
        client.write(0, b"x" * 512)


def test_no_remote_masks_refuses_masks_alone(disk: Path, tmp_path: Path) -> None:
    arguments = [disk, "--state-dir", tmp_path / "s", "--no-remote-masks"]
    with serving(*arguments) as target, target.client() as client:
        assert client.mask(Directive(DirectiveCommand.ADD, STRANGER)).merror
        assert client.config(ConfigCommand.SET, b"mine").text == b"mine"
        assert client.reserve(ReserveCommand.SET, FRIEND).macs == (FRIEND,)


@pytest.mark.parametrize("way_out", [["--mask", FRIEND.hex(":")], ["--reset-state"]])
def test_who_was_locked_out_is_let_in_again_at_restart_only(
    disk: Path, tmp_path: Path, way_out: list[str]
) -> None:
    state = ["--state-dir", tmp_path / "s"]

    def is_served(client: Client) -> bool:
        client.retries = 0
        try:
            client.config()
        except NoAnswer:
            return False
        return True

    with serving(disk, *state) as target, target.client(STRANGER) as stranger:
        stranger.mask(Directive(DirectiveCommand.ADD, STRANGER))
    with serving(disk, *state) as target, target.client() as friend:
        os.truncate(disk, 2 * SECTORS * 512)
        target.tell(signal.SIGHUP)
        target.line()
        assert not is_served(friend)
    with serving(disk, *state, *way_out) as target, target.client() as friend:
        assert friend.config()


def test_sighup_takes_back_no_mask_of_the_command_line(disk: Path, tmp_path: Path) -> None:
    """Neither what the record said before, nor anything written into it meanwhile."""
    state = ["--state-dir", tmp_path / "s"]
    with serving(f"{disk},serial=ONE", *state, "--mask", STRANGER.hex(":")) as target:
        record = tmp_path / "s" / "ONE.json"
        record.write_text(json.dumps(json.loads(record.read_text()) | {"mask": [], "reserve": []}))
        os.truncate(disk, 2 * SECTORS * 512)
        target.tell(signal.SIGHUP)
        target.line()
        with target.client() as friend, pytest.raises(NoAnswer):
            friend.retries = 0
            friend.config()
        with target.client(STRANGER) as stranger:
            assert [it.mac for it in stranger.mask().directives] == [STRANGER]


@pytest.mark.parametrize("content", [b"", b"{", b'{"mask": ["ff:ff:ff:ff:ff:ff"]}'])
def test_damaged_state_of_another_disk_is_one_line(disk: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "OTHER.json").write_bytes(content)
    (tmp_path / "s" / "MORE.json").write_bytes(content)
    os.mkfifo(tmp_path / "s" / "FIFO.json")
    with serving(disk, "--state-dir", tmp_path / "s") as target:
        with target.client() as client:
            client.read(0)
        status, _, err = target.stop()
    assert status == 0
    (line,) = err.splitlines()
    assert "FIFO.json" in line
    assert "repair or remove it (2 more like it)" in line


GROUP = ["01:00:5e:00:00:01"]


@pytest.mark.parametrize(
    ("damage", "words", "mended"),
    [
        ({"mask": ["ff:ff:ff:ff:ff:ff"]}, ("--mask", FRIEND.hex(":")), "mask"),
        ({"mask": ["ff:ff:ff:ff:ff:ff"]}, ("--reset-state",), "mask"),
        ({"mask": 7}, ("--reset-state", "--mask", FRIEND.hex(":")), "mask"),
        ({"mask": ["02:00:00:00:00:01"] * 256}, ("--mask", FRIEND.hex(":")), "mask"),
        ({"config": "xyz", "reserve": GROUP}, ("--reset-state",), "config and reserve"),
    ],
    ids=["mask", "reset", "both", "too-many", "others"],
)
def test_what_is_replaced_may_be_damaged(
    disk: Path, tmp_path: Path, damage: dict[str, Any], words: tuple[str, ...], mended: str
) -> None:
    """Once, and for good: the way back in must not need an editor."""
    with serving(disk, "--serial", "ONE", "--state-dir", tmp_path / "s") as target, target.client() as client:
        client.config(ConfigCommand.FORCE_SET, b"kept")
    record = tmp_path / "s" / "ONE.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | damage))
    refused = ended(disk, "--serial", "ONE", "--state-dir", tmp_path / "s")
    assert refused.returncode == 2
    assert str(record) in refused.stderr
    assert "--reset-state to replace it" in refused.stderr
    with serving(disk, "--serial", "ONE", "--state-dir", tmp_path / "s", *words) as target:
        _, _, err = target.stop()
    assert err == f"aoe-target: e0.0: the damaged {mended} of serial ONE is replaced\n"
    with serving(disk, "--serial", "ONE", "--state-dir", tmp_path / "s") as target:
        with target.client() as client:
            assert client.config().text == (b"" if "--reset-state" in words else b"kept")
            assert client.reserve().macs == ()
        with target.client(STRANGER) as stranger:
            if "--mask" in words:
                stranger.retries = 0
                with pytest.raises(NoAnswer):
                    stranger.config()
            else:
                stranger.config()


@pytest.mark.parametrize("damage", [{"reserve": GROUP}, {"config": "xyz"}], ids=["reserve", "config"])
def test_a_new_mask_list_gets_nothing_else_past(disk: Path, tmp_path: Path, damage: dict[str, Any]) -> None:
    with serving(disk, "--serial", "ONE", "--state-dir", tmp_path / "s"):
        pass
    record = tmp_path / "s" / "ONE.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | damage))
    refused = ended(disk, "--state-dir", tmp_path / "s", "--mask", FRIEND.hex(":"))
    assert refused.returncode == 2
    assert "repair it, or say --reset-state to replace it" in refused.stderr


def test_a_copy_of_an_image_is_read_only_and_says_which(disk: Path, tmp_path: Path) -> None:
    with (
        serving(disk, "--state-dir", tmp_path / "s", "--copy-of", "one") as target,
        target.client() as client,
    ):
        assert target.facts["read_only"] is True
        vendor = vendor_of(client.identify())
        assert vendor is not None
        assert vendor.store_id == StoreId.of(StoreKind.IMAGE, "one")


def test_read_only_refuses_writes(disk: Path, tmp_path: Path) -> None:
    with serving(disk, "--state-dir", tmp_path / "s", "--read-only") as target, target.client() as client:
        reply = client.ata(0x34, 0, 1, b"x" * 512)
        assert (reply.status, reply.error) == (0x41, 0x04)
        client.read(0)


def test_write_back_is_visible_and_can_be_switched_off(disk: Path, tmp_path: Path) -> None:
    arguments = [disk, "--state-dir", tmp_path / "s", "--durability", "write-back"]

    def cache_on(client: Client) -> bool:
        return bool(int.from_bytes(client.identify()[170:172], "little") & 0x20)

    with serving(*arguments) as target, target.client() as client:
        assert cache_on(client)
        client.ata(0xEF, feature=0x82)
        assert not cache_on(client)
        client.ata(0xEF, feature=0x02)
        assert cache_on(client)
    with serving(disk, "--state-dir", tmp_path / "s") as target, target.client() as client:
        assert not cache_on(client)


def test_holds_no_capability_after_start(disk: Path, tmp_path: Path) -> None:
    with serving(disk, "--state-dir", tmp_path / "s") as target, target.client() as client:
        client.write(0, b"x" * 512)  # so that a worker thread exists
        for fields in statuses(target.process.pid):
            assert {fields[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
            assert fields["NoNewPrivs"] == "1"


def test_descriptor_limit_is_raised(disk: Path, tmp_path: Path) -> None:
    with serving(disk, "--state-dir", tmp_path / "s") as target:
        text = Path(f"/proc/{target.process.pid}/limits").read_text()
        soft, hard = next(line for line in text.splitlines() if "open files" in line).split()[3:5]
        assert soft == hard


def test_a_hung_disk_bounds_the_stop_and_is_named(disk: Path, tmp_path: Path) -> None:
    hangs = (
        "import sys, time, os, aoe.disk.file as f\n"
        "f.FileDisk._sync = lambda self: (os.write(2, b'hangs\\n'), time.sleep(60))\n"
        "from aoe.cli.target import main\n"
        "sys.exit(main())\n"
    )
    with serving(disk, "--state-dir", tmp_path / "s", launcher=("-c", hangs)) as target:
        with target.client() as client, pytest.raises(NoAnswer):
            client.retries = 0
            client.flush()
        assert target.process.stderr is not None
        assert target.process.stderr.readline() == "hangs\n"
        status, out, err = target.stop()
        assert status == 1
        assert "1 requests hang in the disk" in err
        assert json.loads(out)["event"] == "counters"


def test_two_targets_cannot_share_a_serial_in_one_state_directory(disk: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.img"
    other.write_bytes(bytes(SECTORS * 512))
    state = ["--state-dir", str(tmp_path / "s"), "--serial", "SAME"]
    with serving(disk, *state):
        command = [sys.executable, "-m", "aoe.cli.target", "serve", str(other), *state]
        second = subprocess.run(
            [*command, "--link", "udp:127.0.0.1:0"], capture_output=True, text=True, check=False, timeout=30
        )
        assert second.returncode == 2
        assert "--state-dir" in second.stderr


@pytest.mark.parametrize("words", [(), ("--read-only",)])
def test_says_that_a_device_is_read_only_for_the_kernel_unless_that_is_wanted(
    words: tuple[str, ...], disk: Path, tmp_path: Path
) -> None:
    with (
        loop_device(disk) as device,
        protected(device),
        serving(f"{device}=3.4", "--state-dir", tmp_path / "s", *words) as target,
    ):
        assert target.facts["read_only"] is True
        errors = target.stop()[2].splitlines()
    lines = [it for it in errors if "read-only for the kernel" in it]
    if words:
        assert not lines
        return
    (line,) = lines
    assert line.startswith(f"aoe-target: e3.4: {device} is read-only")
