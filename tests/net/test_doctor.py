"""Faults that are planted in a lab: `aoe-target doctor` and `aoe doctor` find each, and nothing else."""

import json
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.net.service import Service, export
from tests.net.test_frame_size import switched
from tests.support.labs.fault_disk import loop_device, protected, small_tmpfs
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.tools import need, need_namespaces, need_users

ENGINES = ("c",)
LAUNCH = Path(__file__).parents[1] / "support" / "programs" / "fault_launch.py"
PACKAGE = Path(__file__).parents[2] / "aoe"
WITHOUT_ADMIN = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
WITHOUT_RAW = ("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")
AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
JUMBO = 65535
"""The largest MTU of a cable: 64 frames of it fit into no buffer that is granted without CAP_NET_ADMIN."""


class Found(NamedTuple):
    """What a doctor said."""

    status: int
    things: list[dict[str, Any]]
    text: str

    @property
    def wrong(self) -> set[tuple[str, str]]:
        """Which faults, of which things."""
        return {(it["id"], it["about"]) for it in self.things if it["severity"] in ("error", "warning")}

    def one(self, id: str) -> dict[str, Any]:
        """The fault of that id."""
        return next(it for it in self.things if it["id"] == id and it["severity"] in ("error", "warning"))


def ask(lab: Lab, side: str, *words: str | Path, before: Sequence[str] = ()) -> Found:
    module = "aoe.cli.target" if side != "client" else "aoe.cli.client"
    command = [*before, sys.executable, "-m", module, "doctor", *words, "--json", "--verbose"]
    done = lab.run(side, *command, timeout=60)
    assert done.returncode in (0, 1), (done.stdout, done.stderr)
    *things, last = map(json.loads, done.stdout.splitlines())
    found = Found(done.returncode, things, done.stdout)
    assert last == {"faults": len(found.wrong), "looks": len(things)}
    assert done.returncode == int(bool(found.wrong))
    for it in things:
        has_words = all(it[key] and it[key].isprintable() for key in ("seen", "why", "remedy"))
        assert has_words or it["severity"] in ("ok", "unseen"), it
    return found


def of_target(service: Service, *, before: Sequence[str] = ()) -> Found:
    """Where its file is wrong, what says where it keeps its state is its environment, as for a unit."""
    where = ("--config", service.file, "--socket", service.socket)
    state = f"STATE_DIRECTORY={service.file.parent / 'state'}"
    return ask(service.lab, "target", *where, before=("env", state, *before))


@contextmanager
def served(work: Path, *, mtu: int = 9000) -> Iterator[Service]:
    """Two disks."""
    need_namespaces()
    tables = [export(work / "disk", "1.0", serial="DISK"), export(work / "other", "1.1")]
    with Lab(mtu=mtu) as lab, Service(lab, work, tables) as service:
        yield service


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    os.environ.setdefault("AOE_TEST_ENGINE", "c")
    with served(tmp_path_factory.mktemp("doctor")) as service:
        yield service


# A good host


def test_nothing_is_wrong_with_a_good_host(running: Service) -> None:
    """Every kind of fault that there can be without systemd was looked for."""
    found, client = of_target(running), ask(running.lab, "client")
    assert (found.wrong, client.wrong) == (set(), set())
    assert {it["severity"] for it in (*found.things, *client.things)} == {"ok"}
    looked = {it["id"] for it in found.things}
    assert looked >= {"engine", "io-uring", "clock-stepped", "kernel-driver", "watches", "interface"}
    assert "scatter-gather" in looked
    assert looked >= {
        "daemon",
        "package",
        "descriptors",
        "export",
        "state-dir",
        "store-silent",
        "address-twice",
    }
    assert {it["id"] for it in client.things} >= {
        "engine",
        "interface",
        "socket-buffer",
        "silent",
        "path-mtu",
        "release",
    }


