"""What is judged to be a fault, of facts that no lab can have, and what is not."""

import asyncio
import ctypes
import errno
import fcntl
import re
import socket
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from aoe import limits, timing
from aoe.config.values import ExportConfig
from aoe.disk.identity import Host
from aoe.doctor import (
    host,
    interfaces,
    of_host,
    of_interfaces,
    of_segment,
    of_service,
    of_state,
    of_stores,
    service,
)
from aoe.doctor.bounded import blocking
from aoe.doctor.checks import CHECKS, Finding, Severity, fault, fine, gravest_first, unseen
from aoe.doctor.of_host import Clock, Uring
from aoe.doctor.of_interfaces import Lost, Seen
from aoe.doctor.of_segment import Answer, Ours
from aoe.doctor.of_service import SILENT, Process, Seat, Unit
from aoe.doctor.of_state import State
from aoe.doctor.of_stores import Store
from aoe.doctor.stores import Ids, look
from aoe.drive.identify import FIRMWARE, MODEL
from aoe.initiator.facts import REASON_TEXTS
from aoe.initiator.sizes import NARROW_TEXTS, Narrow
from aoe.initiator.standing import PathStatus
from aoe.metrics.table import COUNTERS

TESTS = Path(__file__).parents[1]


def wrong(*found: Finding) -> list[tuple[str, str]]:
    return [(it.id, it.about) for it in found if it.is_fault]


def path(
    mac: str = "02:00:00:00:00:01", state: str = "usable", reason: str = "", narrow: str = ""
) -> PathStatus:
    name = f"v0/{mac}/e1.0"
    return PathStatus(
        name, state, reason, False, 0.0, "v0", mac, "e1.0", 2, 16, narrow, 0, "", 0.0, "", False
    )


# The table


def test_every_fault_is_planted_somewhere() -> None:
    texts = [file.read_text() for file in (*TESTS.glob("doctor/*.py"), TESTS / "net" / "test_doctor.py")]
    missing = {id for id in CHECKS if not any(f'"{id}"' in text for text in texts)}
    assert not missing
    lab = texts[-1]
    assert sum(f'"{id}"' in lab for id in CHECKS) > 25, "on hosts that have it, as users would meet it"
    assert all(re.fullmatch(r"[a-z-]+", id) for id in CHECKS)


def test_a_finding_is_one_line_whatever_is_in_a_name() -> None:
    found = fault("store", "e1.0", "/disk\x1b[2J\nx: no such file", "name another")
    assert found.sentence.isprintable()
    assert found.sentence.endswith("it cannot be served; name another [store]")
    assert found.facts["severity"] == "error"
    assert fine("store", "e1.0", "there").facts["why"] == ""


def test_the_gravest_is_said_first_and_each_once() -> None:
    well, slow, lost = (
        fine("engine", "a", "b"),
        fault("io-uring", "a", "b", "c"),
        fault("store", "a", "b", "c"),
    )
    hidden = unseen("daemon", "a", "b", "sudo")
    assert gravest_first([well, hidden, slow, lost, slow]) == [lost, slow, hidden, well]
    assert [it.severity for it in gravest_first([well, lost])] == [Severity.ERROR, Severity.OK]


# The host


@pytest.mark.parametrize(
    ("found", "seen", "remedy"),
    [
        (Uring(errno.EPERM, disabled=2), "kernel.io_uring_disabled = 2", "sysctl -w"),
        (Uring(errno.EPERM, filtered=True), "EPERM of io_uring_setup (a seccomp filter", "SystemCallFilter"),
        (Uring(errno.ENOMEM), "no memory may be locked", "LimitMEMLOCK"),
        (Uring(errno.ENOSYS), "the kernel has none", "CONFIG_IO_URING"),
    ],
)
def test_why_io_uring_is_refused(found: Uring, seen: str, remedy: str) -> None:
    finding = of_host.uring(found, None)
    assert wrong(finding) == [("io-uring", "io_uring")]
    assert seen in finding.seen
    assert remedy in finding.remedy
    assert not of_host.uring(found, allowed=True).is_fault, "the daemon has it"


def test_io_uring_is_found_out_on_this_host(tmp_path: Path) -> None:
    assert host.uring(Host(proc=tmp_path))[1:] == (0, False)
    (tmp_path / "sys" / "kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/io_uring_disabled").write_text("1\n")
    assert host.uring(Host(proc=tmp_path)).disabled == 1


def test_a_clock_that_jumps_is_a_fault_and_one_that_is_wrong_is_none() -> None:
    assert not of_host.clock(Clock(synchronised=False)).is_fault
    assert wrong(of_host.clock(Clock(synchronised=True, steps=3))) == [("clock-stepped", "clock")]
    assert "-3600.0 s" in of_host.clock(Clock(synchronised=True, moved_ns=-3600 * 10**9)).seen
    assert of_service.steps({"counters": {"clock_stepped": 1, "engine_clock_stepped": 2}}) == 2
    assert of_service.steps({}) == 0
    assert not host.clock(0, host.ahead_ns()).moved_ns // 10**8


def test_the_driver_of_the_kernel_with_two_servers(tmp_path: Path) -> None:
    system = Host(sys=tmp_path)
    assert host.driver(system) is None
    (tmp_path / "module/aoe").mkdir(parents=True)
    (tmp_path / "block/etherd!e1.0").mkdir(parents=True)
    (tmp_path / "block/etherd!e2.0").mkdir()
    held = host.driver(system)
    assert held == ("e1.0", "e2.0")
    paths = path(), path("02:00:00:00:00:02")
    two, one = Answer("e1.0", "S", paths, is_one=False), Answer("e2.0", "S", paths)
    assert wrong(*of_host.driver(held, of_segment.several([two, one]))) == [("kernel-driver", "e1.0")]
    assert not wrong(*of_host.driver(None, {}))


def test_fewer_watches_than_exports(tmp_path: Path) -> None:
    (tmp_path / "sys/fs/inotify").mkdir(parents=True)
    (tmp_path / "sys/fs/inotify/max_user_watches").write_text("100\n")
    most = host.watches(Host(proc=tmp_path))
    assert wrong(of_host.watches(most, 101)) == [("watches", "inotify")]
    assert not wrong(of_host.watches(most, 100), of_host.watches(0, 100))


# Interfaces


def test_a_card_that_loses_frames(tmp_path: Path) -> None:
    counted = tmp_path / "class/net/lo/statistics"
    counted.mkdir(parents=True)
    for name, count in (("rx_packets", 10**6), ("rx_missed_errors", 90), ("rx_crc_errors", 11)):
        (counted / name).write_text(f"{count}\n")
    found = interfaces.look("lo", Host(sys=tmp_path))
    assert found.lost == Lost(10**6, 90, 11)
    assert wrong(*of_interfaces.judge(found, client=True)) == [("interface-errors", "lo")]
    few = found._replace(lost=Lost(10**6, 90, 10))
    assert not wrong(*of_interfaces.judge(few, client=True))


@pytest.mark.parametrize(
    ("one", "id"),
    [
        (Seen("eth9", there=False), "interface"),
        (Seen("ib0", is_ethernet=False), "interface"),
        (Seen("eth1", running=False), "interface-down"),
        (Seen("eth1", running=False, bridge="br0"), "interface-bridged"),
        (Seen("eth1", mtu=533), "interface-mtu"),
        (Seen("eth1", mtu=9000, gathers=False), "scatter-gather"),
        (Seen("eth1", problem="no permission; setcap"), "packet-socket"),
        (Seen("eth1", fits=limits.BUFFER_COUNT_DEFAULT_MAX - 1), "socket-buffer"),
    ],
)
def test_an_interface_of_no_use(one: Seen, id: str) -> None:
    assert wrong(*of_interfaces.judge(one, client=True)) == [(id, one.name)]


def test_a_card_that_gathers_not_harms_no_small_frames() -> None:
    assert not wrong(*of_interfaces.judge(Seen("eth1", mtu=1500, gathers=False), client=True))