def test_what_is_well_is_said_only_when_asked_for(running: Service) -> None:
    command = [sys.executable, "-m", "aoe.cli.client", "doctor", "e1.0", "v0"]
    done = running.lab.run("client", *command, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith("nothing wrong, ")


# One fault at a time, of a host that serves

Plant = Callable[[Service], AbstractContextManager[object]]


@contextmanager
def linked(service: Service, there: Sequence[str], back: Sequence[str]) -> Iterator[None]:
    (cable,) = service.lab.cables
    service.lab.link(cable.a, *there)
    try:
        yield
    finally:
        service.lab.link(cable.a, *back)
        service.lab.up(cable.a)


SCATTER_GATHER = """
import array, fcntl, socket, struct, sys
said = array.array("I", (0x19, int(sys.argv[2])))  # ETHTOOL_SSG
request = struct.pack("16sP16x", sys.argv[1].encode(), said.buffer_info()[0])
fcntl.ioctl(socket.socket(), 0x8946, request)
"""


@contextmanager
def scattered(service: Service) -> Iterator[None]:
    command = (sys.executable, "-c", SCATTER_GATHER, "v0")
    service.lab.run("target", *command, "0", check=True)
    try:
        yield
    finally:
        service.lab.run("target", *command, "1", check=True)


def down(service: Service) -> AbstractContextManager[object]:
    return linked(service, ["down"], ["up"])


def tiny(service: Service) -> AbstractContextManager[object]:
    return linked(service, ["mtu", "500"], ["mtu", "9000"])


@contextmanager
def bridged(service: Service) -> Iterator[None]:
    service.lab.run("target", "ip", "link", "add", "br0", "type", "bridge", check=True)
    try:
        with linked(service, ["master", "br0"], ["nomaster"]):
            yield
    finally:
        service.lab.run("target", "ip", "link", "delete", "br0", check=True)


@contextmanager
def starved(service: Service) -> Iterator[None]:
    few = len([*Path(f"/proc/{service.pid}/fd").iterdir()]) + 2
    before = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (few, before[1]))
    try:
        yield
    finally:
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, before)


@contextmanager
def rewritten(file: Path, text: str) -> Iterator[None]:
    before = file.read_text() if file.exists() else None
    file.write_text(text)
    try:
        yield
    finally:
        file.unlink() if before is None else file.write_text(before)


@contextmanager
def open_state(service: Service) -> Iterator[None]:
    state = service.file.parent / "state"
    state.chmod(0o777)
    try:
        yield
    finally:
        state.chmod(0o700)


@contextmanager
def open_seat(service: Service) -> Iterator[None]:
    service.socket.parent.chmod(0o777)
    try:
        yield
    finally:
        service.socket.parent.chmod(0o700)


def wrong_file(service: Service) -> AbstractContextManager[object]:
    return rewritten(service.file, service.file.read_text() + "enjin = 1\n")


def damaged(service: Service) -> AbstractContextManager[object]:
    return rewritten(service.file.parent / "state" / "RECORD.json", "{")


def rival(service: Service, address: str, serial: str) -> AbstractContextManager[object]:
    """Another server, on the client's side of the cable."""
    work = service.file.parent
    words = (f"{image(work / f'rival-{serial}')}={address}", "--serial", serial, "--force")
    return AoeTarget(service.lab, work, *words, side="client", state_dir=work / f"state-{serial}")


def twice(service: Service) -> AbstractContextManager[object]:
    return rival(service, "1.0", "RIVAL1")


def same_disk(service: Service) -> AbstractContextManager[object]:
    return rival(service, "2.0", "DISK")


FAULTS: dict[str, tuple[Plant, str, str]] = {
    "interface-down": (down, "v0", "carrier"),
    "interface-mtu": (tiny, "v0", "MTU 500"),
    "interface-bridged": (bridged, "v0", "a port of br0"),
    "scatter-gather": (scattered, "v0", "scatter-gather is off at MTU 9000"),
    "descriptors": (starved, "daemon {pid}", "open files are allowed"),
    "config": (wrong_file, "{file}", "enjin"),
    "state-open": (open_state, "{state}", "mode 777"),
    "control-open": (open_seat, "{work}", "mode 777"),
    "state-damaged": (damaged, "{state}", "RECORD.json is damaged"),
    "address-twice": (twice, "e1.0", "RIVAL1"),
    "shared-cache": (same_disk, "e1.0", "through the page cache"),
}


@pytest.mark.parametrize("id", FAULTS)
def test_a_fault_of_a_server_is_found_and_named(id: str, running: Service) -> None:
    plant, about, seen = FAULTS[id]
    work = running.file.parent
    names = {"pid": running.pid, "file": running.file, "work": work, "state": work / "state"}
    with plant(running):
        found = of_target(running)
    assert found.wrong == {(id, about.format(**names))}
    assert seen in found.one(id)["seen"]


def test_an_interface_that_is_gone(tmp_path: Path) -> None:
    with served(tmp_path) as service:
        service.lab.unplug(service.lab.cables[0])
        assert of_target(service).wrong == {("interface", "v0")}