def test_what_the_kernel_does_not_say_is_no_fault() -> None:
    """The loopback always gathers; of what is not there nothing is known."""
    assert interfaces.look("lo").gathers
    assert not interfaces.look("none").there


@pytest.mark.parametrize(("may_change", "is_on", "gathers"), [(3, 3, True), (3, 2, False), (2, 2, True)])
def test_a_card_that_cannot_gather_is_no_fault(
    may_change: int, is_on: int, gathers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its remedy would be refused, as by an emulated card in a virtual machine."""

    def ioctl(_: object, __: int, request: bytes) -> None:
        told = (ctypes.c_uint32 * 6).from_address(int.from_bytes(request[16:24], sys.byteorder))
        told[2], told[4] = may_change, is_on

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kernel:
        assert interfaces._gathers("eth1", kernel) == gathers


def test_what_a_server_lacks_no_right_of_its_own_for() -> None:
    closed = Seen("eth1", problem="no permission; setcap")
    found = [*of_interfaces.judge(closed, client=False)]
    assert not wrong(*found)
    assert Severity.UNSEEN in [it.severity for it in found]


# The network


def test_what_is_tried_still_is_no_fault() -> None:
    assert not wrong(*of_segment.paths([path(narrow=NARROW_TEXTS[Narrow.TRIED])]))
    for narrow in (Narrow.THERE, Narrow.BACK, Narrow.BOTH):
        (found,) = of_segment.paths([path(narrow=NARROW_TEXTS[narrow])])
        assert (found.id, found.remedy) == ("path-mtu", "look at the MTU of the switches between")


def test_only_other_hosts_are_rivals() -> None:
    here = Ours("e1.0", "MINE", cached=False, volatile=False)
    own = Answer("e1.0", "OTHER", (path("02:00:00:00:00:09"),))
    assert not wrong(*of_segment.for_server([own], [here], {"02:00:00:00:00:09"}))
    assert wrong(*of_segment.for_server([own], [here], set())) == [("address-twice", "e1.0")]


def test_a_rival_beside_an_interface_of_our_own() -> None:
    """Both answer over one segment: the disk is ours, and the rival's path is refused."""
    here = Ours("e1.0", "MINE", cached=False, volatile=False)
    rival = path("02:00:00:00:00:02")._replace(state="refused", reason="another disk: its serial differs; x")
    both = Answer("e1.0", "MINE", (path("02:00:00:00:00:09"), rival), is_one=False)
    (found,) = [it for it in of_segment.for_server([both], [here], {"02:00:00:00:00:09"}) if it.is_fault]
    assert (found.id, found.seen.split()[0]) == ("address-twice", "02:00:00:00:00:02")


def test_servers_of_other_releases_are_named_once_each() -> None:
    old, ours = f"{MODEL} 0.0.9", f"{MODEL} {FIRMWARE}"
    two = path(), path("02:00:00:00:00:02")
    answers = [
        *(Answer(f"e1.{slot}", f"S{slot}", two[:1], drives=((two[0].mac, old),)) for slot in range(3)),
        Answer("e2.0", "S0", two[1:], drives=((two[1].mac, ours),)),
        Answer("e3.0", "V", (path("02:00:00:00:00:03"),), drives=(("-", "Coraid EtherDrive vblade V25"),)),
        Answer("e4.0", "N", (path("02:00:00:00:00:04"),)),
    ]
    found = gravest_first([*of_segment.for_client(answers, [])])
    assert wrong(*found) == [("release", "02:00:00:00:00:01")]
    assert found[0].seen == f"its server is {old}, and this host has {FIRMWARE}"
    assert [it.seen for it in found if it.id == "release" and not it.is_fault] == [f"{ours}, as here"]


def test_each_of_several_servers_of_an_address_is_compared() -> None:
    """By the MACs that they have; one server by two interfaces is named once."""
    old, new, ours = (f"{MODEL} {it}" for it in ("0.0.9", "9.0.0", FIRMWARE))
    macs = [f"02:00:00:00:00:0{it}" for it in range(1, 6)]
    two = tuple(path(mac) for mac in macs[:2])
    for releases, named in (
        ((ours, ours), []),
        ((ours, old), [macs[1]]),
        ((new, ours), [macs[0]]),
        ((old, new), macs[:2]),
        (("Coraid EtherDrive vblade V25", old), [macs[1]]),
    ):
        both = Answer("e1.0", "S", two, is_one=False, drives=tuple(zip(macs, releases, strict=False)))
        assert wrong(*of_segment.for_client([both], [])) == [("release", mac) for mac in named]
    one = Answer("e1.0", "S", two, drives=tuple((mac, old) for mac in macs[:2]))
    assert wrong(*of_segment.for_client([one], [])) == [("release", " and ".join(macs[:2]))]


@pytest.mark.parametrize("reason", [it for it in REASON_TEXTS.values() if ":" in it])
def test_each_reason_to_refuse_a_path_has_its_remedy(reason: str) -> None:
    bad = path()._replace(state="refused", reason=reason)
    (found,) = [it for it in of_segment.for_client([Answer("e1.0", "S", (bad,))], []) if it.is_fault]
    assert found.id == "other-disk"
    assert len(found.remedy) > 4


def test_the_other_primary_is_no_rival_but_a_cache_before_one_disk_is() -> None:
    here = Ours("e1.0", "MINE", cached=False, volatile=False)
    same, elsewhere = Answer("e1.0", "MINE", (path(),)), Answer("e2.0", "MINE", (path(),))
    assert not wrong(*of_segment.for_server([same, elsewhere], [here], set()))
    for bad in (here._replace(cached=True), here._replace(volatile=True)):
        assert wrong(*of_segment.for_server([elsewhere], [bad], set())) == [("shared-cache", "e1.0")]


# The service


def test_what_a_daemon_says_is_judged_and_what_it_lacks_is_not() -> None:
    assert not wrong(*of_service.status({}, 7))
    assert not wrong(*of_service.status({"exports": 3, "engine": None, "counters": [], "interfaces": "x"}, 7))
    failed = {"address": "e1.0", "state": "failed", "reason": "a sync failed on Monday; repair the disk"}
    waits = {"address": "e1.1", "state": "waiting", "reason": "there is no such disk"}
    drains = {"address": "e1.2", "state": "draining", "reason": "drained"}
    found = [
        *of_service.status({"exports": [failed, waits, drains], "counters": {"expired": 3, "reads": 9}}, 7)
    ]
    assert wrong(*found) == [
        ("sync-failed", "e1.0"),
        ("export", "e1.1"),
        ("frames-dropped", "counter expired"),
    ]
    assert next(it for it in found if it.id == "sync-failed").remedy == "repair the disk"


def test_a_pool_that_promises_more_than_it_has_is_well_while_it_has_room() -> None:
    def judged(free: int, growth: int, reserve: int) -> list[Finding]:
        pool = {"name": "fast", "total_bytes": 1000, "free_bytes": free, "growth_bytes": growth}
        found = of_service.status({"pools": [{**pool, "reserve_percent": reserve}]}, 7)
        return [it for it in found if it.is_fault]

    assert not judged(free=500, growth=90000, reserve=10)
    assert not judged(free=50, growth=20, reserve=0)
    for low in (judged(free=50, growth=20, reserve=10), judged(free=50, growth=90000, reserve=0)):
        assert wrong(*low) == [("pool-full", "pool fast")]
        assert low[0].remedy.startswith("aoe-target volume list fast; delete")
    gone = {"name": "none", "problem": "/srv is not marked as a pool; aoe-target pool init none"}
    (found,) = [it for it in of_service.status({"pools": [gone]}, 7) if it.is_fault]
    assert (found.id, found.about, found.remedy) == ("pool", "pool none", "aoe-target pool init none")
    assert not wrong(*of_service.status({"pools": [{"name": "old"}]}, 7)), "an older one does not say more"


def test_what_is_wrong_with_a_file_keeps_its_remedy() -> None:
    lines = [
        "/f:2: [target]: engin is no key of [target]; is engine meant?",
        '/f:4: e1.0: path = "x": write an absolute path',
    ]
    found = [*of_service.faults_of_file("/f", lines)]
    assert [it.seen for it in found] == [
        "line 2: [target]: engin is no key of [target]",
        'line 4: e1.0: path = "x"',
    ]
    assert [it.remedy for it in found] == ["is engine meant?", "write an absolute path"]


def test_a_path_in_a_reason_is_no_remedy() -> None:
    lost = {"address": "e1.0", "state": "failed", "reason": "/nowhere: No such file or directory"}
    (found,) = [it for it in of_service.status({"exports": [lost]}, 7) if it.is_fault]
    assert found.seen == "failed, /nowhere: No such file or directory"


def test_what_is_counted_is_what_targets_count() -> None:
    assert of_service.COUNTED.keys() <= COUNTERS.keys()


def test_a_daemon_of_another_release_than_is_installed() -> None:
    for release in ("0.0.9", "9.0.0"):
        (found,) = [it for it in of_service.status({"release": release}, 7) if it.is_fault]
        assert (found.id, found.about) == ("package", "daemon 7")
        assert found.seen == f"it is release {release}, and {FIRMWARE} is installed"
        assert found.remedy == "systemctl restart aoe-target"
    assert not wrong(*of_service.status({"release": FIRMWARE}, 7))
    assert not wrong(*of_service.status({"release": 7}, 7)), "nothing that we know"


def test_what_was_chosen_is_no_fault() -> None:
    said = {"engine": {"name": "python", "reason": "", "io_uring": False}}
    assert not wrong(*of_service.status(said, 7))
    assert of_service.allowed_uring(said) is None
    assert of_service.allowed_uring({"engine": {"name": "c", "io_uring": False}}) is False


@pytest.mark.parametrize("late", [True, False])
def test_a_look_that_hangs_is_left(late: bool) -> None:
    """Its thread ends with the process."""
    go_on = threading.Event()

    def look() -> str:
        assert go_on.wait(60 if late else 0) or not late
        return "seen"

    try:
        found = asyncio.run(blocking(look, "late", 0.05 if late else 60))
    finally:
        go_on.set()
    assert found == ("late" if late else "seen")


def test_a_user_that_may_not_ask_is_told_so() -> None:
    assert of_service.no_daemon("status is not for uid 7; use sudo", "rights").severity is Severity.UNSEEN
    assert of_service.no_daemon("no daemon answers; start it", "no-daemon").remedy == "start it"
    hidden = [*of_service.process(Process(7), 100)]
    assert [(it.id, it.severity) for it in hidden] == [("descriptors", Severity.UNSEEN)]


def test_a_unit_as_the_package_has_it_is_well() -> None:
    unit = Unit({"ActiveState": "active", "NeedDaemonReload": "no", "FileDescriptorStoreMax": "4096"})
    assert not wrong(*of_service.unit(unit, "u"))
    disabled = Unit({**unit.properties, "UnitFileState": "disabled"})
    assert wrong(*of_service.unit(disabled, "u")) == [("unit-disabled", "u")]
    assert not wrong(*of_service.unit(Unit({"ActiveState": "inactive", "UnitFileState": "disabled"}), "u"))
    assert not of_service.opener(Unit({"ActiveState": "active"}), "o").is_fault
    for lost in (None, Unit({"ActiveState": "inactive"}), Unit({"ActiveState": "failed"})):
        assert wrong(of_service.opener(lost, "o")) == [("opener", "o")]


def test_a_manager_that_does_not_answer_in_time_is_no_fault_of_the_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy machine's systemd takes long; the unit is not "not there" for that, and not well."""
    slow = tmp_path / "systemctl"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(timing, "DOCTOR_LOOK_S", 0.05)
    assert service.unit("u") == SILENT
    found = [*of_service.unit(SILENT, "u"), of_service.opener(SILENT, "u")]
    assert [(it.id, it.severity) for it in found] == [
        ("unit-failed", Severity.UNSEEN),
        ("opener", Severity.UNSEEN),
    ]
    assert all(it.remedy == "systemctl status u" for it in found)


def test_a_directory_of_the_control_socket_that_others_may_write() -> None:
    for mode in (0o40777, 0o40775):
        assert wrong(*of_service.seat(Seat("/run/x", mode))) == [("control-open", "/run/x")]
    assert not wrong(*of_service.seat(Seat("/run/x", 0o40755)), *of_service.seat(Seat("/tmp", 0o41777)))


# What it keeps


@pytest.mark.parametrize(
    ("state", "uid", "id"),
    [
        (State("/s", there=False), 7, "state-dir"),
        (State("/s", uid=7, read_only=True), 7, "state-dir"),
        (State("/s", uid=7, room=0), 7, "state-dir"),
        (State("/s", uid=7, files=0), 7, "state-dir"),
        (State("/s", uid=8), 7, "state-dir"),
        (State("/s", uid=8), 0, "state-open"),
        (State("/s", mode=0o40770), 0, "state-open"),
        (State("/s", damaged=("/s/R.json is damaged; repair it",)), 0, "state-damaged"),
    ],
)
def test_a_state_directory_of_no_use(state: State, uid: int, id: str) -> None:
    assert wrong(*of_state.judge(state, uid)) == [(id, "/s")]


def test_what_is_no_fault_of_a_state_directory() -> None:
    assert not wrong(*of_state.judge(State("/s", there=False), None))
    assert not wrong(*of_state.judge(State("/s", uid=7), 7))
    hidden = State("/s", problem="Permission denied")
    assert [it.severity for it in of_state.judge(hidden, 7)] == [Severity.UNSEEN]


def test_a_disk_that_failed_before_the_service_was_stopped() -> None:
    state = State("/s", failed=("/dev/md0",))
    assert wrong(*of_state.judge(state, None)) == [("sync-failed", "/dev/md0")]
    assert not wrong(*of_state.judge(state, 0)), "the daemon says so itself"


# Stores


def test_stores_that_hang_or_fill_up() -> None:
    free = {"missing": 100, "filesystem": 1, "free": 99, "total": 1000}
    sparse = [Store("e1.0", "/a", **free), Store("e1.1", "/b", **free, writable=False)]
    assert wrong(*of_stores.judge([Store("e1.2", "/c", hangs=True), *sparse], "")) == [
        ("store-silent", "e1.2"),
        ("store-full", "e1.0"),
    ]
    half = Store("e1.0", "/a", missing=60, filesystem=1, free=99, total=1000)
    assert not wrong(*of_stores.judge([half], ""))
    both = [half, half._replace(address="e1.1")]
    assert [about for _, about in wrong(*of_stores.judge(both, ""))] == ["e1.0", "e1.1"], "together they do"
    wide = half._replace(missing=500, free=400)
    assert not wrong(*of_stores.judge([wide], "")), "thin, with room for long"


def test_a_store_that_the_service_may_not_open() -> None:
    """In a directory that other users may enter, as none of pytest's is."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        directory, ids = Path(name).resolve(), Ids(54321, frozenset({54321}))
        disk = directory / "disk"
        disk.write_bytes(bytes(4096))
        directory.chmod(0o755)

        def closed(mode: int, *, read_only: bool = False) -> str:
            disk.chmod(mode)
            found = look(ExportConfig(path=str(disk), shelf=1, slot=0, read_only=read_only), ids)
            assert found is not None
            faults = wrong(*of_stores.judge([found], "aoe"))
            assert faults == ([("store-access", "e1.0")] if found.closed else [])
            return found.closed

        assert closed(0o600) == closed(0o644) == str(disk)
        assert (closed(0o644, read_only=True), closed(0o666)) == ("", "")
        directory.chmod(0o700)
        assert closed(0o666) == str(directory)
        assert look(ExportConfig(path=f"{directory}/none", shelf=1, slot=0), ids) is None