@pytest.mark.parametrize(
    ("what", "id", "seen"),
    [("no-engine", "engine", "it is not built"), ("no-uring", "io-uring", "refused to the daemon")],
)
def test_what_an_engine_lacks(what: str, id: str, seen: str, lab: Lab, tmp_path: Path) -> None:
    service = Service(lab, tmp_path, [export(tmp_path / "disk", "1.0")])
    service.file.write_text(service.file.read_text().replace('engine = "c"', 'engine = "auto"'))
    service.argv[1:3] = [LAUNCH, what, "--"]
    with service:
        found = of_target(service)
    about = "io_uring" if id == "io-uring" else f"daemon {service.pid}"
    assert found.wrong == {(id, about)}
    assert seen in found.one(id)["seen"]


def test_a_program_that_was_replaced_as_it_ran(lab: Lab, tmp_path: Path) -> None:
    there = tmp_path / "package"
    shutil.copytree(PACKAGE, there / "aoe", ignore=shutil.ignore_patterns("__pycache__"))
    service = Service(lab, tmp_path, [export(tmp_path / "disk", "1.0")])
    service.argv[:2] = ["env", f"PYTHONPATH={there}", sys.executable, "-P", "-m"]
    with service:
        assert of_target(service).wrong == set()
        (engine,) = (there / "aoe" / "engine").glob("_engine*.so")
        fresh = engine.with_suffix(".new")
        shutil.copy(engine, fresh)
        fresh.replace(engine)
        found = of_target(service)
    assert found.wrong == {("package", f"daemon {service.pid}")}
    assert str(engine) in found.one("package")["seen"]


def test_a_small_receive_buffer(tmp_path: Path) -> None:
    """Of the service, and of a client."""
    need("setpriv")
    need_namespaces()
    with Lab(mtu=JUMBO) as lab:
        service = Service(lab, tmp_path, [export(tmp_path / "disk", "1.0")])
        service.argv[:0] = WITHOUT_ADMIN
        with service:
            found, client = of_target(service), ask(lab, "client", before=WITHOUT_ADMIN)
    assert found.wrong == client.wrong == {("socket-buffer", "v0")}
    assert "rmem_max" in found.one("socket-buffer")["remedy"]


def test_disks_that_have_no_room_or_are_not_there(lab: Lab, tmp_path: Path) -> None:
    """All on a file system that is full, as is the state."""
    with small_tmpfs(tmp_path / "small", 1 << 20) as small:
        tables = [export(image(small / "sparse", 4096), "1.0"), export(tmp_path / "here", "1.1")]
        lost = export(tmp_path / "lost", "1.2")
        (tmp_path / "lost").unlink()
        service = Service(lab, small, [*tables, lost])
        with service:
            with (small / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
                while ballast.write(bytes(4096)):
                    pass
            found = of_target(service)
    assert found.wrong == {("store-full", "e1.0"), ("export", "e1.2"), ("state-dir", f"{small}/state")}
    assert "full" in found.one("state-dir")["seen"]
    assert "waiting" in found.one("export")["seen"]


def test_a_device_that_the_kernel_has_read_only(lab: Lab, tmp_path: Path) -> None:
    with (
        loop_device(image(tmp_path / "file", 4096)) as device,
        protected(device),
        Service(lab, tmp_path, [export(device, "1.0")]) as service,
    ):
        found = of_target(service)
    assert found.wrong == {("store-read-only", "e1.0")}
    assert "blockdev --setrw" in found.one("store-read-only")["remedy"]


def test_a_service_that_does_not_run(lab: Lab, tmp_path: Path) -> None:
    """What its file names is looked at all the same."""
    tables = [export(tmp_path / "disk", "1.0"), export(tmp_path / "lost", "1.1")]
    service = Service(lab, tmp_path, tables)
    (tmp_path / "lost").unlink()
    text = service.file.read_text()
    service.file.write_text(text.replace("[target]\n", '[target]\ncontrol-group = "no-such-group"\n'))
    found = of_target(service)
    assert found.wrong == {("daemon", "daemon"), ("store", "e1.1"), ("setting", "control-group")}
    assert "systemctl start aoe-target" in found.one("daemon")["remedy"]


SYSTEMCTL = """#!/bin/sh
echo LoadState=loaded
[ "$2" = aoe-target.service ] || exec echo ActiveState=inactive
printf '%s\\n' ActiveState=failed Result=exit-code NeedDaemonReload=yes FileDescriptorStoreMax=0 \\
    User=aoe-ghost ProtectHome=no 'ExecStart={ argv[]=/usr/bin/aoe-target run --opener /run/o }'
"""


def test_a_unit_that_is_not_as_it_should_be(running: Service, tmp_path: Path) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(SYSTEMCTL)
    systemctl.chmod(0o755)
    found = of_target(running, before=("env", f"PATH={tmp_path}:{os.environ['PATH']}"))
    ids = ("unit-failed", "unit-changed", "unit-store", "user")
    wrong = {(id, "aoe-target.service") for id in ids}
    assert found.wrong == wrong | {("opener", "aoe-target-opener.socket")}
    assert "aoe-ghost" in found.one("user")["seen"]


def test_an_ordinary_user_is_told_what_it_cannot_see(lab: Lab) -> None:
    """In a directory that other users may enter, as none of pytest's is."""
    need("setpriv")
    need_users()
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        work = Path(name)
        work.chmod(0o755)
        with Service(lab, work, [export(work / "disk", "1.0")]) as service:
            found = of_target(service, before=AS_NOBODY)
    assert found.wrong == set()
    hidden = {it["id"]: it["remedy"] for it in found.things if it["severity"] == "unseen"}
    assert hidden.keys() == {"daemon", "state-dir", "packet-socket"}
    assert hidden["daemon"] == "sudo aoe-target doctor"


def test_a_daemon_that_hangs(lab: Lab, tmp_path: Path) -> None:
    """Its stores are in use, which is no fault of theirs."""
    with Service(lab, tmp_path, [export(tmp_path / "disk", "1.0")]) as service:
        service.pause()
        found = of_target(service)
        service.resume()
    assert found.wrong == {("daemon", "daemon")}
    assert "does not answer" in found.one("daemon")["seen"]


def test_neither_a_file_nor_a_daemon(lab: Lab, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aoe.cli.target", "doctor", "--socket", str(tmp_path / "none")]
    if Path("/etc/aoe-target.toml").exists():
        pytest.skip("this host serves disks")
    done = lab.run("target", *command, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "name the file with --config FILE" in done.stderr


# Of a host that uses disks


def test_a_client_without_rights_or_carrier(running: Service) -> None:
    need("setpriv")
    found = ask(running.lab, "client", "v0", before=WITHOUT_RAW)
    assert found.wrong == {("packet-socket", "v0")}
    assert "setcap cap_net_raw+ep" in found.one("packet-socket")["remedy"]
    (cable,) = running.lab.cables
    running.lab.down(cable.b)
    try:
        found = ask(running.lab, "client", "v0")
        assert ask(running.lab, "client").wrong == {("interface", "interfaces")}
    finally:
        running.lab.up(cable.b)
    assert found.wrong == {("interface-down", "v0")}


def test_a_disk_that_does_not_answer(running: Service) -> None:
    assert ask(running.lab, "client", "e1.0", "e7.7").wrong == {("silent", "e7.7")}
    assert ask(running.lab, "client", "v9").wrong == {("interface", "v9")}


def test_nothing_answers(lab: Lab) -> None:
    found = ask(lab, "client")
    assert found.wrong == {("silent", "v0")}


def test_two_servers_of_one_address_that_are_not_one_disk(tmp_path: Path) -> None:
    need_namespaces()
    with Lab(("first", "client", "second")) as lab:
        lab.cable("second", "client")
        disks = [image(tmp_path / name) for name in ("a", "b")]
        first = AoeTarget(lab, tmp_path, f"{disks[0]}=1.0,serial=FIRST1", side="first")
        second = AoeTarget(
            lab, tmp_path, f"{disks[1]}=1.0,serial=SECOND", side="second", state_dir=tmp_path / "s"
        )
        with first, second:
            found = ask(lab, "client")
    assert found.wrong == {("other-disk", "e1.0")}
    assert "its serial differs" in found.one("other-disk")["seen"]


def test_a_switch_that_drops_jumbo_frames(tmp_path: Path) -> None:
    with switched(tmp_path, 1500) as lab:
        found = ask(lab, "client", "v0")
        assert {id for id, _ in found.wrong} == {"path-mtu"}
        assert "1024 bytes in a request, not 8192" in found.one("path-mtu")["seen"]
        assert "switches" in found.one("path-mtu")["remedy"]
